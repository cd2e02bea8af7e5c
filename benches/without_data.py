"""Accuracy of models/vgg.onnx pruned without data: bounds from the weights beside scores of noise.

    cargo build --release
    python benches/without_data.py

Run by hand. Needs onnxruntime. Noise is what `--samples 32` asks for; three seeds.
"""

import gzip
import os
import subprocess
import sys
import tempfile

import numpy
import onnxruntime

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = "/usr/share/datasets/fashion-mnist/t10k-"


def read(name, offset):
    return numpy.frombuffer(gzip.open(DATA + name).read(), numpy.uint8, offset=offset)


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../target/release/onnx-prune")
    images = read("images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28).astype(numpy.float32) / 255
    labels = read("labels-idx1-ubyte.gz", 8)
    folder = tempfile.mkdtemp()
    output = os.path.join(folder, "small.onnx")

    def accuracy(*flags):
        words = [binary, os.path.join(HERE, "../models/vgg.onnx"), output, "--force", "--quiet", "--no-verify", *flags]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        session = onnxruntime.InferenceSession(output)
        found = [session.run(None, {"images": images[at : at + 1000]})[0].argmax(1) for at in range(0, 10_000, 1000)]
        return (numpy.concatenate(found) == labels).mean() * 100

    print("| keep | p | from the weights | 32 samples of noise, three seeds | random, three seeds |\n|---|---|---|---|---|")
    for keep in ("0.5", "0.3", "0.2", "0.1"):
        seeds = [("--seed", str(seed)) for seed in range(3)]
        random = [accuracy("--keep", keep, "--criterion", "random", *seed) for seed in seeds]
        for norm in ("1", "2", "inf"):
            flags = ("--keep", keep, "--norm", norm)
            noise = [accuracy(*flags, "--samples", "32", *seed) for seed in seeds]
            told = [f"{accuracy(*flags):.2f}"] + [", ".join(f"{one:.2f}" for one in many) for many in (noise, random)]
            print(f"| {keep} | {norm} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
