//! What a gradient rule sees of its node, and what it gives back.
//!
//! A cotangent of a value of shape `[N, ..]` has shape `[R, N, ..]`: R class rows travel together
//! on the leading axis, so axis `a` of a value is axis `a + 1` of its cotangent. All arithmetic is
//! done in f32: values of another type (f16, bf16, f64) come to the rule through a `Cast`, which is
//! exact for f16 and bf16.

use super::{tape::Tape, var::Var};
use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Shapes, ValueId},
    onnx::{DataType, Dim, NodeProto},
};

/// A gradient rule: the cotangents of a node's inputs from those of its outputs, one per input.
pub(super) type Rule = for<'t> fn(&Context<'t>) -> Result<Vec<Flow<'t>>>;

/// What flows back into one input of a node.
#[derive(Clone, Debug)]
pub(super) enum Flow<'t> {
    /// Nothing: the derivative is zero, the input is no number, or nobody asked.
    None,
    /// A cotangent in the input's own shape behind the class axis.
    Exact(Var<'t>),
    /// A cotangent of these sizes behind the class axis, which the driver sums over the axes along
    /// which the input was broadcast.
    Wide(Var<'t>, Vec<Dim>),
}

/// One node on the way back.
pub(super) struct Context<'t> {
    pub(super) graph: &'t Graph<'t>,
    pub(super) shapes: &'t Shapes,
    pub(super) tape: &'t Tape,
    pub(super) id: NodeId,
    /// One per output; nothing where no gradient arrives.
    pub(super) cotangents: Vec<Option<Var<'t>>>,
    /// One per input: whether somebody asked for its gradient.
    pub(super) wanted: Vec<bool>,
}

impl<'t> Context<'t> {
    pub(super) fn node(&self) -> &'t NodeProto {
        self.graph.node(self.id)
    }

    pub(super) fn opset(&self) -> i64 {
        self.tape.opset()
    }

    pub(super) fn wants(&self, input: usize) -> bool {
        self.wanted.get(input).copied().unwrap_or(false)
    }

    /// The cotangent of the first output, where it is the only one that has one.
    pub(super) fn cotangent(&self) -> Result<Var<'t>> {
        if let Some(other) = self.cotangents.iter().skip(1).position(Option::is_some) {
            return Err(self.unsupported(format!("no gradient through output {}", other + 1)));
        }
        let first = self.cotangents.first().copied().flatten();
        first.ok_or_else(|| self.invalid("has no outputs"))
    }

    /// An input as f32.
    pub(super) fn input(&self, index: usize) -> Result<Var<'t>> {
        Ok(self.as_f32(self.input_id(index)?))
    }

    /// An input as f32, where it is given.
    pub(super) fn optional(&self, index: usize) -> Option<Var<'t>> {
        let id = self.graph.input(self.id, index)?;
        Some(self.as_f32(id))
    }

    /// An input in its own type: truth values, indices.
    pub(super) fn raw_input(&self, index: usize) -> Result<Var<'t>> {
        let id = self.input_id(index)?;
        Ok(self.tape.value(self.graph.name(id)))
    }

    /// An output in its own type.
    pub(super) fn raw_output(&self, index: usize) -> Result<Var<'t>> {
        let id = self.output_id(index)?;
        Ok(self.tape.value(self.graph.name(id)))
    }

    /// An output as f32.
    pub(super) fn output(&self, index: usize) -> Result<Var<'t>> {
        Ok(self.as_f32(self.output_id(index)?))
    }

    fn as_f32(&self, id: ValueId) -> Var<'t> {
        let value = self.tape.value(self.graph.name(id));
        match self.shapes.dtype(id) {
            None | Some(DataType::Float) => value,
            Some(_) => value.to_f32(),
        }
    }

    pub(super) fn input_id(&self, index: usize) -> Result<ValueId> {
        let found = self.graph.input(self.id, index);
        found.ok_or_else(|| self.invalid(format!("lacks input {index}")))
    }

    fn output_id(&self, index: usize) -> Result<ValueId> {
        let found = self.graph.output(self.id, index);
        found.ok_or_else(|| self.invalid(format!("lacks output {index}")))
    }

    /// The axes of an input.
    pub(super) fn dims(&self, index: usize) -> Result<&'t [Dim]> {
        self.dims_of(self.input_id(index)?)
    }

    /// The axes of the first output.
    pub(super) fn output_dims(&self) -> Result<&'t [Dim]> {
        self.dims_of(self.output_id(0)?)
    }

    fn dims_of(&self, id: ValueId) -> Result<&'t [Dim]> {
        let name = self.graph.name(id);
        let dims = self.shapes.dims(id);
        dims.ok_or_else(|| self.unsupported(format!("number of axes of {name:?} is not known")))
    }

    /// Number of axes of an input.
    pub(super) fn rank(&self, index: usize) -> Result<usize> {
        Ok(self.dims(index)?.len())
    }

    /// Sizes of these axes of an input, which must be known.
    pub(super) fn sizes(&self, index: usize, axes: &[usize]) -> Result<Vec<usize>> {
        let dims = self.dims(index)?;
        let size = |&axis: &usize| match dims.get(axis) {
            Some(Dim::Fixed(size)) => Ok(*size),
            _ => {
                Err(self.unsupported(format!("size of axis {axis} of input {index} is not known")))
            }
        };
        axes.iter().map(size).collect()
    }

    /// Number of elements of an input on these axes, as a constant or computed.
    pub(super) fn count(&self, index: usize, axes: &[usize]) -> Result<Var<'t>> {
        let rank = self.rank(index)?;
        match self.sizes(index, axes) {
            Ok(sizes) => Ok(self.tape.scalar(sizes.iter().product::<usize>() as f32)),
            Err(_) if axes.iter().copied().eq(rank - axes.len()..rank) => {
                let value = self.raw_input(index)?;
                Ok(value.count_from(rank - axes.len()))
            }
            Err(error) => Err(error),
        }
    }

    /// An axis number that may count from the end, for a value of `rank` axes.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let found = match usize::try_from(axis) {
            Ok(axis) => Some(axis),
            Err(_) => usize::try_from(axis.unsigned_abs())
                .ok()
                .and_then(|back| rank.checked_sub(back)),
        };
        let found = found.filter(|&axis| axis < rank);
        found.ok_or_else(|| self.invalid(format!("axis {axis} of a value of {rank} axes")))
    }

    /// A list of whole numbers, given as this attribute or as this input, which must be constant.
    pub(super) fn ints(&self, attribute: &str, input: usize) -> Result<Option<Vec<i64>>> {
        if let Some(values) = self.node().ints(attribute) {
            return Ok(Some(values.to_vec()));
        }
        if self.graph.input(self.id, input).is_none() {
            return Ok(None);
        }
        let constant = self.graph.constant_input(self.id, input);
        let values = constant.map(|tensor| tensor.to_i64());
        values
            .map(Some)
            .ok_or_else(|| self.unsupported(format!("its {attribute} are not constant")))
    }

    /// A float attribute.
    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.node().float(name).unwrap_or(default)
    }

    /// Where an attribute or an operator's variant is known but has no rule.
    pub(super) fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported {
            site: self.graph.site(self.id),
            what: what.into(),
        }
    }

    pub(super) fn invalid(&self, what: impl Into<String>) -> Error {
        Error::Invalid {
            site: self.graph.site(self.id),
            what: what.into(),
        }
    }
}

