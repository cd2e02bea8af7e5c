"""What many samples and many machines cost: the measurements and the estimate of docs/scale.md.

    python benches/scale.py million            # processor time and memory of score and merge, up to a million samples
    python benches/scale.py worker MODEL...    # what one shard of ImageNet-sized images costs, and its part's size
    python benches/scale.py merging            # what a MiB of parts costs
    python benches/scale.py estimate --own 3 --each 0.02 --part 40 --merge 1    # ImageNet, from what these said

Needs numpy and onnx, and the program (ONNX_PRUNE, else target/release/onnx-prune). Files go to --folder.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("ONNX_PRUNE", str(ROOT / "target/release/onnx-prune"))
FEATURES, HIDDEN, CLASSES = 64, 32, 10
IMAGENET, BLOCK = 1_281_167, 1024
MIB = 1 << 20


def run(*arguments):
    """Seconds, those of processors, peak memory in MiB, and the document printed."""
    peak, before = 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile() as output:
        begin = time.monotonic()
        child = subprocess.Popen([PROGRAM, *map(str, arguments), "--json"], stdout=output, stderr=subprocess.DEVNULL)
        # Not wait4: what it tells begins with the memory of this process.
        while child.poll() is None:
            peak = max(peak, high_water(child.pid))
            time.sleep(0.005)
        seconds = time.monotonic() - begin
        assert child.returncode == 0, f"{arguments}: {child.returncode}"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        output.seek(0)
        return seconds, busy, peak, json.load(output)


def high_water(process):
    """The most memory a process has held, in MiB; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0


