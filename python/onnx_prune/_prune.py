"""The main job as a function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._program import Value, run


@dataclass(frozen=True)
class ModelFile:
    """A model on the disk; ``bytes`` is 0 where nothing was written."""

    path: Path
    bytes: int
    parameters: int


@dataclass(frozen=True)
class Layer:
    """A layer of the head."""

    name: str
    width: int
    kept: int


@dataclass(frozen=True)
class Figures:
    """A share of held-out samples, in per cent: before, and of the model that was written."""

    samples: int
    original: float
    output: float | None


@dataclass(frozen=True)
class Pruned:
    """What was done. ``report`` is the whole document that the program printed."""

    # Whether the output was written: the proof holds, and so does the budget.
    passed: bool
    input: ModelFile
    output: ModelFile
    layers: tuple[Layer, ...]
    # Top-1 accuracy, where there are labels.
    accuracy: Figures | None
    # Of the top class with the original's, where there is data.
    agreement: Figures | None
    notes: tuple[str, ...]
    report: dict[str, Any]


def prune(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    keep: float | str | Mapping[str, float] | None = None,
    data: str | os.PathLike[str] | None = None,
    norm: float | str | None = None,
    max_drop: float | None = None,
    epochs: int | None = None,
    engine: str | None = None,
    provider: str | None = None,
    force: bool = False,
    progress: bool = False,
    **flags: Value,
) -> Pruned:
    """Prunes the model ``input`` to ``output``; see ``onnx-prune --help`` for what the flags mean.

    Every other flag can be given by its name, with ``_`` for ``-``: ``repair="none"``, ``max_bytes="5MB"``. ``keep``
    may be a mapping from layers to what they keep. A budget that cannot be met and a proof that fails are no errors:
    ``passed`` is then False, and nothing was written.

    Raises OnnxPruneError where the program ends with an error.
    """
    done = run(
        None,
        input,
        output,
        progress=progress,
        keep=keep,
        data=data,
        norm=norm,
        max_drop=max_drop,
        epochs=epochs,
        engine=engine,
        provider=provider,
        force=force,
        **flags,
    )
    report = done.report
    return Pruned(
        passed=report["passed"],
        input=_file(report["input"]),
        output=_file(report["output"]),
        layers=tuple(Layer(layer["name"], layer["width"], layer["kept"]) for layer in report["layers"]),
        accuracy=_figures(report.get("accuracy")),
        agreement=_figures(report.get("agreement")),
        notes=done.notes,
        report=report,
    )


def _file(found: Mapping[str, Any]) -> ModelFile:
    return ModelFile(Path(found["path"]), found["bytes"], found["parameters"])


def _figures(found: Mapping[str, Any] | None) -> Figures | None:
    return Figures(found["samples"], found["original"], found.get("output")) if found else None
