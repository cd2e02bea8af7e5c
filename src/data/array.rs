//! The element types and axes of a stored array, and its bytes as numbers.

use half::f16;

use super::problem::{Problem, Read, readable_bytes};
use super::shape::product;

/// Element type of an array on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Dtype {
    /// Size of one element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// numpy's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }
}

/// Byte order on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

/// Which axis varies fastest on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The last.
    C,
    /// The first.
    Fortran,
}

/// What an array file declares about itself; sizes are checked not to overflow when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) endian: Endian,
    pub(super) order: Order,
    /// Sample axis first.
    pub(super) dims: Vec<usize>,
    /// Bytes of one sample.
    pub(super) sample_bytes: usize,
    /// Bytes of all samples.
    pub(super) data_bytes: u64,
}

impl Header {
    pub(super) fn new(dtype: Dtype, endian: Endian, order: Order, dims: Vec<usize>) -> Read<Self> {
        let Some((&samples, sample)) = dims.split_first() else {
            return Err("holds a single number, not an array of samples".into());
        };
        let sample_bytes = product(sample).and_then(|len| len.checked_mul(dtype.bytes()));
        let sizes = sample_bytes.and_then(|sample| {
            let all = (sample as u64).checked_mul(samples as u64)?;
            Some((sample, all))
        });
        let Some((sample_bytes, data_bytes)) = sizes else {
            return Err(format!("declares {dims:?} elements, more than any file can hold").into());
        };
        Ok(Self {
            dtype,
            endian,
            order,
            dims,
            sample_bytes,
            data_bytes,
        })
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> usize {
        self.dims[0]
    }

    /// Sizes of the axes behind the sample axis.
    pub(super) fn sample_dims(&self) -> &[usize] {
        &self.dims[1..]
    }

    /// `uint8 [2000, 28, 28]`
    pub(super) fn describe(&self) -> String {
        format!("{} {:?}", self.dtype.name(), self.dims)
    }

    /// Refuses a header that promises other than the `available` bytes behind it.
    pub(super) fn check_length(&self, available: u64) -> Read<()> {
        if self.data_bytes == available {
            return Ok(());
        }
        let fault = if self.data_bytes > available {
            "is truncated"
        } else {
            "has bytes left over"
        };
        Err(format!(
            "{fault}: its header declares {} ({}), but {} follow",
            self.describe(),
            readable_bytes(self.data_bytes),
            readable_bytes(available)
        )
        .into())
    }

    /// One sample's bytes as numbers, in the order of the bytes.
    pub(super) fn to_f32(&self, bytes: &[u8]) -> Vec<f32> {
        match self.dtype {
            Dtype::Bool => bytes.iter().map(|&b| f32::from(u8::from(b != 0))).collect(),
            Dtype::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
            Dtype::I8 => bytes.iter().map(|&b| f32::from(b as i8)).collect(),
            Dtype::U16 => self.map(bytes, |b| f32::from(u16::from_le_bytes(b))),
            Dtype::I16 => self.map(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::U32 => self.map(bytes, |b| u32::from_le_bytes(b) as f32),
            Dtype::I32 => self.map(bytes, |b| i32::from_le_bytes(b) as f32),
            Dtype::U64 => self.map(bytes, |b| u64::from_le_bytes(b) as f32),
            Dtype::I64 => self.map(bytes, |b| i64::from_le_bytes(b) as f32),
            Dtype::F16 => self.map(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::F32 => self.map(bytes, f32::from_le_bytes),
            Dtype::F64 => self.map(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// All elements as class labels: whole numbers, none of them negative.
    pub(super) fn to_labels(&self, bytes: &[u8]) -> Read<Vec<usize>> {
        let wide: Vec<i128> = match self.dtype {
            Dtype::Bool | Dtype::U8 => bytes.iter().map(|&b| i128::from(b)).collect(),
            Dtype::I8 => bytes.iter().map(|&b| i128::from(b as i8)).collect(),
            Dtype::U16 => self.map(bytes, |b| i128::from(u16::from_le_bytes(b))),
            Dtype::I16 => self.map(bytes, |b| i128::from(i16::from_le_bytes(b))),
            Dtype::U32 => self.map(bytes, |b| i128::from(u32::from_le_bytes(b))),
            Dtype::I32 => self.map(bytes, |b| i128::from(i32::from_le_bytes(b))),
            Dtype::U64 => self.map(bytes, |b| i128::from(u64::from_le_bytes(b))),
            Dtype::I64 => self.map(bytes, |b| i128::from(i64::from_le_bytes(b))),
            Dtype::F16 | Dtype::F32 | Dtype::F64 => {
                return Err(
                    format!("labels are {}, expected whole numbers", self.dtype.name()).into(),
                );
            }
        };
        let label = |(sample, value): (usize, i128)| {
            usize::try_from(value).map_err(|_| {
                Problem::Content(format!(
                    "label {value} of sample {sample} is not a class number"
                ))
            })
        };
        wide.into_iter().enumerate().map(label).collect()
    }

    fn map<const N: usize, T>(&self, bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let ordered = |chunk: &[u8; N]| {
            let mut element = *chunk;
            if self.endian == Endian::Big {
                element.reverse();
            }
            convert(element)
        };
        bytes.as_chunks::<N>().0.iter().map(ordered).collect()
    }
}
