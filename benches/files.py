"""Pruning a large file beside programs that only read and write it.

    cargo build --release
    pip install onnx onnxslim onnx_graphsurgeon torch torchvision
    python benches/files.py --rounds 5

Each contender is a process of its own; they take turns, in another order each round. Seconds: for `onnx` what
`onnx.load` and `onnx.save` take together, without starting Python and importing; for the others the whole process.
Memory is the largest resident set, mapped pages included. Ratios are to `onnx` in the same round.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

LOAD_SAVE = """
import sys, time, onnx
begin = time.perf_counter()
onnx.save(onnx.load(sys.argv[1]), sys.argv[2])
print(time.perf_counter() - begin)
"""

SURGEON = """
import sys, time, onnx, onnx_graphsurgeon
begin = time.perf_counter()
graph = onnx_graphsurgeon.import_onnx(onnx.load(sys.argv[1]))
onnx.save(onnx_graphsurgeon.export_onnx(graph), sys.argv[2])
print(time.perf_counter() - begin)
"""


def export(path):
    """torchvision's vgg16 with random weights, 553 MB."""
    import torch
    import torchvision

    model = torchvision.models.vgg16(weights=None).eval()
    torch.onnx.export(
        model,
        torch.randn(1, 3, 224, 224),
        str(path),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )


def run(command):
    """Seconds (the process's own if it prints them) and bytes."""
    begin = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{command} ended with {child.returncode}")
    try:
        seconds = float(text.strip())
    except ValueError:
        pass
    return seconds, usage.ru_maxrss * 1024


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--program", default="target/release/onnx-prune")
    parser.add_argument("--model", help="in place of torchvision's vgg16")
    parser.add_argument("--flags", default="", help="of the program, besides --keep 0.3 --no-verify")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        folder = pathlib.Path(folder)
        model = arguments.model
        if model is None:
            model = folder / "vgg16.onnx"
            export(model)
        out = str(folder / "out.onnx")
        prune = [arguments.program, str(model), out, "--keep", "0.3", "--no-verify", "--force", "--quiet"]
        contenders = {
            "onnx load + save": [sys.executable, "-c", LOAD_SAVE, str(model), out],
            "onnxslim": [sys.executable, "-m", "onnxslim", str(model), out],
            "onnx_graphsurgeon": [sys.executable, "-c", SURGEON, str(model), out],
            "onnx-prune": prune + arguments.flags.split(),
        }
        results = {name: [] for name in contenders}
        for turn in range(arguments.rounds + 1):
            for name in random.sample(list(contenders), len(contenders)):
                found = run(contenders[name])
                pathlib.Path(out).unlink()
                # The first round brings the files into the page cache.
                if turn > 0:
                    results[name].append(found)
        first = results["onnx load + save"]
        print("| program | seconds | of onnx | peak memory, MB | of onnx |\n|---|---|---|---|---|")
        for name, found in results.items():
            seconds = [seconds for seconds, _ in found]
            memory = [memory / 1e6 for _, memory in found]
            ratios = [one / other for (one, _), (other, _) in zip(found, first)]
            parts = [one / other for (_, one), (_, other) in zip(found, first)]
            print(f"| {name} | {spread(seconds, 2)} | {spread(ratios, 2)} | {spread(memory, 0)} | {spread(parts, 2)} |")
        print(json.dumps(results), file=sys.stderr)


if __name__ == "__main__":
    main()
