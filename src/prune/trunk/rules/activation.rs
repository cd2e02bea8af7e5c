//! Activations work channel by channel; only PRelu brings weights of its own.

use super::{Rule, elementwise};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Celu", elementwise::unary),
    ("Clip", elementwise::unary),
    ("Elu", elementwise::unary),
    ("FastGelu", elementwise::unary),
    ("Gelu", elementwise::unary),
    ("HardSigmoid", elementwise::unary),
    ("HardSwish", elementwise::unary),
    ("LeakyRelu", elementwise::unary),
    ("Mish", elementwise::unary),
    ("PRelu", elementwise::broadcast),
    ("QuickGelu", elementwise::unary),
    ("Relu", elementwise::unary),
    ("Selu", elementwise::unary),
    ("Shrink", elementwise::unary),
    ("Sigmoid", elementwise::unary),
    ("Softplus", elementwise::unary),
    ("Softsign", elementwise::unary),
    ("Swish", elementwise::unary),
    ("Tanh", elementwise::unary),
    ("ThresholdedRelu", elementwise::unary),
];
