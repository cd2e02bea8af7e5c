"""Trains the three classifiers of this folder on Fashion-MNIST, exports them to ONNX and draws the two samples.

    pip install -r requirements.txt
    python train.py                       # everything, data from the Debian package dataset-fashion-mnist
    python train.py DATA --only resnet    # one network, data (the four .gz files) from DATA

Pixels enter as [N, 1, 28, 28] f32 in 0..1: the normalisation is part of each network. The accuracy printed at the end
is the exported file's own, measured with onnxruntime on the 10,000 official test images. Weights depend on the number
of threads and on the processor, so a second run gives files of about the same accuracy, not the same bytes.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

DEBIAN_DATA = Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10
# Mean and standard deviation of the 60,000 training images' pixels.
MEAN, STD = 0.2860, 0.3530
BATCH = 128
OPSET = 18
SAMPLE = 2000


def read_idx(path, header_bytes):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header_bytes)


def read_split(data, name):
    """Images as u8 [N, 28, 28] and labels as u8 [N]; `name` is `train` or `t10k`."""
    images = read_idx(data / f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return images, read_idx(data / f"{name}-labels-idx1-ubyte.gz", 8)


class Normalise(nn.Module):
    def forward(self, images):
        return (images - MEAN) / STD


class Vgg(nn.Module):
    """Convolutions and max pools to [64, 7, 7]; 3136-512-10 head."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            Normalise(),
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(64 * 7 * 7, 512), nn.ReLU(), nn.Dropout(0.4), nn.Linear(512, CLASSES))

    def forward(self, images):
        return self.classifier(torch.flatten(self.features(images), 1))


class Residual(nn.Module):
    """ReLU(skip + BN(conv(ReLU(BN(conv))))); the skip is a 1x1 convolution where the width changes."""

    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip = nn.Identity()
        if stride != 1 or width_in != width:
            self.skip = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        branch = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(self.skip(x) + branch)


class ResNet(nn.Module):
    """Three residual blocks, 32 to 128 channels; global average pool; 128-10 head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            Normalise(),
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2),
        )  # fmt: skip
        self.blocks = nn.Sequential(Residual(16, 32, 1), Residual(32, 64, 2), Residual(64, 128, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, CLASSES)

    def forward(self, images):
        return self.fc(torch.flatten(self.pool(self.blocks(self.stem(images))), 1))


class DenseLayer(nn.Module):
    """Appends `growth` channels to its input."""

    def __init__(self, width_in, growth):
        super().__init__()
        self.norm = nn.BatchNorm2d(width_in)
        self.conv = nn.Conv2d(width_in, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    """Two dense blocks with growth 24; BatchNorm, ReLU, global average pool; 132-10 head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(Normalise(), nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.MaxPool2d(2))
        self.block1 = nn.Sequential(*[DenseLayer(24 + 24 * i, 24) for i in range(2)])
        self.transition = nn.Sequential(
            nn.BatchNorm2d(72), nn.ReLU(), nn.Conv2d(72, 36, 1, bias=False), nn.AvgPool2d(2)
        )
        self.block2 = nn.Sequential(*[DenseLayer(36 + 24 * i, 24) for i in range(4)])
        self.norm = nn.BatchNorm2d(132)
        self.classifier = nn.Linear(132, CLASSES)

    def forward(self, images):
        x = self.block2(self.transition(self.block1(self.stem(images))))
        x = functional.adaptive_avg_pool2d(functional.relu(self.norm(x)), 1)
        return self.classifier(torch.flatten(x, 1))


# Network, epochs, and whether the newer (dynamo) or the older (TorchScript) exporter of PyTorch writes the file.
NETWORKS = {
    "vgg": (Vgg, 4, False),
    "resnet": (ResNet, 4, True),
    "densenet": (DenseNet, 4, False),
}


def batch_at(images, index):
    """f32 in 0..1, [N, 1, 28, 28]."""
    return images[index].unsqueeze(1).float() / 255


def train(net, images, labels, epochs):
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    steps = -(-len(images) // BATCH)
    rate = 1e-2 if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) else 2e-3
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs=epochs, steps_per_epoch=steps)
    net.train()
    for epoch in range(epochs):
        start, total = time.time(), 0.0
        for index in torch.randperm(len(images)).split(BATCH):
            x = batch_at(images, index)
            flip = torch.rand(len(index)) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(3), x)
            loss = functional.cross_entropy(net(x), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        print(f"  epoch {epoch + 1}: loss {total / len(images):.4f}, {time.time() - start:.0f} s", flush=True)
    net.eval()


def export(net, path, dynamo):
    # In channels_last the dynamo exporter writes the global pool as a Gather with computed strides.
    net = net.to(memory_format=torch.contiguous_format)
    common = {"input_names": ["images"], "output_names": ["logits"], "opset_version": OPSET, "dynamo": dynamo}
    example = (torch.zeros(2, 1, 28, 28),)
    if dynamo:
        batch = torch.export.Dim("batch")
        torch.onnx.export(net, example, path, dynamic_shapes=({0: batch},), external_data=False, **common)
        drop_stack_traces(path)
    else:
        axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
        torch.onnx.export(net, example, path, dynamic_axes=axes, **common)


def drop_stack_traces(path):
    """The dynamo exporter notes on every node which line of which file on this computer it came from."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


def accuracy(path, images, labels):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = 0
    for start in range(0, len(images), 500):
        x = images[start : start + 500, None].astype(np.float32) / 255
        (logits,) = session.run(["logits"], {"images": x})
        right += int((logits.argmax(1) == labels[start : start + 500]).sum())
    return right / len(images)


def draw_sample(path, images, labels, seed):
    """Writes SAMPLE images with equally many of each class, in random order."""
    random = np.random.default_rng(seed)
    per_class = SAMPLE // CLASSES
    index = [random.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(CLASSES)]
    index = random.permutation(np.concatenate(index))
    np.savez_compressed(path, images=images[index], labels=labels[index].astype(np.int64))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=DEBIAN_DATA, help="folder of the four .gz files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", nargs="*", choices=[*NETWORKS, "samples"], help="default: everything")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wanted = arguments.only or [*NETWORKS, "samples"]

    images, labels = read_split(arguments.data, "train")
    test_images, test_labels = read_split(arguments.data, "t10k")
    if "samples" in wanted:
        draw_sample(arguments.out / "fashion-mnist.npz", test_images, test_labels, arguments.seed)
        draw_sample(arguments.out / "fashion-mnist-train.npz", images, labels, arguments.seed)
    images_tensor, labels_tensor = torch.tensor(images), torch.tensor(labels, dtype=torch.int64)
    for name, (network, epochs, dynamo) in NETWORKS.items():
        if name not in wanted:
            continue
        torch.manual_seed(arguments.seed)
        net = network().to(memory_format=torch.channels_last)  # faster on a CPU
        parameters = sum(p.numel() for p in net.parameters())
        print(f"{name}: {parameters} parameters", flush=True)
        train(net, images_tensor, labels_tensor, epochs)
        path = arguments.out / f"{name}.onnx"
        export(net, path, dynamo)
        measured = accuracy(path, test_images, test_labels)
        print(f"  {path.name}: {path.stat().st_size} bytes, test accuracy {100 * measured:.2f} %", flush=True)


if __name__ == "__main__":
    main()
