use ndarray::Axis;

use super::*;
use crate::features::testing::Numbers;

const LINKS: [Link; 2] = [Link::Softmax, Link::Sigmoid];

/// Rows of 4 classes, made from 5 inputs, wanted from 7.
struct Case {
    rows: Rows,
    means: Vec<f64>,
    spread: Spread,
}

fn case(count: usize, inputs: usize) -> Case {
    let mut numbers = Numbers(11);
    let (full, classes) = (7, 4);
    let weights = numbers.take(full * classes);
    let mut rows = Rows {
        pairs: Pairs::new(inputs, classes),
        wanted: Vec::new(),
    };
    for _ in 0..count {
        let mut x = numbers.take(full.max(inputs));
        x[1] += 2.0;
        let logits = |most: usize| {
            let of = |class: usize| {
                let pairs = x.iter().zip(&weights[class * full..][..full]).take(most);
                3.0 * pairs.map(|(x, w)| x * w).sum::<f32>()
            };
            (0..classes).map(of).collect::<Vec<f32>>()
        };
        rows.wanted.extend(logits(full));
        rows.pairs.add(&x[..inputs], &logits(5));
    }
    let means = Pairs::means(&rows.pairs.x, inputs);
    let spread = Spread::new(&rows.pairs.variances(&means), &means);
    Case {
        rows,
        means,
        spread,
    }
}

impl Case {
    fn space(&self, form: Form) -> Space {
        let pairs = (&self.rows.pairs, &self.rows.pairs);
        let ridge = RIDGE * self.spread.mean;
        Space::new(form, pairs, &self.means, &self.spread, ridge).unwrap()
    }

    fn found(&self, form: Form, link: Link) -> (Space, descent::Found) {
        let space = self.space(form);
        let choosing = Tuned {
            wanted: self.rows.wanted(),
            made: self.rows.made(),
        };
        let (wanted, made) = (self.rows.wanted(), self.rows.made());
        let found = descend(&space, link, &wanted, made, &choosing, &mut || Ok(())).unwrap();
        (space, found)
    }

    fn weights(&self, space: &Space, found: &descent::Found) -> Array2<f64> {
        space.weights(
            &found.coefficients,
            &self.rows.pairs,
            &self.means,
            &self.spread,
        )
    }

    /// The divergence with the weights changed so, and shifts about the inputs' mean.
    fn divergence(&self, link: Link, change: &Array2<f64>, shift: &ndarray::Array1<f64>) -> f64 {
        let x = self.rows.pairs.centred(0..self.means.len(), &self.means);
        let logits = self.rows.made() + x.dot(change) + shift;
        link.divergence(self.rows.wanted().view(), logits.view())
    }
}

#[test]
fn no_change_of_a_weight_lowers_what_was_found() {
    let case = case(200, 5);
    for link in LINKS {
        let (space, found) = case.found(Form::Primal, link);
        let change = case.weights(&space, &found);
        let least = case.divergence(link, &change, &found.shift);
        let zero = Array2::zeros(change.raw_dim());
        let before = case.divergence(link, &zero, &(&found.shift * 0.0));
        assert!(least < 0.9 * before, "{link:?}: {least} of {before}");
        for by in [0.02, -0.02] {
            for place in 0..change.len() {
                let mut other = change.clone();
                other.as_slice_mut().unwrap()[place] += by;
                let found = case.divergence(link, &other, &found.shift);
                assert!(
                    found > least,
                    "{link:?}, weight {place}: {found} below {least}"
                );
            }
            for class in 0..4 {
                let mut other = found.shift.clone();
                other[class] += by;
                let found = case.divergence(link, &change, &other);
                assert!(
                    found > least,
                    "{link:?}, bias {class}: {found} below {least}"
                );
            }
        }
    }
}

#[test]
fn steps_over_inputs_and_over_rows_are_the_same() {
    // As many inputs as rows or more, where both forms can be had; one input is dead.
    for inputs in [5, 30] {
        let mut case = case(20, inputs);
        case.rows
            .pairs
            .x
            .chunks_mut(inputs)
            .for_each(|row| row[3] = 0.5);
        case.means = Pairs::means(&case.rows.pairs.x, inputs);
        case.spread = Spread::new(&case.rows.pairs.variances(&case.means), &case.means);
        let spaces = [Form::Primal, Form::Dual].map(|form| case.space(form));
        let residuals = &case.rows.wanted() - &case.rows.made();
        let residuals = &residuals - &residuals.mean_axis(Axis(0)).unwrap();
        let [primal, dual] = spaces.map(|space| {
            let (step, moved) = space.step(&residuals);
            let tuned = space.tuned(&step);
            let weights = space.weights(&step, &case.rows.pairs, &case.means, &case.spread);
            assert!(
                weights.row(3).iter().all(|weight| *weight == 0.0),
                "the dead input"
            );
            [moved, tuned, weights]
        });
        for (what, (a, b)) in ["moved", "tuned", "weights"]
            .iter()
            .zip(primal.iter().zip(&dual))
        {
            let furthest = (a - b)
                .iter()
                .fold(0.0_f64, |most, gap| most.max(gap.abs()));
            // The ridge is 1e-4, so that 1e-12 of the rows' products may be lost in either.
            assert!(furthest < 1e-8, "{inputs} inputs, {what}: {furthest}");
        }
        // What it says of the outputs is what the weights do to them.
        let x = case.rows.pairs.centred(0..inputs, &case.means);
        let gap = &x.dot(&primal[2]) - &primal[0];
        assert!(gap.iter().all(|gap| gap.abs() < 1e-9), "{inputs} inputs");
    }
}

#[test]
fn the_first_step_is_a_least_squares_problem_and_no_step_makes_it_worse() {
    let case = case(60, 5);
    for link in LINKS {
        let space = case.space(Form::Primal);
        let wanted = link.probabilities(case.rows.wanted().view());
        let (mut logits, mut last) = (case.rows.made(), f64::INFINITY);
        for _ in 0..50 {
            let now = link.divergence(case.rows.wanted().view(), logits.view());
            assert!(now <= last, "{link:?}: {now} above {last}");
            last = now;
            let mut residuals = &wanted - &link.probabilities(logits.view());
            residuals /= link.curvature();
            let mean = residuals.mean_axis(Axis(0)).unwrap();
            residuals -= &mean;
            logits = logits + space.step(&residuals).1 + &mean;
        }
    }
}

#[test]
fn the_step_is_chosen_by_other_samples_than_are_fitted() {
    // The choosing samples are content with what is made at first.
    let case = case(60, 5);
    let space = case.space(Form::Primal);
    let made = case.rows.made();
    let choosing = Tuned {
        wanted: made.clone(),
        made: made.clone(),
    };
    let wanted = case.rows.wanted();
    let mut steps = 0;
    let found = descend(&space, Link::Softmax, &wanted, made, &choosing, &mut || {
        steps += 1;
        Ok(())
    });
    let found = found.unwrap();
    assert_eq!(found.steps, 0);
    assert!(found.coefficients.iter().all(|value| *value == 0.0));
    assert!(steps < 100, "it gives up after {steps} steps");
}
