//! Times fine-tuning on random features, for `benches/finetune.py`, which sets PyTorch beside it.
//!
//! `finetune_speed WIDTHS BATCH SAMPLES EPOCHS OPTIMIZER [THREADS]`, with WIDTHS such as
//! `941,154,10` and OPTIMIZER `sgd`, `momentum` or `adamw`. Prints one line of JSON: seconds of wall
//! and processor time of the whole run as the program makes it (shuffling, reading, steps), and of
//! the matrix products alone, as often and of the same shapes, in the same engine. ONNX Runtime is
//! taken from `ONNX_PRUNE_ORT_LIB`, or the environment's; `ENGINE=tract` takes tract.

use std::time::{Duration, Instant};

use onnx_prune::{
    engine::{self, Engine, EngineChoice, EngineOptions},
    features::FeatureSet,
    finetune::{self, Optimizer, Request, Target, TrainOptions},
    head::Ending,
    onnx::{DataType, Dim, GraphProto, ModelProto, NodeProto, Tensor, ValueInfoProto},
};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const OPSET: i64 = 17;

struct Setting {
    widths: Vec<usize>,
    batch: usize,
    samples: usize,
    epochs: usize,
    optimizer: Optimizer,
}

#[expect(clippy::print_stdout, reason = "the result of a measurement")]
fn main() -> Fallible<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [widths, batch, samples, epochs, optimizer, threads @ ..] = words.as_slice() else {
        return Err("WIDTHS BATCH SAMPLES EPOCHS OPTIMIZER [THREADS]".into());
    };
    let widths: Result<Vec<usize>, _> = widths.split(',').map(str::parse).collect();
    let setting = Setting {
        widths: widths?,
        batch: batch.parse()?,
        samples: samples.parse()?,
        epochs: epochs.parse()?,
        optimizer: match optimizer.as_str() {
            "sgd" => Optimizer::Sgd { momentum: 0.0 },
            "momentum" => Optimizer::Sgd { momentum: 0.9 },
            _ => Optimizer::ADAMW,
        },
    };
    let options = EngineOptions {
        engine: match std::env::var("ENGINE").as_deref() {
            Ok("tract") => EngineChoice::Tract,
            _ => EngineChoice::Ort,
        },
        threads: threads.first().map(|threads| threads.parse()).transpose()?,
        ..EngineOptions::default()
    };
    let selected = engine::open(&options)?;
    let engine = &*selected.engine;
    let (run, steps) = trained(engine, &setting)?;
    let products = products(engine, &setting, steps, true)?;
    let bare = self::products(engine, &setting, steps, false)?;
    println!(
        "{{\"engine\": \"{}\", \"steps\": {steps}, \"wall\": {:.4}, \"cpu\": {:.4}, \"products\": {:.4}, \"products_cpu\": {:.4}, \"bare\": {:.4}}}",
        engine.info(),
        run.wall.as_secs_f64(),
        run.cpu.as_secs_f64(),
        products.wall.as_secs_f64(),
        products.cpu.as_secs_f64(),
        bare.wall.as_secs_f64(),
    );
    Ok(())
}

struct Time {
    wall: Duration,
    cpu: Duration,
}

fn timed(work: impl FnOnce() -> Fallible<()>) -> Fallible<Time> {
    let (wall, cpu) = (Instant::now(), processor_time()?);
    work()?;
    Ok(Time {
        wall: wall.elapsed(),
        cpu: processor_time()? - cpu,
    })
}

/// Of all threads of this process.
fn processor_time() -> Fallible<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Random numbers, the same in every run.
fn random(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: &[usize], scale: f32) -> Fallible<Tensor> {
    let values = random(shape.iter().product())
        .into_iter()
        .map(|value| value * scale);
    Ok(Tensor::f32(shape, values.collect())?)
}

fn port(name: &str, dims: [Dim; 2]) -> ValueInfoProto {
    ValueInfoProto::tensor(name, DataType::Float, &dims)
}

