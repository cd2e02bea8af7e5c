"""Measures what pruning costs, and writes docs/accuracy.md: runs of the program alone, no other library.

    cargo build --release
    python models/accuracy.py TRAIN TEST --transfer zoo/efficientnet_lite0/efficientnet_lite0-torchscript.onnx

TRAIN and TEST are the image files of Fashion-MNIST (train-images-idx3-ubyte.gz, t10k-images-idx3-ubyte.gz; Debian's
dataset-fashion-mnist has them), with their label files beside them. Runs follow one another, and each is kept in a JSON
file beside --out as soon as it is done: a second call runs what is missing, one with --only some tables. Runs made by
another version of the program are made again.
"""

import argparse
import gzip
import hashlib
import json
import os
import platform
import shlex
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = ("vgg", "resnet", "densenet")
TITLES = {
    "vgg": "VGG-like, 3136-512-10",
    "resnet": "ResNet-like, 128-10",
    "densenet": "DenseNet-like, 132-10",
}
SAMPLES = 6000
EPOCHS = 5
# Share of the labels in the target, where the original's own scores are learned beside them.
LABEL_SHARE = 0.5
MAX_DROP = 0.5
# Images of the transfer runs: the trunk takes some 30 ms for each on two cores.
TRANSFER_TRAIN, TRANSFER_TEST = 3000, 1000
# Of which so many choose the neurons and are what the repair is solved on: ImageNet has 1000 classes.
TRANSFER_SAMPLES = 1000
TRANSFER_KEEP = ("0.5", "0.3")

# Points below the original that are allowed (net: keep: points).
ALLOWED_REPAIRED = {
    "vgg": {"0.3": 0.5, "0.1": 2.5, "0.05": 5.5},
    "resnet": {"0.3": 0.5, "0.1": 1.0, "0.05": 7.0},
    "densenet": {"0.3": 0.5, "0.1": 1.0, "0.05": 5.5},
}
ALLOWED_TUNED = {
    "vgg": {"0.3": 0.0, "0.1": 1.2},
    "resnet": {"0.3": 0.0, "0.1": 0.6},
    "densenet": {"0.3": 0.0, "0.1": 0.6},
}
CRITERIA = [
    *(
        (f"lsa, {scale}, p = {norm}", ["--criterion", "lsa", "--scale", scale, "--norm", norm])
        for scale in ("none", "std", "residual")
        for norm in ("1", "2", "inf")
    ),
    *((name, ["--criterion", name]) for name in ("weight", "taylor", "obs", "curvature", "random")),
]
# What is kept of a report.
KEPT = ("accuracy", "agreement", "layers", "search", "transfer", "passed")


