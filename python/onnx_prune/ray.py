"""Scores, or features, of one data set by many machines: Ray places the shards and tries them again where one dies.

    python -m onnx_prune.ray score MODEL --data D --shards N [--address ...] [--gpus-per-shard G] -o FILE
    python -m onnx_prune.ray features MODEL --data D --shards N [...] -o CACHE

Every other flag is handed to ``onnx-prune score`` or ``onnx-prune features``. MODEL, D, the folder of the
parts and the current folder must be at the same place on every machine, and this package installed there. What comes out is what one process finds,
byte for byte. A part that is there already is not computed again, so the same command goes on where another ended.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

# Ray sends nothing home unless the user says so.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402

from onnx_prune import program  # noqa: E402

# What the program ends with where another try may go well, and after Ctrl-C.
PASSING, INTERRUPTED = 75, 130


class Passing(Exception):
    """The shard's process was killed, or met an error that may pass: it is worth another try."""


class Permanent(Exception):
    """The shard's process said what is wrong, and would say so again."""


def die_with_parent() -> None:
    """Ends the program with the task that started it, however that ends (Linux)."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def run(arguments: list[str], folder: str) -> None:
    """Runs the program in ``folder``, as the driver would."""
    command = [program(), *arguments]
    child = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )
    try:
        _, said = child.communicate()
    finally:
        # A task that was cancelled leaves nothing behind.
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode == 0:
        return
    what = f"{' '.join(command)}: exit code {child.returncode}\n{said.strip()}"
    passing = child.returncode < 0 or child.returncode in (PASSING, INTERRUPTED)
    raise Passing(what) if passing else Permanent(what)


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m onnx_prune.ray", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["score", "features"], help="what is computed")
    parser.add_argument("model", help="the model")
    parser.add_argument("-o", "--output", required=True, help="the file of the scores, or the cache of the features")
    parser.add_argument("--shards", type=int, required=True, help="how many parts; two or more for each worker")
    parser.add_argument("--parts", help="folder of the parts, seen by all machines [default: OUTPUT.parts]")
    parser.add_argument("--address", help="the Ray cluster [default: this machine alone]")
    parser.add_argument("--cpus-per-shard", type=int, default=1, help="cores, and threads, of a shard [default: 1]")
    parser.add_argument("--gpus-per-shard", type=float, default=0, help="GPUs of a shard [default: 0]")
    parser.add_argument("--workers", type=int, help="without --address, shards at a time [default: as cores allow]")
    parser.add_argument("--retries", type=int, default=3, help="further tries of a shard that dies [default: 3]")
    parser.add_argument("--force", action="store_true", help="replace OUTPUT if it exists")
    return parser


def start(args: argparse.Namespace) -> None:
    if args.address:
        ray.init(address=args.address, logging_level="warning")
        return
    cpus = args.workers and args.workers * args.cpus_per_shard
    ray.init(num_cpus=cpus, include_dashboard=False, logging_level="warning")


def compute(args: argparse.Namespace, further: list[str]) -> None:
    if "--threads" not in further:
        further = [*further, "--threads", str(args.cpus_per_shard)]
    if args.gpus_per_shard and "--provider" not in further:
        further = [*further, "--provider", "cuda"]
    task = ray.remote(run).options(
        num_cpus=args.cpus_per_shard,
        num_gpus=args.gpus_per_shard,
        max_retries=args.retries,
        retry_exceptions=[Passing],
    )
    shard = [args.command, args.model, "-o", args.parts, *further, "--shard"]
    folder = os.getcwd()
    waiting = {task.remote([*shard, f"{index}/{args.shards}"], folder): index for index in range(args.shards)}
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            ray.get(done)
            index = waiting.pop(done)
            left = f", {len(waiting)} to go" if waiting else ""
            print(f"shard {index}/{args.shards} is done{left}", file=sys.stderr, flush=True)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=False)


def main() -> int:
    args, further = flags().parse_known_args()
    args.parts = args.parts or f"{args.output}.parts"
    Path(args.parts).mkdir(parents=True, exist_ok=True)
    try:
        start(args)
        compute(args, further)
    except ray.exceptions.RayTaskError as error:
        print(f"error: {error.cause}", file=sys.stderr)
        return PASSING if isinstance(error.cause, Passing) else 2
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        ray.shutdown()
    force = ["--force"] if args.force else []
    return subprocess.run([program(), "merge", args.parts, "-o", args.output, *force]).returncode


if __name__ == "__main__":
    sys.exit(main())
