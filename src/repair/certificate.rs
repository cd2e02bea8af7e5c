//! For how many samples the top class provably cannot have changed.
//!
//! Both heads run on the same features. A sample counts when its top class is the same in both and
//! when, in each, its margin over every other class is larger than all rounding can be: then what
//! the cut and the repair changed is smaller than the margin, in exact arithmetic and in every
//! engine that adds up products of the stored precision in any order. The bound is carried from
//! value to value (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 3.1):
//!
//! ```text
//! dense       |w|·|e| + g·(|w|·(2|x| + |e|) + 2|b|)    g = n·u / (1 - n·u), n inputs + bias
//! elementwise L·e + 2·k·u·(|y| + 1)                    L its Lipschitz constant
//! ```
//!
//! with |.| the Euclidean norm, e the bound on what is read, u the unit roundoff of the weights.
//!
//! What it does not cover: other samples, rounding in the trunk (features are taken as given), and
//! heads that are no chain of dense and elementwise operators, for which there is no certificate.

mod bounds;
mod chain;
#[cfg(test)]
mod tests;

use serde::Serialize;

use self::chain::Chain;
use crate::{engine::Engine, error::Result, features::FeatureSet, onnx::ModelProto};

/// Samples per run, where a model leaves it open.
const BATCH: usize = 256;

/// Two heads on the same features.
#[derive(Clone, Copy)]
pub struct Comparison<'a> {
    /// What runs them.
    pub engine: &'a dyn Engine,
    /// The original head as a model, features to scores.
    pub original: &'a ModelProto,
    /// The pruned one.
    pub pruned: &'a ModelProto,
    /// What enters both.
    pub features: &'a FeatureSet,
    /// Positions of the samples.
    pub positions: &'a [usize],
}

/// How many samples keep their top class, provably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Samples that were looked at.
    pub samples: usize,
    /// Those whose top class cannot have changed.
    pub certified: usize,
    /// Why there is no certificate, where there is none: what stands in the way in one of the heads.
    pub unavailable: Option<String>,
}

/// Counts the samples whose top class provably is the same in both heads.
///
/// `progress` is told how many samples went through; an error from it ends the run.
///
/// # Errors
/// [`crate::Error::Engine`] when a head cannot run. A head without known bounds is no error: see
/// [`Certificate::unavailable`].
pub fn certificate(
    comparison: Comparison<'_>,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Certificate> {
    let Comparison {
        engine,
        original,
        pruned,
        features,
        positions,
    } = comparison;
    let mut certificate = Certificate {
        samples: 0,
        certified: 0,
        unavailable: None,
    };
    let mut chains = Vec::new();
    for model in [original, pruned] {
        match Chain::of(model, features.names())? {
            Ok(chain) => chains.push((engine.load(&chain.model)?, chain)),
            Err(why) => {
                certificate.unavailable = Some(why);
                return Ok(certificate);
            }
        }
    }
    for batch in features.batches(positions, BATCH) {
        let batch = batch?;
        let mut tops = Vec::with_capacity(chains.len());
        for (session, chain) in &mut chains {
            tops.push(chain.tops(session.as_mut(), features.names(), &batch)?);
        }
        let mut tops = tops.into_iter();
        let (first, second) = (
            tops.next().unwrap_or_default(),
            tops.next().unwrap_or_default(),
        );
        let same = first.iter().zip(&second).take(batch.samples);
        certificate.certified += same.filter(|(a, b)| a.is_some() && a == b).count();
        certificate.samples += batch.samples;
        progress(batch.samples)?;
    }
    Ok(certificate)
}
