//! A trunk in several sessions of one thread each, side by side: lanes.
//!
//! Every lane reads, decodes and runs batches of its own, so that no thread waits for another in the middle of a batch:
//! threads that share one session wait for each other at every operator, all the more where others decode beside them.
//! A lane that is free takes the next batch, and batches are handed on in order; who takes them sees the
//! same batches, and the first error, whatever the number of lanes.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
};

use super::{FeatureBatch, ModelInput, Trunk};
use crate::{
    data::Dataset,
    error::{Error, Result},
    graph::{self, Graph, Shapes},
    onnx::Dim,
};

/// Bytes that the session of one lane may take, weights and values: that of VGG16 takes 270 MB.
const LANE_ROOM: u64 = 512 << 20;

/// Bytes that the sessions of all lanes may take together.
const ROOM: u64 = 2 << 30;

/// Batches that are begun ahead of the one that is wanted next, per lane: enough that a lane goes on while others are scored.
const AHEAD: usize = 3;

/// Batches of features, computed in lanes.
pub(super) struct Lanes {
    threads: Vec<JoinHandle<()>>,
    queue: Arc<Queue>,
}

/// The batches, in line for being computed and for being handed on.
struct Queue {
    input: ModelInput,
    dataset: Dataset,
    /// Positions in the data set.
    batches: Vec<Vec<usize>>,
    /// See [`AHEAD`], of all lanes.
    ahead: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Number of batches that were begun.
    begun: usize,
    /// Number of batches that were handed on.
    taken: usize,
    /// Those that are done and wait for their turn.
    done: BTreeMap<usize, Result<FeatureBatch>>,
    /// Nobody wants any more.
    is_closed: bool,
}

