//! The program's own work, as far as no runtime does it: writing the graph of the derivatives,
//! adding up sensitivities and covariances, cutting weights, feeding a trunk, decoding and resizing images. Run with
//! `cargo bench --bench work`.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{fs, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use onnx_prune::{
    algebra::Covariance,
    data::{DataOptions, Dataset, InputShape, Overrides, Preprocess},
    engine,
    features::{self, FeatureBatch, ModelInput, Trunk},
    graph::{Graph, Shapes},
    head::{self, Head},
    onnx::{
        DataType, Dim, GraphProto, Limits, Model, ModelProto, NodeProto, Tensor, ValueInfoProto,
    },
    prune::{Budget, Group, Keep, LayerScores, Scores, rewrite, trunk},
    sensitivity::{self, Norm, Of, ScoreOptions, Slopes},
};

/// Samples of a batch.
const SAMPLES: usize = 32;

/// Numbers in 0..1 that repeat late.
fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| (at * 7919 % 65_521) as f32 / 65_521.0)
        .collect()
}

fn vgg() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/vgg.onnx");
    Model::load(&path, &Limits::default()).unwrap()
}

fn opened(graph: &Graph<'_>) -> (Shapes, Head) {
    let declared = Shapes::declared(graph);
    let input = Tensor::f32([2, 1, 28, 28], numbers(2 * 784)).unwrap();
    let shapes = features::probe(&*engine::tract(Some(2)), graph, &declared, &input).unwrap();
    let head = head::find(graph, &shapes).unwrap();
    (shapes, head)
}

/// The gradient graph of a head of 3136 - 512 - 10, and its use on a batch, with the sums.
fn sensitivities(criterion: &mut Criterion) {
    let model = vgg();
    let graph = Graph::new(&model.proto).unwrap();
    let (shapes, head) = opened(&graph);
    let mut group = criterion.benchmark_group("sensitivity");
    group.bench_function("differentiate", |bench| {
        let of = Of::Probabilities;
        bench.iter(|| sensitivity::gradient_model(&graph, &shapes, &head, of).unwrap());
    });
    let engine = engine::tract(Some(2));
    for norm in ["1", "2", "inf"] {
        let options = ScoreOptions {
            norm: norm.parse::<Norm>().unwrap(),
            ..ScoreOptions::default()
        };
        let request = || sensitivity::Request {
            engine: &*engine,
            graph: &graph,
            shapes: &shapes,
            head: &head,
            options: &options,
            real_samples: false,
            on_ranked: &|_, _| Ok(()),
        };
        let batch = FeatureBatch {
            values: vec![Tensor::f32([SAMPLES, 3136], numbers(SAMPLES * 3136)).unwrap()],
            rows: SAMPLES,
            samples: SAMPLES,
            labels: None,
        };
        group.throughput(Throughput::Elements(SAMPLES as u64));
        group.bench_function(format!("score, norm {norm}"), |bench| {
            bench.iter(|| sensitivity::score(request(), [Ok(batch.clone())]).unwrap());
        });
    }
    group.finish();
}

