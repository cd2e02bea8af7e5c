"""Trains the small classifier that `onnx-prune demo` carries, and draws its sample.

    pip install -r requirements.txt
    python demo.py                        # demo.onnx and demo.npz; data as for train.py

Fashion-MNIST at half its size (means of 2 x 2 pixels), so that model and sample are small: they are part of the program.
The sample's images are of the training set but were left out of the training, so that accuracy on them means something.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from train import BATCH, CLASSES, DEBIAN_DATA, OPSET, Normalise, read_split

SAMPLE = 1000
EPOCHS = 6


def halved(images):
    """u8 [N, 28, 28] to u8 [N, 14, 14]."""
    return images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).round().astype(np.uint8)


def network():
    return nn.Sequential(
        Normalise(),
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 48), nn.ReLU(),
        nn.Linear(48, CLASSES),
    )  # fmt: skip


def as_input(images):
    return torch.from_numpy(images.astype(np.float32) / 255)[:, None]


def train(images, labels):
    torch.manual_seed(1)
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    steps = EPOCHS * (len(images) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(images)).split(BATCH):
            loss = functional.cross_entropy(net(as_input(images[part.numpy()])), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def main():
    torch.set_num_threads(1)
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN_DATA
    here = Path(__file__).parent
    images, labels = read_split(data, "train")
    images, labels = halved(images), labels.astype(np.int64)
    net = train(images[:-SAMPLE], torch.from_numpy(labels[:-SAMPLE]))
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, 14, 14),),
        here / "demo.onnx",
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )
    np.savez_compressed(here / "demo.npz", images=images[-SAMPLE:], labels=labels[-SAMPLE:].astype(np.uint8))
    session = onnxruntime.InferenceSession(here / "demo.onnx", providers=["CPUExecutionProvider"])
    test, expected = read_split(data, "t10k")
    found = session.run(None, {"images": as_input(halved(test)).numpy()})[0].argmax(1)
    print(f"test accuracy {100 * (found == expected).mean():.2f} %")


if __name__ == "__main__":
    main()
