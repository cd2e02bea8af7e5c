"""Writes one model file of the zoo, runs it once, and keeps `index.tsv` (one line per file) up to date.

A maker that fails leaves its reason in the index and no file; the next run tries it again.
"""

import fcntl
import os
import traceback
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

COLUMNS = ("name", "input", "shape", "outputs", "note")


class Zoo:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def make(self, name, maker):
        """Calls `maker(path)` unless `name`.onnx exists. `maker` writes the file and may return a note, or a pair
        of a note and (feeds, expected outputs) to run it against."""
        path = self.folder / f"{name}.onnx"
        if path.exists():
            return
        try:
            made = maker(path)
            note, reference = made if isinstance(made, tuple) else (made, None)
            row = describe(path)
            row["note"] = "; ".join(part for part in (note, try_run(path, reference)) if part)
        except Exception as error:
            for left in self.folder.glob(f"{name}.onnx*"):
                left.unlink()
            if os.environ.get("ZOO_TRACE"):
                traceback.print_exc()
            text = " ".join(str(error).split())
            row = {"input": "", "shape": "", "outputs": "", "note": f"failed: {type(error).__name__}: {text[:300]}"}
        print(f"{name}: {row['note']}", flush=True)
        self.record(name, row)

    def record(self, name, row):
        index = self.folder / "index.tsv"
        with open(self.folder / ".index.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = index.read_text().splitlines()[1:] if index.exists() else []
            rows = {line.split("\t")[0]: line for line in lines}
            rows[name] = "\t".join([name, *(row[column] for column in COLUMNS[1:])])
            index.write_text("\n".join(["\t".join(COLUMNS), *(rows[key] for key in sorted(rows))]) + "\n")


def dimensions(value):
    sizes = value.type.tensor_type.shape.dim
    return "[" + ",".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in sizes) + "]"


def inputs(graph):
    """Graph inputs that are no initializers."""
    initializers = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in initializers]


def describe(path):
    graph = onnx.load(path, load_external_data=False).graph
    fed = inputs(graph)
    return {
        "input": ",".join(value.name for value in fed),
        "shape": ",".join(dimensions(value) for value in fed),
        "outputs": ",".join(f"{value.name}{dimensions(value)}" for value in graph.output),
    }


def noise(graph, batch=2):
    """Feeds of the sizes the file declares; a symbolic size is `batch`."""
    random = np.random.default_rng(0)
    feeds = {}
    for value in inputs(graph):
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        sizes = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = random.standard_normal(sizes).astype(kind)
    return feeds


def run(path, feeds):
    """The outputs, in f64; `feeds` by input name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [output.astype(np.float64) for output in session.run(None, feeds)]


def try_run(path, reference):
    """A note: how far one onnxruntime run lies from the reference, or why there was none."""
    onnx.checker.check_model(str(path))
    graph = onnx.load(path, load_external_data=False).graph
    feeds, expected = reference or (None, None)
    if feeds is None:
        feeds = noise(graph)
    else:
        declared = {v.name: helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in inputs(graph)}
        feeds = {name: feed.astype(kind) for (name, kind), feed in zip(declared.items(), feeds)}
    try:
        outputs = run(path, feeds)
    except Exception as error:
        return f"not run: {' '.join(str(error).split())[:200]}"
    batch = next(iter(feeds.values())).shape[0]
    if not all(np.isfinite(output).all() for output in outputs):
        return f"ran with batch {batch}; OUTPUT NOT FINITE"
    if expected is None:
        return f"ran with batch {batch}"
    largest = max(np.abs(e).max() for e in expected)
    difference = max(np.abs(a - e).max() for a, e in zip(outputs, expected))
    return f"ran with batch {batch}; differs by {difference / (largest or 1):.0e} of the largest output"
