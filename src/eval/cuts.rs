//! Top classes of many cuts of one head, with the products of its first layer shared.
//!
//! What a neuron of the first layer makes is a sum over the features that are kept, with the same
//! weights in every cut. So what it makes in one cut follows from a similar, wider one: without the
//! features that are missing there, and with those that are new.
//!
//! ```text
//! z = z' - x_gone W_gone^T + x_new W_new^T        for the neurons that both have
//! ```
//!
//! Of features that are mostly 0 ([`HeldFeatures`]) only the others are multiplied, which is worth doing
//! for a head by itself as well ([`Cuts::alone`]).
//!
//! These products are ours, of f32; what follows the first layer runs in the engine. They are summed in
//! another order than an engine's, so a sample whose two best scores are nearer than [`NEAR`] is
//! given to the engine whole: the classes are those that [`super::scores`] leads to.

mod held;
mod products;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, sync::Arc};

use ndarray::{Array2, ArrayView2};

pub use held::HeldFeatures;

use self::products::{Batch, Products};
use super::{
    scores::{HeadModel, scores},
    top::largest,
};
use crate::{
    engine::{Engine, Session},
    error::{Error, Result},
    features::{self, FeatureSet},
    graph::{self, Graph, Shapes, TensorType},
    onnx::{DataType, Dim, ModelProto, Tensor, TensorProto},
    prune::dense::{self, Dense, Kind},
};

/// Samples at a time.
const BATCH: usize = 256;

/// Scores nearer than this share of the largest are not told apart by our own sums: f32 sums of
/// thousands of terms in another order differ by some 1e-6 of it.
const NEAR: f32 = 1e-4;

/// A cut of a head.
#[derive(Clone, Debug)]
pub struct CutHead {
    /// Features to scores.
    pub model: ModelProto,
    /// The features that its first layer still reads, in rising order.
    pub inputs: Vec<usize>,
    /// What of the first layer is still made, in rising order.
    pub outputs: Vec<usize>,
}

/// A head and cuts of it, ready to run.
pub struct Cuts {
    /// The head itself, then its cuts.
    heads: Vec<ModelProto>,
    steps: Vec<Step>,
    /// The heads in the order in which what their first layers make follows from one another.
    order: Vec<usize>,
    /// Name of the feature.
    feature: String,
    /// The features of all samples, where their zeros are left out.
    held: Option<Arc<HeldFeatures>>,
}

/// Which inputs and outputs of the first layer a head has.
struct Kept {
    inputs: Vec<bool>,
    outputs: Vec<bool>,
}

/// How what one first layer makes follows from what is there.
struct Step {
    /// The head it follows from, and where the neurons are there.
    base: Option<(usize, Vec<usize>)>,
    /// Of the features that make the difference; weights are negative for those that are gone.
    changed: Products,
    bias: Vec<f32>,
    /// What follows the first layer, and the value it begins with.
    rest: ModelProto,
    value: String,
}

/// The first layer of a head.
struct First {
    dense: Dense,
    /// `[outputs, inputs]`.
    weight: Array2<f32>,
    bias: Vec<f32>,
}

/// The layer that alone reads the only feature, in the form `x W + b`; where the features are
/// vectors of f32.
///
/// # Errors
/// Those of reading a model that is no graph.
pub fn first_layer(head: &ModelProto, features: &FeatureSet) -> Result<Option<Dense>> {
    Ok(First::of(head, features)?.map(|first| first.dense))
}

