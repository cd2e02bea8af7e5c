"""The program: where it is, and running it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

Value = Union[str, int, float, bool, "os.PathLike[str]", Sequence[Any], Mapping[str, Any], None]

NAME = "onnx-prune.exe" if os.name == "nt" else "onnx-prune"
# Exit codes of the program.
NOT_MET, INTERRUPTED = 1, 130


class OnnxPruneError(RuntimeError):
    """The program ended with an error; its own message, with the hint where it gave one."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Run:
    """What a run of the program left."""

    # 0: done; 1: a check or a budget was not met.
    code: int
    # The document it printed.
    report: dict[str, Any]
    # What it had to say while it worked.
    notes: tuple[str, ...]


def program() -> str:
    """The path of the program: that of ``ONNX_PRUNE``, that of this installation, else that of the PATH."""
    named = os.environ.get("ONNX_PRUNE")
    if named:
        return named
    user = sysconfig.get_preferred_scheme("user")
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", scheme=user)]
    # ``pip install --target DIR`` puts it into DIR/bin.
    folders.append(str(Path(__file__).resolve().parent.parent / "bin"))
    for folder in folders:
        path = Path(folder, NAME)
        if path.is_file():
            return str(path)
    found = shutil.which(NAME)
    if found:
        return found
    places = ", ".join([*folders, "the PATH"])
    raise FileNotFoundError(f"the program onnx-prune is in none of {places}; `pip install onnx-prune` brings it")


def run(command: str | None, *files: str | os.PathLike[str], progress: bool = False, **flags: Value) -> Run:
    """Runs ``onnx-prune COMMAND FILES --flags`` (the main job where ``command`` is None) and reads its JSON.

    A flag is named as on the command line, with ``_`` for ``-``. True gives the flag alone, None and False leave it
    out, a sequence is joined by commas, a mapping becomes ``name=value,...``. With ``progress`` the program's notes
    and progress go to stderr while it works; otherwise they are in the result.

    Raises OnnxPruneError where the program ends with an error.
    """
    words = [*([command] if command else []), *(os.fspath(file) for file in files)]
    arguments = [program(), *words, *_arguments(flags), "--json"]
    done = subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if progress else subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    lines = (done.stderr or "").splitlines()
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode not in (0, NOT_MET):
        raise OnnxPruneError(_message(lines, done.returncode), done.returncode)
    notes = tuple(line.removeprefix("note: ") for line in lines if line.startswith("note: "))
    return Run(done.returncode, json.loads(done.stdout), notes)


def _arguments(flags: Mapping[str, Value]) -> list[str]:
    found = []
    for name, value in flags.items():
        if value is None or value is False:
            continue
        flag = "--" + name.rstrip("_").replace("_", "-")
        # One argument, so that a value may begin with a dash.
        found.append(flag if value is True else f"{flag}={_text(value)}")
    return found


def _text(value: Value) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_text(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(_text(part) for part in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _message(lines: Sequence[str], code: int) -> str:
    """From the line that begins with "error: " on."""
    for at, line in enumerate(lines):
        if line.startswith("error: "):
            return "\n".join([line.removeprefix("error: "), *lines[at + 1 :]])
    return lines[-1] if lines else f"onnx-prune ended with exit code {code}"
