//! The class scores in the form that is differentiated: `[N, K]`, before or after Softmax.

use super::Of;
use crate::{
    error::{Error, Result},
    graph::{Graph, Shapes, TensorType, ValueId},
    head::{Ending, Head},
    onnx::{DataType, Dim, ModelProto, NodeProto},
};

/// A model with nodes for the class scores behind its own.
///
/// They come last, so that ids of the original's nodes and values hold here too.
pub(super) struct Target {
    pub(super) model: ModelProto,
    /// Name of the scores, `[N, K]`.
    pub(super) name: String,
}

/// What is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Logits,
    /// Softmax of the logits; Sigmoid where the model ends in one.
    Probabilities,
    /// LogSoftmax of the logits, whatever the model ends in.
    LogProbabilities,
}

impl From<Of> for Kind {
    fn from(of: Of) -> Self {
        match of {
            Of::Probabilities => Self::Probabilities,
            Of::Logits => Self::Logits,
        }
    }
}

impl Target {
    /// Appends what is needed to `graph`'s model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the scores have more than one number per class.
    pub(super) fn new(graph: &Graph<'_>, shapes: &Shapes, head: &Head, kind: Kind) -> Result<Self> {
        let logits = head.scores.logits;
        check_positions(graph, shapes, logits, head.scores.classes)?;
        let mut steps = Vec::new();
        if !matches!(shapes.dtype(logits), None | Some(DataType::Float)) {
            let to = i64::from(i32::from(DataType::Float));
            steps.push(NodeProto::new("Cast", &[], &[]).with_int("to", to));
        }
        if shapes.rank(logits) != Some(2) {
            steps.push(NodeProto::new("Flatten", &[], &[]).with_int("axis", 1));
        }
        let ending = match (kind, head.scores.ending) {
            (Kind::Logits, _) => None,
            (Kind::Probabilities, Ending::Sigmoid) => Some(NodeProto::new("Sigmoid", &[], &[])),
            (Kind::Probabilities, _) => Some(NodeProto::new("Softmax", &[], &[])),
            (Kind::LogProbabilities, _) => Some(NodeProto::new("LogSoftmax", &[], &[])),
        };
        steps.extend(ending.map(|node| match node.op() {
            "Sigmoid" => node,
            _ => node.with_int("axis", 1),
        }));
        let mut model = graph.model().clone();
        let mut name = graph.name(logits).to_owned();
        for (number, mut node) in steps.into_iter().enumerate() {
            let output = graph.fresh_name(&format!("target_{number}"));
            node.input = vec![name];
            node.output = vec![output.clone()];
            node.name = Some(output.clone());
            name = output;
            if let Some(proto) = model.graph.as_mut() {
                proto.node.push(node);
            }
        }
        Ok(Self { model, name })
    }

    /// Types of the values of the extended graph.
    pub(super) fn shapes(&self, graph: &Graph<'_>, shapes: &Shapes, head: &Head) -> Shapes {
        let mut shapes = shapes.clone();
        let mut value = graph.value(&self.name);
        let batch = shapes.dims(head.scores.logits).and_then(<[Dim]>::first);
        let dims = vec![
            batch.cloned().unwrap_or(Dim::Unknown),
            Dim::Fixed(head.scores.classes),
        ];
        let rank = shapes.dims(head.scores.logits).map(<[Dim]>::to_vec);
        while let Some(id) = value.filter(|&id| id != head.scores.logits) {
            let node = graph.producer(id);
            let casts = node.is_some_and(|node| graph.node(node).op() == "Cast");
            let dims = rank
                .clone()
                .filter(|_| casts)
                .unwrap_or_else(|| dims.clone());
            let dtype = DataType::Float;
            shapes.learn(id, TensorType { dtype, dims });
            value = node.and_then(|node| graph.input(node, 0));
        }
        shapes
    }
}

/// Scores may have further axes, of size 1 only.
fn check_positions(
    graph: &Graph<'_>,
    shapes: &Shapes,
    logits: ValueId,
    classes: usize,
) -> Result<()> {
    let Some([_, rest @ ..]) = shapes.dims(logits) else {
        return Ok(());
    };
    let sizes: Option<Vec<usize>> = rest.iter().map(Dim::fixed).collect();
    if sizes.is_none_or(|sizes| sizes.iter().product::<usize>() == classes) {
        return Ok(());
    }
    let node = graph.producer(logits);
    Err(Error::Unsupported {
        site: node.map_or_else(
            || crate::error::Site::value(graph.name(logits)),
            |node| graph.site(node),
        ),
        what: format!("makes several scores per class ({classes} classes), not one per sample"),
    })
}
