"""Ray drives eight shards on two workers; one shard's process is killed in the middle. The scores must be, byte for
byte, those of one process, and no process may be left. Run by .ci/run with a Python that has ray and numpy:

    target/ray/bin/python tests/shards_on_ray.py
"""

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/onnx-prune"
MODEL = ROOT / "models/resnet.onnx"
# One sample in five is held out: 10,000 are scored, in ten blocks.
IMAGES, SCORED = 12_500, 10_000
SHARDS, KILLED = 8, 3
INSIDE = "ONNX_PRUNE_TEST_LOOPBACK"
FLAGS = ["--data", "images.npy", "--engine", "tract", "--threads", "1", "--seed", "5"]


def on_loopback_alone():
    """Ray listens on every address there is, so it gets a network with the loopback address and no other."""
    if INSIDE in os.environ:
        up = struct.pack("16sH14x", b"lo", 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            set_interface_flags = 0x8914
            fcntl.ioctl(any_socket, set_interface_flags, up)
        return
    unshare = [shutil.which("unshare") or "unshare", "--map-root-user", "--net"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"note: no network of its own can be had ({error}); Ray listens on all addresses of this machine")
        return
    os.environ[INSIDE] = "1"
    os.execv(unshare[0], [*unshare, sys.executable, *sys.argv])


def images(path):
    """Real images, each shifted in several ways, so that all are different."""
    known = numpy.load(ROOT / "models/fashion-mnist-train.npz")
    pixels = next(known[name] for name in known.files if known[name].ndim >= 3)
    shifts = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
    shifted = [numpy.roll(pixels, shift, axis=(1, 2)) for shift in shifts]
    numpy.save(path, numpy.concatenate(shifted)[:IMAGES])


def processes(mark):
    """What still runs of all that was started with ``mark`` in its environment: number and command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().decode().split("\0")
                if any(command):
                    found[int(folder.name)] = command
        except OSError:
            pass  # it has just ended, or is another user's
    return found


def killed_in_the_middle(driver, mark):
    """Kills the process of one shard once it has worked for a while; the numbers of all that shard had."""
    seen, killed = {}, None
    while driver.poll() is None:
        for number, command in processes(mark).items():
            if command[0] == str(PROGRAM) and f"{KILLED}/{SHARDS}" in command:
                since = seen.setdefault(number, time.monotonic())
                if killed is None and time.monotonic() - since > 0.5:
                    os.kill(number, signal.SIGKILL)
                    killed = number
        time.sleep(0.05)
    assert killed is not None, "the shard was too fast to be killed"
    assert len(seen) == 2, f"one process was killed and one took over, but there were {seen}"


def main():
    on_loopback_alone()
    mark = f"shards-on-ray-{uuid.uuid4()}"
    with tempfile.TemporaryDirectory() as folder:
        images(Path(folder, "images.npy"))
        environment = {
            **os.environ,
            "ONNX_PRUNE": str(PROGRAM),
            "ONNX_PRUNE_TEST": mark,
            "PYTHONPATH": str(ROOT / "python"),
            # Ray keeps a token and its logs there.
            "HOME": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }
        command = [sys.executable, "-m", "onnx_prune.ray", "score", str(MODEL), *FLAGS]
        command += ["--shards", str(SHARDS), "--workers", "2", "-o", "ray.json"]
        begin = time.monotonic()
        driver = subprocess.Popen(command, cwd=folder, env=environment)
        try:
            killed_in_the_middle(driver, mark)
        finally:
            if driver.poll() is None:
                driver.kill()
        assert driver.wait() == 0, f"the driver ended with {driver.returncode}"
        seconds = time.monotonic() - begin
        # Ray's own processes may take a moment.
        for _ in range(100):
            left = processes(mark)
            if not left:
                break
            time.sleep(0.1)
        assert not left, f"left behind: {left}"
        alone = [str(PROGRAM), "score", str(MODEL), *FLAGS, "--samples", str(SCORED), "--no-cache", "-o", "alone.json"]
        subprocess.run(alone, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        found, expected = (Path(folder, name).read_bytes() for name in ("ray.json", "alone.json"))
        assert f'"samples": {SCORED}'.encode() in expected, "not all images were scored"
        assert found == expected, "the merged scores are not those of one process"
        parts = list(Path(folder, "ray.json.parts").iterdir())
        assert len(parts) == SHARDS, f"besides the parts there are {parts}"
    print(f"{SHARDS} shards on 2 workers, one killed: {len(expected):,} bytes as of one process ({seconds:.1f} s)")


if __name__ == "__main__":
    main()