def small_head(path, features=FEATURES):
    """Two dense layers on a vector: all of it is head."""
    random = numpy.random.default_rng(1)
    weight = lambda name, *shape: numpy_helper.from_array(random.normal(0, 0.2, shape).astype("f4"), name)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
    ]
    value = lambda name, size: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
    weights = [weight("w1", features, HIDDEN), weight("b1", HIDDEN), weight("w2", HIDDEN, CLASSES), weight("b2", CLASSES)]
    graph = helper.make_graph(nodes, "head", [value("x", features)], [value("logits", CLASSES)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def vectors(path, count, features=FEATURES):
    """``count`` vectors whose neurons depend on each other, written bit by bit."""
    random = numpy.random.default_rng(2)
    mix = random.normal(0, 1, (features, features)).astype("f4")
    array = numpy.lib.format.open_memmap(path, "w+", "f4", (count, features))
    for start in range(0, count, 50_000):
        rows = array[start : start + 50_000]
        rows[:] = random.normal(0, 1, rows.shape).astype("f4") @ mix
    array.flush()


def million(args):
    model = args.folder / "head.onnx"
    small_head(model)
    print("| samples scored | one process | 8 shards, together | largest part | merge |")
    print("|---|---|---|---|---|")
    for scored in args.counts:
        data = args.folder / "vectors.npy"
        vectors(data, scored * 5 // 4)
        flags = ["--data", data, "--engine", args.engine, "--batch", 256, "--samples", scored]
        alone, parts = args.folder / "alone.json", args.folder / f"parts-{scored}"
        shutil.rmtree(parts, ignore_errors=True)
        whole = run("score", model, *flags, "--no-cache", "-o", alone, "--force")
        shards = [run("score", model, *flags, "-o", parts, "--shard", f"{i}/8") for i in range(8)]
        merged = run("merge", parts, "-o", args.folder / "merged.json", "--force")
        same = (args.folder / "merged.json").read_bytes() == alone.read_bytes()
        assert same, "the merged scores are not those of one process"
        cells = [f"{busy:.1f} s, {mib:.0f} MiB" for _, busy, mib, _ in (whole, merged)]
        together = f"{sum(s for _, s, *_ in shards):.1f} s, at most {max(m for *_, m, _ in shards):.0f} MiB"
        largest = max(found["bytes"] for *_, found in shards)
        print(f"| {scored:,} | {cells[0]} | {together} | {largest:,} bytes | {cells[1]} |", flush=True)
        data.unlink()


def images(path, count):
    """Noise with some structure, as large as what a network for ImageNet takes."""
    random = numpy.random.default_rng(3)
    array = numpy.lib.format.open_memmap(path, "w+", "u1", (count, 224, 224, 3))
    for at in range(count):
        coarse = random.integers(0, 256, (14, 14, 3), dtype="u1")
        array[at] = coarse.repeat(16, 0).repeat(16, 1)
    array.flush()


def worker(args):
    """Two sizes tell what a shard costs for itself and what each image does, in processor time."""
    few, many = args.images
    for count in args.images:
        images(args.folder / f"images-{count}.npy", count * 5 // 4)
    print("| model | a shard's own | each image | peak memory | part of one block | merge of it |")
    print("|---|---|---|---|---|---|")
    for model in map(Path, args.models):
        name, peak, times = model.stem, 0, {few: [], many: []}
        for _ in range(args.rounds):
            for count in args.images:
                flags = ["--data", args.folder / f"images-{count}.npy", "--preprocess", "imagenet"]
                parts = args.folder / f"{name}-{count}"
                shutil.rmtree(parts, ignore_errors=True)
                flags += ["--engine", args.engine, "--norm", args.norm, "-o", parts]
                _, seconds, mib, found = run("score", model, *flags, "--shard", "0/1")
                times[count].append(seconds)
                peak = max(peak, mib)
        _, merging, *_ = run("merge", parts, "-o", args.folder / f"{name}.json", "--force")
        slow, fast = (statistics.median(times[count]) for count in (many, few))
        each = (slow - fast) / (many - few)
        part = f"{found['bytes'] / MIB:.1f} MiB"
        own = f"{fast - few * each:.1f} s | {1000 * each:.1f} ms"
        print(f"| {name} | {own} | {peak:.0f} MiB | {part} | {merging:.1f} s |", flush=True)


def merging(args):
    """What reading and joining a MiB costs, and what ranking: one part against eight of the same samples."""
    model, data = args.folder / "wide.onnx", args.folder / "wide.npy"
    small_head(model, args.width)
    vectors(data, 8 * BLOCK * 5 // 4, args.width)
    found = []
    for count in (1, 8):
        parts = args.folder / f"wide-{count}"
        shutil.rmtree(parts, ignore_errors=True)
        flags = ["--data", data, "--engine", args.engine, "-o", parts]
        bytes_of = [run("score", model, *flags, "--shard", f"{index}/{count}")[-1]["bytes"] for index in range(count)]
        runs = [run("merge", parts, "-o", args.folder / "wide.json", "--force")[1] for _ in range(args.rounds)]
        found.append((sum(bytes_of) / MIB, statistics.median(runs)))
    (one, short), (eight, long) = found
    each = (long - short) / (eight - one)
    print(f"{args.width} neurons: 1 part of {one:.1f} MiB {short:.2f} s, 8 of {eight:.1f} MiB together {long:.2f} s")
    print(f"--merge {each:.4f} --ranking {short - one * each:.2f}")


def nodes(first, end):
    """As many whole subtrees hold a range of blocks."""
    count = 0
    while first < end:
        largest = first & -first or 1 << 40
        first += min(largest, 1 << (end - first).bit_length() - 1)
        count += 1
    return count


def estimate(args):
    """Hours on W workers: what a shard costs for itself, its images, and reading all parts one after the other."""
    blocks = -(-IMAGENET // BLOCK)
    print("| workers | blocks of a worker | time | parts, together | merge | a failed worker costs |")
    print("|---|---|---|---|---|---|")
    for workers in args.workers:
        own = -(-blocks // workers)
        shard = args.own + own * BLOCK * args.each
        cuts = [blocks * index // workers for index in range(workers + 1)]
        parts = args.part * sum(map(nodes, cuts, cuts[1:])) + args.once * workers
        merge = args.ranking + parts * args.merge
        total = shard + merge
        print(
            f"| {workers} | {own} | {total / 3600:.2f} h | {parts / 1024:.1f} GiB | {merge / 60:.1f} min "
            f"| at most {shard / 3600:.2f} h of one worker |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "onnx-prune-scale"))
    parser.add_argument("--engine", default="auto")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("million")
    one.add_argument("--counts", type=int, nargs="+", default=[125_000, 250_000, 500_000, 1_000_000])
    one.set_defaults(do=million)
    one = commands.add_parser("worker")
    one.add_argument("models", nargs="+")
    one.add_argument("--images", type=int, nargs=2, default=[64, 256])
    one.add_argument("--norm", default="2")
    one.add_argument("--rounds", type=int, default=3)
    one.set_defaults(do=worker)
    one = commands.add_parser("merging")
    one.add_argument("--width", type=int, default=2048)
    one.add_argument("--rounds", type=int, default=3)
    one.set_defaults(do=merging)
    one = commands.add_parser("estimate")
    one.add_argument("--own", type=float, required=True, help="seconds a shard costs for itself")
    one.add_argument("--each", type=float, required=True, help="seconds of an image")
    one.add_argument("--part", type=float, required=True, help="MiB of the sums of one node")
    one.add_argument("--once", type=float, default=0, help="MiB that a part holds once: rows of a wide layer")
    one.add_argument("--merge", type=float, required=True, help="seconds to read and join a MiB")
    one.add_argument("--ranking", type=float, default=0, help="seconds of the ranking")
    one.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64, 512])
    one.set_defaults(do=estimate)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    args.do(args)


if __name__ == "__main__":
    main()