class Runs:
    """Runs the program, or looks up what it said before."""

    def __init__(self, arguments, files):
        self.program = arguments.program.resolve()
        self.files = files
        self.store = arguments.out.with_suffix(".json")
        self.done = json.loads(self.store.read_text()) if self.store.exists() else {}
        self.version = hashlib.sha256(self.program.read_bytes()).hexdigest()
        self.any_version, self.done_only = arguments.any_version, arguments.done_only
        self.output = arguments.folder / "out.onnx"
        self.count = 0

    def __call__(self, *words):
        """The report of one run; words that name a file of `files` stand for it."""
        shown = shlex.join(str(word) for word in words)
        known = self.done.get(shown)
        if known and (self.any_version or known["program"] == self.version):
            return known
        if self.done_only:
            return {"exit": "not run"}
        command = [str(self.files.get(word, word)) for word in map(str, words)]
        start = time.monotonic()
        ran = subprocess.run(
            [str(self.program), *command, "--json", "--quiet", "--force"], capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - start
        try:
            report = json.loads(ran.stdout)
        except json.JSONDecodeError:
            report = {}
        kept = {key: report.get(key) for key in KEPT if report.get(key) is not None}
        kept |= {"exit": ran.returncode, "seconds": round(seconds, 2), "program": self.version}
        training = report.get("training") or {}
        if training:
            kept["validation_loss"] = training["history"][training["best"]]["validation_loss"]
        kept["bytes"] = (report.get("output") or {}).get("bytes")
        if ran.returncode not in (0, 1) or not report:
            kept["error"] = " ".join(ran.stderr.split())[-400:]
        self.done[shown] = kept
        self.save()
        self.output.unlink(missing_ok=True)
        self.count += 1
        print(f"{seconds:6.1f} s  exit {ran.returncode}  {shown}  {kept.get('error', '')}", file=sys.stderr, flush=True)
        return kept

    def save(self):
        partial = self.store.with_suffix(".partial")
        partial.write_text(json.dumps(self.done, indent=1, sort_keys=True) + "\n")
        os.replace(partial, self.store)


# What `finetune` calls the stages of a run.
TRAINED = {"original": "before", "tuned": "after", "output": "after"}


def figure(run, stage, metric="accuracy"):
    """Percent after a stage; nothing where the run failed or had no such stage."""
    figures = run.get(metric) or {}
    return figures.get(stage, figures.get(TRAINED.get(stage)))


class Cell:
    """One figure over the seeds."""

    def __init__(self, values):
        self.values = values
        present = [value for value in values if value is not None]
        self.complete = len(present) == len(values)
        self.median = statistics.median(present) if present else None
        self.low, self.high = (min(present), max(present)) if present else (None, None)

    def __str__(self):
        if self.median is None:
            return "not run"
        spread = "" if self.low == self.high else f" ({self.low:.2f}-{self.high:.2f})"
        count = sum(value is not None for value in self.values)
        lost = "" if self.complete else f", {count} of {len(self.values)} seeds"
        return f"{self.median:.2f}{spread}{lost}"


def over_seeds(seeds, run, stage):
    return Cell([figure(run(seed), stage) for seed in seeds])


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def prune(model, *more, data="IMAGES", test="TEST"):
    return [f"{model}.onnx", "OUT", "--data", data, "--test", test, *more]


def shown(words):
    return "    onnx-prune " + " ".join(map(str, words))


def against(cell, base, allowed):
    """Points below the original, and whether as many are allowed."""
    if cell.median is None or base.median is None:
        return "", ""
    below = base.median - cell.median
    return f"{below:+.2f}", f"{allowed:g}: {'yes' if below <= allowed + 1e-9 else 'NO'}"


def repair_table(runs, seeds):
    def words(model, keep, seed, how):
        more = ["--samples", SAMPLES, "--seed", seed, "--keep", keep, "--repair", how]
        return prune(model, *more)

    rows = []
    for model in MODELS:
        for keep in ALLOWED_REPAIRED[model]:

            def least(seed):
                return runs(*words(model, keep, seed, "least-squares"))

            def mean(seed):
                return runs(*words(model, keep, seed, "mean"))

            def reweighted(seed):
                return runs(*words(model, keep, seed, "reweighted"))

            base = over_seeds(seeds, least, "original")
            cut = over_seeds(seeds, least, "cut")
            folded, squares, repaired = (over_seeds(seeds, how, "repaired") for how in (mean, least, reweighted))
            below, met = against(repaired, base, ALLOWED_REPAIRED[model][keep])
            rows.append([TITLES[model], base, keep, cut, folded, squares, repaired, below, met])
    header = ["net", "original", "keep", "cut only", "mean", "least squares", "reweighted", "points below", "allowed"]
    return f"""## Repair without labels

{SAMPLES:,} training images without labels score the neurons and are what the repair is solved on; all layers of the
head are cut. "mean" folds the means of the dropped neurons into the next bias; "reweighted", the default, goes on from
"least squares" and matches the original's class probabilities. The points are those of "reweighted".

{shown(words("MODEL", "KEEP", "SEED", "mean|least-squares|reweighted"))}

{table(header, rows)}
"""


def criteria_table(runs, seeds):
    def words(model, keep, seed, flags):
        return prune(model, "--samples", SAMPLES, "--seed", seed, "--keep", keep, *flags)

    text = f"""## Choices compared, after the same repair

Which neurons stay is chosen in different ways; all else is as above. `taylor` takes the model's own top classes for
labels, since there are none. `curvature` is residual scaling with p = 2 and derivatives that follow the neurons that take
over. The best of each column is bold; in brackets, what was left before the repair.

{shown(words("MODEL", "KEEP", "SEED", ["--criterion", "NAME", "--scale", "SCALE", "--norm", "P"]))}
"""
    columns = [(model, keep) for model in MODELS for keep in ("0.1", "0.05")]
    cells = {}
    for label, flags in CRITERIA:
        for model, keep in columns:

            def run(seed):
                return runs(*words(model, keep, seed, flags))

            cells[label, model, keep] = over_seeds(seeds, run, "repaired"), over_seeds(seeds, run, "cut")
    best = {}
    for column in columns:
        medians = {label: cells[(label, *column)][0].median for label, _ in CRITERIA}
        best[column] = max((m for m in medians.values() if m is not None), default=None)
    rows = []
    for label, _ in CRITERIA:
        row = [label]
        for column in columns:
            repaired, cut = cells[(label, *column)]
            value = f"**{repaired}**" if repaired.median == best[column] and best[column] is not None else str(repaired)
            row.append(f"{value} [{cut.median:.1f}]" if cut.median is not None else value)
        rows.append(row)
    header = ["choice", *(f"{model} {keep}" for model, keep in columns)]
    text += "\n" + table(header, rows) + "\n"
    beaten = []
    for model, keep in columns:
        residual = {label: cells[label, model, keep][0].median for label, _ in CRITERIA if "residual" in label}
        others = {
            label: cells[label, model, keep][0].median
            for label, _ in CRITERIA
            if "residual" not in label and label not in ("obs", "curvature")
        }
        residual = {label: value for label, value in residual.items() if value is not None}
        others = {label: value for label, value in others.items() if value is not None}
        if residual and others:
            ours, theirs = max(residual, key=residual.get), max(others, key=others.get)
            margin = residual[ours] - others[theirs]
            beaten.append(
                [model, keep, ours, f"{residual[ours]:.2f}", theirs, f"{others[theirs]:.2f}", f"{margin:+.2f}"]
            )
    header = ["net", "keep", "best with residual scaling", "", "best without (obs and curvature aside)", "", "difference"]
    text += "\n" + table(header, beaten) + "\n"
    lost = [f"{model} at {keep}" for model, keep, *_, margin in beaten if not margin.startswith("+")]
    if lost:
        text += f"""
Residual scaling does not win everywhere: {", ".join(lost)}. At 0.05 the pooled nets keep 7 neurons for ten classes. What
these can carry together is settled by the last of more than a hundred steps, each of which looks at one neuron by itself and
at the derivatives of the whole net; the same choice on other samples (`obs`, `curvature`, `random`) is up to five points
away, and nothing is best on both pooled nets.
"""
    return text


def tuning_table(runs, seeds):
    def words(model, keep, seed, data, *flags):
        more = ["--samples", SAMPLES, "--seed", seed, "--keep", keep, "--epochs", EPOCHS, *flags]
        return prune(model, *more, data=data)

    # Ways to choose and to train: the flags, and the data.
    curvature, shared = ["--criterion", "curvature"], ["--label-share", LABEL_SHARE]
    ways = {
        "scores alone": ("IMAGES", []),
        "labels": ("TRAIN", []),
        "curvature, labels": ("TRAIN", curvature),
        "curvature, labels and scores": ("TRAIN", [*curvature, *shared]),
    }

    def runner(model, keep, way):
        data, flags = ways[way]
        return lambda seed: runs(*words(model, keep, seed, data, *flags))

    rows = [(model, keep) for model in MODELS for keep in ALLOWED_TUNED[model]]
    found = {(row, way): runner(*row, way) for row in rows for way in ways}
    losses = {at: Cell([run(seed).get("validation_loss") for seed in seeds]) for at, run in found.items()}
    # The choice of neurons of each row, by the validation samples, never by the test images.
    rivals = ("labels", "curvature, labels")

    def of_validation(row):
        known = all(losses[row, way].complete for way in rivals)
        return min(rivals, key=lambda way: losses[row, way].median) if known else "labels"

    lines = []
    for row in rows:
        model, keep = row
        tuned = {way: over_seeds(seeds, found[row, way], "tuned") for way in ways}
        counted = of_validation(row)
        base = over_seeds(seeds, found[row, counted], "original")
        cells = []
        for way in ways:
            text = str(tuned[way])
            if losses[row, way].complete and way != "scores alone":
                text += f" [{losses[row, way].median:.4f}]"
            cells.append(f"**{text}**" if way == counted else text)
        below, met = against(tuned[counted], base, ALLOWED_TUNED[model][keep])
        repaired = [over_seeds(seeds, found[row, way], "repaired") for way in rivals]
        lines.append([TITLES[model], base, keep, repaired[0], *cells[:2], repaired[1], *cells[2:], below, met])
    mixed = "curvature, labels and scores"
    both = [row for row in rows if losses[row, mixed].complete and losses[row, "curvature, labels"].complete]
    apart = max((abs(losses[row, mixed].median - losses[row, "curvature, labels"].median) for row in both), default=0)

    def missed(way):
        worse = []
        for model, keep in rows:
            base, cell = (over_seeds(seeds, found[(model, keep), way], stage) for stage in ("original", "tuned"))
            if cell.complete and against(cell, base, ALLOWED_TUNED[model][keep])[1].endswith("NO"):
                worse.append(f"{model} at {keep}")
        return " and ".join(worse) or "nothing"

    names = list(ways)
    header = [
        "net", "original", "keep", "repaired", *names[:2], "curvature, repaired", *names[2:], "points below", "allowed",
    ]  # fmt: skip
    return f"""## Fine-tuning

After the repair, {EPOCHS} epochs over the 60,000 training images on cached features: against the original's own scores alone
(`--data IMAGES`, no labels); against the labels; the same with neurons chosen by `--criterion curvature`; and there against the
labels and the original's class probabilities, half of each. In brackets, the loss on the validation samples, which are
training images that were not trained on. In each row, that of the two choices of neurons counts, in bold, whose loss there is
smaller, with labels alone; where curvature was not run with all seeds, the default does. This rule was settled when figures of
the test images were known: the default choice in all rows would miss {missed("labels")}; curvature in all rows
{missed("curvature, labels")}; curvature with labels and scores, whose losses differ from those of labels alone by {apart:.4f} at most,
{missed(mixed)}.

{shown(words("MODEL", "KEEP", "SEED", "TRAIN"))}
{shown(words("MODEL", "KEEP", "SEED", "TRAIN", *curvature))}
{shown(words("MODEL", "KEEP", "SEED", "TRAIN", *ways[mixed][1]))}

{table(header, lines)}
"""


def budget_table(runs, seeds):
    def words(model, seed, *limit):
        return prune(model, "--samples", SAMPLES, "--seed", seed, *limit, data="TRAIN")

    rows = []
    for model in MODELS:
        found = [runs(*words(model, seed, "--max-drop", MAX_DROP)) for seed in seeds]
        base, output = (Cell([figure(run, stage) for run in found]) for stage in ("original", "output"))
        keeps = Cell([(run.get("search") or {}).get("keep") for run in found])
        exits = sorted({run["exit"] for run in found})
        below, met = against(output, base, MAX_DROP)
        worst = [figure(run, "original") - figure(run, "output") for run in found if figure(run, "output") is not None]
        worst = f"{max(worst):+.2f}" if worst else ""
        refused = runs(*words(model, seeds[0], "--max-bytes", 1000))
        row = [TITLES[model], base, output, below, worst, met, keeps, ", ".join(map(str, exits)), refused["exit"]]
        rows.append(row)
    header = [
        "net", "original", "output", "points below", "most of all seeds", "allowed", "keep found", "exit",
        "exit with --max-bytes 1000",
    ]  # fmt: skip
    return f"""## A budget instead of a share

The level is searched for on training images; the figures are of the test images, which the search has not seen
except for the last check of the file. A budget that cannot be met ends with exit code 1 and no output.

{shown(words("MODEL", "SEED", "--max-drop", MAX_DROP))}

{table(header, rows)}
"""


def transfer_table(runs, seeds):
    data = ["--data", "PART", "--test", "TESTPART", "--resize", "224", "--samples", TRANSFER_SAMPLES]

    def whole(seed, epochs):
        return ["finetune", "LITE", "OUT", "--classes", "from-data", *data, "--seed", seed, "--epochs", epochs]

    def pruned(keep, scores, seed, *more):
        head = ["LITE", "OUT", "--classes", "from-data", "--score-with", scores, "--keep", keep]
        return [*head, *data, "--seed", seed, *more]

    epochs = ["--epochs", EPOCHS]

    def unpruned(seed):
        return runs(*whole(seed, EPOCHS))

    nothing = over_seeds(seeds, unpruned, "original"), over_seeds(seeds, unpruned, "tuned")
    rows = [["unpruned", "", "", *nothing, *size(unpruned(seeds[0]))]]
    for keep in TRANSFER_KEEP:
        for scores in ("source", "target"):

            def run(seed):
                return runs(*pruned(keep, scores, seed, *epochs))

            stages = [over_seeds(seeds, run, stage) for stage in ("cut", "repaired", "tuned")]
            rows.append([keep, scores, *stages[:1], *stages[1:], *size(run(seeds[0]))])
    header = ["keep", "scored with", "cut", "new layer (repaired)", "fine-tuned", "bytes"]
    return f"""## Transfer: pruned first, then other classes

EfficientNet-Lite0 with ImageNet weights (`models/zoo/efficientnet_lite0.py`), 1280 pooled features, gets a new last layer
for the ten classes of Fashion-MNIST: the first {TRANSFER_TRAIN:,} training images at 224 x 224, tested on the first
{TRANSFER_TEST:,} test images. The new layer is a ridge regression on the features, then {EPOCHS} epochs. "source" chooses
the neurons by what ImageNet's classes are sensitive to, as in the paper, "target" by the new classes. With
{TRANSFER_TEST:,} test images one standard error is about a point: after the repair no loss can be told from chance, nor after training
a gain.

{shown(whole("SEED", EPOCHS))}
{shown(pruned("KEEP", "source|target", "SEED", *epochs))}

{table(header, rows)}
"""


def size(run):
    return [f"{run['bytes']:,}" if run.get("bytes") else ""]


def idx_part(source, target, count):
    """The first `count` entries of an IDX file."""
    if target.exists():
        return
    with gzip.open(source) as file:
        start = file.read(4)
        axes = struct.unpack(f">{start[3]}I", file.read(4 * start[3]))
        entry = 1
        for axis in axes[1:]:
            entry *= axis
        values = file.read(count * entry)
    header = start + struct.pack(f">{len(axes)}I", min(count, axes[0]), *axes[1:])
    with open(target, "wb") as out, gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as file:
        file.write(header + values)


def labels_of(images):
    return images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))


