//! Values and cotangents at a sink, in one order whatever the sink's axes are.
//!
//! Letters: R class rows, B samples, P positions, F neurons. Every element of a sink's value that
//! belongs to one neuron of one sample is a *position*: the pixels of a channel, the tokens, and the
//! places of a flattened channel on the neurons' own axis. A dense layer on pooled features has one.

use rayon::prelude::*;

use crate::{
    error::{Error, Result, Site},
    graph::Graph,
    head::Head,
    onnx::{Tensor, TensorData},
    prune::Sink,
};

/// One layer of the head, by itself.
#[derive(Clone, Debug)]
pub(super) struct LayerView {
    pub(super) name: String,
    pub(super) sinks: Vec<SinkView>,
}

/// One sink, by itself.
#[derive(Clone, Debug)]
pub(super) struct SinkView {
    pub(super) sink: Sink,
    /// Name of the value it reads.
    pub(super) value: String,
    /// Number of neurons F.
    pub(super) width: usize,
}

/// Per layer, one set of cells per sink.
pub(super) type SinkCells = Vec<Vec<Cells>>;

/// Numbers `[R, B, P, F]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cells {
    pub(super) rows: usize,
    pub(super) samples: usize,
    pub(super) positions: usize,
    pub(super) neurons: usize,
    /// How many of the P positions each neuron has; the others hold 0.
    pub(super) present: Vec<usize>,
    /// Places of one neuron on its own axis, and elements behind that axis: a position is
    /// `(before, occurrence, inner)`.
    pub(super) occurrences: usize,
    pub(super) inner: usize,
    pub(super) values: Vec<f32>,
}

/// A sink's axes around the neurons' axis, and what is known of that axis.
struct Frame<'s> {
    map: &'s [usize],
    /// How many times the neuron of each place of the axis occurred before.
    ordinals: Vec<usize>,
    present: Vec<usize>,
    occurrences: usize,
    /// Elements in front of and behind the axis, samples included.
    outer: usize,
    inner: usize,
}

/// The layers of a head.
pub(super) fn views(graph: &Graph<'_>, head: &Head) -> Vec<LayerView> {
    let layers = head.layers.iter().map(|layer| {
        let sinks = layer.group.sinks.iter().map(|sink| SinkView {
            sink: sink.clone(),
            value: graph.name(sink.value).to_owned(),
            width: layer.width(),
        });
        LayerView {
            name: layer.name.clone(),
            sinks: sinks.collect(),
        }
    });
    layers.collect()
}

impl SinkView {
    /// Arranges the sink's value `[..]` for `samples` samples.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the shape does not fit the sink or the number of samples.
    pub(super) fn values(&self, value: Tensor, samples: usize) -> Result<Cells> {
        let axes = value.shape().to_vec();
        self.arrange(value, 1, &axes, samples)
    }

    /// Arranges a cotangent `[R, ..]` of the sink's value.
    ///
    /// # Errors
    /// As [`SinkView::values`].
    pub(super) fn cotangents(&self, cotangent: Tensor, samples: usize) -> Result<Cells> {
        let shape = cotangent.shape().to_vec();
        match shape.split_first() {
            Some((&rows, axes)) => self.arrange(cotangent, rows, axes, samples),
            None => Err(self.misfit(&shape, samples)),
        }
    }

    fn misfit(&self, axes: &[usize], samples: usize) -> Error {
        Error::Invalid {
            site: Site::value(&self.value),
            what: format!(
                "has shape {axes:?}, but should hold {samples} samples of {} neurons on axis {}",
                self.width, self.sink.axis
            ),
        }
    }

