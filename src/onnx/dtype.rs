//! Element types: how wide they are, what they are called, and which field carries them.

use std::fmt;

use super::proto::tensor_proto::DataType;

impl DataType {
    /// Bits per value as stored; 0 for strings, which have no fixed width.
    pub fn bits(self) -> usize {
        match self {
            Self::Undefined | Self::String => 0,
            Self::Uint2 | Self::Int2 => 2,
            Self::Uint4 | Self::Int4 | Self::Float4e2m1 => 4,
            Self::Float6e2m3 | Self::Float6e3m2 => 6,
            Self::Bool
            | Self::Uint8
            | Self::Int8
            | Self::Float8e4m3fn
            | Self::Float8e4m3fnuz
            | Self::Float8e5m2
            | Self::Float8e5m2fnuz
            | Self::Float8e8m0 => 8,
            Self::Uint16 | Self::Int16 | Self::Float16 | Self::Bfloat16 => 16,
            Self::Float | Self::Uint32 | Self::Int32 => 32,
            Self::Double | Self::Uint64 | Self::Int64 | Self::Complex64 => 64,
            Self::Complex128 => 128,
        }
    }

    /// Bytes per value; nothing for strings and for types narrower than a byte.
    pub fn bytes(self) -> Option<usize> {
        match self.bits() {
            0..8 => None,
            bits => Some(bits / 8),
        }
    }

    /// Whether values are real floating-point numbers of any width.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::Float | Self::Double | Self::Float16 | Self::Bfloat16
        )
    }
}

/// The short names of Rust and the file formats around it: `f32`, `i64`, `bf16`.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undefined => "undefined",
            Self::Float => "f32",
            Self::Double => "f64",
            Self::Float16 => "f16",
            Self::Bfloat16 => "bf16",
            Self::Int8 => "i8",
            Self::Int16 => "i16",
            Self::Int32 => "i32",
            Self::Int64 => "i64",
            Self::Uint8 => "u8",
            Self::Uint16 => "u16",
            Self::Uint32 => "u32",
            Self::Uint64 => "u64",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
            Self::Float8e4m3fn => "f8e4m3fn",
            Self::Float8e4m3fnuz => "f8e4m3fnuz",
            Self::Float8e5m2 => "f8e5m2",
            Self::Float8e5m2fnuz => "f8e5m2fnuz",
            Self::Float8e8m0 => "f8e8m0",
            Self::Float6e2m3 => "f6e2m3",
            Self::Float6e3m2 => "f6e3m2",
            Self::Float4e2m1 => "f4e2m1",
            Self::Uint4 => "u4",
            Self::Int4 => "i4",
            Self::Uint2 => "u2",
            Self::Int2 => "i2",
        })
    }
}
