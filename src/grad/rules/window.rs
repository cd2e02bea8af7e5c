//! The geometry that convolutions and pools share: windows over the spatial axes.

use crate::{
    error::Result,
    grad::{context::Context, var::to_i64},
    onnx::NodeProto,
};

/// Windows over the spatial axes of input 0, `[N, C, spatial..]`; one entry per spatial axis.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Padding in front of each axis, then behind each axis.
    pub(super) pads: Vec<usize>,
    pub(super) input: Vec<usize>,
    pub(super) output: Vec<usize>,
}

impl Window {
    /// Reads the geometry of a node whose windows have these sizes.
    pub(super) fn new(c: &Context<'_>, kernel: Vec<usize>) -> Result<Self> {
        let rank = c.rank(0)?;
        let input = c.sizes(0, &(2..rank).collect::<Vec<_>>())?;
        let axes = input.len();
        let mut window = Self {
            kernel,
            strides: list(c, "strides", axes, 1)?,
            dilations: list(c, "dilations", axes, 1)?,
            pads: list(c, "pads", 2 * axes, 0)?,
            output: Vec::new(),
            input,
        };
        let fits = window.kernel.len() == axes && !window.strides.contains(&0);
        if !fits {
            return Err(c.invalid(format!("has a kernel {:?} for {axes} axes", window.kernel)));
        }
        window.resolve_auto_pad(c)?;
        window.output = (0..axes)
            .map(|axis| window.positions(c, axis))
            .collect::<Result<_>>()?;
        Ok(window)
    }

    /// Size of a window with the gaps that dilation makes.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis].max(1) - 1) * self.dilations[axis] + 1
    }

    fn padded(&self, axis: usize) -> usize {
        self.input[axis] + self.pads[axis] + self.pads[self.input.len() + axis]
    }

    /// Number of windows on an axis.
    fn positions(&self, c: &Context<'_>, axis: usize) -> Result<usize> {
        let room = self.padded(axis).checked_sub(self.reach(axis));
        let room =
            room.ok_or_else(|| c.invalid(format!("its window is larger than axis {axis}")))?;
        let stride = self.strides[axis];
        let rounds_up = c.node().int("ceil_mode").unwrap_or(0) != 0;
        if rounds_up && room % stride != 0 {
            return Err(c.unsupported("has windows cut off by ceil_mode"));
        }
        Ok(room / stride + 1)
    }

    /// Turns `auto_pad` into numbers, <https://onnx.ai/onnx/operators/onnx__Conv.html>.
    fn resolve_auto_pad(&mut self, c: &Context<'_>) -> Result<()> {
        let axes = self.input.len();
        let mode = c.node().string("auto_pad");
        let upper = match mode.as_deref() {
            None | Some("" | "NOTSET") => return Ok(()),
            Some("VALID") => {
                self.pads = vec![0; 2 * axes];
                return Ok(());
            }
            Some("SAME_UPPER") => true,
            Some("SAME_LOWER") => false,
            Some(other) => return Err(c.invalid(format!("has auto_pad {other:?}"))),
        };
        for axis in 0..axes {
            let positions = self.input[axis].div_ceil(self.strides[axis]);
            let covered = (positions.max(1) - 1) * self.strides[axis] + self.reach(axis);
            let total = covered.saturating_sub(self.input[axis]);
            let (small, large) = (total / 2, total - total / 2);
            let (before, after) = if upper {
                (small, large)
            } else {
                (large, small)
            };
            self.pads[axis] = before;
            self.pads[axes + axis] = after;
        }
        Ok(())
    }

    /// Whether there is padding anywhere.
    pub(super) fn is_padded(&self) -> bool {
        self.pads.iter().any(|&pad| pad != 0)
    }

    /// Whether one window is the whole input.
    pub(super) fn covers_all(&self) -> bool {
        self.kernel == self.input && !self.is_padded() && self.has_no_gaps()
    }

    /// Whether each window is one element, and each element has its window.
    pub(super) fn is_pointwise(&self) -> bool {
        let ones = |values: &[usize]| values.iter().all(|&value| value == 1);
        ones(&self.kernel) && ones(&self.strides) && !self.is_padded()
    }

    /// Whether the windows lie side by side and fill the input.
    pub(super) fn tiles(&self) -> bool {
        let mut axes = 0..self.input.len();
        self.kernel == self.strides
            && !self.is_padded()
            && self.has_no_gaps()
            && axes.all(|axis| self.kernel[axis] * self.output[axis] == self.input[axis])
    }

    fn has_no_gaps(&self) -> bool {
        let mut pairs = self.kernel.iter().zip(&self.dilations);
        pairs.all(|(&size, &dilation)| size == 1 || dilation == 1)
    }

    /// Attributes of the `ConvTranspose` that goes back through these windows.
    pub(super) fn transposed(&self, node: NodeProto) -> NodeProto {
        let rest = |axis: usize| {
            let covered = (self.output[axis] - 1) * self.strides[axis] + self.reach(axis);
            self.padded(axis) - covered
        };
        let rest: Vec<usize> = (0..self.input.len()).map(rest).collect();
        let node = node
            .with_ints("kernel_shape", &to_i64(&self.kernel))
            .with_ints("strides", &to_i64(&self.strides))
            .with_ints("dilations", &to_i64(&self.dilations))
            .with_ints("pads", &to_i64(&self.pads));
        if rest.iter().all(|&rest| rest == 0) {
            return node;
        }
        node.with_ints("output_padding", &to_i64(&rest))
    }
}

/// A list attribute with one default for all its entries.
fn list(c: &Context<'_>, name: &str, len: usize, default: usize) -> Result<Vec<usize>> {
    let Some(values) = c.node().ints(name) else {
        return Ok(vec![default; len]);
    };
    let values: Option<Vec<usize>> = values
        .iter()
        .map(|&value| usize::try_from(value).ok())
        .collect();
    let values = values.filter(|values| values.len() == len);
    values.ok_or_else(|| c.invalid(format!("has {name} that do not fit {len} entries")))
}

/// The attribute `kernel_shape`.
pub(super) fn kernel_shape(c: &Context<'_>) -> Result<Vec<usize>> {
    let axes = c.rank(0)?.saturating_sub(2);
    list(c, "kernel_shape", axes, 1)
}
