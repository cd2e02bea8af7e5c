"""The parts of gpu.sh that compare, and PyTorch's side of it."""

import json
import re
import sys
import time
from pathlib import Path

# How far CUDA and the CPU may lie apart, relative to the largest number.
TOLERANCE = 1e-4
# Images, and class rows of each, that PyTorch differentiates at once; the fastest counts.
CHUNKS = [(1, None), (4, None), (8, None), (4, 500), (16, 250)]
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
    for norm in ("1", "2", "inf"):
        stems = (f"device-{norm}", f"reference-{norm}")
        ours, theirs = (json.loads((work / f"{stem}.json").read_text())["layers"] for stem in stems)
        found = max(distance(a["values"], b["values"]) for a, b in zip(ours, theirs, strict=True))
        say(f"scores of models/vgg.onnx, p = {norm}, CPU against device", verdict(found))
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
    """Seconds of each stage, from the table of --timings."""
    rows = re.findall(r"^(\S.*?) {2,}([\d.]+) +[\d.]+ % ", path.read_text(), re.MULTILINE)
    return {name: float(seconds) for name, seconds in rows}


def spread(values):
    """Median, and the smallest and largest."""
    values = sorted(values)
    return f"{values[len(values) // 2]:.2f} ({values[0]:.2f} to {values[-1]:.2f})"


