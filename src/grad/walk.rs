//! The walk over the nodes of a path, last first: what arrives where.

use std::collections::BTreeMap;

use super::{
    Request,
    context::{Context, Flow},
    path::Path,
    rules::{self, Found},
    tape::Tape,
    var::Var,
};
use crate::{
    error::{Error, Result},
    graph::{Graph, NodeId, Shapes, Use, ValueId},
    onnx::DataType,
};

/// Writes the gradient onto `tape` and gives the cotangent at each wanted use.
///
/// `seed` is what arrives at the scores, `[R, N, K]`; [`wide`] makes it from fewer numbers.
pub(super) fn back<'t>(
    graph: &'t Graph<'t>,
    shapes: &'t Shapes,
    path: &'t Path<'t>,
    tape: &'t Tape,
    request: Request<'_>,
    seed: Var<'t>,
) -> Result<Vec<Var<'t>>> {
    let mut walk = Walk {
        graph,
        shapes,
        path,
        tape,
        arrived: BTreeMap::new(),
        found: BTreeMap::new(),
    };
    walk.arrived.insert(request.of, vec![seed]);
    for node in path.backwards() {
        walk.visit(node)?;
    }
    let found = request.wrt.iter().map(|at| match walk.found.get(at) {
        Some(&found) => Ok(found),
        None => walk.zeros(*at, seed),
    });
    found.collect()
}

/// A seed `[R, 1, K]` or `[R, N, K]`, one row for each sample.
pub(super) fn wide<'t>(
    graph: &'t Graph<'t>,
    shapes: &Shapes,
    tape: &'t Tape,
    of: ValueId,
    seed: Var<'t>,
) -> Var<'t> {
    let scores = tape.value(graph.name(of));
    seed.expand_like(match shapes.dtype(of) {
        None | Some(DataType::Float) => scores,
        Some(_) => scores.to_f32(),
    })
}

struct Walk<'t> {
    graph: &'t Graph<'t>,
    shapes: &'t Shapes,
    path: &'t Path<'t>,
    tape: &'t Tape,
    /// What has arrived at each value so far.
    arrived: BTreeMap<ValueId, Vec<Var<'t>>>,
    /// What has arrived at each use that was asked for.
    found: BTreeMap<Use, Var<'t>>,
}

impl<'t> Walk<'t> {
    fn visit(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        let outputs = 0..node.output.len();
        let cotangents: Vec<_> = outputs.map(|output| self.total(id, output)).collect();
        let Found::Rule(rule) = rules::find(self.graph, id) else {
            return Ok(());
        };
        if cotangents.iter().all(Option::is_none) {
            return Ok(());
        }
        let inputs = 0..node.input.len();
        let wanted = inputs.map(|input| self.path.wants(self.graph, self.shapes, id, input));
        let context = Context {
            graph: self.graph,
            shapes: self.shapes,
            tape: self.tape,
            id,
            cotangents,
            wanted: wanted.collect(),
        };
        let flows = rule(&context)?;
        if flows.len() != node.input.len() {
            let (given, expected) = (node.input.len(), flows.len());
            return Err(context.invalid(format!("has {given} inputs, expected {expected}")));
        }
        for (input, flow) in flows.into_iter().enumerate() {
            if context.wants(input) {
                self.arrive(&context, input, flow)?;
            }
        }
        Ok(())
    }

    /// The sum of what arrived at an output.
    fn total(&mut self, id: NodeId, output: usize) -> Option<Var<'t>> {
        let value = self.graph.output(id, output)?;
        match self.arrived.remove(&value)?.as_slice() {
            [one] => Some(*one),
            several => Some(self.tape.push("Sum", several)),
        }
    }

    fn arrive(&mut self, context: &Context<'t>, input: usize, flow: Flow<'t>) -> Result<()> {
        let cotangent = match flow {
            Flow::None => return Ok(()),
            Flow::Exact(cotangent) => cotangent,
            Flow::Wide(gradient, dims) => context.unbroadcast(gradient, &dims, input)?,
        };
        let node = context.id;
        if self.path.is_target(node, input) {
            self.found.insert(Use { node, input }, cotangent);
        }
        let value = context.input_id(input)?;
        if self.path.passes(self.graph, self.shapes, value) {
            self.arrived.entry(value).or_default().push(cotangent);
        }
        Ok(())
    }

    /// The cotangent of a use through which no gradient comes.
    fn zeros(&self, at: Use, seed: Var<'t>) -> Result<Var<'t>> {
        let site = || self.graph.site(at.node);
        let value = self.graph.input(at.node, at.input);
        let value = value.ok_or_else(|| Error::Invalid {
            site: site(),
            what: format!("lacks input {}", at.input),
        })?;
        let rank = self.shapes.rank(value).ok_or_else(|| Error::Unsupported {
            site: site(),
            what: format!("number of axes of input {} is not known", at.input),
        })?;
        let mut sizes = vec![1; rank + 1];
        sizes[0] = -1;
        let rows = seed.sum_away(&[1, 2]) * 0.0;
        let value = self.tape.value(self.graph.name(value));
        Ok(rows.reshape(&sizes).expand_like(value))
    }
}
