"""How much smaller each model of the zoo gets with channels taken out of its trunk, and whether that is exact.

    python models/zoo/trunk.py ZOO target/release/onnx-prune [--keep 0.3] [PATTERN ...]
    python models/zoo/trunk.py ZOO target/release/onnx-prune --proof [PATTERN ...]

ZOO is the folder that make.py and its likes filled; a folder with `vgg.onnx` does as well. Every model is run, by single
neurons and by whole channels where it has any, as

    onnx-prune IN OUT --keep KEEP --criterion weight --json --force --granularity G --trunk T

which looks at weights alone: which neurons stay makes no difference to bytes and proof. The proof compares the model
without the trunk's channels with the masked original, in both engines, within 1e-4 of the largest output. The first table
holds the sizes, with and without the trunk's channels, and what is left, and why. With `--proof`, each model is run
at keep 0.5, 0.3 and 0.1, and the table holds the largest difference in each engine; the last line counts. The exit code
is 1 where a proof fails. Only the standard library is needed.
"""

import argparse
import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

FLAGS = ["--criterion", "weight", "--json", "--force"]
KEEPS = ("0.5", "0.3", "0.1")
GRANULARITIES = ("neuron", "channel")
LIMIT_SECONDS = 1200
NO_CHANNELS = "no channels to choose among"


def run(program, model, output, flags):
    """The report of one run, or the last lines of what went wrong."""
    command = [program, str(model), str(output), *FLAGS, *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return None, f"longer than {LIMIT_SECONDS} s"
    if done.returncode in (0, 1) and done.stdout.strip():
        return json.loads(done.stdout), None
    return None, " ".join(done.stderr.split("error")[-1].split())


def mebibytes(count):
    return f"{count / 2**20:.2f}"


def checks(report):
    """The comparison in each engine: what it was, the difference, whether it is small enough."""
    for check in report["verification"]["checks"]:
        if " and " not in check["engine"]:
            scope = " (head)" if check["scope"] == "head" else ""
            yield check["engine"] + scope, check["max_rel"], check["passed"]


def proof(report):
    """The largest relative difference in each engine."""
    texts = (f"{engine} {difference:.0e}" + ("" if passed else " FAILED") for engine, difference, passed in checks(report))
    return ", ".join(texts)


def refusal(error):
    return error[:160].replace("|", "/")


def sizes(program, model, output, keep):
    """One row per granularity; whether every proof held."""
    proved = True
    for granularity in GRANULARITIES:
        flags = ["--keep", keep, "--granularity", granularity]
        whole, error = run(program, model, output, [*flags, "--trunk", "none", "--no-verify"])
        if error is not None and NO_CHANNELS in error:
            continue
        cut, second = run(program, model, output, [*flags, "--trunk", "exact"])
        error = error or second
        if error is not None:
            print(f"| {model.stem} | {granularity} | {refusal(error)} | | | | |", flush=True)
            continue
        proved &= cut["passed"]
        before = whole["input"]["bytes"]
        after, head = cut["output"]["bytes"], whole["output"]["bytes"]
        stops = "; ".join(stop["why"] for stop in cut["trunk"]["stops"]) or "-"
        print(
            f"| {model.stem} | {granularity} | {mebibytes(before)} | {mebibytes(head)} "
            f"| {mebibytes(after)} | {100 - 100 * after / before:.1f} % | {proof(cut)} | {stops} |",
            flush=True,
        )
    return proved


def proofs(program, model, output):
    """One row for all levels and granularities; how many runs were proved, failed, and refused."""
    largest, counts, errors = {}, [0, 0, 0], []
    for keep in KEEPS:
        for granularity in GRANULARITIES:
            report, error = run(program, model, output, ["--keep", keep, "--granularity", granularity])
            if error is not None:
                if NO_CHANNELS not in error:
                    counts[2] += 1
                    errors.append(error)
                continue
            counts[0 if report["passed"] else 1] += 1
            for engine, difference, _ in checks(report):
                largest[engine] = max(difference, largest.get(engine, 0))
    cells = ", ".join(f"{engine} {difference:.0e}" for engine, difference in sorted(largest.items()))
    failed = f", {counts[1]} FAILED" if counts[1] else ""
    text = f"{cells}{failed}" if largest else refusal(errors[0])
    print(f"| {model.stem} | {counts[0]} | {text} |", flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=pathlib.Path)
    parser.add_argument("program")
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--keep", default="0.3")
    parser.add_argument("--proof", action="store_true")
    arguments = parser.parse_intermixed_args()
    models = sorted(arguments.zoo.glob("*.onnx"))
    models = [model for model in models if any(fnmatch.fnmatch(model.stem, p) for p in arguments.patterns)]
    if arguments.proof:
        print("| model | runs proved | largest difference |\n|---|---|---|")
    else:
        print("| model | by | MiB | head cut | and trunk | smaller | masked = pruned | what is left, and why |")
        print("|---|---|---|---|---|---|---|---|")
    total, failed = [0, 0, 0], False
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            output = pathlib.Path(folder) / "out.onnx"
            if arguments.proof:
                total = [a + b for a, b in zip(total, proofs(arguments.program, model, output))]
            else:
                failed |= not sizes(arguments.program, model, output, arguments.keep)
            for left in pathlib.Path(folder).iterdir():
                left.unlink()
    if arguments.proof:
        print(f"\n{len(models)} models: {total[0]} runs proved, {total[1]} failed, {total[2]} refused")
    sys.exit(1 if failed or total[1] else 0)


if __name__ == "__main__":
    main()
