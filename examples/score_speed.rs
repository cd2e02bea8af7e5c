//! Times scoring alone, for `benches/peers.py`, which sets PyTorch beside it.
//!
//! `score_speed MODEL FEATURES NORMS [SCORES]`, with MODEL a head as an ONNX file, FEATURES its
//! input as little-endian f32 and NORMS such as `1,2,inf`. Prints one line of JSON: seconds from the
//! first batch to the scores of all layers, and before that; and the largest resident set in kB (0
//! where the system does not tell). The scores go to the file SCORES as
//! f64, norm by norm and layer by layer. `THREADS`, `BATCH` and `OF` come from the environment; ONNX
//! Runtime is taken from `ONNX_PRUNE_ORT_LIB`, or the environment's; `ENGINE=tract` takes tract.

use std::{cell::Cell, env, fs, path::Path, str::FromStr, time::Instant};

use onnx_prune::{
    engine::{self, EngineChoice, EngineOptions},
    features::{self, FeatureBatch},
    graph::{Graph, Shapes},
    head,
    onnx::{Limits, Model, Tensor},
    sensitivity::{self, Norm, ScoreOptions},
    shards,
};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::print_stdout, reason = "the result of a measurement")]
fn main() -> Fallible<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [model, rows, norms, target @ ..] = words.as_slice() else {
        return Err("MODEL FEATURES NORMS [SCORES]".into());
    };
    // From here on the allocator keeps what is freed, as in a run of the program after its first
    // batch: the time of scoring is not to be that of giving the features back, page by page.
    drop(std::hint::black_box(vec![1_u8; 31 << 20]));
    let started = Instant::now();
    let options = EngineOptions {
        engine: match env::var("ENGINE").as_deref() {
            Ok("tract") => EngineChoice::Tract,
            _ => EngineChoice::Ort,
        },
        threads: Some(setting("THREADS", 2)?),
        ..EngineOptions::default()
    };
    let engine = engine::open(&options)?.engine;
    let model = Model::load(Path::new(model), &Limits::default())?;
    let graph = Graph::new(&model.proto)?;
    let shapes = Shapes::declared(&graph);
    let width = shapes.size(graph.inputs()[0], 1).ok_or("no width")?;
    let probe = Tensor::f32([1, width], vec![0.5; width])?;
    let shapes = features::probe(&*engine, &graph, &shapes, &probe)?;
    let head = head::find(&graph, &shapes)?;
    let norms: Result<Vec<(Norm, Norm)>, _> = norms
        .split(',')
        .map(|norm| Norm::from_str(norm).map(|norm| (norm, norm)))
        .collect();
    let bytes = fs::read(rows)?;
    let (numbers, _) = bytes.as_chunks();
    let values: Vec<f32> = numbers.iter().copied().map(f32::from_le_bytes).collect();
    let count = values.len() / width;
    let options = ScoreOptions {
        of: setting("OF", sensitivity::Of::Probabilities)?,
        block: shards::block(count),
        ..ScoreOptions::default()
    };
    let request = sensitivity::Request {
        engine: &*engine,
        graph: &graph,
        shapes: &shapes,
        head: &head,
        options: &options,
        real_samples: false,
        on_ranked: &|_, _| Ok(()),
    };
    let begin = Cell::new(None);
    let batches = values.chunks(setting("BATCH", 1024)? * width).map(|rows| {
        let samples = rows.len() / width;
        Ok(FeatureBatch {
            values: vec![Tensor::f32([samples, width], rows.to_vec())?],
            rows: samples,
            samples,
            labels: None,
        })
    });
    let batches: Vec<onnx_prune::Result<FeatureBatch>> = batches.collect();
    let batches = batches.into_iter().inspect(|_| {
        begin.set(begin.get().or_else(|| Some(Instant::now())));
    });
    let scored = sensitivity::score_norms(request, &norms?, batches)?;
    let begin = begin.get().unwrap_or_else(Instant::now);
    println!(
        "{{\"engine\": \"{}\", \"samples\": {count}, \"before\": {:.4}, \"wall\": {:.4}, \"peak\": {}}}",
        engine.info(),
        (begin - started).as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        peak(),
    );
    if let Some(target) = target.first() {
        let layers = scored.iter().flat_map(|scored| &scored.scores.layers);
        let values = layers.flat_map(|layer| &layer.values);
        fs::write(
            target,
            values
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<_>>(),
        )?;
    }
    Ok(())
}

/// `VmHWM` of proc(5), which does not count what the process was before it became this program.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    words
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// A variable of the environment.
fn setting<T: FromStr>(name: &str, default: T) -> Fallible<T>
where
    T::Err: std::error::Error + 'static,
{
    match env::var(name) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}
