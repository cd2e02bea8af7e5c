//! The two passes of a resize over the pixels, in vectors as wide as the processor has.
//!
//! Sums are whole numbers, so that neither their order nor the width of the vectors changes a bit.

use super::{HALF, Weights, clip};
use crate::algebra::{Loop, PixelWeights, Vectors, widest};

/// Bytes of a pixel in colour.
const COLOURS: usize = 3;

/// Pixels that are weighted at once.
const GROUP: usize = 4;

/// Bytes of which the vertical pass has the sums in registers.
const BLOCK: usize = 64;

/// The horizontal pass over rows of `width` pixels.
pub(super) fn columns(
    bytes: &[u8],
    (width, channels): (usize, usize),
    weights: &Weights,
) -> Vec<u8> {
    let groups = (channels == COLOURS).then(|| Groups::new(weights, width));
    match groups.flatten() {
        Some(groups) => columns_of_colour(bytes, width * COLOURS, &groups),
        None => columns_of_any(bytes, (width, channels), weights),
    }
}

/// `stride` is a row's length in bytes.
fn columns_of_colour(bytes: &[u8], stride: usize, groups: &Groups) -> Vec<u8> {
    let made = groups.starts.len() * COLOURS;
    let rows = bytes.len() / stride;
    // Four bytes are written for the last pixel, too.
    let mut out = vec![0; rows * made + 1];
    // What is read beyond the last row, or the last rows of a narrow image, has to be there, whatever it is.
    let whole = (bytes.len().saturating_sub(PixelWeights::READ)) / stride;
    let last = [&bytes[whole * stride..], &[0; PixelWeights::READ]].concat();
    let sources = (0..rows).map(|row| match row.checked_sub(whole) {
        None => &bytes[row * stride..],
        Some(row) => &last[row * stride..],
    });
    for (row, source) in sources.enumerate() {
        let out = &mut out[row * made..=(row + 1) * made];
        widest(ColourRow {
            source,
            groups,
            out,
        });
    }
    out.truncate(rows * made);
    out
}

/// Weights of which every position has as many, so that no branch depends on the position: those that have fewer get zeros.
struct Groups {
    /// Byte at which the first pixel of each position starts.
    starts: Vec<usize>,
    /// Those of all positions, one after the other.
    weights: Vec<PixelWeights>,
    /// Groups of a position.
    count: usize,
}

impl Groups {
    /// `None` where a row of `width` pixels has not as many as would be read.
    fn new(weights: &Weights, width: usize) -> Option<Self> {
        let most = weights.spans().map(|(_, span)| span.len()).max()?;
        let count = most.div_ceil(GROUP);
        let last_start = width.checked_sub(count * GROUP)?;
        let mut groups = Self {
            starts: Vec::with_capacity(weights.spans.len()),
            weights: Vec::with_capacity(weights.spans.len() * count),
            count,
        };
        let mut place = vec![0; count * GROUP];
        for (start, span) in weights.spans() {
            let first = start.min(last_start);
            groups.starts.push(first * COLOURS);
            place.fill(0);
            place[start - first..][..span.len()].copy_from_slice(span);
            let (place, _) = place.as_chunks();
            groups
                .weights
                .extend(place.iter().map(|&place| PixelWeights::new(place)));
        }
        Some(groups)
    }
}

/// A row of the horizontal pass in colour.
struct ColourRow<'r> {
    source: &'r [u8],
    groups: &'r Groups,
    /// One byte more than is wanted.
    out: &'r mut [u8],
}

impl Loop for ColourRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let Groups {
            starts,
            weights,
            count,
        } = self.groups;
        let positions = starts.iter().zip(weights.chunks_exact(*count));
        for (position, (&start, weights)) in positions.enumerate() {
            let pixel = V::weigh(&self.source[start..], weights);
            self.out[position * COLOURS..][..=COLOURS].copy_from_slice(&pixel);
        }
    }
}

fn columns_of_any(bytes: &[u8], (width, channels): (usize, usize), weights: &Weights) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() / width * weights.spans.len());
    for row in bytes.chunks_exact(width * channels) {
        for (start, span) in weights.spans() {
            let pixels = &row[start * channels..(start + span.len()) * channels];
            for channel in 0..channels {
                let values = pixels[channel..].iter().step_by(channels);
                let sum = values.zip(span).fold(HALF, |sum, (&value, weight)| {
                    sum + i32::from(value) * weight
                });
                out.push(clip(sum));
            }
        }
    }
    out
}

/// The vertical pass; `stride` is a row's length in bytes, and `bytes` begin with row `first` of the source.
pub(super) fn rows(bytes: &[u8], stride: usize, first: usize, weights: &Weights) -> Vec<u8> {
    let mut out = vec![0; stride * weights.spans.len()];
    for ((start, weights), out) in weights.spans().zip(out.chunks_exact_mut(stride)) {
        let source = &bytes[(start - first) * stride..];
        widest(Row {
            source,
            weights,
            out,
        });
    }
    out
}

/// A row of the vertical pass.
struct Row<'r> {
    source: &'r [u8],
    weights: &'r [i32],
    out: &'r mut [u8],
}

impl Loop for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self) {
        let stride = self.out.len();
        let (blocks, rest) = self.out.as_chunks_mut::<BLOCK>();
        let begun = stride - rest.len();
        for (block, out) in blocks.iter_mut().enumerate() {
            let mut sums = [HALF; BLOCK];
            for (row, &weight) in self.weights.iter().enumerate() {
                let pixels = self.source[row * stride + block * BLOCK..].first_chunk();
                let pixels: &[u8; BLOCK] = pixels.expect("a block of a row");
                for (sum, &pixel) in sums.iter_mut().zip(pixels) {
                    *sum += i32::from(pixel) * weight;
                }
            }
            *out = sums.map(clip);
        }
        for (at, out) in rest.iter_mut().enumerate() {
            let pixels = self.source[begun + at..].iter().step_by(stride);
            let sum = pixels
                .zip(self.weights)
                .fold(HALF, |sum, (&pixel, weight)| {
                    sum + i32::from(pixel) * weight
                });
            *out = clip(sum);
        }
    }
}