impl Lanes {
    /// Starts a lane for each of `trunks`, over the samples at `indices` of the data set.
    pub(super) fn new(
        trunks: Vec<Trunk>,
        input: &ModelInput,
        dataset: &Dataset,
        indices: &[usize],
        batch: usize,
    ) -> Self {
        let queue = Arc::new(Queue {
            input: input.clone(),
            dataset: dataset.clone(),
            batches: indices.chunks(batch).map(<[usize]>::to_vec).collect(),
            ahead: trunks.len() * AHEAD,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let start = |(lane, trunk)| {
            let queue = queue.clone();
            let thread = Builder::new().name(format!("onnx-prune-lane-{lane}"));
            // Where one does not start, the others do its work.
            thread.spawn(move || queue.run(trunk)).ok()
        };
        let threads = trunks.into_iter().enumerate().filter_map(start).collect();
        Self { threads, queue }
    }
}

impl Queue {
    fn run(&self, mut trunk: Trunk) {
        while let Some(at) = self.begin() {
            // An error here is the same error for whoever waits for the batch.
            let features = catch_unwind(AssertUnwindSafe(|| self.features(&mut trunk, at)));
            self.end(at, features.unwrap_or_else(|_| Err(stopped())));
        }
    }

    fn features(&self, trunk: &mut Trunk, at: usize) -> Result<FeatureBatch> {
        let samples = self.dataset.read_alone(&self.batches[at])?;
        trunk.run(self.input.samples(samples)?)
    }

    /// The next batch for a lane, as soon as it is not too far ahead.
    fn begin(&self) -> Option<usize> {
        let is_early = |state: &mut State| {
            let is_left = !state.is_closed && state.begun < self.batches.len();
            is_left && state.begun >= state.taken + self.ahead
        };
        let waited = self.changed.wait_while(self.state(), is_early);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_closed || state.begun >= self.batches.len() {
            return None;
        }
        state.begun += 1;
        Some(state.begun - 1)
    }

    fn end(&self, at: usize, features: Result<FeatureBatch>) {
        let mut state = self.state();
        if features.is_err() {
            // All batches before it were begun, and their features or errors come first.
            state.begun = self.batches.len();
        }
        state.done.insert(at, features);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Iterator for Lanes {
    type Item = Result<FeatureBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let queue = &self.queue;
        let mut state = queue.state();
        if state.taken >= queue.batches.len() {
            return None;
        }
        if self.threads.is_empty() {
            state.taken = queue.batches.len();
            return Some(Err(stopped()));
        }
        let is_coming = |state: &mut State| !state.done.contains_key(&state.taken);
        let waited = queue.changed.wait_while(state, is_coming);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let at = state.taken;
        let features = state.done.remove(&at)?;
        state.taken = match features {
            Ok(_) => at + 1,
            Err(_) => queue.batches.len(),
        };
        queue.changed.notify_all();
        Some(features)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.queue.state().is_closed = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn stopped() -> Error {
    Error::Engine {
        engine: "trunk",
        what: "a thread that runs it could not be started, or stopped".to_owned(),
    }
}

/// How many lanes a trunk is run in: one for each of `threads` where they fit into [`LANE_ROOM`] and [`ROOM`], else none.
///
/// `batch` samples are run at once; values of a model of fixed batch are of that many already.
pub(super) fn count(
    threads: usize,
    graph: &Graph<'_>,
    shapes: &Shapes,
    weights_bytes: usize,
    batch: usize,
) -> Option<usize> {
    let values = live_bytes(graph, shapes)?.checked_mul(batch as u64)?;
    let lane = values.checked_add(weights_bytes as u64)?;
    let fits = lane <= LANE_ROOM && lane.checked_mul(threads as u64)? <= ROOM;
    (threads > 1 && fits).then_some(threads)
}

/// Bytes of values that live at once for one sample, where the shapes tell: all axes are fixed but the samples'.
fn live_bytes(graph: &Graph<'_>, shapes: &Shapes) -> Option<u64> {
    let bytes = |id| {
        let known = shapes.tensor(id)?;
        let fixed = known.dims.iter().filter_map(Dim::fixed);
        let fixed: Vec<u64> = fixed.map(|size| size as u64).collect();
        if fixed.len() + 1 < known.dims.len() {
            return None;
        }
        let values = fixed.into_iter().try_fold(1, u64::checked_mul)?;
        values.checked_mul(known.dtype.bytes()? as u64)
    };
    let mut made = graph.values().filter(|&id| graph.constant(id).is_none());
    let is_known = made.all(|id| bytes(id).is_some());
    is_known.then(|| graph::live_bytes(graph, &|id| bytes(id).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::{
        data::{DataOptions, InputShape},
        engine::{Engine, testing::engines},
        features::{
            Pass, Passing,
            testing::{Dense, Numbers, opened},
        },
        onnx::Tensor,
    };

    const WIDTHS: [usize; 4] = [4, 6, 3, 2];

    /// As many samples of `WIDTHS[0]` values as there are, of which those at `broken` are no numbers.
    fn samples(folder: &TempDir, count: usize, broken: &[usize]) -> Dataset {
        let mut values = Numbers(3).take(count * WIDTHS[0]);
        for &sample in broken {
            values[sample * WIDTHS[0]] = f32::NAN;
        }
        let header = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {}), }}\n",
            WIDTHS[0]
        );
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let path = folder.path().join("data.npy");
        fs::write(&path, bytes).unwrap();
        let input = InputShape::from_dims(&[None, Some(WIDTHS[0])], None).unwrap();
        Dataset::open(&path, &DataOptions::new(input, "x")).unwrap()
    }

    /// Batches of the hidden layers, and the error that ended them.
    fn run(
        engine: &dyn Engine,
        (batch, fixed): (usize, Option<usize>),
        dataset: &Dataset,
        lanes: Option<usize>,
    ) -> (Vec<FeatureBatch>, Option<String>) {
        let mut net = Dense::random(&WIDTHS, "Softmax", 1);
        net.batch = fixed;
        // A trunk to run: no head passes this.
        net.activation = "Erf";
        let model = net.model();
        let graph = Graph::new(&model).unwrap();
        let input = ModelInput::of(&graph).unwrap();
        let sample = crate::features::testing::batch(&[fixed.unwrap_or(1), WIDTHS[0]], 2, 1);
        let (shapes, mut head) = opened(engine, &graph, &sample);
        head.features = vec![graph.value("y1").unwrap()];
        let passing = Passing {
            engine,
            graph: &graph,
            shapes: &shapes,
            head: &head,
            input: &input,
            dataset,
            batch,
        };
        let indices: Vec<usize> = (0..dataset.len()).rev().collect();
        let found: Vec<Result<FeatureBatch>> = match lanes {
            None => {
                let pass = Pass::new(passing).unwrap();
                let batches = dataset.len().div_ceil(batch);
                assert_eq!(pass.sessions(), engine.info().threads.min(batches));
                pass.over(&indices).collect()
            }
            Some(count) => {
                let engine = engine.with_one_thread().unwrap();
                assert_eq!(engine.info().threads, 1);
                let trunk = |_| Trunk::new(&*engine, &graph, &shapes, &head).unwrap();
                let trunks = (0..count).map(trunk).collect();
                Lanes::new(trunks, &input, dataset, &indices, batch).collect()
            }
        };
        let error = found.last().and_then(|last| last.as_ref().err());
        let error = error.map(ToString::to_string);
        (found.into_iter().filter_map(Result::ok).collect(), error)
    }

    #[test]
    fn batches_and_errors_do_not_depend_on_the_number_of_lanes() {
        // Batch and that of the model, samples, broken ones.
        type Case = ((usize, Option<usize>), usize, &'static [usize]);
        let cases: [Case; 5] = [
            ((4, None), 30, &[]),
            // fewer batches than lanes
            ((4, None), 3, &[]),
            // the last batch is filled up
            ((4, Some(4)), 30, &[]),
            // the first error that comes up ends the pass, not the one of the fastest lane
            ((4, None), 30, &[21, 14]),
            ((4, None), 30, &[29]),
        ];
        for (sizes, count, broken) in cases {
            let folder = TempDir::new().unwrap();
            let dataset = samples(&folder, count, broken);
            for engine in engines() {
                let run = |lanes| run(&*engine, sizes, &dataset, lanes);
                let alone = run(Some(1));
                let first = broken
                    .iter()
                    .map(|sample| (count - 1 - sample) / sizes.0)
                    .min();
                let whole = first.unwrap_or(count.div_ceil(sizes.0));
                assert_eq!(alone.0.len(), whole, "{count} {broken:?}");
                assert_eq!(alone.1.is_some(), first.is_some());
                for lanes in [None, Some(2), Some(5)] {
                    assert_eq!(run(lanes), alone, "{lanes:?} {count} {broken:?}");
                }
            }
        }
    }

    #[test]
    fn lanes_end_when_nobody_listens_any_more() {
        let folder = TempDir::new().unwrap();
        let dataset = samples(&folder, 100, &[]);
        let engine = engines().remove(0).with_one_thread().unwrap();
        let model = Dense::random(&WIDTHS, "Softmax", 1).model();
        let graph = Graph::new(&model).unwrap();
        let input = ModelInput::of(&graph).unwrap();
        let sample = crate::features::testing::batch(&[1, WIDTHS[0]], 2, 1);
        let (shapes, head) = opened(&*engine, &graph, &sample);
        let trunks = (0..3).map(|_| Trunk::new(&*engine, &graph, &shapes, &head).unwrap());
        let indices: Vec<usize> = (0..100).collect();
        let mut lanes = Lanes::new(trunks.collect(), &input, &dataset, &indices, 2);
        assert_eq!(lanes.next().unwrap().unwrap().samples, 2);
        // Hangs where a lane waits for ever.
        drop(lanes);
    }

    #[test]
    fn only_what_fits_for_every_thread_runs_in_lanes() {
        let model = Dense::random(&WIDTHS, "Softmax", 1).model();
        let graph = Graph::new(&model).unwrap();
        let sample = Tensor::f32([1, WIDTHS[0]], vec![0.5; WIDTHS[0]]).unwrap();
        let engine = &engines()[0];
        let declared = Shapes::declared(&graph);
        let shapes = crate::features::probe(&**engine, &graph, &declared, &sample).unwrap();
        // Threads, bytes of weights, batch.
        let cases = [
            ((2, 1000, 32), Some(2)),
            // One thread reads ahead of the session instead.
            ((1, 1000, 32), None),
            ((2, LANE_ROOM as usize - 1024, 1), Some(2)),
            ((2, LANE_ROOM as usize, 1), None),
            ((4, LANE_ROOM as usize - 1024, 1), Some(4)),
            ((5, LANE_ROOM as usize - 1024, 1), None),
            ((2, 1000, 1 << 24), None),
            ((200, 20 << 20, 32), None),
            ((usize::MAX, 1000, 32), None),
        ];
        for ((threads, weights, batch), expected) in cases {
            let found = count(threads, &graph, &shapes, weights, batch);
            assert_eq!(found, expected, "{threads} {weights} {batch}");
        }
        // What is not known may be large.
        assert_eq!(count(2, &graph, &declared, 1000, 32), None);
    }
}
