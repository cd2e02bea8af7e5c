"""The parts of gpu.sh that compare, and PyTorch's side of it."""

import json
import re
import sys
import time
from pathlib import Path

# How far CUDA and the CPU may lie apart, relative to the largest number.
TOLERANCE = 1e-4
# Class rows that PyTorch differentiates at once: 1,000 rows of 25,088 numbers for one image are 100 MB.
CHUNK = 250
TRAIN_BATCH = 128


def say(name, value):
    print(f"{name}|{value}")


def distance(a, b):
    import numpy as np

    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def verdict(found):
    return f"{found:.1e} apart, {'ok' if found <= TOLERANCE else 'TOO FAR'} at {TOLERANCE:.0e}"


def agree(work):
    import onnx
    from onnx import numpy_helper

    work = Path(work)
    ours, theirs = (json.loads((work / f"{stem}.json").read_text())["layers"] for stem in ("device", "reference"))
    found = max(distance(a["values"], b["values"]) for a, b in zip(ours, theirs, strict=True))
    say("scores, CPU against device", verdict(found))
    weights = [
        {w.name: numpy_helper.to_array(w) for w in onnx.load(work / f"{stem}.onnx").graph.initializer}
        for stem in ("device", "reference")
    ]
    shapes = [{name: array.shape for name, array in part.items()} for part in weights]
    if shapes[0] != shapes[1]:
        say("repaired weights", f"other neurons were kept: {shapes}")
    else:
        floats = [name for name, array in weights[1].items() if array.dtype.kind == "f" and array.size]
        say("repaired weights", verdict(max(distance(weights[0][n], weights[1][n]) for n in floats)))
    tuned = [json.loads((work / f"{stem}-tuned.json").read_text())["accuracy"] for stem in ("device", "reference")]
    say("accuracy after fine-tuning", f"{tuned[0]['after']:.2f} % on the device, {tuned[1]['after']:.2f} % on the CPU")


def inputs(here, work, count, small):
    """A VGG16 with random weights, and random images."""
    import numpy as np

    work = Path(work)
    side = 224 if small == "0" else 28
    shape = (int(count), 3 if small == "0" else 1, side, side)
    np.save(work / "images.npy", np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    if small != "0":
        (work / "vgg16.onnx").write_bytes((Path(here) / "vgg.onnx").read_bytes())
        return
    import torch
    import torchvision

    torch.manual_seed(0)
    torch.onnx.export(
        torchvision.models.vgg16().eval(),
        (torch.zeros(2, 3, 224, 224),),
        work / "vgg16.onnx",
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        dynamo=False,
    )


def taken(path):
    """Seconds of each stage, from --verbose."""
    found = {}
    for name, seconds in re.findall(r"done: (.*) \(([\d.]+) s\)", path.read_text()):
        found[name] = found.get(name, 0.0) + float(seconds)
    return found


def stages(work, count):
    work, count = Path(work), int(count)
    trunk = taken(work / "p1.log").get("running the trunk")
    if trunk:
        say("trunk, once", f"{trunk:.1f} s, {count / trunk:,.0f} images/s")
    for norm in ("1", "2", "inf"):
        found = taken(work / f"p{norm}.log").get("scoring", 0.0)
        layers = json.loads((work / f"p{norm}.json").read_text())["layers"]
        finite = all(value == value and value < float("inf") for layer in layers for value in layer["values"])
        say(f"scores, p = {norm}", f"{found:.1f} s, {len(layers)} layers{'' if finite else ', NOT FINITE'}")
    training = [seconds for name, seconds in taken(work / "train.log").items() if name.startswith("training")]
    say("training, 3 epochs", f"{sum(training):.1f} s")


def head_of(model):
    """The dense layers of a VGG's head, as PyTorch's."""
    import onnx
    import torch
    from onnx import numpy_helper

    graph = onnx.load(model).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type == "Gemm":
            weight, bias = (torch.from_numpy(held[name].copy()) for name in node.input[1:3])
            layers += [torch.nn.Linear(weight.shape[1], weight.shape[0]), torch.nn.ReLU()]
            layers[-2].weight.data, layers[-2].bias.data = weight, bias
    return torch.nn.Sequential(*layers[:-1])


def clock(work, device):
    import torch

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    work()
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def torch_side(work, count, device):
    import torch
    from torch.func import jacrev, vmap

    torch.backends.cuda.matmul.allow_tf32 = False
    work, count = Path(work), int(count)
    head = head_of(work / "vgg16.onnx").to(device).eval()
    width, classes = head[0].in_features, head[-1].out_features
    part = min(count, 32)
    features = torch.randn(part, width, device=device).relu()
    one = vmap(jacrev(lambda x: head(x).softmax(-1), chunk_size=CHUNK), chunk_size=4)

    def score():
        total = torch.zeros(classes, width, device=device)
        for x in features.split(4):
            total += one(x).abs().square().sum(0)
        return total

    seconds = clock(score, device) * count / part
    say("PyTorch, scores of the features, p = 2", f"{seconds:.1f} s for {count:,} images")
    # The product that dominates: class rows times the first weight.
    rows = torch.randn(classes, head[0].out_features, device=device)
    bound = clock(lambda: [rows @ head[0].weight for _ in range(8)], device) / 8 * count
    say("the card's own time for those products", f"{bound:.1f} s")
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3)
    x = torch.randn(TRAIN_BATCH, width, device=device)
    target = torch.rand(TRAIN_BATCH, classes, device=device).softmax(-1)

    def step():
        loss = torch.nn.functional.cross_entropy(head(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    steps = -(-count * 8 // 10 // TRAIN_BATCH) * 3
    seconds = clock(lambda: [step() for _ in range(steps)], device)
    say("PyTorch, training, 3 epochs", f"{seconds:.1f} s from memory of the device")


def table(path):
    rows = [line.split("|", 1) for line in Path(path).read_text().splitlines()]
    widest = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{widest}}  {value}")


if __name__ == "__main__":
    {"agree": agree, "inputs": inputs, "stages": stages, "torch": torch_side, "table": table}[sys.argv[1]](*sys.argv[2:])