/// Heads of 1000 classes: a single layer behind a pooling, in closed form, and three layers, by products
/// over active units, by a Gram matrix, by random rows and by bounds that need no samples.
fn wide_heads(criterion: &mut Criterion) {
    struct Case {
        name: &'static str,
        widths: &'static [usize],
        norm: &'static str,
        probes: Option<usize>,
        slopes: Slopes,
    }
    let case = |name, widths, norm, probes, slopes| Case {
        name,
        widths,
        norm,
        probes,
        slopes,
    };
    const POOLED: &[usize] = &[2048, 1000];
    const DEEP: &[usize] = &[1024, 256, 256, 1000];
    let seen = Slopes::OfSamples;
    let cases = [
        case("closed form", POOLED, "inf", None, seen),
        case("products", DEEP, "inf", None, seen),
        case("Gram matrix", DEEP, "2", None, seen),
        case("16 random rows", DEEP, "2", Some(16), seen),
        case("bounds", DEEP, "inf", None, Slopes::Worst),
    ];
    let engine = engine::tract(Some(2));
    let mut group = criterion.benchmark_group("1000 classes");
    group.sample_size(10);
    for case in cases {
        let model = dense(case.widths);
        let graph = Graph::new(&model).unwrap();
        let input = Tensor::f32([2, case.widths[0]], numbers(2 * case.widths[0])).unwrap();
        let shapes = features::probe(&*engine, &graph, &Shapes::declared(&graph), &input).unwrap();
        let head = head::find(&graph, &shapes).unwrap();
        let of = match case.slopes {
            Slopes::Worst => Of::Logits,
            Slopes::OfSamples => Of::Probabilities,
        };
        let options = ScoreOptions {
            norm: case.norm.parse::<Norm>().unwrap(),
            of,
            slopes: case.slopes,
            probes: case.probes,
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
        let values = numbers(SAMPLES * case.widths[0]);
        let batch = FeatureBatch {
            values: vec![Tensor::f32([SAMPLES, case.widths[0]], values).unwrap()],
            rows: SAMPLES,
            samples: SAMPLES,
            labels: None,
        };
        group.throughput(Throughput::Elements(SAMPLES as u64));
        group.bench_function(case.name, |bench| {
            bench.iter(|| sensitivity::score(request, [Ok(batch.clone())]).unwrap());
        });
    }
    group.finish();
}

/// Dense layers of these widths, with ReLU between them.
fn dense(widths: &[usize]) -> ModelProto {
    let port = |name: &str, width: usize| {
        let dims = [Dim::Symbol("batch".to_owned()), Dim::Fixed(width)];
        ValueInfoProto::tensor(name, DataType::Float, &dims)
    };
    let mut graph = GraphProto::new("head");
    graph.input = vec![port("x0", widths[0])];
    for (at, pair) in widths.windows(2).enumerate() {
        let (weight, read, made) = (format!("w{at}"), format!("x{at}"), format!("y{at}"));
        let values = numbers(pair[0] * pair[1]).into_iter();
        let values = values.map(|value| (value - 0.5) / (pair[0] as f32).sqrt());
        let tensor = Tensor::f32([pair[0], pair[1]], values.collect::<Vec<_>>()).unwrap();
        graph.initializer.push(tensor.to_proto(&weight));
        graph
            .node
            .push(NodeProto::new("MatMul", &[&read, &weight], &[&made]));
        if at + 2 < widths.len() {
            let next = format!("x{}", at + 1);
            graph.node.push(NodeProto::new("Relu", &[&made], &[&next]));
        } else {
            graph.output = vec![port(&made, pair[1])];
        }
    }
    ModelProto::new(graph, 17)
}

/// The trunk over images in memory, in the embedded engine, reading and copying included.
fn trunk_pass(criterion: &mut Criterion) {
    let model = vgg();
    let graph = Graph::new(&model.proto).unwrap();
    let (shapes, head) = opened(&graph);
    let engine = engine::tract(Some(2));
    let mut trunk = Trunk::new(&*engine, &graph, &shapes, &head).unwrap();
    let input = ModelInput::of(&graph).unwrap();
    let preprocess = Preprocess::find(&Overrides::default(), None, None).unwrap();
    let dims = [None, Some(1), Some(28), Some(28)];
    let shape = InputShape::from_dims(&dims, preprocess.layout).unwrap();
    let mut options = DataOptions::new(shape, "images");
    options.preprocess = preprocess;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fashion-mnist.npz");
    let dataset = Dataset::open(&path, &options).unwrap();
    let indices: Vec<usize> = (0..8 * SAMPLES).collect();
    let mut group = criterion.benchmark_group("trunk");
    group.sample_size(10);
    group.throughput(Throughput::Elements(indices.len() as u64));
    group.bench_function("vgg.onnx", |bench| {
        bench.iter(|| {
            for batch in dataset.batches(&indices, SAMPLES) {
                trunk.run(input.samples(batch.unwrap()).unwrap()).unwrap();
            }
        });
    });
    group.finish();
}

/// Sums for a covariance of 512 neurons.
fn accumulate(criterion: &mut Criterion) {
    let rows = numbers(1024 * 512);
    let mut group = criterion.benchmark_group("accumulate");
    group.throughput(Throughput::Elements(1024));
    group.bench_function("covariance of 512", |bench| {
        bench.iter(|| {
            let mut sums = Covariance::new(512);
            sums.add(&rows);
            sums
        });
    });
    group.finish();
}

/// Cutting three tenths of every layer, and the channels behind them.
fn cuts(criterion: &mut Criterion) {
    let model = vgg();
    let graph = Graph::new(&model.proto).unwrap();
    let (shapes, head) = opened(&graph);
    let groups: Vec<&Group> = head.layers.iter().map(|layer| &layer.group).collect();
    let layers = head.layers.iter().map(|layer| LayerScores {
        units: trunk::channels(&graph, &shapes, &layer.group).unwrap_or_default(),
        ..LayerScores::new(&layer.name, vec![0.0; layer.width()])
    });
    let scores = Scores {
        layers: layers.collect(),
    };
    let plan = Budget::uniform(Keep::Share(0.3)).select(&scores).unwrap();
    let cut = || rewrite::pruned(&graph, &shapes, &groups, &plan).unwrap();
    let mut group = criterion.benchmark_group("rewrite");
    group.bench_function("head", |bench| bench.iter(cut));
    let model = cut();
    group.bench_function("trunk", |bench| {
        bench.iter(|| trunk::shrink_cut(&graph, &shapes, &groups, &model).unwrap());
    });
    group.finish();
}

/// Photographs of 500 x 375 to what an ImageNet model takes: the shorter edge to 256, 224 cut out.
fn resize(criterion: &mut Criterion) {
    const IMAGES: usize = 8;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("photographs.npy");
    let header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({IMAGES}, 375, 500, 3), }}");
    // The magic, version and length take 10 bytes; all of it is a multiple of 64.
    let header = format!("{header:<117}\n");
    let pixels: Vec<u8> = (0..IMAGES * 375 * 500 * 3)
        .map(|at| (at * 31 % 251) as u8)
        .collect();
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let parts: [&[u8]; 4] = [b"\x93NUMPY\x01\x00", &length, header.as_bytes(), &pixels];
    fs::write(&path, parts.concat()).unwrap();
    let dataset = for_imagenet(&path);
    let indices: Vec<usize> = (0..IMAGES).collect();
    let mut group = criterion.benchmark_group("resize");
    group.throughput(Throughput::Elements(IMAGES as u64));
    group.bench_function("500x375 to 224x224", |bench| {
        bench.iter(|| dataset.read(&indices).unwrap());
    });
    group.finish();
}