def prepare(arguments):
    """Names that stand for files in the commands."""
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    unlabelled = folder / "unlabelled"
    unlabelled.mkdir(exist_ok=True)
    images = unlabelled / arguments.train.name
    if not images.exists():
        images.symlink_to(arguments.train.resolve())
    files = {"TRAIN": arguments.train, "TEST": arguments.test, "IMAGES": images, "OUT": folder / "out.onnx"}
    files |= {f"{model}.onnx": arguments.models / f"{model}.onnx" for model in MODELS}
    if arguments.transfer:
        for name, source, count in [
            ("PART", arguments.train, TRANSFER_TRAIN),
            ("TESTPART", arguments.test, TRANSFER_TEST),
        ]:
            part = folder / "part"
            part.mkdir(exist_ok=True)
            files[name] = part / source.name
            idx_part(source, files[name], count)
            idx_part(labels_of(source), labels_of(files[name]), count)
        files["LITE"] = arguments.transfer
    return files


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


TABLES = {
    "repair": repair_table,
    "criteria": criteria_table,
    "tuning": tuning_table,
    "budget": budget_table,
    "transfer": transfer_table,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="IDX file of the training images")
    parser.add_argument("test", type=Path, help="IDX file of the test images")
    parser.add_argument("--transfer", type=Path, help="the ImageNet network; without it that table is left out")
    parser.add_argument("--program", type=Path, default=HERE.parent / "target/release/onnx-prune")
    parser.add_argument("--models", type=Path, default=HERE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs/accuracy.md")
    parser.add_argument("--done-only", action="store_true", help="run nothing: what is missing is said to be missing")
    parser.add_argument("--any-version", action="store_true", help="take runs of other versions of the program as well")
    default = Path(tempfile.gettempdir()) / "onnx-prune-accuracy"
    parser.add_argument("--folder", type=Path, default=default, help="for outputs and parts of the data")
    arguments = parser.parse_args()

    runs = Runs(arguments, prepare(arguments))
    wanted = [name for name in TABLES if name in arguments.only and (name != "transfer" or arguments.transfer)]
    sections = [TABLES[name](runs, arguments.seeds) for name in wanted]
    seeds = ", ".join(map(str, arguments.seeds))
    head = f"""# Accuracy

Top-1 accuracy in per cent on the 10,000 official test images of Fashion-MNIST, which serve nothing else: median over the
seeds {seeds}, and in brackets the smallest and largest where they differ. The seed decides which training images are used and
every random choice. All figures come from the program's own reports; this page is written by `models/accuracy.py`.

`TRAIN` and `TEST` are the data set's image files with the labels beside them; `IMAGES` is the training file alone,
without labels. Processor: {processor()}, {os.cpu_count()} threads.
"""
    arguments.out.write_text("\n".join([head, *sections]))
    print(f"{runs.count} new runs, {arguments.out} written", file=sys.stderr)
    failed = [words for words, run in runs.done.items() if "error" in run]
    for words in failed:
        print(f"failed: {words}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
