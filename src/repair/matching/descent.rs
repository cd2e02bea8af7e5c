//! The steps: majorise, minimise, extrapolate.

use ndarray::{Array1, Array2, Axis};

use super::{
    link::{Link, difference},
    space::Space,
};
use crate::error::Result;

/// Most steps. On three Fashion-MNIST nets the best of 300 was among the first 200.
const STEPS: usize = 300;

/// Steps without a better one after which the rest is spared.
const PATIENCE: usize = 60;

/// What the rows that choose the step are to say, and say at first: logits `[T, K]`.
pub(super) struct Tuned {
    pub(super) wanted: Array2<f64>,
    pub(super) made: Array2<f64>,
}

/// The best step.
pub(super) struct Found {
    /// Steps taken to it; 0 where none was better than none.
    pub(super) steps: usize,
    /// U, `[width, K]`.
    pub(super) coefficients: Array2<f64>,
    /// Added to the outputs of every row, K numbers.
    pub(super) shift: Array1<f64>,
}

/// Coefficients, and the logits of the fitted rows that follow from them.
#[derive(Clone)]
struct Point {
    coefficients: Array2<f64>,
    shift: Array1<f64>,
    logits: Array2<f64>,
}

/// Goes from the logits `made` of the fitted rows towards the probabilities of `wanted`.
///
/// `on_step` is called before each step; an error from it ends the work.
pub(super) fn descend(
    space: &Space,
    link: Link,
    wanted: &Array2<f64>,
    made: Array2<f64>,
    tuned: &Tuned,
    on_step: &mut dyn FnMut() -> Result<()>,
) -> Result<Found> {
    let wanted = link.probabilities(wanted.view());
    let classes = made.ncols();
    let mut point = Point {
        coefficients: Array2::zeros((space.width(), classes)),
        shift: Array1::zeros(classes),
        logits: made,
    };
    let mut found = Found {
        steps: 0,
        coefficients: point.coefficients.clone(),
        shift: point.shift.clone(),
    };
    let mut least = link.divergence(tuned.wanted.view(), tuned.made.view());
    let mut from = point.clone();
    let mut momentum = 1.0_f64;
    for step in 1..=STEPS {
        on_step()?;
        let next = from.majorised(space, link, &wanted);
        let logits = &tuned.made + &space.tuned(&next.coefficients) + &next.shift;
        let divergence = link.divergence(tuned.wanted.view(), logits.view());
        if divergence < least {
            least = divergence;
            found = Found {
                steps: step,
                coefficients: next.coefficients.clone(),
                shift: next.shift.clone(),
            };
        } else if step - found.steps >= PATIENCE {
            break;
        }
        // Nesterov 1983; Beck & Teboulle 2009, (4.2) and (4.3).
        let after = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
        from = next.beyond(&point, (momentum - 1.0) / after);
        (point, momentum) = (next, after);
    }
    Ok(found)
}

impl Point {
    /// The minimum of the quadratic that touches the divergence here.
    fn majorised(&self, space: &Space, link: Link, wanted: &Array2<f64>) -> Self {
        let factor = 1.0 / link.curvature();
        let mut residuals = difference(wanted, link.probabilities(self.logits.view()));
        let mean = residuals.mean_axis(Axis(0));
        let mean = mean.unwrap_or_else(|| Array1::zeros(residuals.ncols()));
        residuals -= &mean;
        residuals *= factor;
        let (step, moved) = space.step(&residuals);
        let shift = mean * factor;
        Self {
            coefficients: &self.coefficients + &step,
            logits: &self.logits + &moved + &shift,
            shift: &self.shift + &shift,
        }
    }

    /// As far beyond this point as `factor` times the way from `before`.
    fn beyond(&self, before: &Self, factor: f64) -> Self {
        let on = |now: &Array2<f64>, before: &Array2<f64>| {
            let mut way = now - before;
            way *= factor;
            way += now;
            way
        };
        Self {
            coefficients: on(&self.coefficients, &before.coefficients),
            shift: &self.shift + &((&self.shift - &before.shift) * factor),
            logits: on(&self.logits, &before.logits),
        }
    }
}
