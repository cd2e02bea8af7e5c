//! Chains on a device: derivatives and the sums of their powers stay there.
//!
//! The head runs forward as everywhere ([`super::passes`]); slopes and probabilities, a few numbers
//! for each sample, go back to one graph that makes all derivatives of some samples at once and adds
//! up their powers ([`graph`]). What comes back is one number per neuron and norm. Sums over the
//! samples of a step are f32, those over steps f64.
//!
//! With squares alone, `g g^T` of the first dense layer is summed up in place of its inputs'
//! derivatives ([`super::gram`]), and is closed on the device, too.

mod graph;

use std::ops::Range;

use super::{
    approximation::Approximation,
    chain::Chain,
    gram::WIDEST,
    passes::{Pass, Passes, Tail},
};
use crate::{
    engine::{Engine, Precision, Steps},
    error::{Error, Result},
    features::FeatureBatch,
    onnx::Tensor,
    sensitivity::{
        Norm, Request,
        cells::{LayerView, SinkCells, views},
        forward::not_finite,
        power_sums::PowerSums,
        sums::Way,
        target::Kind,
    },
};
use graph::{Wanted, Written};

/// Share of the free memory that one step may take: an arena that grows by doubling, and the
/// sessions beside, take the rest.
const SHARE: u64 = 4;

/// Bytes of a step where nothing says how much is free.
const BYTES: u64 = 1 << 30;

/// Most numbers of one value of a step: kernels count them in 32 bits.
const NUMBERS: usize = 1 << 30;

/// Samples whose `g g^T` are summed up in f32, step by step: some hundred sums, each rounded to 6e-8.
const TOGETHER: usize = 4096;

/// How far apart scales may be that share one sum.
const NEAR: f32 = 65_536.0;

/// Derivatives of a layer, their absolute values and powers, and what is split of them.
const COPIES: usize = 4;

/// Parts of a split factor, one beside the other.
const PARTS: usize = 3;

/// A chain on a device, ready to take batches.
pub(in crate::sensitivity) struct OnDevice {
    chain: Chain,
    passes: Passes,
    layers: Vec<LayerView>,
    classes: usize,
    pub(super) steps: Box<dyn Steps>,
    /// The layer and the norm of each output of a step.
    outputs: Vec<(usize, usize)>,
    /// Samples of a step, at most.
    pub(super) samples: usize,
    gram: Option<Gram>,
}

/// What is known of the sum of `g g^T` that the steps hold.
struct Gram {
    /// Samples in it, and what their derivatives were multiplied with.
    within: usize,
    scale: f32,
    /// Makes the sums of squares of it.
    closing: Box<dyn Steps>,
}

impl Gram {
    fn load(engine: &dyn Engine, wanted: &Wanted<'_>) -> Result<Self> {
        let (model, held) = graph::write_closing(wanted)?;
        Ok(Self {
            within: 0,
            scale: 1.0,
            closing: engine.load_steps(&model, &[], held)?,
        })
    }
}

impl OnDevice {
    /// Recognises the head; why its derivatives have to come from the gradient graph, otherwise.
    ///
    /// # Errors
    /// [`crate::Error::Engine`] when the engine cannot load a part of it.
    pub(in crate::sensitivity) fn new(
        request: Request<'_>,
        kind: Kind,
        norms: &[(Norm, Norm)],
        with_values: bool,
    ) -> Result<Result<Self, String>> {
        // Products of split factors lose nothing to TF32; see `graph`.
        let split = request.engine.info().precision == Some(Precision::Fp32);
        Self::with_parts(request, kind, norms, (with_values, split))
    }