    /// The samples are outermost, except where the neurons are.
    fn arrange(
        &self,
        tensor: Tensor,
        rows: usize,
        axes: &[usize],
        samples: usize,
    ) -> Result<Cells> {
        let (sink, width) = (&self.sink, self.width);
        let invalid = || self.misfit(axes, samples);
        let frame = Frame::new(axes, sink, width).ok_or_else(invalid)?;
        let around = if sink.axis == 0 {
            frame.inner
        } else {
            frame.outer
        };
        if samples == 0 || around % samples != 0 {
            return Err(invalid());
        }
        let beside = frame.outer * frame.inner / samples;
        let mut cells = Cells {
            rows,
            samples,
            positions: beside * frame.occurrences,
            neurons: width,
            present: frame.present.iter().map(|count| count * beside).collect(),
            occurrences: frame.occurrences,
            inner: if sink.axis == 0 {
                frame.inner / samples
            } else {
                frame.inner
            },
            values: Vec::new(),
        };
        let values = match tensor.into_data() {
            TensorData::F32(values) => values,
            other => other.to_f32().into_owned(),
        };
        cells.values = if frame.is_canonical() && sink.axis > 0 {
            values
        } else {
            cells.permuted(&values, &frame, sink.axis == 0)
        };
        Ok(cells)
    }
}

impl Cells {
    fn permuted(&self, values: &[f32], frame: &Frame<'_>, neurons_first: bool) -> Vec<f32> {
        let plane = self.plane();
        let mut permuted = vec![0.0; self.rows * self.samples * plane];
        let tall = frame.map.len();
        let chunks = permuted.par_chunks_mut(plane.max(1)).enumerate();
        chunks.for_each(|(chunk, target)| {
            let (row, sample) = (chunk / self.samples, chunk % self.samples);
            let per = if neurons_first {
                1
            } else {
                frame.outer / self.samples
            };
            let inner = self.inner;
            for rest in 0..per {
                for (place, (&neuron, &ordinal)) in
                    frame.map.iter().zip(&frame.ordinals).enumerate()
                {
                    let start = if neurons_first {
                        (row * tall + place) * frame.inner + sample * inner
                    } else {
                        ((row * frame.outer + sample * per + rest) * tall + place) * inner
                    };
                    let position = (rest * frame.occurrences + ordinal) * inner;
                    for (offset, value) in values[start..start + inner].iter().enumerate() {
                        target[(position + offset) * self.neurons + neuron] = *value;
                    }
                }
            }
        });
        permuted
    }

    /// Numbers per row and sample: P·F.
    pub(super) fn plane(&self) -> usize {
        self.positions * self.neurons
    }

    /// The numbers of one row and sample, `[P, F]`.
    pub(super) fn of(&self, row: usize, sample: usize) -> &[f32] {
        let start = (row * self.samples + sample) * self.plane();
        &self.values[start..start + self.plane()]
    }

    /// One number per place of the neurons' axis, spread over the cells `[P, F]` it belongs to.
    pub(super) fn spread(&self, map: &[usize], numbers: &[f64]) -> Vec<f64> {
        let mut plane = vec![0.0; self.plane()];
        let mut occurred = vec![0; self.neurons];
        let period = self.occurrences * self.inner;
        for (&neuron, &number) in map.iter().zip(numbers) {
            let first = occurred[neuron] * self.inner;
            occurred[neuron] += 1;
            for before in (0..self.positions).step_by(period.max(1)) {
                for inner in 0..self.inner {
                    plane[(before + first + inner) * self.neurons + neuron] = number;
                }
            }
        }
        plane
    }

    /// The first neuron, with its sample, that is NaN or infinite among `count` leading samples.
    pub(super) fn non_finite(&self, count: usize) -> Option<(usize, usize)> {
        if self
            .values
            .par_chunks(1 << 16)
            .all(|part| part.iter().all(|v| v.is_finite()))
        {
            return None;
        }
        let pairs = (0..self.rows).flat_map(|row| (0..count).map(move |sample| (row, sample)));
        let bad = pairs.filter_map(|(row, sample)| {
            let values = self.of(row, sample).iter().enumerate();
            let bad = values.filter(|(_, value)| !value.is_finite());
            bad.map(|(at, _)| (at % self.neurons, sample)).min()
        });
        bad.min()
    }
}

