//! Loops whose state stays in the engine: training steps, above all.
//!
//! A model whose outputs feed its own inputs of the next run: weights in, weights out. Reading the
//! state out and giving it back costs two copies of every weight per step; [`Steps`] keeps it where
//! the engine put it. Inputs that no output feeds may be held as well: weights that do not change.

use std::collections::BTreeSet;

use super::Port;
use super::inputs::{arrange, check, input_ports, output_ports};
use super::snapshot::{Snapshot, Value};
use crate::error::{Error, Result};
use crate::onnx::{ModelProto, Tensor};

/// A loaded model that keeps some of its inputs, and renews them from its own outputs.
pub trait Steps: Send {
    /// Runs once on the inputs that are not held, each exactly once, in any order; gives the outputs
    /// that are no state, in the order of the model.
    ///
    /// # Errors
    /// [`Error::Engine`] as [`Session::run`](super::Session::run). The state is then that before the
    /// step.
    fn step(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>>;

    /// The held inputs as the next step will read them, in the order of the model. Nothing is copied.
    fn snapshot(&self) -> Snapshot;

    /// Replaces held inputs; those that are not named stay. What is in the engine already is shared
    /// with whoever holds it, not copied.
    ///
    /// # Errors
    /// [`Error::Engine`] for a name that is not held, and a value that does not fit or is in another
    /// engine.
    fn hold(&mut self, values: Snapshot) -> Result<()>;

    /// Copies of the held inputs; see [`Steps::snapshot`].
    ///
    /// # Errors
    /// [`Error::Engine`] when they cannot be fetched from the device.
    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        self.snapshot().fetch()
    }
}

/// What happens to each input and output of the model.
pub(super) struct Layout {
    engine: &'static str,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
    held: Vec<Port>,
    given: Vec<Port>,
}

/// Where an input comes from.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Position among the held values.
    Held(usize),
    /// Position among the inputs of a step.
    Given(usize),
}

/// Where an output goes to: a held value, or the caller.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) renews: Option<usize>,
}

impl Layout {
    /// Gives the layout, and the first values of what is held, in the order of the model.
    pub(super) fn new(
        engine: &'static str,
        model: &ModelProto,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<(Self, Vec<Value>)> {
        let fail = |what: String| Error::Engine { engine, what };
        let named: BTreeSet<&str> = initial
            .values
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let is_held = |port: &Port| named.contains(port.name.as_str());
        let (held, given): (Vec<Port>, Vec<Port>) =
            input_ports(model).into_iter().partition(is_held);
        let place = |ports: &[Port], name: &str| ports.iter().position(|port| port.name == name);
        let inputs = input_ports(model).into_iter().map(|port| Input {
            source: match place(&held, &port.name) {
                Some(at) => Source::Held(at),
                None => Source::Given(place(&given, &port.name).unwrap_or_default()),
            },
            name: port.name,
        });
        let inputs = inputs.collect();
        let mut outputs: Vec<Output> = output_ports(model)
            .into_iter()
            .map(|port| Output {
                name: port.name,
                renews: None,
            })
            .collect();
        for (from, to) in feedback {
            let output = outputs.iter_mut().find(|output| output.name == *from);
            let output = output.ok_or_else(|| fail(format!("the model has no output {from:?}")))?;
            let at = place(&held, to).ok_or_else(|| {
                fail(format!(
                    "input {to:?} is fed by {from:?} but has no first value"
                ))
            })?;
            output.renews = Some(at);
        }
        let layout = Self {
            engine,
            inputs,
            outputs,
            held,
            given,
        };
        let mut first = vec![None; layout.held.len()];
        for (at, value) in layout.placed(initial)? {
            first[at] = Some(value);
        }
        let first = first.into_iter().zip(&layout.held).map(|(value, port)| {
            value.ok_or_else(|| fail(format!("input {:?} has no first value", port.name)))
        });
        let first = first.collect::<Result<_>>()?;
        Ok((layout, first))
    }

    /// The inputs of a step in the order of [`Source::Given`], checked.
    pub(super) fn arrange<'t>(&self, inputs: &[(&str, &'t Tensor)]) -> Result<Vec<&'t Tensor>> {
        arrange(self.engine, &self.given, inputs)
    }

    /// Where each of these values is held; all are checked.
    pub(super) fn placed(&self, values: Snapshot) -> Result<Vec<(usize, Value)>> {
        let placed = values.values.into_iter().map(|(name, value)| {
            let at = self.held.iter().position(|port| port.name == name);
            let at = at.ok_or_else(|| Error::Engine {
                engine: self.engine,
                what: format!("no input {name:?} is held"),
            })?;
            check(self.engine, &self.held[at], value.dtype(), &value.shape())?;
            Ok((at, value))
        });
        placed.collect()
    }

    /// Whether a step renews what is held there.
    pub(super) fn renews(&self, at: usize) -> bool {
        self.outputs.iter().any(|output| output.renews == Some(at))
    }

    /// Names of what is held.
    pub(super) fn held(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(|port| port.name.as_str())
    }
}
