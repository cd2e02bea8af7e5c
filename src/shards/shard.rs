//! Which part of the samples a process takes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One of N shards; counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// An array of jobs: where a scheduler says which of them this is.
struct Scheduler {
    name: &'static str,
    index: &'static str,
    /// The first index, where it need not be 0.
    first: Option<&'static str>,
    /// How many there are; nothing where only the user knows.
    count: Option<&'static str>,
}

/// Asked in this order. AWS Batch and Kubernetes count from 0 and do not say how many there are.
const SCHEDULERS: [Scheduler; 3] = [
    Scheduler {
        name: "Slurm",
        index: "SLURM_ARRAY_TASK_ID",
        first: Some("SLURM_ARRAY_TASK_MIN"),
        count: Some("SLURM_ARRAY_TASK_COUNT"),
    },
    Scheduler {
        name: "AWS Batch",
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        first: None,
        count: Some("AWS_BATCH_JOB_ARRAY_SIZE"),
    },
    Scheduler {
        name: "Kubernetes",
        index: "JOB_COMPLETION_INDEX",
        first: None,
        count: None,
    },
];

impl Shard {
    /// All samples.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Shard `index` of `count`; nothing where there is no such shard.
    pub fn new(index: usize, count: usize) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Which one, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// Of how many; at least 1.
    pub fn count(self) -> usize {
        self.count
    }

    /// What a scheduler's variables say, as `variable` gives them; `count` is how many shards there
    /// are, where they do not tell.
    ///
    /// # Errors
    /// [`Error::Argument`] where no variable is set, or they say something impossible.
    pub fn from_scheduler(
        count: Option<usize>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let refuse = |what: String| Error::Argument {
            name: "--shard",
            what,
        };
        let known = SCHEDULERS.iter().find(|one| variable(one.index).is_some());
        let scheduler = known.ok_or_else(|| {
            let names = SCHEDULERS.map(|one| format!("{} ({})", one.index, one.name));
            refuse(format!(
                "auto needs a scheduler's variable, but none is set: {}; write I/N instead",
                names.join(", ")
            ))
        })?;
        let number = |name: &str| {
            let text = variable(name)?;
            Some(
                text.parse::<usize>()
                    .map_err(|_| refuse(format!("{name} is {text:?}, which is no whole number"))),
            )
        };
        let index = number(scheduler.index).transpose()?.unwrap_or(0);
        let first = scheduler.first.and_then(number).transpose()?.unwrap_or(0);
        let told = scheduler.count.and_then(number).transpose()?;
        let count = match (count, told) {
            (Some(asked), Some(told)) if asked != told => {
                return Err(refuse(format!(
                    "auto/{asked}, but {} says that there are {told} jobs",
                    scheduler.name
                )));
            }
            (Some(count), _) | (None, Some(count)) => count,
            (None, None) => {
                return Err(refuse(format!(
                    "{} does not tell how many jobs there are; write auto/N",
                    scheduler.name
                )));
            }
        };
        let shard = index.checked_sub(first);
        let shard = shard.and_then(|index| Self::new(index, count));
        shard.ok_or_else(|| {
            refuse(format!(
                "{} is {index}, which is none of {count} jobs from {first} on; number them without gaps",
                scheduler.index
            ))
        })
    }
}

/// `0/8`
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// Reads `I/N`, or `auto` and `auto/N` from the environment.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |what: String| Error::Argument {
            name: "--shard",
            what,
        };
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let (index, count) = match text.split_once('/') {
            Some((index, count)) => (index, Some(count)),
            None => (text, None),
        };
        let known = count.map(|count| number(count).filter(|&count| count > 0));
        if index == "auto" && known != Some(None) {
            let variable = |name: &str| std::env::var(name).ok();
            return Self::from_scheduler(known.flatten(), variable);
        }
        let shard = number(index).zip(known.flatten());
        let (index, count) = shard.ok_or_else(|| {
            refuse(format!(
                "{text:?} is no shard; write I/N with I from 0 on (0/8, ..., 7/8), auto, or auto/N"
            ))
        })?;
        Self::new(index, count).ok_or_else(|| {
            refuse(format!(
                "there is no shard {index} of {count}; they are counted from 0 to {}",
                count - 1
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_zero() {
        let cases = [
            ("0/1", Ok((0, 1))),
            ("7/8", Ok((7, 8))),
            ("8/8", Err("counted from 0 to 7")),
            ("0/0", Err("is no shard")),
            ("3", Err("is no shard")),
            ("-1/8", Err("is no shard")),
            ("auto/0", Err("is no shard")),
            ("auto/x", Err("is no shard")),
        ];
        for (text, expected) in cases {
            match (text.parse::<Shard>(), expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!((found.index(), found.count()), expected, "{text}");
                    assert_eq!(found.to_string(), text);
                }
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn schedulers_say_which_shard_this_is() {
        struct Case<'c> {
            variables: &'c [(&'c str, &'c str)],
            count: Option<usize>,
            expected: Result<(usize, usize), &'c str>,
        }
        let slurm = |id, min| {
            [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_COUNT", "8"),
            ]
        };
        let cases = [
            // --array=0-7, --array=1-8
            Case {
                variables: &slurm("3", "0"),
                count: None,
                expected: Ok((3, 8)),
            },
            Case {
                variables: &slurm("8", "1"),
                count: None,
                expected: Ok((7, 8)),
            },
            Case {
                variables: &slurm("8", "1"),
                count: Some(8),
                expected: Ok((7, 8)),
            },
            Case {
                variables: &slurm("3", "0"),
                count: Some(9),
                expected: Err("there are 8 jobs"),
            },
            // --array=0-14:2 has gaps
            Case {
                variables: &slurm("14", "0"),
                count: None,
                expected: Err("without gaps"),
            },
            Case {
                variables: &[("JOB_COMPLETION_INDEX", "2")],
                count: Some(3),
                expected: Ok((2, 3)),
            },
            Case {
                variables: &[("JOB_COMPLETION_INDEX", "2")],
                count: None,
                expected: Err("write auto/N"),
            },
            Case {
                variables: &[("AWS_BATCH_JOB_ARRAY_INDEX", "0")],
                count: Some(5),
                expected: Ok((0, 5)),
            },
            Case {
                variables: &[("JOB_COMPLETION_INDEX", "x")],
                count: Some(5),
                expected: Err("no whole number"),
            },
            Case {
                variables: &[],
                count: Some(5),
                expected: Err("none is set"),
            },
        ];
        for case in cases {
            let variable = |name: &str| {
                let mut known = case.variables.iter();
                known
                    .find(|(other, _)| *other == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            match (Shard::from_scheduler(case.count, variable), case.expected) {
                (Ok(found), Ok(expected)) => assert_eq!((found.index, found.count), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{:?}: {found:?}", case.variables),
            }
        }
    }
}
