//! A net whose trunk is one Softmax, samples for it, and an engine that counts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

use super::{Cache, CacheChoice, manifest, npy};
use crate::{
    data::{DataOptions, Dataset, InputShape, Preprocess},
    engine::{self, Engine, EngineInfo, Port, Session, Snapshot, Steps},
    error::Result,
    features::{
        Event, Extraction, FeatureBatch, FeatureSet, Listener, ModelInput,
        testing::{Dense, Numbers, opened, part},
    },
    graph::Graph,
    onnx::{ModelProto, NodeProto, Tensor},
};

pub(super) const SAMPLES: usize = 20;
pub(super) const BATCH: usize = 3;

/// tract, counting what it is asked for.
pub(super) struct Counting {
    pub(super) inner: Arc<dyn Engine>,
    pub(super) info: EngineInfo,
    pub(super) loads: AtomicUsize,
    pub(super) rows: Arc<AtomicUsize>,
}

struct CountingSession(Box<dyn Session>, Arc<AtomicUsize>);

impl Engine for Counting {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn load(&self, model: &ModelProto) -> Result<Box<dyn Session>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let session = self.inner.load(model)?;
        Ok(Box::new(CountingSession(session, self.rows.clone())))
    }

    fn load_steps(
        &self,
        model: &ModelProto,
        feedback: &[(String, String)],
        initial: Snapshot,
    ) -> Result<Box<dyn Steps>> {
        self.inner.load_steps(model, feedback, initial)
    }
}

impl Session for CountingSession {
    fn inputs(&self) -> &[Port] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.0.outputs()
    }

    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        self.1.fetch_add(inputs[0].1.shape()[0], Ordering::Relaxed);
        self.0.run(inputs)
    }
}

/// A data set with labels, a model, and folders for caches.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) model: ModelProto,
    pub(super) dataset: Dataset,
    pub(super) engine: Counting,
}

impl World {
    pub(super) fn new(fixed: Option<usize>) -> Self {
        let mut net = Dense::random(&[4, 3, 2], "", 1);
        net.batch = fixed;
        let mut model = net.model();
        let graph = model.graph.as_mut().unwrap();
        graph.node[0].input[0] = "soft".to_owned();
        graph
            .node
            .insert(0, NodeProto::new("Softmax", &["x"], &["soft"]));
        let folder = TempDir::new().unwrap();
        let values = Numbers(5).take(SAMPLES * 4);
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let labels: Vec<u8> = (0..SAMPLES as u8).map(|label| label % 2).collect();
        let array = |name: &str, descr, shape: &[usize], bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, [npy::header(descr, shape), bytes.to_vec()].concat()).unwrap();
            path
        };
        array("labels.npy", "|u1", &[SAMPLES], &labels);
        let path = array("data.npy", "<f4", &[SAMPLES, 4], &bytes);
        let input = InputShape::from_dims(&[None, Some(4)], None).unwrap();
        let dataset = Dataset::open(&path, &DataOptions::new(input, "x")).unwrap();
        let inner = engine::tract(Some(1));
        Self {
            folder,
            model,
            dataset,
            engine: Counting {
                info: inner.info().clone(),
                inner,
                loads: AtomicUsize::new(0),
                rows: Arc::default(),
            },
        }
    }

    pub(super) fn root(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn cache(&self, name: &str) -> Cache {
        Cache::open(&CacheChoice::At(self.root(name))).unwrap()
    }

    /// Every batch a block of its own.
    pub(super) fn careful_cache(&self, name: &str) -> Cache {
        let mut cache = self.cache(name);
        cache.disk.as_mut().unwrap().sizes.block_bytes = 1;
        cache
    }

    /// The folder of the only entry.
    pub(super) fn entry(&self, name: &str) -> PathBuf {
        let mut entries = fs::read_dir(self.root(name)).unwrap();
        let path = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        path
    }

    pub(super) fn extract(
        &self,
        cache: &Cache,
        indices: &[usize],
        on: &mut Listener<'_>,
    ) -> Result<FeatureSet> {
        let graph = Graph::new(&self.model).unwrap();
        let input = ModelInput::of(&graph).unwrap();
        let sample = part(&self.dataset.read(&[0]).unwrap(), 0, 1);
        let (shapes, head) = opened(&*self.engine.inner, &graph, &sample);
        let names: Vec<&str> = head.features.iter().map(|&id| graph.name(id)).collect();
        assert_eq!(names, ["soft"]);
        let extraction = Extraction {
            engine: &self.engine,
            graph: &graph,
            shapes: &shapes,
            head: &head,
            dataset: &self.dataset,
            preprocess: &Preprocess::default(),
            model: None,
            input: &input,
            indices,
            batch: BATCH,
            cache,
        };
        crate::features::extract(extraction, on)
    }

    pub(super) fn silent(&self, cache: &Cache, indices: &[usize]) -> FeatureSet {
        self.extract(cache, indices, &mut |_| Ok(())).unwrap()
    }

    /// With the notes that are said meanwhile.
    pub(super) fn noted(&self, cache: &Cache, indices: &[usize]) -> (Result<FeatureSet>, String) {
        let mut notes = String::new();
        let found = self.extract(cache, indices, &mut |event| {
            if let Event::Note(note) = event {
                notes += note;
                notes += "\n";
            }
            Ok(())
        });
        (found, notes)
    }

    /// Rows that the engine computed since the last call.
    pub(super) fn computed(&self) -> usize {
        self.engine.rows.swap(0, Ordering::Relaxed)
    }

    /// What the features must be.
    pub(super) fn expected(&self, indices: &[usize]) -> Vec<FeatureBatch> {
        let cache = Cache::open(&CacheChoice::Off).unwrap();
        let found = all(&self.silent(&cache, indices));
        self.computed();
        found
    }
}

pub(super) fn all(set: &FeatureSet) -> Vec<FeatureBatch> {
    let positions: Vec<usize> = (0..set.len()).collect();
    set.batches(&positions, 7).map(Result::unwrap).collect()
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Contents of an entry, but for what names the moment at which it was made.
pub(super) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let files = files.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    files.filter(|(name, _)| name != manifest::NAME).collect()
}