impl Cuts {
    /// Nothing where the heads do not begin with a layer as [`first_layer`] finds it, or that of a cut
    /// is not a part of the whole one. `held` are those of `features`.
    ///
    /// # Errors
    /// Those of taking the heads apart.
    pub fn new(
        whole: ModelProto,
        cuts: Vec<CutHead>,
        features: &FeatureSet,
        held: Option<&Arc<HeldFeatures>>,
    ) -> Result<Option<Self>> {
        let Some(first) = First::of(&whole, features)? else {
            return Ok(None);
        };
        let held = held.filter(|_| first.is_finite());
        let mut kept = vec![Kept::all(&first)];
        let mut rests = vec![rest(&whole, &first.dense)?];
        for cut in &cuts {
            let Some(rest) = first.rest_of(cut, features)? else {
                return Ok(None);
            };
            kept.push(Kept::of(cut, &first));
            rests.push(rest);
        }
        // Wide ones first, so that all others follow from them; the whole one is the widest.
        let mut order: Vec<usize> = (0..kept.len()).collect();
        order.sort_by_key(|&at| Reverse(kept[at].size()));
        let mut steps: Vec<(usize, Step)> = Vec::with_capacity(kept.len());
        for (place, &at) in order.iter().enumerate() {
            let rest = std::mem::take(&mut rests[at]);
            let step = first.step(at, &kept, &order[..place], rest, held.is_some());
            steps.push((at, step));
        }
        steps.sort_by_key(|(at, _)| *at);
        let cuts = cuts.into_iter().map(|cut| cut.model);
        Ok(Some(Self {
            heads: [whole].into_iter().chain(cuts).collect(),
            steps: steps.into_iter().map(|(_, step)| step).collect(),
            order,
            feature: features.names()[0].clone(),
            held: held.cloned(),
        }))
    }

    /// A head by itself, whatever its weights; nothing where it does not begin with a layer as
    /// [`first_layer`] finds it. `held` are those of `features`.
    ///
    /// # Errors
    /// As [`Cuts::new`].
    pub fn alone(
        head: &ModelProto,
        features: &FeatureSet,
        held: &Arc<HeldFeatures>,
    ) -> Result<Option<Self>> {
        let selected = features::selected(head, features)?;
        let (model, read) = match &selected {
            None => (head, features),
            Some((model, features)) => (model, features),
        };
        let Some(first) = First::of(model, read)?.filter(First::is_finite) else {
            return Ok(None);
        };
        let (outputs, inputs) = first.weight.dim();
        let chosen = read.chosen(0);
        let chosen = chosen.unwrap_or_else(|| (0..inputs).collect());
        if chosen.len() != inputs || !chosen.is_sorted_by(|one, next| one < next) {
            return Ok(None);
        }
        let weight = |input: usize, output: usize| first.weight[[output, input]];
        let step = Step {
            base: None,
            changed: Products::new(chosen, outputs, true, weight),
            bias: first.bias.clone(),
            rest: rest(model, &first.dense)?,
            value: first.dense.value.clone(),
        };
        Ok(Some(Self {
            heads: vec![head.clone()],
            steps: vec![step],
            order: vec![0],
            feature: features.names()[0].clone(),
            held: Some(Arc::clone(held)),
        }))
    }

