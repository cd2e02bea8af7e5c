"""What a whole study costs, beside single runs with the same flags; everything cold.

    python benches/study.py PROGRAM --data TRAIN --test TEST [--rounds 3] [--separate] [--processor] [--repair R] [MODEL...]

For each model, in alternating rounds: one `prune --keep 0.3`, and a study of 3 norms x 7 levels (least squares or
whatever the default repair is, no fine-tuning). Each run has an empty cache of its own. `--separate` also runs the 21
cells as 21 separate cold runs, once. Prints one row per model: wall-clock seconds, which need a quiet machine, or with
`--processor` those of processors, which hardly do. Every run is told on stderr when it is over.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NORMS = ["1", "2", "inf"]
KEEPS = ["0.9", "0.7", "0.5", "0.3", "0.2", "0.1", "0.05"]
ROOT = Path(__file__).resolve().parent.parent


def timed(options, words):
    """Seconds of one run in a folder of its own, with an empty cache."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        words = [word.replace("@", folder + "/") for word in words]
        begin = time.perf_counter()
        subprocess.run([options.program, *words, "--cache", f"{folder}/cache", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:.2f} s, {busy:.2f} s of processors: {' '.join(words[:6])}", file=sys.stderr, flush=True)
    return busy if options.processor else seconds


def shown(values):
    median = statistics.median(values)
    return f"{median:.2f}" if len(values) == 1 else f"{median:.2f} ({min(values):.2f}-{max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("models", nargs="*", default=["vgg", "resnet", "densenet"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--separate", action="store_true")
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("--repair", help="of both, in place of the default")
    options = parser.parse_args()
    data = ["--data", options.data, "--test", options.test]
    data += ["--repair", options.repair] if options.repair else []
    print("| model | one cold prune, s | study of 21 cells, s | ratio | 21 cold prunes, s | of these |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.models:
        model = str(ROOT / "models" / f"{name}.onnx")
        single, grid = [], []
        for _ in range(options.rounds):
            single.append(timed(options, [model, "@out.onnx", "--keep", "0.3", *data]))
            study = ["study", model, "-o", "@study", "--criteria", "lsa", "--norms", ",".join(NORMS), "--keeps", ",".join(KEEPS)]
            grid.append(timed(options, [*study, "--no-time", *data]))
        ratio = statistics.median(g / s for g, s in zip(grid, single))
        row = [name, shown(single), shown(grid), f"{ratio:.2f}", "", ""]
        if options.separate:
            cells = [(norm, keep) for norm in NORMS for keep in KEEPS]
            words = [[model, "@out.onnx", "--norm", norm, "--keep", keep, *data] for norm, keep in cells]
            total = sum(timed(options, line) for line in words)
            row[4:] = [f"{total:.1f}", f"{statistics.median(grid) / total:.3f}"]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
