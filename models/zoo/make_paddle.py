"""Makes the Paddle part of the zoo: networks of paddle.vision with random weights, by paddle2onnx.

    pip install -r requirements-paddle.txt
    python make_paddle.py OUT

As in make.py, existing files are skipped and a failure is a line in `index.tsv`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import paddle
import paddle2onnx
from paddle.vision import models

from record import Zoo

OPSET = 17
SIDE = 224
NETWORKS = {
    "paddle-vgg11": lambda: models.vgg11(num_classes=10),
    "paddle-resnet18": lambda: models.resnet18(num_classes=10),
    "paddle-mobilenet_v2": lambda: models.mobilenet_v2(num_classes=10),
}


def pictures(batch, seed):
    """Random pictures that differ in brightness and pattern, [batch, 3, 224, 224]."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((batch, 3, 4, 4)).repeat(SIDE // 4, 2).repeat(SIDE // 4, 3)
    return (coarse + 0.3 * random.standard_normal((batch, 3, SIDE, SIDE))).astype(np.float32)


def settle(net):
    """Running statistics of random pictures; then a last layer whose scores have standard deviation 1 over them."""
    net.train()
    for norm in (m for m in net.sublayers() if isinstance(m, paddle.nn.BatchNorm2D)):
        norm._momentum = 0.0  # the last batch's statistics
    with paddle.no_grad():
        net(paddle.to_tensor(pictures(8, 0)))
        net.eval()
        last = [m for m in net.sublayers() if isinstance(m, paddle.nn.Linear)][-1]
        scores = net(paddle.to_tensor(pictures(8, 9)))
        spread = scores.std(0).mean()
        last.weight.set_value(last.weight / spread)
        last.bias.set_value((last.bias - scores.mean(0)) / spread)


def export(net, path):
    with tempfile.TemporaryDirectory() as folder:
        signature = [paddle.static.InputSpec([None, 3, SIDE, SIDE], "float32", "images")]
        paddle.jit.save(net, f"{folder}/model", signature)
        program = next(p for p in Path(folder).iterdir() if p.suffix in (".json", ".pdmodel"))
        paddle2onnx.export(str(program), f"{folder}/model.pdiparams", str(path), opset_version=OPSET)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    zoo = Zoo(arguments.out)
    for name, build in NETWORKS.items():
        if (zoo.folder / f"{name}-paddle2onnx.onnx").exists():
            continue
        paddle.seed(0)
        net = build()
        settle(net)
        feed = pictures(2, 77)

        def maker(path):
            export(net, path)
            return "", ([feed], [net(paddle.to_tensor(feed)).numpy()])

        zoo.make(f"{name}-paddle2onnx", maker)


if __name__ == "__main__":
    main()
