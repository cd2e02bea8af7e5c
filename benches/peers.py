"""Scoring beside PyTorch's `vmap(jacrev)`: the same head, the same features, turn by turn.

    cargo build --release --example score_speed
    python benches/peers.py [--rounds 5] [--threads 2] [--only vgg,vgg16,pooled]

Run by hand. Needs torch, torchvision, onnx and ONNX Runtime (ONNX_PRUNE_ORT_LIB as well). Each round
runs every contestant once, so that other work on the machine falls on all of them alike; given are
medians and spreads of the time per image, and of its ratio to that of `vmap(jacrev)` in the same
round. Loading is not timed on either side; the Jacobian alone is on PyTorch's, without the sums.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.func import jacrev, vmap

IMAGES = "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
HERE = os.path.dirname(os.path.abspath(__file__))


def head(layers):
    """Dense layers `[out, in]` with biases, ReLU between them, as a model and as a function."""
    nodes, weights, value = [], [], "x"
    for at, (w, b) in enumerate(layers):
        weights += [numpy_helper.from_array(w, f"w{at}"), numpy_helper.from_array(b, f"b{at}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{at}", f"b{at}"], [f"y{at}"], transB=1))
        value = f"y{at}"
        if at + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [value], [f"h{at}"]))
            value = f"h{at}"
    port = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(
        nodes, "head", [port("x", layers[0][0].shape[1])], [port(value, layers[-1][0].shape[0])], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    tensors = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in layers]

    def function(x):
        for w, b in tensors[:-1]:
            x = torch.relu(torch.nn.functional.linear(x, w, b))
        return torch.softmax(torch.nn.functional.linear(x, *tensors[-1]), -1)

    return model, function


def peer(function, features, chunk):
    """Seconds for the Jacobians by the features."""
    jacobian = vmap(jacrev(function))
    begin = time.perf_counter()
    for first in range(0, len(features), chunk):
        jacobian(features[first : first + chunk])
    return time.perf_counter() - begin


def best_chunk(function, features, chunks):
    """A chunk that is fast; the first call of each only warms up."""
    few = features[: max(chunks)]
    times = {}
    for chunk in chunks:
        peer(function, few[:chunk], chunk)
        times[chunk] = peer(function, few, chunk)
    return min(times, key=times.get)


def ours(model, features, norms, options, batch, scores=None):
    """Seconds, and peak memory in MB, of the example."""
    words = [options.binary, model, features, norms] + ([scores] if scores else [])
    environment = dict(os.environ, THREADS=str(options.threads), RAYON_NUM_THREADS=str(options.threads), BATCH=str(batch))
    found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=True).stdout)
    return found["wall"], found["peak"] / 1024


def agreement(function, features, path, norms, width):
    """Largest difference from the sums of `jacrev`, in f64, of the features' scores, relative to the largest."""
    count, chunk = len(features), max(1, min(100, len(features)))
    jacobian = vmap(jacrev(function))
    sums = {norm: numpy.zeros(width) for norm in norms}
    for first in range(0, count, chunk):
        rows = jacobian(features[first : first + chunk]).reshape(-1, width).double().abs()
        for norm in norms:
            if norm == "inf":
                sums[norm] = numpy.maximum(sums[norm], rows.amax(0).numpy())
            else:
                sums[norm] += rows.pow(float(norm)).sum(0).numpy()
    found = numpy.fromfile(path, "<f8").reshape(len(norms), -1)[:, :width]
    worst = {}
    for norm, values in zip(norms, found):
        expected = sums[norm] if norm == "inf" else (sums[norm] / count) ** (1 / float(norm))
        alive = expected > expected.max() * 1e-6
        worst[norm] = numpy.abs(values - expected)[alive].max() / expected.max(), (
            numpy.abs(values - expected)[alive] / expected[alive]
        ).max()
    return worst


def spread(values, scale=1.0, unit="", digits=3):
    low, high = min(values) * scale, max(values) * scale
    return f"{statistics.median(values) * scale:.{digits}f}{unit} ({low:.{digits}f}-{high:.{digits}f})"