    /// The class with the largest score of each sample at `positions`: of the whole head, then of each
    /// cut. `step` hears of every batch and may end the run. The features are those that the cuts were
    /// made for.
    ///
    /// # Errors
    /// As [`scores`].
    pub fn top(
        &self,
        engine: &dyn Engine,
        classes: usize,
        features: &FeatureSet,
        positions: &[usize],
        step: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<usize>>> {
        let sessions = self.steps.iter().map(|step| engine.load(&step.rest));
        let mut sessions = sessions.collect::<Result<Vec<_>>>()?;
        let mut found = vec![Found::default(); self.steps.len()];
        for part in positions.chunks(BATCH) {
            let made = self.made(engine, features, part)?;
            for ((made, step), (session, found)) in made
                .into_iter()
                .zip(&self.steps)
                .zip(sessions.iter_mut().zip(&mut found))
            {
                let scores = step.rest_of(session.as_mut(), made, part.len())?;
                let scores = scores.filter(|scores| scores.len() == part.len() * classes);
                let scores = scores.ok_or_else(|| self.misfit(engine))?;
                found.take(&scores, classes, part);
            }
            step(part.len())?;
        }
        let mut all = Vec::with_capacity(found.len());
        for (found, model) in found.into_iter().zip(&self.heads) {
            let head = HeadModel { model, classes };
            all.push(found.settled(engine, head, features, step)?);
        }
        Ok(all)
    }

    /// What the first layers make of the samples at `positions`.
    fn made(
        &self,
        engine: &dyn Engine,
        features: &FeatureSet,
        positions: &[usize],
    ) -> Result<Vec<Vec<f32>>> {
        let (read, x);
        let batch = match &self.held {
            Some(held) => Batch::Sparse(positions.iter().map(|&at| held.row(at)).collect()),
            None => {
                read = features.read(positions)?;
                x = read.values[0].to_f32();
                let shape = (positions.len(), x.len() / positions.len());
                let x = ArrayView2::from_shape(shape, &x);
                Batch::Dense(x.map_err(|_| self.misfit(engine))?)
            }
        };
        let mut made: Vec<Vec<f32>> = vec![Vec::new(); self.steps.len()];
        for &at in &self.order {
            made[at] = self.steps[at].run(&batch, &made);
        }
        Ok(made)
    }

    fn misfit(&self, engine: &dyn Engine) -> Error {
        Error::Engine {
            engine: engine.info().name,
            what: format!(
                "what follows the first layer behind {:?} gives no class scores",
                self.feature
            ),
        }
    }
}

/// Top classes so far.
#[derive(Clone, Default)]
struct Found {
    top: Vec<usize>,
    /// Samples whose best scores are too near to be told apart: where their classes are, and their
    /// positions.
    near: Vec<(usize, usize)>,
}

impl Found {
    fn take(&mut self, scores: &[f32], classes: usize, positions: &[usize]) {
        for (scores, &position) in scores.chunks_exact(classes).zip(positions) {
            let best = largest(scores);
            let others = scores
                .iter()
                .enumerate()
                .filter(|(class, _)| *class != best);
            let second = others
                .map(|(_, score)| *score)
                .fold(f32::NEG_INFINITY, f32::max);
            let size = scores
                .iter()
                .fold(0.0, |size: f32, score| size.max(score.abs()));
            // Also where a score is NaN.
            let is_clear = scores[best] - second > NEAR * size;
            if !is_clear || scores.iter().any(|score| score.is_nan()) {
                self.near.push((self.top.len(), position));
            }
            self.top.push(best);
        }
    }

    /// With the classes that the engine finds where scores are near.
    fn settled(
        mut self,
        engine: &dyn Engine,
        head: HeadModel<'_>,
        features: &FeatureSet,
        step: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<usize>> {
        if !self.near.is_empty() {
            let (places, positions): (Vec<usize>, Vec<usize>) = self.near.into_iter().unzip();
            let found = scores(engine, head, features, &positions, &mut |_| step(0))?.top();
            for (place, class) in places.into_iter().zip(found) {
                self.top[place] = class;
            }
        }
        Ok(self.top)
    }
}

impl Step {
    /// What the first layer makes of a batch, `[N, outputs]`, of what others `made`.
    fn run(&self, batch: &Batch<'_>, made: &[Vec<f32>]) -> Vec<f32> {
        let (rows, width) = (batch.rows(), self.bias.len());
        let mut z = Vec::with_capacity(rows * width);
        match &self.base {
            None => (0..rows).for_each(|_| z.extend_from_slice(&self.bias)),
            Some((base, places)) => {
                let made = &made[*base];
                for row in made.chunks_exact((made.len() / rows).max(1)) {
                    z.extend(places.iter().map(|&place| row[place]));
                }
            }
        }
        self.changed.add(batch, &mut z);
        z
    }

