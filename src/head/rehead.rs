//! A head for other classes: the last layer replaced, and everything behind it that counts classes.
//!
//! The new last layer reads what the old one read, so nothing in front of it changes. Behind it,
//! only what works for any number of classes may stand: what cannot is refused before any long
//! run, since a scale per class, a map of class names or a fixed number of best classes would
//! speak of classes that are gone.

use std::collections::BTreeSet;

use super::ClassScores;
use crate::{
    error::{Error, Result, Site},
    graph::{Graph, NodeId, Patch, Shapes, TensorType, Use, ValueId},
    onnx::{Dim, ModelProto, Tensor, TensorProto, ValueInfoProto},
    prune::dense::{self, Dense, Kind},
};

/// Element by element, or along the axis of the classes, whatever their number.
const ANY_NUMBER: &[&str] = &[
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "LogSoftmax",
    "Sigmoid",
    "Softmax",
    "Squeeze",
    "Unsqueeze",
];

/// A last layer that can be replaced.
///
/// Made by [`LastLayer::of`], used by [`LastLayer::replaced`]: between the two, weights are found
/// for what it reads.
#[derive(Debug)]
pub struct LastLayer<'g> {
    graph: &'g Graph<'g>,
    node: NodeId,
    /// The value it reads, `[N, F]`, perhaps with further axes of size 1.
    pub input: ValueId,
    /// Number of values F that it reads of each sample.
    pub width: usize,
    /// Number of classes K that it makes.
    pub classes: usize,
    /// Product of the constant factors between it and the logits.
    scale: f64,
    /// Reshapes whose target names the number of classes, with the new target; the entry of the
    /// classes is the one given.
    targets: Vec<(NodeId, Vec<i64>, usize)>,
    /// Values with an axis of classes.
    values: BTreeSet<ValueId>,
}

/// Weights of a new last layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LastWeights {
    /// Row-major `[K, F]`.
    pub weight: Vec<f64>,
    /// One per class, `[K]`.
    pub bias: Vec<f64>,
}

impl<'g> LastLayer<'g> {
    /// The last layer of a head, if it can be replaced.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where several layers are averaged, where the layer makes scores at
    /// many positions, or where something behind it works for the old classes only.
    pub fn of(graph: &'g Graph<'g>, shapes: &Shapes, scores: &ClassScores) -> Result<Self> {
        let unsupported = |node: NodeId, what: &str| Error::Unsupported {
            site: graph.site(node),
            what: what.to_owned(),
        };
        let &[node] = scores.last.as_slice() else {
            let all: Vec<String> = scores
                .last
                .iter()
                .map(|&n| graph.site(n).to_string())
                .collect();
            return Err(Error::Unsupported {
                site: Site::value(graph.name(scores.output)),
                what: format!(
                    "its scores are put together from {}; one last layer can be replaced, not several",
                    all.join(" and ")
                ),
            });
        };
        let output = graph.output(node, 0);
        let output = output.ok_or_else(|| unsupported(node, "makes nothing"))?;
        let input = graph.input(node, 0);
        let input = input.ok_or_else(|| unsupported(node, "reads nothing"))?;
        let owned = dense::with_biases(graph.model().clone(), &[graph.name(output)])?;
        let found = dense::find(&Graph::new(&owned)?, graph.name(output))?;
        let dims = shapes.dims(output);
        let single = dims.is_none_or(|dims| dims.iter().skip(2).all(|dim| *dim == Dim::Fixed(1)));
        if !single || found.kind == Kind::TransposedGemm {
            return Err(unsupported(
                node,
                "makes scores at many positions, which are put together behind it; such a layer is not replaced",
            ));
        }
        let mut last = Self {
            graph,
            node,
            input,
            width: found.shape.iter().product::<usize>() / found.outputs().max(1),
            classes: found.outputs(),
            scale: 1.0,
            targets: Vec::new(),
            values: BTreeSet::new(),
        };
        last.follow(shapes, output, &found)?;
        Ok(last)
    }

