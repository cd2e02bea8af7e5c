//! Chains of every kind that is computed in a way of its own.

use super::P;
use crate::{
    engine::Engine,
    features::testing::Dense,
    onnx::ModelProto,
    sensitivity::{Norm, Of},
};

pub(super) struct Case {
    pub(super) widths: &'static [usize],
    pub(super) activation: &'static str,
    pub(super) ending: &'static str,
    pub(super) of: Of,
    pub(super) samples: usize,
    pub(super) norms: Vec<(Norm, Norm)>,
    /// Part of what is said about the way.
    pub(super) way: &'static str,
}

impl Case {
    fn new(widths: &'static [usize], way: &'static str) -> Self {
        Self {
            widths,
            activation: "Relu",
            ending: "Softmax",
            of: Of::Probabilities,
            samples: 12,
            norms: P
                .iter()
                .map(|&p| (p, p))
                .chain([(Norm::P(1.0), Norm::P(2.0))])
                .collect(),
            way,
        }
    }

    /// For messages.
    pub(super) fn name(&self, engine: &dyn Engine) -> String {
        let Self {
            widths,
            activation,
            ending,
            ..
        } = self;
        format!("{} {widths:?} {activation} {ending}", engine.info())
    }

    /// The network, with weights of its own for each place in the table.
    pub(super) fn model(&self, at: usize) -> ModelProto {
        let mut net = Dense::random(self.widths, self.ending, at as u64 + 1);
        net.activation = self.activation;
        net.model()
    }

    fn squares(mut self) -> Self {
        self.norms = vec![(Norm::P(2.0), Norm::P(2.0))];
        self
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        // one dense layer
        Case::new(&[9, 5], "features in closed form"),
        Case {
            ending: "",
            ..Case::new(&[9, 5], "features in closed form")
        },
        Case {
            ending: "Sigmoid",
            ..Case::new(&[9, 5], "features in closed form")
        },
        // more columns than a task takes
        Case::new(&[300, 4], "features in closed form"),
        // two, like samples
        Case {
            samples: 60,
            ..Case::new(&[40, 6, 4], "features from those of like samples")
        },
        Case {
            samples: 60,
            of: Of::Logits,
            ..Case::new(&[40, 6, 4], "features from those of like samples")
        },
        Case {
            samples: 60,
            ending: "Sigmoid",
            ..Case::new(&[33, 6, 5], "features from those of like samples")
        },
        Case::new(&[600, 70, 4], "features from those of like samples"),
        // rows in one block, in two, in three that are filled up
        Case {
            samples: 60,
            ..Case::new(&[40, 6, 2], "features from those of like samples")
        },
        Case {
            samples: 60,
            ..Case::new(&[40, 6, 12], "features from those of like samples")
        },
        Case {
            samples: 60,
            of: Of::Logits,
            ..Case::new(&[37, 6, 26], "features from those of like samples")
        },
        // more samples than are compared, and than are grouped
        Case {
            samples: 1100,
            ..Case::new(&[20, 6, 4], "features from those of like samples")
        },
        Case {
            samples: 600,
            ..Case::new(&[40, 20, 4], "features by sums of products").squares()
        },
        // two, products over groups
        Case {
            activation: "LeakyRelu",
            ..Case::new(&[40, 20, 4], "features by products over active units")
        },
        Case {
            activation: "HardSwish",
            of: Of::Logits,
            ..Case::new(&[40, 20, 4], "features by products over active units")
        },
        Case {
            activation: "Softplus",
            ending: "Sigmoid",
            ..Case::new(&[40, 20, 4], "features by products over active units")
        },
        // squares alone
        Case::new(&[40, 20, 4], "features by sums of products").squares(),
        Case {
            samples: 40,
            ..Case::new(&[300, 150, 4], "features by sums of products").squares()
        },
        Case {
            activation: "Tanh",
            ..Case::new(&[40, 20, 9], "features by sums of products").squares()
        },
        // three, with all norms and with one
        Case::new(&[30, 20, 14, 4], "fc1 by products over active units"),
        Case::new(&[600, 140, 20, 4], "fc1 by sums of products").squares(),
        Case {
            activation: "Elu",
            ..Case::new(&[30, 20, 14, 10, 4], "fc2 by sums of products").squares()
        },
        // more rows than a tile takes, of one sample
        Case::new(&[30, 20, 12, 140], "features by products over active units"),
    ]
}