/// How rules give their results.
impl<'t> Context<'t> {
    /// A cotangent for the first input; the others (sizes, axes, bounds) get none.
    pub(super) fn first(&self, flow: Flow<'t>) -> Result<Vec<Flow<'t>>> {
        let mut flows = vec![Flow::None; self.node().input.len()];
        match flows.first_mut() {
            Some(first) => *first = flow,
            None => return Err(self.invalid("has no inputs")),
        }
        Ok(flows)
    }

    /// `dx = dy · slope` for an operator that works element by element on its first input.
    pub(super) fn slope(&self, slope: Var<'t>) -> Result<Vec<Flow<'t>>> {
        self.first(Flow::Exact(self.cotangent()? * slope))
    }

    /// Cotangents in the shape of the output, one per input, for an operator that broadcasts.
    pub(super) fn wide(
        &self,
        gradients: impl IntoIterator<Item = Var<'t>>,
    ) -> Result<Vec<Flow<'t>>> {
        let dims = self.broadcast_dims()?;
        let wide = |gradient| Flow::Wide(gradient, dims.clone());
        Ok(gradients.into_iter().map(wide).collect())
    }

    /// One flow per input, made only where it is wanted.
    pub(super) fn each(
        &self,
        mut flow: impl FnMut(usize) -> Result<Flow<'t>>,
    ) -> Result<Vec<Flow<'t>>> {
        let inputs = 0..self.node().input.len();
        inputs
            .map(|input| {
                if self.wants(input) {
                    flow(input)
                } else {
                    Ok(Flow::None)
                }
            })
            .collect()
    }

    /// Axes of all inputs broadcast together.
    pub(super) fn broadcast_dims(&self) -> Result<Vec<Dim>> {
        let mut wide = Vec::new();
        for input in 0..self.node().input.len() {
            wide = broadcast(wide, self.dims(input)?);
        }
        Ok(wide)
    }

    /// Sums a gradient of sizes `wide` over the axes along which `input` was broadcast.
    pub(super) fn unbroadcast(
        &self,
        gradient: Var<'t>,
        wide: &[Dim],
        input: usize,
    ) -> Result<Var<'t>> {
        let dims = self.dims(input)?;
        let Some(missing) = wide.len().checked_sub(dims.len()) else {
            return Err(self.invalid(format!("input {input} has more axes than the result")));
        };
        let mut stretched = Vec::new();
        for (axis, (all, one)) in wide[missing..].iter().zip(dims).enumerate() {
            match (one, all) {
                _ if one == all => {}
                (Dim::Fixed(1), _) => stretched.push(missing + axis + 1),
                // A size that is named is not 1: an exporter that repeats along it writes 1.
                (Dim::Fixed(_) | Dim::Symbol(_), _) => {}
                _ => {
                    return Err(self.unsupported(format!(
                        "whether axis {axis} of input {input} is broadcast is not known"
                    )));
                }
            }
        }
        let away: Vec<usize> = (1..=missing).collect();
        Ok(gradient.sum(&stretched).sum_away(&away))
    }
}

/// Two shapes broadcast together; two sizes that are not known are taken to be equal.
pub(super) fn broadcast(mut wide: Vec<Dim>, dims: &[Dim]) -> Vec<Dim> {
    let missing = dims.len().saturating_sub(wide.len());
    wide.splice(0..0, vec![Dim::Fixed(1); missing]);
    let offset = wide.len() - dims.len();
    for (all, one) in wide[offset..].iter_mut().zip(dims) {
        if *all == Dim::Fixed(1) || matches!(one, Dim::Fixed(size) if *size != 1) {
            all.clone_from(one);
        }
    }
    wide
}
