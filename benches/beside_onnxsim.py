"""Beside onnxsim's structured pruning: accuracy, size and time of files of equal size, as a Markdown table.

    pip install onnxsim==0.8.1 onnxruntime numpy
    cargo build --release
    python benches/beside_onnxsim.py TRAIN TEST target/release/onnx-prune [--seconds 5]

TRAIN and TEST are the image files of Fashion-MNIST (train-images-idx3-ubyte.gz, t10k-images-idx3-ubyte.gz), with their
label files beside them. Each of the three models in models/ is pruned here at --keep 0.3 and 0.1 on 6,000 training images
without their labels (all else at its default; the VGG-like one by whole channels, too), and by

    onnxsim.apply_structured_pruning(model, sparsity)

at the smallest sparsity whose file is at most as large. It looks at weights alone, removes filters and hidden neurons
by the norm of their weights, and gives nothing back; neither trains. Accuracy is ONNX Runtime's on all test images; times are
`onnx-prune bench`'s, original and both results in the same rounds, batch 1.
"""

import argparse
import gzip
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import onnxsim

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
RUNS = (
    ("vgg", "neuron"),
    ("vgg", "channel"),
    ("resnet", "neuron"),
    ("densenet", "neuron"),
)
KEEPS = ("0.3", "0.1")
SAMPLES = 6000
# Sparsities are looked at to this fraction; one channel of the widest layer is 1/512.
STEPS = 1024
BATCH = 500


def idx(path):
    """An IDX file as an array."""
    data = gzip.decompress(pathlib.Path(path).read_bytes())
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def labels_of(images):
    return idx(str(images).replace("images-idx3", "labels-idx1"))


class Accuracy:
    def __init__(self, images):
        self.images = (idx(images).astype(np.float32) / 255)[:, None]
        self.labels = labels_of(images)

    def __call__(self, path):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        right = 0
        for first in range(0, len(self.images), BATCH):
            part = slice(first, first + BATCH)
            scores = session.run(None, {name: self.images[part]})[0]
            right += int((scores.argmax(1) == self.labels[part]).sum())
        return 100 * right / len(self.labels)


def ours(program, model, output, train, keep, granularity):
    """Prunes; the report."""
    command = [program, model, output, "--keep", keep, "--granularity", granularity, "--data", train]
    command += ["--samples", str(SAMPLES), "--json", "--force"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{model.name}, keep {keep}: {done.stderr}")
    return json.loads(done.stdout)


def theirs(model, output, most):
    """Writes the largest result of at most `most` bytes; its sparsity, or nothing where none is so small."""

    def write(step):
        onnx.save(onnxsim.apply_structured_pruning(str(model), sparsity=step / STEPS), output)
        return output.stat().st_size

    low, high = 0, STEPS - 1
    if write(high) > most:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if write(middle) <= most else (middle + 1, high)
    write(high)
    return high / STEPS


def bench(program, models, seconds):
    """For each runtime the milliseconds and ratios of all models."""
    command = [program, "bench", *models, "--runtime", "ort,tract", "--batch", "1", "--seconds", seconds, "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["measurements"]


def ratio(model):
    found = model["ratio"]
    interval = found["interval"]
    return f"{found['median']:.2f} ({interval['low']:.2f}-{interval['high']:.2f})"


def rows(arguments, accuracy, folder, name, granularity):
    model = MODELS / f"{name}.onnx"
    size = model.stat().st_size
    if granularity == "neuron":
        times = " | ".join("1" for _ in range(2))
        print(f"| {name} | original | {size:,} | {accuracy(model):.2f} | {times} |", flush=True)
    for keep in KEEPS:
        pruned, simplified = folder / "ours.onnx", folder / "theirs.onnx"
        ours(arguments.program, model, pruned, arguments.train, keep, granularity)
        sparsity = theirs(model, simplified, pruned.stat().st_size)
        made = [(f"onnx-prune, keep {keep}, by {granularity}", pruned)]
        if sparsity is not None:
            made.append((f"onnxsim, sparsity {sparsity:.3f}", simplified))
        paths = [path for _, path in made]
        found = bench(arguments.program, [model, *paths], arguments.seconds)
        for place, (what, path) in enumerate(made, 1):
            times = " | ".join(ratio(measurement["models"][place]) for measurement in found)
            share = 100 * path.stat().st_size / size
            print(
                f"| {name} | {what} | {path.stat().st_size:,} ({share:.1f} %) | {accuracy(path):.2f} | {times} |",
                flush=True,
            )
        if sparsity is None:
            print(f"| {name} | onnxsim cannot make it so small | | | | |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=pathlib.Path)
    parser.add_argument("test", type=pathlib.Path)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--seconds", default="5")
    parser.add_argument("--only", nargs="*", default=[name for name, _ in RUNS])
    arguments = parser.parse_args()
    accuracy = Accuracy(arguments.test)
    print("| model | made by | bytes | test accuracy % | time in ONNX Runtime, of the original's | time in tract |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, granularity in RUNS:
            if name in arguments.only:
                rows(arguments, accuracy, pathlib.Path(folder), name, granularity)


if __name__ == "__main__":
    main()