def stages(work, count, epochs, turns):
    work, count, epochs = Path(work), int(count), int(epochs)
    turns = [str(turn) for turn in range(1, int(turns) + 1)]
    trunk = taken(work / "trunk.log").get("running the trunk")
    if trunk:
        say("trunk, once, from uint8 images on disk to features on disk", f"{trunk:.1f} s, {count / trunk:,.0f} images/s")
    few = count // 5

    def seconds(stem, turn, stage):
        found = taken(work / f"{stem}-{turn}.log")
        return sum(value for name, value in found.items() if name.startswith(stage))

    for norm in ("1", "2", "inf"):
        whole = [seconds(f"p{norm}-{count}", turn, "scoring") for turn in turns]
        part = [seconds(f"p{norm}-{few}", turn, "scoring") for turn in turns]
        each = [(a - b) / (count - few) * 1e3 for a, b in zip(whole, part)]
        report = json.loads((work / f"p{norm}-{count}.json").read_text())
        finite = all(value == value and value < float("inf") for layer in report["layers"] for value in layer["values"])
        say(
            f"scores, p = {norm}, {len(report['layers'])} layers{'' if finite else ', NOT FINITE'}",
            f"{spread(each)} ms an image; {count:,} images with loading {spread(whole)} s",
        )
    held, batch = count // 10, TRAIN_BATCH
    steps = -(-(count - held) // batch)
    say("an epoch below", f"{steps} steps of {batch} and {held} validation samples")
    for optimizer in ("adamw", "sgd"):
        long = [seconds(f"{optimizer}-{epochs}", turn, "training") for turn in turns]
        short = [seconds(f"{optimizer}-2", turn, "training") for turn in turns]
        each = [(a - b) / (epochs - 2) * 1e3 for a, b in zip(long, short)]
        say(f"training, {optimizer}", f"{spread(each)} ms an epoch; {epochs} epochs with loading {spread(long)} s")


def head_of(model):
    """The dense layers of a VGG's head, as PyTorch's."""
    import onnx
    import torch
    from onnx import numpy_helper

    graph = onnx.load(model).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # Biases that are alike are one tensor, and copies of it.
    held.update({node.output[0]: held[node.input[0]] for node in graph.node if node.op_type == "Identity"})
    layers = []
    for node in graph.node:
        if node.op_type == "Gemm":
            weight, bias = (torch.from_numpy(held[name].copy()) for name in node.input[1:3])
            layers += [torch.nn.Linear(weight.shape[1], weight.shape[0]), torch.nn.ReLU()]
            layers[-2].weight.data, layers[-2].bias.data = weight, bias
    return torch.nn.Sequential(*layers[:-1])


def clock(work, device, turns=3):
    """Seconds of some runs after one that is not counted."""
    import torch

    def once():
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    once()
    return [once() for _ in range(turns)]


def torch_side(work, count, device):
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    work, count = Path(work), int(count)
    head = head_of(work / "vgg16.onnx").to(device).eval()
    width, classes = head[0].in_features, head[-1].out_features

    def milliseconds(found, parts):
        return spread([seconds / parts * 1e3 for seconds in found])

    torch_scores(head, min(count, 64), device, milliseconds)
    # The products that dominate: class rows, some images' together, times the first two weights.
    images = 4
    rows = torch.randn(images * classes, head[0].out_features, device=device)
    weights = [head[at].weight.detach() for at in (0, 2)]
    found = clock(lambda: [rows[:, : weight.shape[0]] @ weight for weight in weights], device, 5)
    say("the card's own time for the products of all class rows, fp32", f"{milliseconds(found, images)} ms an image")
    torch_training(head, (count, width, classes), device, milliseconds)
    torch_trunk(work, device)


def torch_scores(head, part, device, milliseconds):
    import torch
    from torch.func import jacrev, vmap

    width, classes = head[0].in_features, head[-1].out_features
    features = torch.randn(part, width, device=device).relu()
    powers = {"1": lambda s: s.abs().sum(0), "2": lambda s: s.square().sum(0), "inf": lambda s: s.abs().amax(0)}

    def score(images, chunk, power):
        one = vmap(jacrev(lambda x: head(x).softmax(-1), chunk_size=chunk))
        total = torch.zeros(classes, width, device=device)
        for x in features.split(images):
            total += power(one(x))

    def median(images, chunk):
        return sorted(clock(lambda: score(images, chunk, powers["2"]), device))[1]

    images, chunk = min(CHUNKS, key=lambda way: median(*way))
    for norm, power in powers.items():
        found = clock(lambda: score(images, chunk, power), device, 5)
        say(
            f"PyTorch, vmap(jacrev), p = {norm}, features alone, {images} images at once, chunk {chunk}",
            f"{milliseconds(found, part)} ms an image",
        )


def torch_training(head, sizes, device, milliseconds):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    count, width, classes = sizes
    held = count // 10
    features = torch.randn(count, width).relu()
    target = torch.rand(count, classes).softmax(-1)
    at_home = TensorDataset(features[held:], target[held:])
    loader = DataLoader(at_home, batch_size=TRAIN_BATCH, shuffle=True)
    features, target = features.to(device), target.to(device)
    x, y = features[held:], target[held:]
    loss_of = torch.nn.functional.cross_entropy

    def batches():
        return ((x[rows], y[rows]) for rows in torch.randperm(len(x), device=device).split(TRAIN_BATCH))

    def epoch(optimizer, batches):
        for some, wanted in batches:
            loss = loss_of(head(some.to(device)), wanted.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            loss_of(head(features[:held]), target[:held]).item()

    def adamw(fused=False):
        return torch.optim.AdamW(head.parameters(), 1e-5, fused=fused)

    def sgd():
        return torch.optim.SGD(head.parameters(), 1e-5, momentum=0.9, weight_decay=0.01)

    ways = [
        ("AdamW, a DataLoader over memory", adamw(), lambda: loader),
        ("AdamW, data on the device", adamw(), batches),
        ("SGD, a DataLoader over memory", sgd(), lambda: loader),
        ("SGD, data on the device", sgd(), batches),
    ]
    if device == "cuda":
        ways.append(("fused AdamW, data on the device", adamw(fused=True), batches))
    for name, optimizer, source in ways:
        found = clock(lambda: [epoch(optimizer, source()) for _ in range(5)], device)
        say(f"PyTorch, {name}", f"{milliseconds(found, 5)} ms an epoch")
    steps = -(-(count - held) // TRAIN_BATCH)
    layers = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
    cotangents = [torch.randn(TRAIN_BATCH, layer.out_features, device=device) for layer in layers]
    inputs = [torch.randn(TRAIN_BATCH, layer.in_features, device=device) for layer in layers]

    def products():
        for at, (layer, dy, x) in enumerate(zip(layers, cotangents, inputs)):
            x @ layer.weight.detach().T, dy.T @ x
            if at:
                dy @ layer.weight.detach()

    found = clock(lambda: [products() for _ in range(steps)], device, 5)
    say("the card's own time for the products of such an epoch, fp32", f"{milliseconds(found, 1)} ms")


def torch_trunk(work, device):
    import numpy as np
    import torch

    try:
        import torchvision
    except ImportError:
        return
    images = torch.from_numpy(np.load(work / "images.npy")[:256])
    if images.shape[1] != 3:
        return
    trunk = torchvision.models.vgg16().features.to(device).eval()

    def run():
        with torch.no_grad():
            for part in images.split(64):
                trunk(part.to(device).float() / 255).cpu()

    found = clock(run, device)
    say("PyTorch, trunk, from uint8 images in memory", f"{len(images) / sorted(found)[1]:,.0f} images/s")


def table(path):
    rows = [line.split("|", 1) for line in Path(path).read_text().splitlines()]
    widest = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{widest}}  {value}")


if __name__ == "__main__":
    {"agree": agree, "inputs": inputs, "stages": stages, "torch": torch_side, "table": table}[sys.argv[1]](*sys.argv[2:])
