//! From numbers to places, and the numbers that are worth a tick.

use super::super::numbers::{megabytes, seconds};

/// How numbers of an axis are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Unit {
    /// As they are.
    Plain,
    /// With a percent sign.
    Percent,
    /// As sizes.
    Bytes,
    /// As times.
    Seconds,
}

/// One axis of a plot.
#[derive(Clone, Debug)]
pub(in super::super) struct Axis {
    pub(in super::super) title: &'static str,
    pub(in super::super) unit: Unit,
    pub(in super::super) logarithmic: bool,
    /// Whether numbers fall from left to right.
    pub(in super::super) falling: bool,
    /// Ticks at these numbers, in place of round ones.
    pub(in super::super) ticks: Vec<f64>,
}

impl Axis {
    pub(in super::super) fn linear(title: &'static str, unit: Unit) -> Self {
        Self {
            title,
            unit,
            logarithmic: false,
            falling: false,
            ticks: Vec::new(),
        }
    }

    pub(in super::super) fn logarithmic(title: &'static str, unit: Unit) -> Self {
        Self {
            logarithmic: true,
            ..Self::linear(title, unit)
        }
    }

    /// Ticks at these numbers.
    pub(in super::super) fn at(self, ticks: &[f64]) -> Self {
        Self {
            ticks: ticks.to_vec(),
            ..self
        }
    }

    /// With numbers that fall from left to right.
    pub(in super::super) fn falling(self) -> Self {
        Self {
            falling: true,
            ..self
        }
    }

    /// A number as it is written at its tick.
    pub(super) fn written(&self, value: f64) -> String {
        match self.unit {
            Unit::Plain if self.logarithmic && !(1e-3..1e5).contains(&value) => {
                format!("{value:e}")
            }
            Unit::Plain => short(value),
            Unit::Percent => format!("{} %", short(value)),
            Unit::Bytes => megabytes(value.max(0.0) as u64),
            Unit::Seconds => seconds(value),
        }
    }
}

/// Up to six digits, without zeros behind the point.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" | "" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// An axis with the numbers it holds, laid over `start..end`.
pub(super) struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    pub(super) ticks: Vec<f64>,
}

impl Scale {
    /// Over these numbers and a little more.
    pub(super) fn new(axis: &Axis, values: &[f64], (start, end): (f64, f64)) -> Self {
        let finite = values.iter().copied();
        let finite =
            finite.filter(|value| value.is_finite() && (!axis.logarithmic || *value > 0.0));
        let finite: Vec<f64> = finite
            .map(|value| placed(axis.logarithmic, value))
            .collect();
        let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
        let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = match low <= high {
            true => (low, high),
            false => (0.0, 1.0),
        };
        let span = if high > low {
            high - low
        } else {
            low.abs().max(1.0)
        };
        let (low, high) = (low - 0.06 * span, high + 0.06 * span);
        let mut scale = Self {
            logarithmic: axis.logarithmic,
            low,
            high,
            start,
            end,
            ticks: Vec::new(),
        };
        if axis.falling {
            std::mem::swap(&mut scale.start, &mut scale.end);
        }
        let within = |tick: &f64| {
            let at = placed(axis.logarithmic, *tick);
            at >= low && at <= high
        };
        let ticks = match (axis.ticks.is_empty(), axis.logarithmic) {
            (false, _) => axis.ticks.clone(),
            // Within a decade powers of ten tell too little.
            (true, true) if high - low < 1.0 => round(10_f64.powf(low), 10_f64.powf(high)),
            (true, true) => powers(low, high),
            (true, false) => round(low, high),
        };
        scale.ticks = ticks.into_iter().filter(within).collect();
        scale
    }

    /// Where a number lies.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic {
            value.max(f64::MIN_POSITIVE)
        } else {
            value
        };
        let share = (placed(self.logarithmic, value) - self.low) / (self.high - self.low);
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }
}

fn placed(logarithmic: bool, value: f64) -> f64 {
    if logarithmic { value.log10() } else { value }
}

/// Four to eight round numbers: multiples of 1, 2 or 5 times a power of ten.
fn round(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|count| count as f64 * step).collect()
}

/// Powers of ten; with 2 and 5 times them where there are few.
fn powers(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let factors: &[f64] = match last - first {
        0..=2 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let every = usize::try_from((last - first) / 7 + 1).unwrap_or(1);
    let exponents = (first..=last).step_by(every);
    let ticks = exponents.flat_map(|exponent| factors.iter().map(move |factor| (factor, exponent)));
    ticks
        .map(|(factor, exponent)| factor * 10_f64.powi(exponent))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let linear = Axis::linear("y", Unit::Percent);
        let scale = Scale::new(&linear, &[78.0, 92.84], (100.0, 0.0));
        assert_eq!(scale.ticks, [80.0, 85.0, 90.0]);
        assert!(scale.place(92.84) < scale.place(78.0));
        let logarithmic = Axis::logarithmic("x", Unit::Bytes);
        let scale = Scale::new(&logarithmic, &[0.3e6, 7e6], (0.0, 100.0));
        assert_eq!(scale.ticks, [5e5, 1e6, 2e6, 5e6]);
        let scale = Scale::new(&logarithmic, &[0.6e6, 1.2e6], (0.0, 100.0));
        assert_eq!(scale.ticks, [6e5, 8e5, 1e6, 1.2e6]);
        let levels = logarithmic.at(&[0.9, 0.3, 0.05]);
        let scale = Scale::new(&levels, &[0.9, 0.05], (0.0, 100.0));
        assert_eq!(scale.ticks, [0.9, 0.3, 0.05]);
    }

    #[test]
    fn numbers_that_are_none_have_a_place_within() {
        let axis = Axis::logarithmic("y", Unit::Plain);
        for values in [&[][..], &[0.0], &[f64::NAN], &[3.0]] {
            let scale = Scale::new(&axis, values, (0.0, 100.0));
            for value in [0.0, -1.0, 3.0, 1e300] {
                assert!((0.0..=100.0).contains(&scale.place(value)), "{values:?}");
            }
        }
    }

    #[test]
    fn numbers_are_written_short() {
        let cases = [
            (Unit::Plain, 0.05, "0.05"),
            (Unit::Plain, 1.0, "1"),
            (Unit::Percent, 92.5, "92.5 %"),
            (Unit::Percent, -0.0, "0 %"),
            (Unit::Bytes, 2e6, "2.00 MB"),
            (Unit::Seconds, 0.0021, "2.10 ms"),
        ];
        for (unit, value, expected) in cases {
            assert_eq!(Axis::linear("", unit).written(value), expected);
        }
    }
}
