//! The weights and moments, before and after the step.

use super::{Parameter, Training, forward::Dense, parameters::Free, update::Names};
use crate::{
    grad::{
        tape::Tape,
        var::{Var, to_i64, to_index},
    },
    onnx::TensorProto,
};

/// One tensor of the state.
pub(super) struct Held<'t> {
    pub(super) input: String,
    pub(super) output: String,
    pub(super) shape: Vec<usize>,
    /// Nothing for a moment, which begins at zero.
    pub(super) first: Option<TensorProto>,
    pub(super) next: Var<'t>,
}

/// The gradient of a weight: written down, or as the product that makes it.
#[derive(Clone, Copy)]
pub(super) enum Gradient<'t> {
    Plain(Var<'t>),
    /// `alpha * left^T * right`, of which one is `dy`.
    Product {
        left: Var<'t>,
        right: Var<'t>,
        is_left: bool,
        alpha: f32,
    },
}

impl<'t> Gradient<'t> {
    /// Times a scalar of the graph: where there is a product, the small factor takes it.
    pub(super) fn times(self, scalar: Var<'t>) -> Self {
        match self {
            Self::Plain(gradient) => Self::Plain(gradient * scalar),
            Self::Product {
                left,
                right,
                is_left,
                alpha,
            } => Self::Product {
                left: if is_left { left * scalar } else { left },
                right: if is_left { right } else { right * scalar },
                is_left,
                alpha,
            },
        }
    }

    /// Times a number, as a value.
    pub(super) fn scaled(self, factor: f32) -> Var<'t> {
        match self {
            Self::Plain(gradient) => gradient * factor,
            Self::Product {
                left, right, alpha, ..
            } => left.transposed_gemm(right, None, [alpha * factor, 1.0]),
        }
    }

    /// With `share` of `other` added.
    pub(super) fn plus(self, other: Var<'t>, share: f32) -> Var<'t> {
        match self {
            Self::Plain(gradient) => other * share + gradient,
            Self::Product {
                left, right, alpha, ..
            } => left.transposed_gemm(right, Some(other), [alpha, share]),
        }
    }
}

/// Collects what the step makes of the state.
pub(super) struct State<'t> {
    tape: &'t Tape,
    names: &'t Names,
    training: Training,
    pub(super) held: Vec<Held<'t>>,
    pub(super) parameters: Vec<Parameter>,
}

impl<'t> State<'t> {
    pub(super) fn new(tape: &'t Tape, names: &'t Names, training: Training) -> Self {
        Self {
            tape,
            names,
            training,
            held: Vec::new(),
            parameters: Vec::new(),
        }
    }

    /// A dense layer, from the cotangent `[1, .., outputs]` of what it makes.
    pub(super) fn dense(&mut self, dense: &Dense, cotangent: Var<'t>) {
        let dy = cotangent.reshape(&[-1, to_index(dense.outputs())]);
        for piece in &dense.pieces {
            let x = self.tape.value(&piece.value);
            let x = match piece.rank {
                2 => x,
                _ => x.reshape(&[-1, to_index(piece.size)]),
            };
            let (left, right) = if dense.flipped { (dy, x) } else { (x, dy) };
            let gradient = Gradient::Product {
                left,
                right,
                is_left: dense.flipped,
                alpha: dense.alpha,
            };
            let mut shape = dense.shape;
            shape[usize::from(dense.flipped)] = piece.size;
            self.update(&shape, &piece.first, gradient);
        }
        let pieces = dense.pieces.iter();
        self.parameters.push(Parameter {
            name: dense.weight.clone(),
            shape: dense.shape.to_vec(),
            pieces: pieces
                .map(|piece| (piece.weight.clone(), piece.size))
                .collect(),
            axis: usize::from(dense.flipped),
        });
        if let Some(bias) = &dense.bias {
            let gradient = dy.sum_away(&[0]) * bias.beta;
            let gradient = match bias.shape.as_slice() {
                [_] => gradient,
                shape => gradient.reshape(&to_i64(shape)),
            };
            self.whole(&bias.shape, &bias.first, Gradient::Plain(gradient));
        }
    }

    /// Any other parameter, from the cotangents `[1, ..]` at its uses.
    pub(super) fn free(&mut self, free: &Free, cotangents: &[Var<'t>]) {
        let total = match cotangents {
            [one] => *one,
            several => self.tape.push("Sum", several),
        };
        let gradient = total.reshape(&to_i64(&free.shape));
        self.whole(&free.shape, &free.first, Gradient::Plain(gradient));
    }

    fn whole(&mut self, shape: &[usize], first: &TensorProto, gradient: Gradient<'t>) {
        self.parameters.push(Parameter {
            name: first.name().to_owned(),
            shape: shape.to_vec(),
            pieces: vec![(first.name().to_owned(), shape.first().copied().unwrap_or(1))],
            axis: 0,
        });
        self.update(shape, first, gradient);
    }

    /// Writes the step of one input.
    fn update(&mut self, shape: &[usize], first: &TensorProto, gradient: Gradient<'t>) {
        let name = first.name();
        let Training {
            optimizer,
            weight_decay,
            ..
        } = self.training;
        let input = |name: &str| self.tape.value(name);
        let weight = input(name);
        let base = match shape.len() {
            2.. if weight_decay > 0.0 => weight * input(&self.names.keep),
            _ => weight,
        };
        let kinds = optimizer.moments().iter();
        let moments: Vec<String> = kinds
            .map(|kind| self.tape.name(&format!("{kind}/{name}")))
            .collect();
        let held: Vec<Var<'t>> = moments.iter().map(|name| input(name)).collect();
        let scalars = [input(&self.names.descent), input(&self.names.floor)];
        let (next, renewed) = optimizer.write(scalars, base, &held, gradient);
        self.hold(name.to_owned(), shape, Some(first.clone()), next);
        for (moment, next) in moments.into_iter().zip(renewed) {
            self.hold(moment, shape, None, next);
        }
    }

    fn hold(&mut self, input: String, shape: &[usize], first: Option<TensorProto>, next: Var<'t>) {
        self.held.push(Held {
            output: self.tape.name(&format!("next/{input}")),
            input,
            shape: shape.to_vec(),
            first,
            next,
        });
    }
}
