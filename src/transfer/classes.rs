//! How many classes there are, and whether the labels go with them.

use std::{path::Path, str::FromStr};

use serde::Serialize;

use crate::error::{Error, Result};

/// Labels listed in a message.
const LISTED: usize = 10;

/// The classes of a new last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Classes {
    /// As many as the data set has.
    FromData,
    /// This many.
    Count(usize),
}

impl FromStr for Classes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |what: &str| Error::Argument {
            name: "--classes",
            what: format!("{text:?} {what}"),
        };
        if text == "from-data" {
            return Ok(Self::FromData);
        }
        match text.parse() {
            Ok(count) if count >= 2 => Ok(Self::Count(count)),
            Ok(_) => Err(invalid("is too few: there are at least two classes")),
            Err(_) => Err(invalid("is neither from-data nor a number of classes")),
        }
    }
}

impl Classes {
    /// Number of classes K: as given, else that of the names, else one more than the largest label.
    ///
    /// `labels` are those of the whole data set, `source` is where it lies.
    ///
    /// # Errors
    /// [`Error::Data`] when there are no labels, fewer than two classes, a label that is none of
    /// them, or a class without samples.
    pub fn number(
        self,
        labels: Option<&[usize]>,
        names: Option<&[String]>,
        source: &Path,
    ) -> Result<usize> {
        let largest = labels.and_then(|labels| labels.iter().max());
        let count = match (self, names) {
            (Self::Count(count), _) => count,
            (Self::FromData, Some(names)) => names.len(),
            (Self::FromData, None) => largest.map_or(0, |&label| label.saturating_add(1)),
        };
        check(labels, count, source)?;
        Ok(count)
    }
}

/// Refuses labels that do not go with K classes, or that leave one of them out.
pub(super) fn check(labels: Option<&[usize]>, classes: usize, source: &Path) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::Data {
            path: source.to_owned(),
            what,
        })
    };
    let Some(labels) = labels else {
        return refuse("has no labels, which a new last layer needs".to_owned());
    };
    if let Some(label) = labels.iter().find(|&&label| label >= classes) {
        return refuse(format!(
            "holds the label {label}, but with {classes} classes the largest is {}",
            classes.saturating_sub(1)
        ));
    }
    if labels.len() < 2 || classes < 2 {
        return refuse(format!(
            "{} samples of {classes} classes are too few for a new last layer; two of each are the least",
            labels.len()
        ));
    }
    // Above, no class number exceeds a label; so many classes cannot all have samples.
    if classes > labels.len() {
        return refuse(format!(
            "{} samples cannot show {classes} classes",
            labels.len()
        ));
    }
    let mut counts = vec![0_usize; classes];
    labels.iter().for_each(|&label| counts[label] += 1);
    let missing: Vec<String> = (0..classes)
        .filter(|&class| counts[class] == 0)
        .map(|class| class.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let more = if missing.len() > LISTED { ", ..." } else { "" };
    refuse(format!(
        "among the {} samples used there is none of class {}{more}, of which nothing can be learnt",
        labels.len(),
        missing[..missing.len().min(LISTED)].join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_from_data_are_read() {
        let cases = [
            ("from-data", Some(Classes::FromData)),
            ("10", Some(Classes::Count(10))),
            ("1", None),
            ("-3", None),
            ("ten", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected, "--classes {text:?}");
        }
    }

    #[test]
    fn labels_and_classes_must_go_together() {
        struct Case {
            classes: Classes,
            labels: Option<&'static [usize]>,
            names: usize,
            expected: Result<usize, &'static str>,
        }
        let from_data = |labels, names, expected| Case {
            classes: Classes::FromData,
            labels,
            names,
            expected,
        };
        let cases = [
            from_data(Some(&[0, 2, 1, 1]), 0, Ok(3)),
            from_data(Some(&[0, 1, 1]), 2, Ok(2)),
            from_data(None, 0, Err("no labels")),
            // a class without samples, with and without names
            from_data(Some(&[0, 2, 2]), 0, Err("none of class 1,")),
            from_data(Some(&[0, 1, 1]), 3, Err("none of class 2,")),
            // one sample, one class
            from_data(Some(&[0]), 0, Err("too few")),
            from_data(Some(&[0, 0, 0]), 0, Err("too few")),
            // a label that would ask for an absurd number of classes
            from_data(Some(&[0, usize::MAX]), 0, Err("the largest is")),
            from_data(Some(&[0, 1 << 40]), 0, Err("cannot show")),
            Case {
                classes: Classes::Count(2),
                labels: Some(&[0, 1, 2]),
                names: 0,
                expected: Err("the label 2"),
            },
            Case {
                classes: Classes::Count(4),
                labels: Some(&[0, 1, 2, 0]),
                names: 0,
                expected: Err("none of class 3,"),
            },
        ];
        for case in cases {
            let names: Vec<String> = (0..case.names).map(|name| name.to_string()).collect();
            let names = (case.names > 0).then_some(names.as_slice());
            let found = case.classes.number(case.labels, names, Path::new("data"));
            match (found.map_err(|error| error.to_string()), case.expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                (found, expected) => panic!("{:?}: {found:?}, not {expected:?}", case.labels),
            }
        }
    }
}