def contest(name, layers, features, chunks, batch, settings, options, for_peer=None):
    """`for_peer`: how many of the features PyTorch gets; its time goes with their number."""
    model, function = head(layers)
    folder = tempfile.mkdtemp(dir=options.folder)
    path, rows, scores = (os.path.join(folder, part) for part in ("head.onnx", "features.f32", "scores.f64"))
    onnx.save(model, path)
    features.numpy().astype("<f4").tofile(rows)
    given = features[:for_peer]
    chunk = best_chunk(function, given, chunks)
    print(f"\n{name}, {len(features)} images, {len(given)} for PyTorch in chunks of {chunk}", flush=True)
    theirs, mine, peak = [], {norms: [] for norms in settings}, 0
    for _ in range(options.rounds):
        theirs.append(peer(function, given, chunk) / len(given))
        for norms in settings:
            seconds, memory = ours(path, rows, norms, options, batch)
            mine[norms].append(seconds / len(features))
            peak = max(peak, memory)
    print(f"  vmap(jacrev) {spread(theirs, 1e3, ' ms')}")
    for norms, values in mine.items():
        ratios = [one / other for one, other in zip(values, theirs)]
        print(f"  here, p = {norms}: {spread(values, 1e3, ' ms')}, ratio {spread(ratios)}")
    print(f"  peak memory {peak:.0f} MB")
    few = given[: options.compared]
    few.numpy().astype("<f4").tofile(rows)
    for norms in settings:
        ours(path, rows, norms, options, batch, scores)
        worst = agreement(function, few, scores, norms.split(","), features.shape[1])
        for norm, (largest, each) in worst.items():
            print(f"  p = {norm} of {norms}: off by {largest:.1e} of the largest, {each:.1e} of each")
    for part in (path, rows, scores):
        os.remove(part)
    sys.stdout.flush()


def vgg(options):
    """The head of models/vgg.onnx on real images."""
    model = onnx.load(os.path.join(HERE, "../models/vgg.onnx"))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    layers = [(weights[gemm.input[1]], weights[gemm.input[2]]) for gemm in gemms]
    value = gemms[0].input[0]
    model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = numpy.frombuffer(gzip.open(IMAGES).read(), numpy.uint8, offset=16)
    images = images.reshape(-1, 1, 28, 28)[: options.images].astype(numpy.float32) / 255
    parts = [session.run([value], {"images": images[at : at + 500]})[0] for at in range(0, len(images), 500)]
    features = torch.from_numpy(numpy.concatenate(parts))
    contest("3136-512-10", layers, features, [100, 200, 400], 1024, ["2", "1,2,inf"], options)


def vgg16(options):
    """torchvision's widths, random weights, half of the units active."""
    generator = numpy.random.default_rng(0)
    widths = [25088, 4096, 4096, 1000]
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        weight = generator.standard_normal((outputs, inputs), numpy.float32) * numpy.float32((2 / inputs) ** 0.5)
        layers.append((weight, numpy.zeros(outputs, numpy.float32)))
    features = torch.from_numpy(generator.random((options.large, widths[0]), numpy.float32))
    contest("25088-4096-4096-1000", layers, features, [1, 2], options.large, options.norms.split("/"), options, 8)


def pooled(options):
    """Scoring beside the trunk that the features come from."""
    import torchvision

    for name, size in (("resnet50", 2048), ("densenet121", 1024)):
        torch.manual_seed(0)
        net = getattr(torchvision.models, name)(weights=None).eval()
        path = os.path.join(options.folder, f"{name}.onnx")
        images = torch.rand(8, 3, 224, 224)
        torch.onnx.export(net, (images,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}})
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(path, settings)
        last = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)][-1]
        model, _ = head([(last.weight.detach().numpy(), last.bias.detach().numpy())])
        small, rows = (os.path.join(options.folder, part) for part in ("pooled.onnx", "pooled.f32"))
        onnx.save(model, small)
        features = torch.rand(options.images // 10, size)
        features.numpy().astype("<f4").tofile(rows)
        session.run(None, {"x": images.numpy()})
        trunk, mine = [], {"inf": [], "1,2,inf": []}
        for _ in range(options.rounds):
            begin = time.perf_counter()
            for _ in range(4):
                session.run(None, {"x": images.numpy()})
            trunk.append((time.perf_counter() - begin) / 4 / len(images))
            for norms in mine:
                seconds, _ = ours(small, rows, norms, options, 256)
                mine[norms].append(seconds / len(features))
        print(f"\n{name}: model {spread(trunk, 1e3, ' ms')} an image")
        for norms, values in mine.items():
            shares = [one / other for one, other in zip(values, trunk)]
            print(f"  scoring, p = {norms}: {spread(values, 1e3, ' ms')}, share {spread(shares)}", flush=True)
        os.remove(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=64, help="images of the 1000-class head; PyTorch gets 8 of them")
    parser.add_argument("--norms", default="2/1,inf", help="norms of the 1000-class head")
    parser.add_argument("--compared", type=int, default=1000, help="images that agreement is checked on")
    parser.add_argument("--only", default="vgg,vgg16,pooled")
    parser.add_argument("--binary", default="target/release/examples/score_speed")
    parser.add_argument("--folder", default=tempfile.gettempdir())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds", flush=True)
    for name in options.only.split(","):
        {"vgg": vgg, "vgg16": vgg16, "pooled": pooled}[name](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
