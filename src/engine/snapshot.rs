//! What steps hold, as it was at one moment: names and handles, no copies.

use std::any::Any;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::onnx::{DataType, Tensor};

/// Named values: what steps held at one moment, or what they are to hold.
///
/// Steps renew what they hold with new values and change none, so a snapshot costs nothing, stays as
/// it was, and can be held by other steps of the same engine without a copy.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) values: Vec<(String, Value)>,
}

/// Where a value is.
#[derive(Clone)]
pub(super) enum Value {
    /// In no engine yet.
    Given(Arc<Tensor>),
    /// Nowhere yet: f32 zeros of this shape.
    Zeros(Vec<usize>),
    /// In the engine that made the snapshot.
    Inside(Arc<dyn Inside>),
}

/// A value in an engine.
pub(super) trait Inside: Any + Send + Sync {
    fn dtype(&self) -> DataType;

    fn shape(&self) -> Vec<usize>;

    /// A copy outside.
    fn fetch(&self) -> Result<Tensor>;
}

impl Value {
    pub(super) fn dtype(&self) -> DataType {
        match self {
            Self::Given(tensor) => tensor.dtype(),
            Self::Zeros(_) => DataType::Float,
            Self::Inside(value) => value.dtype(),
        }
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Given(tensor) => tensor.shape().to_vec(),
            Self::Zeros(shape) => shape.clone(),
            Self::Inside(value) => value.shape(),
        }
    }

    pub(super) fn fetch(&self) -> Result<Tensor> {
        match self {
            Self::Given(tensor) => Ok(Tensor::clone(tensor)),
            Self::Zeros(shape) => zeros(shape),
            Self::Inside(value) => value.fetch(),
        }
    }
}

/// The value as the engine `engine` keeps its own.
pub(super) fn shared<T: Inside>(engine: &'static str, value: Arc<dyn Inside>) -> Result<Arc<T>> {
    let value: Arc<dyn Any + Send + Sync> = value;
    value.downcast().map_err(|_| Error::Engine {
        engine,
        what: "the values to hold are in another engine".to_owned(),
    })
}

/// What an engine holds under these names.
pub(super) fn inside<'n, T: Inside>(
    names: impl Iterator<Item = &'n str>,
    held: &[Arc<T>],
) -> Snapshot {
    let values = names.zip(held).map(|(name, value)| {
        let value: Arc<dyn Inside> = value.clone();
        (name.to_owned(), Value::Inside(value))
    });
    Snapshot {
        values: values.collect(),
    }
}

pub(super) fn zeros(shape: &[usize]) -> Result<Tensor> {
    Tensor::f32(shape, vec![0.0; shape.iter().product()])
}

impl Snapshot {
    /// Adds f32 zeros, which the engine makes where it wants them.
    pub fn add_zeros(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.values.push((name.into(), Value::Zeros(shape.into())));
    }

    /// The values whose names are wanted.
    #[must_use]
    pub fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let values = self.values.iter().filter(|(name, _)| is_wanted(name));
        Self {
            values: values.cloned().collect(),
        }
    }

    /// The values of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.values.extend(other.values);
        self
    }

    /// Copies of the values, brought here from the device.
    ///
    /// # Errors
    /// [`Error::Engine`] when they cannot be fetched.
    pub fn fetch(&self) -> Result<Vec<(String, Tensor)>> {
        let values = self.values.iter();
        values
            .map(|(name, value)| Ok((name.clone(), value.fetch()?)))
            .collect()
    }
}

impl From<Vec<(String, Tensor)>> for Snapshot {
    fn from(tensors: Vec<(String, Tensor)>) -> Self {
        let given = |tensor| Value::Given(Arc::new(tensor));
        let values = tensors.into_iter();
        Self {
            values: values.map(|(name, tensor)| (name, given(tensor))).collect(),
        }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values = self.values.iter();
        f.debug_map()
            .entries(values.map(|(name, value)| (name, (value.dtype(), value.shape()))))
            .finish()
    }
}
