"""Makes a ResNet50 with a head of ten classes, the example of a model that is not worth pruning.

    python ten_classes.py OUT
    onnx-prune inspect OUT/resnet50-10-torchscript.onnx

Its head holds 20,490 of 23,528,522 parameters, 0.09 %. Needs requirements.txt, as make.py does.
"""

import sys
import warnings
from pathlib import Path

import torchvision

from make import EXPORTERS, export
from record import Zoo

CLASSES = 10


def main():
    warnings.filterwarnings("ignore")
    zoo = Zoo(Path(sys.argv[1]))
    exporters = {"torchscript": EXPORTERS["torchscript"]}

    def build():
        return torchvision.models.resnet50(weights=None, num_classes=CLASSES)

    export(zoo, "resnet50-10", build, 224, CLASSES, exporters)


if __name__ == "__main__":
    main()
