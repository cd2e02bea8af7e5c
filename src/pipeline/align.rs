//! Round widths: the numbers of kept neurons or channels, rounded up to what kernels are made for.

use std::{str::FromStr, time::Duration};

use prost::Message;
use serde::Serialize;

use super::{
    draft::Workshop,
    prune::{self, PruneOptions},
    setup,
    watch::Watch,
};
use crate::{
    error::{Error, Result},
    eval::{self, Effort, Schedule, Subject, WallClock},
    prune::{Budget, Scores},
};

/// Widths that `--align auto` looks at: 8 floats are one AVX register, 16 one of AVX-512 and a
/// block of ONNX Runtime's convolutions.
const WIDTHS: [usize; 3] = [1, 8, 16];

/// How long `--align auto` measures.
const MEASURED: Duration = Duration::from_secs(12);

/// How the numbers of kept units are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Up to a multiple of 1, 8 or 16.
    To(usize),
    /// To the multiple that is measured to be fastest; 1 unless another is clearly faster.
    Auto,
}

/// How the numbers of kept units were rounded, and why.
#[derive(Clone, Debug, Serialize)]
pub struct AlignReport {
    /// Up to a multiple of this.
    pub used: usize,
    /// With `auto`, what was compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<TriedAlign>,
}

/// One alignment that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct TriedAlign {
    /// Which.
    pub align: usize,
    /// Bytes of the output.
    pub bytes: u64,
    /// Median time of one sample, in seconds.
    pub seconds: f64,
    /// That time divided by the one without alignment; nothing for that one.
    pub ratio: Option<eval::Ratio>,
}

/// Settles how numbers are rounded, by timing the whole models where that is asked for.
///
/// # Errors
/// Those of drafts, and of running them.
pub(super) fn settle(
    workshop: &Workshop<'_>,
    options: &PruneOptions,
    scores: &Scores,
    watch: &dyn Watch,
) -> Result<AlignReport> {
    if let Align::To(used) = options.align {
        return Ok(AlignReport {
            used,
            tried: Vec::new(),
        });
    }
    let setup = workshop.setup;
    let mut drafts = Vec::new();
    for align in WIDTHS {
        let budget = Budget {
            align,
            ..options.budget.clone()
        };
        let plan = budget.select(scores)?;
        let is_new = drafts.iter().all(|(_, known, _)| *known != plan);
        if !plan.keeps_all() && is_new {
            let plan = prune::plan(&budget, &workshop.groups(), scores)?;
            let model = workshop.draft(&plan, watch)?.into_output().0;
            drafts.push((align, plan, model));
        }
    }
    if drafts.len() < 2 {
        return Ok(AlignReport {
            used: 1,
            tried: Vec::new(),
        });
    }
    watch.stage("timing widths", None);
    let sample = setup.proof_samples()?;
    let input = &sample
        .first()
        .ok_or_else(|| Error::Argument {
            name: "--align",
            what: "auto needs a sample to run".to_owned(),
        })?
        .input;
    let sessions = drafts.iter().map(|(.., model)| setup.engine().load(model));
    let mut sessions = sessions.collect::<Result<Vec<_>>>()?;
    let mut subjects: Vec<Subject<'_>> = sessions
        .iter_mut()
        .map(|session| Subject {
            session: &mut **session,
            inputs: vec![(setup.input.name.as_str(), input)],
        })
        .collect();
    let schedule = Schedule {
        effort: Effort::Time(MEASURED),
        seed: setup.options.seed,
    };
    let mut step = |_| match watch.cancelled() {
        true => Err(setup::cancelled()),
        false => Ok(()),
    };
    let found = eval::latency(&mut subjects, &schedule, &WallClock::start(), &mut step)?;
    let timed = drafts.iter().zip(&found.models);
    let tried: Vec<TriedAlign> = timed
        .map(|((align, _, model), latency)| TriedAlign {
            align: *align,
            bytes: u64::try_from(model.encoded_len()).unwrap_or(u64::MAX),
            seconds: latency.seconds.median,
            ratio: latency.ratio,
        })
        .collect();
    Ok(AlignReport {
        used: fastest(&tried),
        tried,
    })
}

/// The alignment with the smallest ratio among those whose interval lies below 1; else the first.
fn fastest(tried: &[TriedAlign]) -> usize {
    let faster = tried.iter().filter_map(|one| {
        let ratio = one.ratio?;
        let clearly = ratio.interval.is_some_and(|interval| interval.high < 1.0);
        clearly.then_some((ratio.median, one.align))
    });
    let best = faster.min_by(|a, b| a.0.total_cmp(&b.0));
    let first = tried.first().map_or(1, |one| one.align);
    best.map_or(first, |(_, align)| align)
}

impl FromStr for Align {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "1" => Ok(Self::To(1)),
            "8" => Ok(Self::To(8)),
            "16" => Ok(Self::To(16)),
            "auto" => Ok(Self::Auto),
            _ => Err(Error::Argument {
                name: "--align",
                what: format!("{text:?} is none of 1, 8, 16, auto"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clearly_faster_width_is_taken() {
        let one = |align, ratio: Option<(f64, f64)>| TriedAlign {
            align,
            bytes: 0,
            seconds: 1.0,
            ratio: ratio.map(|(median, high)| eval::Ratio {
                median,
                interval: Some(eval::Interval {
                    low: median - 0.01,
                    high,
                    confidence: 0.95,
                }),
            }),
        };
        let cases = [
            (vec![one(1, None)], 1),
            (vec![one(1, None), one(8, Some((0.9, 1.01)))], 1),
            (
                vec![
                    one(1, None),
                    one(8, Some((0.9, 0.95))),
                    one(16, Some((0.8, 0.9))),
                ],
                16,
            ),
            (
                vec![
                    one(1, None),
                    one(8, Some((0.9, 0.95))),
                    one(16, Some((0.8, 1.2))),
                ],
                8,
            ),
        ];
        for (tried, expected) in cases {
            assert_eq!(fastest(&tried), expected);
        }
    }
}