impl<'s> Frame<'s> {
    fn new(axes: &[usize], sink: &'s Sink, width: usize) -> Option<Self> {
        let map = &*sink.map;
        if axes.get(sink.axis) != Some(&map.len()) || map.iter().any(|&neuron| neuron >= width) {
            return None;
        }
        let mut present = vec![0; width];
        let mut ordinals = Vec::with_capacity(map.len());
        for &neuron in map {
            ordinals.push(present[neuron]);
            present[neuron] += 1;
        }
        Some(Self {
            map,
            ordinals,
            occurrences: present.iter().copied().max().unwrap_or(0),
            present,
            outer: axes[..sink.axis].iter().product(),
            inner: axes[sink.axis + 1..].iter().product(),
        })
    }

    /// Whether the elements already lie as `[B, P, F]`.
    fn is_canonical(&self) -> bool {
        let in_order = self
            .map
            .iter()
            .enumerate()
            .all(|(place, &neuron)| place == neuron);
        self.inner == 1 && in_order && self.map.len() == self.present.len()
    }
}

/// The cotangents of one layer: those of its sinks added up, as one change of a neuron reaches all.
///
/// Only sinks with as many positions see the same change place by place; others follow as further
/// positions.
pub(super) fn added(sinks: Vec<Cells>) -> Option<Cells> {
    joined(sinks, |sum, other| {
        let pairs = sum.values.iter_mut().zip(&other.values);
        pairs.for_each(|(sum, other)| *sum += other);
    })
}

/// The values of one layer, position by position as in [`added`]: of sinks with as many positions,
/// the first one's.
pub(super) fn first(sinks: Vec<Cells>) -> Option<Cells> {
    joined(sinks, |_, _| ())
}

fn joined(sinks: Vec<Cells>, combine: impl Fn(&mut Cells, &Cells)) -> Option<Cells> {
    let mut parts: Vec<Cells> = Vec::new();
    for cells in sinks {
        match parts
            .iter_mut()
            .find(|part| part.positions == cells.positions)
        {
            Some(part) => combine(part, &cells),
            None => parts.push(cells),
        }
    }
    let first = parts.pop()?;
    Some(
        parts
            .into_iter()
            .rev()
            .fold(first, |behind, part| stacked(&part, &behind)),
    )
}