/// Dense layers with ReLU between them, as PyTorch exports them.
fn head(widths: &[usize]) -> Fallible<ModelProto> {
    let batch = || Dim::Symbol("batch".to_owned());
    let mut graph = GraphProto::new("head");
    graph.input = vec![port("x0", [batch(), Dim::Fixed(widths[0])])];
    for (layer, pair) in widths.windows(2).enumerate() {
        let [x, w, b, y] = ["x", "w", "b", "y"].map(|name| format!("{name}{layer}"));
        let next = format!("x{}", layer + 1);
        let scale = (pair[0] as f32).sqrt().recip();
        graph
            .initializer
            .push(tensor(&[pair[1], pair[0]], scale)?.to_proto(w.as_str()));
        graph
            .initializer
            .push(tensor(&[pair[1]], scale)?.to_proto(b.as_str()));
        graph
            .node
            .push(NodeProto::new("Gemm", &[&x, &w, &b], &[&y]).with_int("transB", 1));
        let is_last = layer + 2 == widths.len();
        if is_last {
            graph.output = vec![port(&y, [batch(), Dim::Fixed(pair[1])])];
        } else {
            graph.node.push(NodeProto::new("Relu", &[&y], &[&next]));
        }
    }
    Ok(ModelProto::new(graph, OPSET))
}

fn trained(engine: &dyn Engine, setting: &Setting) -> Fallible<(Time, u64)> {
    let Setting {
        widths, samples, ..
    } = setting;
    let classes = widths[widths.len() - 1];
    let labels: Vec<usize> = (0..*samples)
        .map(|sample| sample * 7919 % classes)
        .collect();
    let values = vec![tensor(&[*samples, widths[0]], 1.0)?];
    let features = FeatureSet::from_memory(vec!["x0".to_owned()], values, None)?;
    let model = head(widths)?;
    let positions: Vec<usize> = (0..*samples).collect();
    let request = Request {
        engine,
        head_model: &model,
        classes,
        ending: Ending::Logits,
        features: &features,
        train: &positions,
        validation: &[],
        target: Target::Labels(&labels),
    };
    let mut options = TrainOptions {
        epochs: setting.epochs,
        batch: setting.batch,
        optimizer: setting.optimizer,
        weight_decay: 0.0,
        learning_rate: 1e-4,
        ..TrainOptions::default()
    };
    if std::env::var_os("WEIGHT_DECAY").is_some() {
        options.weight_decay = 0.01;
    }
    // The clock starts with the first step: loading is no part of a step.
    let mut begin = None;
    let mut steps = 0;
    finetune::train(request, &options, &mut |progress| {
        if begin.is_none() && progress.step == 0 {
            begin = Some((Instant::now(), processor_time().unwrap_or_default()));
        }
        steps = progress.step;
        Ok(())
    })?;
    let (wall, cpu) = begin.ok_or("no step was made")?;
    let time = Time {
        wall: wall.elapsed(),
        cpu: processor_time()? - cpu,
    };
    Ok((time, steps))
}

/// The products of one step, `count` times: forward, back through all layers but the first, and the
/// new weights, with the old ones added where `fused`.
fn products(engine: &dyn Engine, setting: &Setting, count: u64, fused: bool) -> Fallible<Time> {
    let Setting { widths, batch, .. } = setting;
    let fixed = |rows: usize, columns: usize| [Dim::Fixed(rows), Dim::Fixed(columns)];
    let mut graph = GraphProto::new("products");
    let (mut feedback, mut initial) = (Vec::new(), Vec::new());
    for (layer, pair) in widths.windows(2).enumerate() {
        let (inputs, outputs) = (pair[0], pair[1]);
        let [x, w, y, dy, dx, next] =
            ["x", "w", "y", "dy", "dx", "next"].map(|name| format!("{name}{layer}"));
        for (name, rows, columns) in [
            (&x, *batch, inputs),
            (&w, outputs, inputs),
            (&dy, *batch, outputs),
        ] {
            graph.input.push(port(name, fixed(rows, columns)));
            initial.push((name.clone(), tensor(&[rows, columns], 1e-3)?));
        }
        graph
            .node
            .push(NodeProto::new("Gemm", &[&x, &w], &[&y]).with_int("transB", 1));
        graph.output.push(port(&y, fixed(*batch, outputs)));
        if layer > 0 {
            graph.node.push(NodeProto::new("Gemm", &[&dy, &w], &[&dx]));
            graph.output.push(port(&dx, fixed(*batch, inputs)));
        }
        let mut factors = vec![dy.as_str(), x.as_str()];
        factors.extend(fused.then_some(w.as_str()));
        graph
            .node
            .push(NodeProto::new("Gemm", &factors, &[&next]).with_int("transA", 1));
        graph.output.push(port(&next, fixed(outputs, inputs)));
        feedback.push((next, w));
    }
    let mut steps = engine.load_steps(&ModelProto::new(graph, OPSET), &feedback, initial.into())?;
    for _ in 0..3 {
        steps.step(&[])?;
    }
    timed(|| {
        for _ in 0..count {
            steps.step(&[])?;
        }
        Ok(())
    })
}