    /// The same, with factors of products split or as they are.
    pub(super) fn with_parts(
        request: Request<'_>,
        kind: Kind,
        norms: &[(Norm, Norm)],
        (with_values, split): (bool, bool),
    ) -> Result<Result<Self, String>> {
        let (graph, shapes, head) = (request.graph, request.shapes, request.head);
        if let Some(why) = refusal(request, norms) {
            return Ok(Err(why.to_owned()));
        }
        let chain = match Chain::find(graph, Some(shapes), head) {
            Ok(chain) => chain,
            Err(why) => return Ok(Err(why)),
        };
        let tail = Tail::new(kind, head.scores.ending);
        let passes = Passes::new(request, &chain, tail, with_values)?;
        let classes = head.scores.classes;
        let norms: Vec<Norm> = norms.iter().map(|&(norm, _)| norm).collect();
        let wanted = Wanted {
            chain: &chain,
            classes,
            shares: tail == Tail::Softmax,
            norms: &norms,
            gram: is_closed(&chain, &norms),
            split,
        };
        let rounding = match split {
            true => request.engine.with_precision(Precision::Tf32),
            false => None,
        };
        let engine = rounding.as_deref().unwrap_or(request.engine);
        let Written {
            model,
            feedback,
            held,
            outputs,
        } = graph::write(&wanted)?;
        let steps = engine.load_steps(&model, &feedback, held)?;
        let gram = match wanted.gram {
            true => Some(Gram::load(engine, &wanted)?),
            false => None,
        };
        let free = request.engine.free_memory();
        let samples = samples(&chain, classes, free.map_or(BYTES, |free| free / SHARE));
        Ok(Ok(Self {
            layers: views(graph, head),
            gram,
            chain,
            passes,
            classes,
            steps,
            outputs,
            samples,
        }))
    }

    /// Sums that fit these layers, one per norm.
    pub(in crate::sensitivity) fn sums(
        &self,
        norms: &[(Norm, Norm)],
    ) -> Result<Vec<Vec<PowerSums>>> {
        self.chain.sums(norms, self.classes)
    }

    /// Adds a batch to the sums of each layer; gives the layers' values where they were asked for.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming the first neuron where a number is not finite.
    pub(in crate::sensitivity) fn add(
        &mut self,
        batch: &FeatureBatch,
        sums: &mut [&mut [PowerSums]],
    ) -> Result<Option<SinkCells>> {
        let mut pass = self.passes.run(batch, &self.layers, self.classes)?;
        let mut start = 0;
        while start < batch.samples {
            let left = batch.samples - start;
            // In equal steps, so that no plan is made for a short last one.
            let size = left.div_ceil(left.div_ceil(self.samples));
            match self.step(&pass, start..start + size, sums) {
                Err(Error::OutOfMemory { .. }) if size > 1 => self.samples = size.div_ceil(2),
                found => {
                    found?;
                    start += size;
                }
            }
        }
        Ok(pass.values.take())
    }

    fn step(
        &mut self,
        pass: &Pass,
        range: Range<usize>,
        sums: &mut [&mut [PowerSums]],
    ) -> Result<()> {
        let (count, classes) = (range.len(), self.classes);
        let rows = range.start * classes..range.end * classes;
        let scale = self.scale(pass, &rows, count, sums)?;
        let per_class = |values: &[f32], scale: f32| {
            let by_class = (0..classes).flat_map(|class| values[class..].iter().step_by(classes));
            let values = by_class.map(|value| value * scale).collect();
            Tensor::f32([classes, count, 1], values)
        };
        let factors = per_class(&pass.factors[rows.clone()], scale)?;
        let mut inputs = vec![(graph::FACTORS.to_owned(), factors)];
        if let Some(shares) = &pass.shares {
            let shares = per_class(&shares[rows], 1.0)?;
            inputs.push((graph::SHARES.to_owned(), shares));
        }
        for (level, slopes) in pass.slopes.iter().enumerate() {
            let width = self.chain.links[level].weights.outputs();
            let slopes = slopes[range.start * width..range.end * width].to_vec();
            let slopes = Tensor::f32([1, count, width], slopes)?;
            inputs.push((graph::slopes(level), slopes));
        }
        let inputs: Vec<(&str, &Tensor)> = inputs
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let outputs = self.steps.step(&inputs)?;
        if let Some(gram) = &mut self.gram {
            gram.within += count;
        }
        for (&(level, place), output) in self.outputs.iter().zip(&outputs) {
            let values = output.to_f32();
            if let Some(neuron) = values.iter().position(|value| !value.is_finite()) {
                return Err(not_finite(&self.layers[level], neuron, "", "derivative"));
            }
            if let Some(sums) = sums[level].get_mut(place) {
                sums.add_powers(&values, f64::from(scale));
            }
        }
        Ok(())
    }