/// Both sets of positions, one after the other.
fn stacked(front: &Cells, behind: &Cells) -> Cells {
    let mut values = Vec::with_capacity(front.values.len() + behind.values.len());
    for row in 0..front.rows {
        for sample in 0..front.samples {
            values.extend_from_slice(front.of(row, sample));
            values.extend_from_slice(behind.of(row, sample));
        }
    }
    let counts = front.present.iter().zip(&behind.present);
    Cells {
        positions: front.positions + behind.positions,
        present: counts.map(|(a, b)| a + b).collect(),
        values,
        ..*front
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{NodeId, Use, ValueId};

    fn sink(axis: usize, map: &[usize], width: usize) -> SinkView {
        let at = Use {
            node: NodeId(0),
            input: 0,
        };
        let sink = Sink {
            at,
            value: ValueId(0),
            axis,
            map: map.into(),
        };
        SinkView {
            sink,
            value: "x".to_owned(),
            width,
        }
    }

    fn counting(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::f32(shape, (0..count).map(|value| value as f32).collect()).unwrap()
    }

    #[test]
    fn sinks_of_every_layout_are_arranged_alike() {
        struct Case<'c> {
            shape: &'c [usize],
            axis: usize,
            map: &'c [usize],
            width: usize,
            positions: usize,
            /// Of the first row and the second sample.
            expected: &'c [f32],
        }
        let cases = [
            // [R, B, F], a dense layer
            Case {
                shape: &[2, 2, 3],
                axis: 1,
                map: &[0, 1, 2],
                width: 3,
                positions: 1,
                expected: &[3., 4., 5.],
            },
            // the same with the neurons in another order
            Case {
                shape: &[1, 2, 3],
                axis: 1,
                map: &[2, 0, 1],
                width: 3,
                positions: 1,
                expected: &[4., 5., 3.],
            },
            // [R, B, C*2], two places per channel: [P, F]
            Case {
                shape: &[1, 2, 4],
                axis: 1,
                map: &[0, 0, 1, 1],
                width: 2,
                positions: 2,
                expected: &[4., 6., 5., 7.],
            },
            // [R, B, C, 2], a map
            Case {
                shape: &[1, 2, 2, 2],
                axis: 1,
                map: &[0, 1],
                width: 2,
                positions: 2,
                expected: &[4., 6., 5., 7.],
            },
            // [R, B, T, F], tokens
            Case {
                shape: &[1, 2, 2, 2],
                axis: 2,
                map: &[0, 1],
                width: 2,
                positions: 2,
                expected: &[4., 5., 6., 7.],
            },
            // [R, B*T, F], tokens folded into the batch
            Case {
                shape: &[1, 4, 2],
                axis: 1,
                map: &[0, 1],
                width: 2,
                positions: 2,
                expected: &[4., 5., 6., 7.],
            },
            // [R, F, B], transposed
            Case {
                shape: &[1, 3, 2],
                axis: 0,
                map: &[0, 1, 2],
                width: 3,
                positions: 1,
                expected: &[1., 3., 5.],
            },
            // one neuron twice, the other once
            Case {
                shape: &[1, 2, 3],
                axis: 1,
                map: &[0, 1, 0],
                width: 2,
                positions: 2,
                expected: &[3., 4., 5., 0.],
            },
        ];
        for case in cases {
            let sink = sink(case.axis, case.map, case.width);
            let cells = sink.cotangents(counting(case.shape), 2).unwrap();
            assert_eq!(cells.positions, case.positions, "{:?}", case.shape);
            assert_eq!(cells.of(0, 1), case.expected, "{:?}", case.shape);
        }
    }

    #[test]
    fn numbers_per_place_reach_all_their_cells() {
        // [B, C*2, 2]: two places per channel, two elements behind each.
        let sink = sink(1, &[0, 0, 1, 1], 2);
        let cells = sink.values(counting(&[1, 4, 2]), 1).unwrap();
        assert_eq!(cells.of(0, 0), [0., 4., 1., 5., 2., 6., 3., 7.]);
        let numbers = [10., 11., 12., 13.];
        let spread = cells.spread(&sink.sink.map, &numbers);
        assert_eq!(spread, [10., 12., 10., 12., 11., 13., 11., 13.]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        for (shape, samples) in [(&[1, 2, 4][..], 2), (&[1, 3, 3][..], 2), (&[1, 2][..], 2)] {
            let found = sink(1, &[0, 1, 2], 3).cotangents(counting(shape), samples);
            assert!(found.is_err(), "{shape:?}");
        }
    }

    #[test]
    fn equal_sinks_add_up_and_others_follow_as_positions() {
        let sink = sink(1, &[0, 1], 2);
        let pooled = sink.values(counting(&[1, 2]), 1).unwrap();
        let map = sink.values(counting(&[1, 2, 2]), 1).unwrap();
        let all = vec![pooled.clone(), map.clone(), pooled.clone()];
        let sum = added(all.clone()).unwrap();
        assert_eq!((sum.positions, &*sum.present), (3, &[3, 3][..]));
        assert_eq!(sum.values, [0., 2., 0., 2., 1., 3.]);
        assert_eq!(first(all).unwrap().values, [0., 1., 0., 2., 1., 3.]);
    }

    #[test]
    fn the_first_bad_neuron_is_found_among_real_samples_only() {
        let values = vec![0., 1., f32::NAN, 3., f32::INFINITY, 5.];
        let tensor = Tensor::f32([3, 2], values).unwrap();
        let cells = sink(1, &[0, 1], 2).values(tensor, 3).unwrap();
        assert_eq!(cells.non_finite(1), None);
        assert_eq!(cells.non_finite(3), Some((0, 1)));
    }
}
