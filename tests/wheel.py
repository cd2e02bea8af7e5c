"""Builds the wheel, installs it into an environment of its own, and uses it there.

    python3 tests/wheel.py            # everything below target/wheel; needs cargo, and pip's package index

Cargo's build is the one that the other tests ran: same folder, same profile. The installation sees no Rust. Tools for
the build and the package beside the wheel are pinned; the environment is used again where it is still right.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "wheel"
MATURIN, ONNXRUNTIME = "maturin==1.16.0", "onnxruntime==1.32.0"
MODEL, DATA = ROOT / "models/densenet.onnx", ROOT / "models/fashion-mnist-train.npz"
# Variables by which the program would find another ONNX Runtime, or another program would be found.
NAMES = ["ONNX_PRUNE", "ONNX_PRUNE_ORT_LIB", "ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH"]


def environment(folder):
    """A virtual environment's folder of programs."""
    if not (folder / "bin/pip").exists():
        venv.create(folder, clear=True, with_pip=True)
    return folder / "bin"


def pip(programs, *words, **kwargs):
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([programs / "python", "-m", "pip", "install", *quiet, *words], check=True, **kwargs)


def clean():
    """Variables without Rust, and without anything that names a library."""
    kept = {name: value for name, value in os.environ.items() if name not in NAMES and not name.startswith("CARGO")}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin", "ONNX_PRUNE_HOME": str(WORK / "home")}


def build():
    """The path of a new wheel."""
    tools = environment(WORK / "tools")
    pip(tools, MATURIN)
    shutil.rmtree(WORK / "dist", ignore_errors=True)
    command = [tools / "maturin", "build", "--release", "--locked", "--out", WORK / "dist"]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = (WORK / "dist").glob("*.whl")
    return wheel


def main():
    wheel = build()
    print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)
    programs = environment(WORK / "venv")
    pip(programs, ONNXRUNTIME)
    pip(programs, "--force-reinstall", "--no-deps", wheel, env=clean())
    # Again with the extra: it asks for nothing that is not there.
    pip(programs, f"{wheel}[ort]", env=clean())
    # Away from the repository, whose own package would be found first.
    with tempfile.TemporaryDirectory() as folder:
        command = [programs / "python", Path(__file__), "--installed", programs]
        return subprocess.run(command, cwd=folder, env=clean()).returncode


class Installed(unittest.TestCase):
    programs: Path

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_the_onnxruntime_beside_it_is_found_and_prunes(self):
        import onnx_prune

        out = self.folder / "small.onnx"
        found = onnx_prune.prune(MODEL, out, keep={"features": 0.5}, data=DATA, samples=300, engine="ort")
        self.assertTrue(found.passed)
        self.assertEqual(out.stat().st_size, found.output.bytes)
        self.assertLess(found.output.parameters, found.input.parameters)
        self.assertEqual([(layer.name, layer.width, layer.kept) for layer in found.layers], [("features", 132, 66)])
        self.assertGreater(found.accuracy.output, 80)
        self.assertEqual(found.agreement.original, 100)
        library = Path(found.report["engine"]["library"])
        self.assertTrue(library.is_relative_to(self.programs.parent), library)
        self.assertIn("onnxruntime/capi", library.as_posix())

    def test_errors_say_what_the_program_says(self):
        import onnx_prune

        cases = [
            (["missing.onnx", "out.onnx"], {}, "missing.onnx"),
            ([MODEL, "out.onnx"], {"keep": 2.5}, "--keep"),
            ([MODEL, "out.onnx"], {"no_such_flag": True}, "--no-such-flag"),
            ([MODEL, "out.onnx"], {"provider": "cuda"}, "runtime install --cuda"),
        ]
        for files, flags, part in cases:
            with self.assertRaises(onnx_prune.OnnxPruneError) as caught:
                onnx_prune.prune(*files, **flags)
            self.assertIn(part, str(caught.exception))
            self.assertEqual(caught.exception.code, 2)

    def test_a_budget_that_is_missed_is_a_result(self):
        import onnx_prune

        out = self.folder / "small.onnx"
        found = onnx_prune.prune(MODEL, out, max_bytes=1000, engine="tract")
        self.assertFalse(found.passed)
        self.assertFalse(out.exists())

    def test_other_commands_give_their_document(self):
        import onnx_prune

        found = onnx_prune.run("score", MODEL, criterion="weight", engine="tract", seed=3)
        self.assertEqual((found.code, found.report["seed"]), (0, 3))

    def test_the_module_and_the_script_are_the_program(self):
        import onnx_prune

        expected = f"onnx-prune {onnx_prune.__version__}\n"
        for command in ([self.programs / "onnx-prune"], [sys.executable, "-m", "onnx_prune"]):
            done = subprocess.run([*command, "--version"], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (0, expected))
            done = subprocess.run([*command, "no.onnx", "out.onnx"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
        self.assertEqual(Path(onnx_prune.program()), self.programs / "onnx-prune")
        self.assertTrue((Path(onnx_prune.__file__).parent / "py.typed").exists())

    def test_the_demonstration_needs_nothing_else(self):
        command = [self.programs / "onnx-prune", "demo", "new"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("accuracy", done.stdout)

    def test_the_action_gates_and_writes_its_summary(self):
        script = ROOT / "packaging/action/prune.sh"
        cases = [
            ("--keep 0.5 --engine tract", 0, "passed=true", "| neurons of features | 132 | 66 |"),
            ("--max-bytes 1000 --engine tract", 1, "passed=false", "budget was not met"),
            ("--keep '0.5 ; rm -rf /'", 2, "passed=false", "an error; see the log"),
        ]
        for arguments, code, passed, part in cases:
            summary, output = self.folder / "summary.md", self.folder / "output"
            variables = {
                **clean(),
                "PATH": f"{self.programs}:{clean()['PATH']}",
                "MODEL": str(MODEL),
                "OUTPUT": str(self.folder / f"{code}.onnx"),
                "ARGUMENTS": arguments,
                "RUNNER_TEMP": str(self.folder),
                "GITHUB_STEP_SUMMARY": str(summary),
                "GITHUB_OUTPUT": str(output),
            }
            done = subprocess.run(["bash", script], env=variables, capture_output=True, text=True)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(part, summary.read_text())
            self.assertIn(passed, output.read_text())
            for path in (summary, output):
                path.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--installed"]:
        Installed.programs = Path(sys.argv[2])
        unittest.main(argv=sys.argv[:1])
    sys.exit(main())
