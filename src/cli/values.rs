//! Flag values: from text to the library's types, with messages that fit behind clap's own words.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use onnx_prune::{
    Error,
    pipeline::BatchSize,
    prune::{Budget, Keep, Scope},
};

/// A type of the library that reads itself from text.
pub(super) fn own<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(without_flag)
}

/// The optimizers, without their settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptimizerName {
    AdamW,
    Sgd,
}

/// `adamw` or `sgd`.
pub(super) fn optimizer(text: &str) -> Result<OptimizerName, String> {
    match text {
        "adamw" => Ok(OptimizerName::AdamW),
        "sgd" => Ok(OptimizerName::Sgd),
        _ => Err("expected adamw or sgd".to_owned()),
    }
}

/// `local` or `global`.
pub(super) fn scope(text: &str) -> Result<Scope, String> {
    match text {
        "local" => Ok(Scope::Local),
        "global" => Ok(Scope::Global),
        _ => Err("expected local or global".to_owned()),
    }
}

/// A whole number from 1 on.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("is not a whole number".to_owned()),
    }
}

/// A bound on `p (1 - p)`, which is a quarter at most.
pub(super) fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(tolerance) if tolerance > 0.0 && tolerance < 0.25 => Ok(tolerance),
        _ => Err("must be a number between 0 and 0.25".to_owned()),
    }
}

/// How many samples are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleCount {
    AtMost(usize),
    /// As many as it takes.
    Auto,
}

/// A number of samples, or `auto`.
pub(super) fn samples(text: &str) -> Result<SampleCount, String> {
    match text {
        "auto" => Ok(SampleCount::Auto),
        _ => at_least_one(text).map(SampleCount::AtMost),
    }
}

/// A number of samples, or `auto`.
pub(super) fn batch(text: &str) -> Result<BatchSize, String> {
    match text {
        "auto" => Ok(BatchSize::Fitting),
        _ => at_least_one(text).map(BatchSize::Of),
    }
}

/// Points out of 100, from 0 on.
pub(super) fn points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if (0.0..=100.0).contains(&points) => Ok(points),
        Ok(_) => Err("must be from 0 to 100".to_owned()),
        Err(_) => Err("is not a number of points".to_owned()),
    }
}

/// A number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) => Err("must be from 0 to 1".to_owned()),
        Err(_) => Err("is not a number".to_owned()),
    }
}

/// `5000000`, `5MB` (10^6 bytes), `4.8MiB` (2^20 bytes).
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err("is no size; write 5000000, 5MB or 4.8MiB".to_owned()),
    };
    let bytes = number.parse::<f64>().map(|number| number * factor);
    match bytes {
        Ok(bytes) if (1.0..9e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err("is no size; write 5000000, 5MB or 4.8MiB".to_owned()),
    }
}

/// A number of seconds, above 0.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number of seconds")?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    match duration.is_zero() {
        true => Err("must be above 0".to_owned()),
        false => Ok(duration),
    }
}

/// `0.3`, `512`, `features=0.3,fc1=512` (the other layers keep all), `0.5,fc1=512`.
pub(super) fn budget(text: &str) -> Result<Budget, String> {
    let mut default = None;
    let mut layers = BTreeMap::new();
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            Some(("", _)) => return Err(format!("{part:?} names no layer")),
            Some((name, keep)) => {
                if layers.insert(name.to_owned(), self::keep(keep)?).is_some() {
                    return Err(format!("layer {name:?} is given twice"));
                }
            }
            None => {
                if default.replace(self::keep(part)?).is_some() {
                    return Err("there are two values without a layer's name".to_owned());
                }
            }
        }
    }
    Ok(Budget {
        layers,
        ..Budget::uniform(default.unwrap_or(Keep::Share(1.0)))
    })
}

fn keep(text: &str) -> Result<Keep, String> {
    Keep::parse(text).map_err(without_flag)
}

/// clap names the flag already.
fn without_flag(error: Error) -> String {
    match error {
        Error::Argument { what, .. } => what,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_read_shares_counts_and_layers() {
        type Layers = &'static [(&'static str, Keep)];
        struct Case {
            text: &'static str,
            expected: Result<(Keep, Layers), &'static str>,
        }
        let (share, count, all) = (Keep::Share(0.3), Keep::Count(512), Keep::Share(1.0));
        let cases = [
            Case {
                text: "0.3",
                expected: Ok((share, &[])),
            },
            Case {
                text: "512",
                expected: Ok((count, &[])),
            },
            // layers that are not named keep all
            Case {
                text: "features=0.3, fc1=512",
                expected: Ok((
                    all,
                    &[("fc1", Keep::Count(512)), ("features", Keep::Share(0.3))],
                )),
            },
            // unless there is a value for them
            Case {
                text: "0.3,fc1=512",
                expected: Ok((share, &[("fc1", Keep::Count(512))])),
            },
            Case {
                text: "0",
                expected: Err("is not above 0"),
            },
            Case {
                text: "1.5",
                expected: Err("no whole number"),
            },
            Case {
                text: "fc1=2.5",
                expected: Err("no whole number"),
            },
            Case {
                text: "0.3,0.5",
                expected: Err("two values"),
            },
            Case {
                text: "fc1=0.3,fc1=0.5",
                expected: Err("given twice"),
            },
            Case {
                text: "=0.3",
                expected: Err("names no layer"),
            },
            Case {
                text: "0.3,",
                expected: Err("neither a share"),
            },
        ];
        for case in cases {
            match (budget(case.text), case.expected) {
                (Ok(found), Ok((default, layers))) => {
                    let named = layers
                        .iter()
                        .map(|(name, keep)| ((*name).to_owned(), *keep));
                    assert_eq!(found.default, default, "{}", case.text);
                    assert_eq!(found.layers, named.collect(), "{}", case.text);
                }
                (Err(found), Err(part)) => assert!(found.contains(part), "{}: {found}", case.text),
                (found, _) => panic!("{}: {found:?}", case.text),
            }
        }
    }
}