    /// The scores of `rows` samples, where there are any.
    fn rest_of(
        &self,
        session: &mut dyn Session,
        made: Vec<f32>,
        rows: usize,
    ) -> Result<Option<Vec<f32>>> {
        let made = Tensor::f32([rows, self.bias.len()], made)?;
        let outputs = session.run(&[(self.value.as_str(), &made)])?;
        Ok(outputs.first().map(|scores| scores.to_f32().into_owned()))
    }
}

impl First {
    fn of(head: &ModelProto, features: &FeatureSet) -> Result<Option<Self>> {
        let graph = Graph::new(head)?;
        let [name] = features.names() else {
            return Ok(None);
        };
        let reads = graph.value(name).map(|feature| graph.uses(feature));
        let Some(&[reading]) = reads else {
            return Ok(None);
        };
        let sink = graph.output(reading.node, 0).map(|value| graph.name(value));
        let dense = sink.and_then(|sink| dense::find(&graph, sink).ok());
        let plain = |dense: &Dense| {
            matches!(dense.kind, Kind::Gemm | Kind::MatMul)
                && dense.dtype == DataType::Float
                && dense.input == *name
                && (dense.alpha, dense.beta) == (1.0, 1.0)
                && graph
                    .value(&dense.value)
                    .is_some_and(|value| !graph.is_output(value))
        };
        let is_vector = || {
            let sample = features.read(&[0]).ok()?;
            Some(sample.values[0].shape().len() == 2 && sample.rows == 1)
        };
        let Some(dense) = dense.filter(plain) else {
            return Ok(None);
        };
        if features.fixed_batch().is_some() || features.is_empty() || is_vector() != Some(true) {
            return Ok(None);
        }
        let (weight, bias) = (numbers(head, &dense.weight)?, numbers(head, &dense.bias)?);
        let shape = (dense.shape[0], dense.shape[1]);
        let weight = Array2::from_shape_vec(shape, weight).ok();
        let weight = weight.map(|weight| match dense.output_axis {
            0 => weight,
            _ => weight.reversed_axes(),
        });
        Ok(weight.map(|weight| Self {
            dense,
            weight,
            bias,
        }))
    }

    /// Whether a feature that is 0 adds nothing.
    fn is_finite(&self) -> bool {
        self.weight.iter().all(|weight| weight.is_finite())
    }

    /// What follows the first layer of a cut; nothing where that is not the part of this one that it
    /// should be.
    fn rest_of(&self, cut: &CutHead, features: &FeatureSet) -> Result<Option<ModelProto>> {
        let selected = features::selected(&cut.model, features)?;
        let (model, features) = match &selected {
            None => (&cut.model, features),
            Some((model, features)) => (model, features),
        };
        let Some(own) = Self::of(model, features)? else {
            return Ok(None);
        };
        let CutHead {
            inputs, outputs, ..
        } = cut;
        let (most_outputs, most_inputs) = self.weight.dim();
        let fits = own.weight.dim() == (outputs.len(), inputs.len())
            && outputs.iter().all(|&output| output < most_outputs)
            && inputs.iter().all(|&input| input < most_inputs)
            && own.dense.value == self.dense.value
            && outputs.iter().zip(own.weight.rows()).all(|(&output, row)| {
                let whole = self.weight.row(output);
                let pairs = inputs.iter().zip(row);
                self.bias.get(output).is_some() && { pairs }
                    .all(|(&input, own)| whole[input] == *own)
            })
            && outputs
                .iter()
                .zip(&own.bias)
                .all(|(&output, own)| self.bias[output] == *own);
        match fits {
            true => Ok(Some(rest(model, &own.dense)?)),
            false => Ok(None),
        }
    }