/// The same from files: opened, decoded, resized, scaled. Waves and noise, 87 kB each.
fn photographs(criterion: &mut Criterion) {
    const IMAGES: usize = 8;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let noise = numbers(375 * 500 * 3 + IMAGES);
    for index in 0..IMAGES {
        let pixels = (0..375 * 500 * 3).map(|at| {
            let (x, y) = (at / 3 % 500, at / 1500);
            let wave = ((x + 40 * index) as f32 / 17.0).sin() + (y as f32 / 23.0).cos();
            (128.0 + 45.0 * wave + 30.0 * (noise[at + index] - 0.5)) as u8
        });
        let pixels: Vec<u8> = pixels.collect();
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, 90)
            .encode(&pixels, 500, 375, ExtendedColorType::Rgb8)
            .unwrap();
        fs::write(folder.path().join(format!("{index}.jpg")), file).unwrap();
    }
    let dataset = for_imagenet(folder.path());
    let indices: Vec<usize> = (0..IMAGES).collect();
    let mut group = criterion.benchmark_group("photographs");
    group.throughput(Throughput::Elements(IMAGES as u64));
    group.bench_function("500x375 JPEG to 224x224", |bench| {
        bench.iter(|| dataset.read(&indices).unwrap());
    });
    group.finish();
}

/// Images prepared as a model of ImageNet takes them.
fn for_imagenet(path: &Path) -> Dataset {
    let overrides = Overrides {
        preprocess: Some("imagenet".to_owned()),
        ..Overrides::default()
    };
    let preprocess = Preprocess::find(&overrides, None, None).unwrap();
    let dims = [None, Some(3), Some(224), Some(224)];
    let shape = InputShape::from_dims(&dims, preprocess.layout).unwrap();
    let mut options = DataOptions::new(shape, "images");
    options.preprocess = preprocess;
    Dataset::open(path, &options).unwrap()
}

criterion_group!(
    benches,
    sensitivities,
    wide_heads,
    trunk_pass,
    accumulate,
    cuts,
    resize,
    photographs
);
criterion_main!(benches);
