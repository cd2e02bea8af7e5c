"""Writes the small data sets that the readers are tested on, each with the library its format comes from, and a model of
scikit-learn's converter.

    pip install datasets==5.2.0 webdataset==1.0.2 onnx==1.23.2 pillow==13.0.0 scikit-learn==1.9.1 skl2onnx==1.20.0
    python make.py

Image i of the sets is 16 x 16: its left half is (20 i, 40, 200), its right half (250, 20 i, 10).
"""

import io
import pickle
import sys
from pathlib import Path

import datasets
import numpy as np
import onnx
import webdataset
from onnx import numpy_helper
from PIL import Image
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).parent


def image(number):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8] = (20 * number, 40, 200)
    pixels[:, 8:] = (250, 20 * number, 10)
    return Image.fromarray(pixels)


def encoded(number, format, **options):
    file = io.BytesIO()
    image(number).save(file, format, **options)
    return {"bytes": file.getvalue(), "path": f"{number}.{format.lower()}"}


def hugging_face():
    """Six rows in three row groups; the last image lies on its side and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = [encoded(number, "PNG") for number in range(5)]
    rows.append(encoded(5, "JPEG", exif=exif, quality=95, subsampling=0))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee", "cat"])}
    )
    table = datasets.Dataset.from_dict({"image": rows, "label": [2, 0, 1, 1, 0, 2]}, features=features)
    table.to_parquet(HERE / "hugging-face.parquet", batch_size=2)


def web():
    with webdataset.TarWriter(str(HERE / "webdataset.tar"), mtime=0) as writer:
        for number in range(4):
            writer.write(
                {"__key__": f"part/{number:03}", "png": image(number), "cls": 3 - number, "json": {"number": number}}
            )


def model_zoo():
    for number in range(2):
        folder = HERE / "model-zoo" / f"test_data_set_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        values = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2) + 100 * number
        (folder / "input_0.pb").write_bytes(numpy_helper.from_array(values, "data").SerializeToString())
        scores = np.zeros((1, 5), np.float32)
        (folder / "output_0.pb").write_bytes(numpy_helper.from_array(scores, "scores").SerializeToString())


def cifar():
    """A batch of two images as Python 3 writes it; the published ones were written by Python 2."""
    data = np.stack([np.full(3072, 7, np.uint8), np.arange(3072, dtype=np.uint64).astype(np.uint8)])
    batch = {"batch_label": "a batch", "labels": [3, 9], "data": data, "filenames": ["a.png", "b.png"]}
    (HERE / "cifar-batch.pickle").write_bytes(pickle.dumps(batch, protocol=4))


def scikit_learn():
    """As the converter writes it where it is not told otherwise: the probabilities as a sequence of maps."""
    digits, classes = load_digits(return_X_y=True)
    digits = (digits / 16).astype(np.float32)
    model = MLPClassifier((24, 16), max_iter=100, random_state=0).fit(digits, classes)
    (HERE / "scikit-learn.onnx").write_bytes(to_onnx(model, digits[:1]).SerializeToString())


if __name__ == "__main__":
    print(sys.version, datasets.__version__, webdataset.__version__, onnx.__version__, Image.__version__)
    hugging_face()
    web()
    model_zoo()
    cifar()
    scikit_learn()
