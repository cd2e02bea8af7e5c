//! Channels out of the trunk: random small CNNs with random plans.

use onnx_prune::onnx::{ModelProto, NodeProto};
use proptest::{collection, prelude::*};

use crate::{
    nets::Builder,
    trunk::{MAPS, check},
};

/// One step of a random trunk.
#[derive(Clone, Copy, Debug)]
enum Step {
    Conv(usize),
    Depthwise,
    Grouped,
    BatchNorm,
    Relu,
    Residual,
    Projection,
    Dense(usize),
    Gate,
    Halves,
    Pad,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_usize..5).prop_map(|half| Step::Conv(2 * half)),
        Just(Step::Depthwise),
        Just(Step::Grouped),
        Just(Step::BatchNorm),
        Just(Step::Relu),
        Just(Step::Residual),
        Just(Step::Projection),
        (1_usize..3).prop_map(|half| Step::Dense(2 * half)),
        Just(Step::Gate),
        Just(Step::Halves),
        Just(Step::Pad),
    ]
}

/// How a random trunk goes over into its head.
#[derive(Clone, Copy, Debug)]
enum End {
    Pooled,
    Flat,
    FlatChannelsLast,
}

fn random_cnn(steps: &[Step], end: End) -> ModelProto {
    let mut b = Builder::new(MAPS);
    let mut h = b.same("x", 3, 6, 3, 1);
    let mut width = 6;
    for step in steps {
        h = match *step {
            Step::Conv(to) => {
                let made = b.same(&h, width, to, 3, 1);
                width = to;
                made
            }
            Step::Depthwise => b.same(&h, width, width, 3, width),
            Step::Grouped => b.same(&h, width, width, 1, 2),
            Step::BatchNorm => b.batch_norm(&h, width),
            Step::Relu => b.node("Relu", &[&h]),
            Step::Residual => {
                let f = b.same(&h, width, width, 1, 1);
                b.node("Add", &[&f, &h])
            }
            Step::Projection => {
                let (p, f) = (b.same(&h, width, 8, 1, 1), b.same(&h, width, 8, 3, 1));
                width = 8;
                b.node("Sum", &[&p, &f])
            }
            Step::Dense(growth) => {
                let f = b.same(&h, width, growth, 3, 1);
                width += growth;
                b.join(&[&h, &f])
            }
            Step::Gate => {
                let g = b.node("GlobalAveragePool", &[&h]);
                let g = b.same(&g, width, 2, 1, 1);
                let g = b.same(&g, 2, width, 1, 1);
                let g = b.node("Sigmoid", &[&g]);
                b.node("Mul", &[&g, &h])
            }
            Step::Halves => {
                let wide = b.same(&h, width, 2 * width, 1, 1);
                let (one, two) = (b.fresh("half"), b.fresh("half"));
                let node = NodeProto::new("Split", &[&wide], &[&one, &two]);
                let node = node.with_name(&one).with_int("axis", 1);
                b.graph.node.push(node.with_int("num_outputs", 2));
                b.node("Mul", &[&one, &two])
            }
            Step::Pad => {
                let pads = b.ints(&[0, 0, 0, 0, 0, 0, 1, 1]);
                let h = b.node("Pad", &[&h, &pads]);
                b.node_with("AveragePool", &[&h], |node| {
                    node.with_ints("kernel_shape", &[2, 2])
                })
            }
        };
        // Products of products would leave the range in which sums can be compared.
        h = b.node("Tanh", &[&h]);
    }
    let output = match end {
        End::Pooled => b.pooled(&h, width),
        End::Flat => {
            let shape = b.ints(&[0, -1]);
            let h = b.node("Reshape", &[&h, &shape]);
            b.dense(&h, width * 16, 4)
        }
        End::FlatChannelsLast => {
            let h = b.node_with("Transpose", &[&h], |n| n.with_ints("perm", &[0, 2, 3, 1]));
            let h = b.node("Flatten", &[&h]);
            b.dense(&h, width * 16, 4)
        }
    };
    b.finish(&output, 4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_cnns_shrink_exactly(
        steps in collection::vec(step(), 0..6),
        end in prop_oneof![Just(End::Pooled), Just(End::Flat), Just(End::FlatChannelsLast)],
        drops in collection::vec(any::<bool>(), 13),
    ) {
        let model = random_cnn(&steps, end);
        let found = check(&model, MAPS, |_, channel| drops[channel % drops.len()]);
        prop_assert!(found.is_ok(), "{steps:?} {end:?}: {}", found.err().unwrap_or_default());
    }
}