    /// A power of two that brings the largest derivatives of some rows near 1: squares of small ones
    /// would otherwise be lost in f32.
    fn scale(
        &mut self,
        pass: &Pass,
        rows: &Range<usize>,
        count: usize,
        sums: &mut [&mut [PowerSums]],
    ) -> Result<f32> {
        let scale = match pass.shares {
            // pi_j (1 - pi_j) bounds the row of class j.
            Some(_) => scale_of(
                pass.factors[rows.clone()]
                    .iter()
                    .map(|&share| share * (1.0 - share)),
            ),
            None => scale_of(pass.factors[rows.clone()].iter().copied()),
        };
        let Some(gram) = &self.gram else {
            return Ok(scale);
        };
        if gram.within > 0 {
            let near = (gram.scale / NEAR..=gram.scale * NEAR).contains(&scale);
            if near && gram.within + count <= TOGETHER {
                return Ok(gram.scale);
            }
            self.flush(sums)?;
        }
        if let Some(gram) = &mut self.gram {
            gram.scale = scale;
        }
        Ok(scale)
    }

    /// Moves what is held besides the sums into them.
    ///
    /// # Errors
    /// As [`OnDevice::add`].
    pub(in crate::sensitivity) fn flush(&mut self, sums: &mut [&mut [PowerSums]]) -> Result<()> {
        let Some(gram) = self.gram.as_mut().filter(|gram| gram.within > 0) else {
            return Ok(());
        };
        let held = self.steps.snapshot().only(graph::is_gram);
        gram.closing.hold(held)?;
        let squares = gram.closing.step(&[])?;
        let squares = squares.first().map(Tensor::to_f32).unwrap_or_default();
        if let Some(neuron) = squares.iter().position(|square| !square.is_finite()) {
            return Err(not_finite(&self.layers[0], neuron, "", "derivative"));
        }
        // What is 0 may come out as less by rounding.
        let squares: Vec<f32> = squares.iter().map(|square| square.max(0.0)).collect();
        for sums in sums[0].iter_mut() {
            sums.add_powers(&squares, f64::from(gram.scale));
        }
        gram.within = 0;
        self.steps.hold(graph::no_gram(&self.chain))
    }

    /// How the derivatives came about.
    pub(in crate::sensitivity) fn how(&self) -> Way {
        let last = self.chain.links.len() - 1;
        let used = (0..=last).map(|level| {
            let what = match level {
                _ if level == last => "in closed form",
                0 if self.gram.is_some() => super::GRAM,
                _ => "by products",
            };
            (level, what.to_owned())
        });
        Way {
            text: "on the device from the weights, as the head is a chain of dense layers"
                .to_owned(),
            used: used.collect(),
        }
    }
}

/// Why derivatives are not summed up on a device, whatever the head.
fn refusal(request: Request<'_>, norms: &[(Norm, Norm)]) -> Option<&'static str> {
    if Approximation::of(request.options).is_any() {
        return Some("and not on a device, where derivatives are exact");
    }
    let plain = norms.iter().all(|&norms| PowerSums::is_plain(norms));
    (!plain).then_some(
        "norms of their own over the classes, and powers above 6, are not summed up on a device",
    )
}

/// Whether `g g^T` of the first dense layer is summed up: it has to be smaller than what it replaces.
fn is_closed(chain: &Chain, norms: &[Norm]) -> bool {
    let first = &chain.links[0].weights;
    chain.links.len() > 1
        && norms.iter().all(|&norm| norm == Norm::P(2.0))
        && first.outputs() < first.inputs()
        && first.outputs() <= WIDEST
}

/// The power of two that brings the largest of these to 1 or somewhat below.
fn scale_of(values: impl Iterator<Item = f32>) -> f32 {
    let largest = values.fold(0.0, f32::max);
    match largest.is_finite() && largest > 0.0 {
        // Not beyond what f32 holds: 2^126 at most.
        true => (-largest.log2().ceil()).clamp(-126.0, 126.0).exp2(),
        false => 1.0,
    }
}

/// Samples of a step: what it holds of one is the derivatives of each layer, in a few copies.
fn samples(chain: &Chain, classes: usize, bytes: u64) -> usize {
    let widths = chain.links.iter().map(|link| link.weights.inputs());
    let copies = widths.clone().map(|width| COPIES * width);
    let one = copies.sum::<usize>() * classes * size_of::<f32>();
    let split = chain.links[1..]
        .iter()
        .map(|link| PARTS * link.weights.inputs());
    let widest = widths.chain(split).max().unwrap_or(1) * classes;
    let room = usize::try_from(bytes).unwrap_or(usize::MAX) / one.max(1);
    room.min(NUMBERS / widest.max(1)).max(1)
}