    /// Everything the layer's output reaches.
    fn follow(&mut self, shapes: &Shapes, output: ValueId, layer: &Dense) -> Result<()> {
        let graph = self.graph;
        let mut open = vec![output];
        while let Some(value) = open.pop() {
            if !self.values.insert(value) {
                continue;
            }
            for &reading in graph.uses(value) {
                let node = reading.node;
                let op_type = graph.node(node).op();
                // The Add of a bias is part of the layer.
                let is_bias = value == output
                    && graph.output(node, 0).map(|id| graph.name(id)) == Some(&layer.value);
                let classes_stay = match op_type {
                    "ArgMax" => false,
                    "Reshape" => {
                        self.retarget(shapes, node)?;
                        true
                    }
                    "Mul" | "Div" => {
                        self.scale *= self.factor(reading)?;
                        true
                    }
                    _ if is_bias || ANY_NUMBER.contains(&op_type) => true,
                    _ => {
                        return Err(self.refused(
                            node,
                            "stands behind the last layer, and nothing is known of it for other classes",
                        ));
                    }
                };
                if classes_stay {
                    open.extend(graph.output(node, 0));
                }
            }
        }
        Ok(())
    }

    fn refused(&self, node: NodeId, what: &str) -> Error {
        Error::Unsupported {
            site: self.graph.site(node),
            what: what.to_owned(),
        }
    }

    /// What a Mul or Div by a constant multiplies the scores by.
    fn factor(&self, reading: Use) -> Result<f64> {
        let node = reading.node;
        let divides = self.graph.node(node).op() == "Div";
        let other = 1 - reading.input.min(1);
        let constant = self.graph.constant_input(node, other);
        let factor = constant.and_then(|tensor| match *tensor.to_f32() {
            [factor] => Some(f64::from(factor)),
            _ => None,
        });
        match factor {
            Some(factor) if factor > 0.0 && factor.is_finite() && !(divides && other == 0) => {
                Ok(if divides { factor.recip() } else { factor })
            }
            _ => Err(self.refused(
                node,
                "stands behind the last layer and is no multiplication by one positive constant",
            )),
        }
    }

    /// Notes the new target of a Reshape, where the old one names the number of classes.
    fn retarget(&mut self, shapes: &Shapes, node: NodeId) -> Result<()> {
        let output = self.graph.output(node, 0);
        let dims = output.and_then(|id| shapes.dims(id));
        let dims = dims.ok_or_else(|| self.refused(node, "has an output of unknown shape"))?;
        let wanted = Dim::Fixed(self.classes);
        let axes: Vec<usize> = (1..dims.len())
            .filter(|&axis| dims[axis] == wanted)
            .collect();
        let others = dims.iter().skip(1).filter(|dim| **dim != Dim::Fixed(1));
        let &[axis] = axes.as_slice() else {
            return Err(self.refused(node, "turns the classes into something else"));
        };
        if others.count() != 1 {
            return Err(self.refused(node, "puts more beside the classes"));
        }
        let target = self
            .graph
            .constant_input(node, 1)
            .map(|tensor| tensor.to_i64());
        let named = target.as_ref().and_then(|target| target.get(axis));
        if named.is_some_and(|&size| size == 0 || size == -1) {
            return Ok(());
        }
        let size = |dim: &Dim| dim.fixed().map_or(-1, |size| size as i64);
        let target = target.unwrap_or_else(|| dims.iter().map(size).collect());
        self.targets.push((node, target, axis));
        Ok(())
    }