    /// How head `at` follows from the one among `done`, or from nothing, that takes the fewest products.
    fn step(
        &self,
        at: usize,
        kept: &[Kept],
        done: &[usize],
        rest: ModelProto,
        of_sparse: bool,
    ) -> Step {
        let own = &kept[at];
        let outputs = entries(&own.outputs);
        let bases = done.iter().filter(|&&base| own.has_outputs_of(&kept[base]));
        let best = bases.min_by_key(|&&base| own.differences(&kept[base]).count());
        let count = own.inputs.iter().filter(|kept| **kept).count();
        let best = best.filter(|&&base| own.differences(&kept[base]).count() <= count);
        let changed: Vec<usize> = match best {
            Some(&base) => own.differences(&kept[base]).collect(),
            None => entries(&own.inputs),
        };
        let inputs = changed.clone();
        let changed = Products::new(changed, outputs.len(), of_sparse, |row, output| {
            let input = inputs[row];
            let sign = if own.inputs[input] { 1.0 } else { -1.0 };
            sign * self.weight[[outputs[output], input]]
        });
        let base = best.map(|&base| {
            let wide = entries(&kept[base].outputs);
            let places = outputs
                .iter()
                .filter_map(|output| wide.binary_search(output).ok());
            (base, places.collect())
        });
        Step {
            base,
            changed,
            bias: outputs.iter().map(|&output| self.bias[output]).collect(),
            rest,
            value: self.dense.value.clone(),
        }
    }
}

impl Kept {
    fn all(first: &First) -> Self {
        let (outputs, inputs) = first.weight.dim();
        Self {
            inputs: vec![true; inputs],
            outputs: vec![true; outputs],
        }
    }

    /// Of a cut that fits.
    fn of(cut: &CutHead, first: &First) -> Self {
        let (outputs, inputs) = first.weight.dim();
        let flags = |kept: &[usize], count| {
            let mut flags = vec![false; count];
            kept.iter().for_each(|&entry| flags[entry] = true);
            flags
        };
        Self {
            inputs: flags(&cut.inputs, inputs),
            outputs: flags(&cut.outputs, outputs),
        }
    }

    /// Products of one sample.
    fn size(&self) -> usize {
        let count = |flags: &[bool]| flags.iter().filter(|kept| **kept).count();
        count(&self.inputs) * count(&self.outputs)
    }

    fn has_outputs_of(&self, base: &Self) -> bool {
        let pairs = self.outputs.iter().zip(&base.outputs);
        { pairs }.all(|(own, base)| !own || *base)
    }

    /// The inputs that only one of both has.
    fn differences(&self, base: &Self) -> impl Iterator<Item = usize> {
        let pairs = self.inputs.iter().zip(&base.inputs).enumerate();
        pairs.filter_map(|(at, (own, base))| (own != base).then_some(at))
    }
}

fn entries(flags: &[bool]) -> Vec<usize> {
    let flags = flags.iter().enumerate();
    flags.filter_map(|(at, kept)| kept.then_some(at)).collect()
}

/// The head from what its first layer makes on.
fn rest(head: &ModelProto, first: &Dense) -> Result<ModelProto> {
    let graph = Graph::new(head)?;
    let value = graph
        .value(&first.value)
        .ok_or_else(|| missing(&first.value))?;
    let mut shapes = Shapes::declared(&graph);
    let dims = vec![Dim::Symbol("batch".to_owned()), Dim::Fixed(first.outputs())];
    let dtype = DataType::Float;
    shapes.learn(value, TensorType { dtype, dims });
    graph::extract(&graph, &shapes, &[value], &graph.outputs())
}

fn numbers(head: &ModelProto, name: &str) -> Result<Vec<f32>> {
    let mut known = head.graph.iter().flat_map(|graph| &graph.initializer);
    let found: Option<&TensorProto> = known.find(|tensor| tensor.name() == name);
    let tensor = Tensor::from_proto(found.ok_or_else(|| missing(name))?)?;
    Ok(tensor.to_f32().into_owned())
}

fn missing(name: &str) -> Error {
    Error::Argument {
        name: "head",
        what: format!("the head has no value {name:?}"),
    }
}
