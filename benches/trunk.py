"""The trunk over images in a folder, beside ONNX Runtime fed from memory in Python.

    cargo build --release
    pip install onnx onnxruntime numpy pillow torch torchvision
    python benches/trunk.py --network resnet50 --images 2000 --rounds 5 --photographs FOLDER ...
    python benches/trunk.py --network models/vgg.onnx --images 2000 --rounds 5

The peer runs the same trunk, cut out of the same file, in the same version of ONNX Runtime with as many threads, on
batches that lie in memory, at the batch size that is fastest for it. The program opens, decodes, resizes and runs
files: for networks of 224 x 224, JPEG files of 500 x 375, cut at random out of the JPEG files in the folders (Debian's
lomiri-wallpapers-16.04 and mate-backgrounds have photographs) or, without any, made from noise with the spectrum of
photographs; for those of 28 x 28, Fashion-MNIST as PNG. Images per second of its stage "running the trunk", which keeps the features
in memory; they take turns. A fifth of a folder is held out, so the folder holds a quarter more than are run.
"""

import argparse
import gzip
import json
import math
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy
import onnx
import onnxruntime
from PIL import Image

BATCHES = [1, 2, 4, 8, 16, 32, 64]


def export(name, path):
    import torch
    import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval()
    torch.onnx.export(
        model,
        torch.randn(1, 3, 224, 224),
        str(path),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )


def cut(folder, count, sources):
    """Windows of any size and place, made 500 x 375."""
    random = numpy.random.default_rng(0)
    files = sorted(file for source in sources for file in pathlib.Path(source).rglob("*.jpg"))
    pictures = [Image.open(file).convert("RGB") for file in files]
    # Smaller ones would have to be blown up.
    pictures = [picture for picture in pictures if picture.width >= 1000 and picture.height >= 750]
    assert pictures, f"no large pictures in {sources}"
    for index in range(count):
        picture = pictures[random.integers(len(pictures))]
        width = int(random.integers(500, min(picture.width, picture.height * 4 // 3) + 1))
        height = width * 3 // 4
        left, top = random.integers(picture.width - width + 1), random.integers(picture.height - height + 1)
        window = picture.resize((500, 375), Image.Resampling.LANCZOS, (left, top, left + width, top + height))
        window.save(folder / f"{index:05}.jpg", quality=95)
    sizes = [file.stat().st_size for file in folder.iterdir()]
    print(f"{count} windows of {len(pictures)} pictures, {statistics.median(sizes) / 1000:.0f} kB each")


def noise(folder, count):
    """Noise whose amplitude falls with the frequency as in photographs; about 107 kB each."""
    random = numpy.random.default_rng(0)
    frequency = numpy.hypot(numpy.fft.fftfreq(375)[:, None], numpy.fft.rfftfreq(500)[None, :])
    amplitude = numpy.maximum(frequency, 1 / 500) ** -1.1
    for index in range(count):
        planes = []
        for _ in range(3):
            plane = random.standard_normal(amplitude.shape) + 1j * random.standard_normal(amplitude.shape)
            planes.append(numpy.fft.irfft2(plane * amplitude, s=(375, 500)))
        pixels = numpy.stack(planes, -1)
        pixels = pixels[..., :1] * 0.8 + pixels * 0.3
        pixels = (pixels - pixels.mean()) / pixels.std() * 55 + 120
        Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8)).save(folder / f"{index:05}.jpg", quality=90)


def fashion(folder, count, source):
    read = gzip.open(source).read()
    for index, pixels in enumerate(numpy.frombuffer(read, numpy.uint8, offset=16).reshape(-1, 28, 28)[:count]):
        Image.fromarray(pixels).save(folder / f"{index:05}.png")


class Program:
    def __init__(self, path, model, data, out, count, threads, flags):
        self.command = [path, str(model), str(out), "--force", "--data", str(data), "--samples", str(count)]
        # Least squares want the features kept; nothing else that is done with them is timed.
        self.command += ["--criterion", "activation", "--repair", "least-squares", "--no-verify", "--no-cache"]
        self.command += ["--engine", "ort", "--threads", str(threads), "--timings", "--json", *flags]
        self.count = count

    def run(self):
        done = subprocess.run(self.command, check=True, capture_output=True, text=True)
        self.report = json.loads(done.stdout)
        assert self.report["score"]["samples"] == self.count, self.report["score"]
        stages = {stage["stage"]: stage["seconds"] for stage in self.report["timings"]["stages"]}
        return self.count / stages["running the trunk"]


class Peer:
    def __init__(self, trunk, shape, count, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(trunk), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name
        self.count = count
        # As many as are wanted would be 1.2 GB: the same ones again take as long.
        self.images = numpy.random.default_rng(0).standard_normal((max(BATCHES), *shape), dtype=numpy.float32)
        self.batch = max(BATCHES, key=lambda batch: self.at(batch, min(count, 128)))

    def at(self, batch, count):
        part = self.images[:batch]
        self.session.run(None, {self.name: part})
        begin = time.perf_counter()
        for _ in range(count // batch):
            self.session.run(None, {self.name: part})
        return count // batch * batch / (time.perf_counter() - begin)

    def run(self):
        return self.at(self.batch, self.count)


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", help="a name of torchvision, or a file of 28 x 28 input")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--program", default="target/release/onnx-prune")
    parser.add_argument("--fashion", default="/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
    parser.add_argument("--photographs", nargs="+", default=[], help="folders of large JPEG files to cut images out of")
    parser.add_argument("--flags", default="", help="more flags of the program")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        folder = pathlib.Path(folder)
        data = folder / "images"
        data.mkdir()
        flags = arguments.flags.split()
        files = math.ceil(arguments.images / 0.8)
        if arguments.network.endswith(".onnx"):
            model, shape = pathlib.Path(arguments.network), (1, 28, 28)
            fashion(data, files, arguments.fashion)
        else:
            model, shape = folder / "model.onnx", (3, 224, 224)
            flags += ["--preprocess", "imagenet"]
            export(arguments.network, model)
            if arguments.photographs:
                cut(data, files, arguments.photographs)
            else:
                noise(data, files)
        os.environ.setdefault("ONNX_PRUNE_ORT_LIB", library())
        out = folder / "out.onnx"
        program = Program(arguments.program, model, data, out, arguments.images, arguments.threads, flags)
        program.run()
        trunk = folder / "trunk.onnx"
        features = program.report["head"]["features"]
        inputs = [onnx.load(model).graph.input[0].name]
        onnx.utils.extract_model(str(model), str(trunk), inputs, features, check_model=False)
        peer = Peer(trunk, shape, arguments.images, arguments.threads)
        ours, theirs = [], []
        for turn in range(arguments.rounds):
            for run, results in [(program.run, ours), (peer.run, theirs)][:: 1 if turn % 2 else -1]:
                results.append(run())
        ratios = [one / other for one, other in zip(ours, theirs)]
        print(f"{arguments.network}, {arguments.images} images, {arguments.threads} threads")
        print(f"ONNX Runtime from memory, batch {peer.batch}: {spread(theirs, 1)} images a second")
        print(f"onnx-prune from files: {spread(ours, 1)} images a second, ratio {spread(ratios, 3)}")


def library():
    folder = pathlib.Path(onnxruntime.__file__).parent / "capi"
    return str(next(folder.glob("libonnxruntime.so.*")))


if __name__ == "__main__":
    main()