    /// The model with a new last layer, `weights.bias.len()` classes in place of the old ones, and
    /// the names of its weight and bias.
    ///
    /// The weights are those of the logits; constant factors behind the layer are taken out of
    /// them.
    ///
    /// # Errors
    /// [`Error::Argument`] when the numbers of weights do not fit.
    pub fn replaced(&self, weights: &LastWeights) -> Result<(ModelProto, [String; 2])> {
        let classes = weights.bias.len();
        if classes == 0 || weights.weight.len() != classes * self.width {
            return Err(Error::Argument {
                name: "weights",
                what: format!(
                    "{} weights and {classes} biases are no layer of {} inputs",
                    weights.weight.len(),
                    self.width
                ),
            });
        }
        let mut patch = Patch::default();
        for (node, target, axis) in &self.targets {
            let mut target = target.clone();
            target[*axis] = classes as i64;
            let name = patch.fresh_name(
                self.graph,
                &format!("{}_shape", self.graph.site(*node).node),
            );
            let tensor = Tensor::i64([target.len()], target)?;
            patch.set_initializer(tensor.to_proto(name.as_str()));
            patch.redirect(
                Use {
                    node: *node,
                    input: 1,
                },
                name,
            );
        }
        self.values.iter().for_each(|&id| patch.forget_shape(id));
        let model = patch.apply(self.graph)?;

        let output = self
            .graph
            .output(self.node, 0)
            .map_or("", |id| self.graph.name(id));
        let model = dense::with_biases(model, &[output])?;
        let graph = Graph::new(&model)?;
        let layer = dense::find(&graph, output)?;
        let mut patch = Patch::default();
        patch.set_initializer(self.weight(&layer, weights)?);
        patch.set_initializer(self.bias(&layer, weights)?);
        let inner = graph.value(&layer.value);
        inner.into_iter().for_each(|id| patch.forget_shape(id));
        let mut model = patch.apply(&graph)?;
        self.declare_outputs(&mut model, classes);
        Ok((model, [layer.weight, layer.bias]))
    }

    /// What is known of the values, with `classes` in place of the old number.
    pub fn with_classes(&self, shapes: &Shapes, classes: usize) -> Shapes {
        let mut shapes = shapes.clone();
        for &value in &self.values {
            if let Some(known) = shapes.tensor(value) {
                let TensorType { dtype, dims } = known.clone();
                let dims = self.dims(dims, classes);
                shapes.learn(value, TensorType { dtype, dims });
            }
        }
        shapes
    }

    fn weight(&self, layer: &Dense, weights: &LastWeights) -> Result<TensorProto> {
        let classes = weights.bias.len();
        let factor = (layer.alpha * self.scale).recip();
        let at = |class: usize, input: usize| {
            (weights.weight[class * self.width + input] * factor) as f32
        };
        let mut shape = layer.shape.clone();
        shape[layer.output_axis] = classes;
        let values = (0..classes * self.width).map(|place| match layer.output_axis {
            0 => at(place / self.width, place % self.width),
            _ => at(place % classes, place / classes),
        });
        let tensor = Tensor::f32(shape, values.collect())?.cast(layer.dtype)?;
        Ok(tensor.to_proto(layer.weight.as_str()))
    }

    fn bias(&self, layer: &Dense, weights: &LastWeights) -> Result<TensorProto> {
        let factor = (layer.beta * self.scale).recip();
        let mut shape = layer.bias_shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = weights.bias.len();
        }
        let values = weights.bias.iter().map(|value| (value * factor) as f32);
        let tensor = Tensor::f32(shape, values.collect())?.cast(layer.dtype)?;
        Ok(tensor.to_proto(layer.bias.as_str()))
    }

    /// The new number of classes in the declared shapes of the model's outputs.
    fn declare_outputs(&self, model: &mut ModelProto, classes: usize) {
        let outputs = model.graph.iter_mut().flat_map(|graph| &mut graph.output);
        for info in outputs {
            let value = self.graph.value(info.name());
            if !value.is_some_and(|id| self.values.contains(&id)) {
                continue;
            }
            let (Some(dtype), Some(dims)) = (info.elem_type(), info.dims()) else {
                continue;
            };
            let dims = self.dims(dims, classes);
            info.r#type = ValueInfoProto::tensor("", dtype, &dims).r#type;
        }
    }

    /// The axes of a value with the new number of classes.
    fn dims(&self, dims: Vec<Dim>, classes: usize) -> Vec<Dim> {
        let old = Dim::Fixed(self.classes);
        let axes = dims.into_iter().enumerate();
        axes.map(|(axis, dim)| match axis > 0 && dim == old {
            true => Dim::Fixed(classes),
            false => dim,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
