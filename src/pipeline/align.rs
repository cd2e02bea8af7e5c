//! Round widths: the numbers of kept neurons or channels, rounded up to what kernels are made for.

use std::{str::FromStr, time::Duration};

use prost::Message;
use serde::Serialize;

use super::{draft::Workshop, prune, rounds, watch::Watch};
use crate::{
    error::{Error, Result},
    eval,
    onnx::ModelProto,
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
    /// Median time of one run, in seconds.
    pub seconds: f64,
    /// That time divided by the one without alignment; nothing for that one.
    pub ratio: Option<eval::Ratio>,
}

impl Align {
    /// The multiple that is tried before anything is measured.
    pub(super) fn first(self) -> usize {
        match self {
            Self::To(used) => used,
            Self::Auto => WIDTHS[0],
        }
    }
}

/// Settles how the numbers of `budget` are rounded, by timing the whole models where that is asked for.
///
/// # Errors
/// Those of drafts, and of running them.
pub(super) fn settle(
    workshop: &Workshop<'_>,
    wanted: Align,
    budget: &Budget,
    scores: &Scores,
    watch: &dyn Watch,
) -> Result<AlignReport> {
    if let Align::To(used) = wanted {
        return Ok(AlignReport {
            used,
            tried: Vec::new(),
        });
    }
    let mut drafts = Vec::new();
    for align in WIDTHS {
        let budget = Budget {
            align,
            ..budget.clone()
        };
        let plan = budget.select(scores)?;
        let is_new = drafts.iter().all(|(_, known, _)| *known != plan);
        if !plan.keeps_all() && is_new {
            let plan = prune::plan(&budget, &workshop.groups(), scores)?;
            let model = workshop.outline(&plan, watch)?;
            drafts.push((align, plan, model));
        }
    }
    if drafts.len() < 2 {
        return Ok(AlignReport {
            used: 1,
            tried: Vec::new(),
        });
    }
    let models: Vec<&ModelProto> = drafts.iter().map(|(.., model)| model).collect();
    let latencies = rounds::compare(workshop.setup, &models, MEASURED, "timing widths", watch)?;
    let timed = drafts.iter().zip(&latencies);
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

/// The alignment that is clearly fastest; else the first.
fn fastest(tried: &[TriedAlign]) -> usize {
    let best = eval::clearly_fastest(tried.iter().map(|one| one.ratio));
    tried.get(best.unwrap_or(0)).map_or(1, |one| one.align)
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
