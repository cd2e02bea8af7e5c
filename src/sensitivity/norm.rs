//! p-norms.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// Which p-norm: 1 <= p <= inf.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// `(sum |s|^p)^(1/p)`, p >= 1 and finite.
    P(f64),
    /// `max |s|`.
    Inf,
}

impl Norm {
    /// The norm of non-negative values, scaled so that no power over- or underflows.
    pub fn of(self, values: impl IntoIterator<Item = f64> + Clone) -> f64 {
        let largest = values.clone().into_iter().fold(0.0, f64::max);
        match self {
            Self::Inf => largest,
            Self::P(_) if largest == 0.0 => 0.0,
            Self::P(p) => {
                let scaled = values.into_iter().map(|value| power(value / largest, p));
                largest * root(scaled.sum(), p)
            }
        }
    }
}

/// `value^p`, exact for the norms in common use.
pub(super) fn power(value: f64, p: f64) -> f64 {
    if p == 1.0 {
        value
    } else if p == 2.0 {
        value * value
    } else {
        value.powf(p)
    }
}

/// `value^(1/p)`.
pub(super) fn root(value: f64, p: f64) -> f64 {
    if p == 1.0 {
        value
    } else if p == 2.0 {
        value.sqrt()
    } else {
        value.powf(p.recip())
    }
}

impl FromStr for Norm {
    type Err = Error;

    /// Reads `inf`, `max`, or a number from 1 on.
    fn from_str(text: &str) -> Result<Self> {
        let word = text.trim().to_ascii_lowercase();
        if matches!(word.as_str(), "inf" | "max") {
            return Ok(Self::Inf);
        }
        match word.parse::<f64>() {
            Ok(p) if p >= 1.0 && p.is_finite() => Ok(Self::P(p)),
            _ => Err(Error::Argument {
                name: "--norm",
                what: format!("{text:?} is neither a number from 1 on nor inf"),
            }),
        }
    }
}

/// `1`, `3.5`, `inf`.
impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P(p) => p.fmt(f),
            Self::Inf => f.write_str("inf"),
        }
    }
}

/// As text, since JSON has no infinity.
impl Serialize for Norm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Norm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_read_numbers_from_one_on_and_infinity() {
        let cases = [
            ("1", Some(Norm::P(1.0))),
            ("2.0", Some(Norm::P(2.0))),
            (" 3.5 ", Some(Norm::P(3.5))),
            ("inf", Some(Norm::Inf)),
            ("INF", Some(Norm::Inf)),
            ("max", Some(Norm::Inf)),
            ("0.5", None),
            ("0.999", None),
            ("-2", None),
            ("-inf", None),
            ("nan", None),
            ("infinity", None),
            ("1e400", None),
            ("", None),
            ("two", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Norm>().ok(), expected, "--norm {text:?}");
        }
    }

    #[test]
    fn norms_of_five_numbers() {
        let values = [3.0, 0.0, 4.0, 0.0, 12.0];
        let cases = [
            (Norm::P(1.0), 19.0),
            (Norm::P(2.0), 13.0),
            (Norm::P(3.0), 1819_f64.cbrt()),
            (Norm::Inf, 12.0),
        ];
        for (norm, expected) in cases {
            let found = norm.of(values);
            assert!((found - expected).abs() < 1e-12, "{norm}: {found}");
        }
    }

    #[test]
    fn large_powers_of_small_and_large_values_stay_in_range() {
        for unit in [1e-300, 1e-30, 1.0, 1e30, 1e300] {
            let found = Norm::P(400.0).of([unit, unit]);
            assert!((found / unit - 2_f64.powf(1.0 / 400.0)).abs() < 1e-12);
        }
        assert_eq!(Norm::P(7.0).of([0.0, 0.0]), 0.0);
    }
}
