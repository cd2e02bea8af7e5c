"""Makes the Keras part of the zoo: networks in NHWC with random weights, by tf2onnx and by Keras' own export.

    pip install -r requirements-keras.txt
    python make_keras.py OUT

As in make.py, existing files are skipped and a failure is a line in `index.tsv`.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers

from record import Zoo

OPSET = 18


def small(*head, end="softmax"):
    """[N, 32, 32, 3] to 10 classes: two convolutions, then `head`, then the class scores."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3), name="images"),
            layers.Conv2D(16, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            *head,
            layers.Dense(10, activation=end, name="predictions"),
        ]
    )


def application(name, side, **options):
    return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10, **options)


NETWORKS = {
    "keras-flatten": lambda: small(layers.Flatten(), layers.Dense(64, activation="relu")),
    "keras-pooled": lambda: small(layers.GlobalAveragePooling2D(), layers.Dropout(0.5), end=None),
    "keras-max-pooled": lambda: small(layers.GlobalMaxPooling2D(), layers.Dense(64, activation="swish")),
    "keras-batchnorm": lambda: small(
        layers.Flatten(), layers.Dense(64, use_bias=False), layers.BatchNormalization(), layers.ReLU()
    ),
    "keras-vgg16": lambda: application("VGG16", 64),
    "keras-mobilenet": lambda: application("MobileNet", 96),
    "keras-mobilenet_v2": lambda: application("MobileNetV2", 96),
    "keras-resnet50": lambda: application("ResNet50", 64),
    "keras-densenet121": lambda: application("DenseNet121", 64),
    # Not EfficientNetB0: tf2onnx 1.17 turns the constants of its Normalization layer into inputs nobody can feed.
    "keras-efficientnet_v2_b0": lambda: application("EfficientNetV2B0", 64, include_preprocessing=False),
}


def pictures(batch, side, seed):
    """Random pictures in 0..1 that differ in brightness and pattern, [batch, side, side, 3]."""
    random = np.random.default_rng(seed)
    coarse = random.random((batch, 4, 4, 3)).repeat(side // 4, 1).repeat(side // 4, 2)
    return (0.6 * coarse + 0.4 * random.random((batch, side, side, 3))).astype(np.float32)


def settle(net, side):
    """Running statistics of random pictures; then a last layer whose scores have standard deviation 1 over them."""
    for layer in net.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0  # the last batch's statistics
    net(pictures(16, side, 0), training=True)
    last = next(layer for layer in reversed(net.layers) if hasattr(layer, "kernel"))
    activation, last.activation = last.activation, keras.activations.linear
    scores = keras.Model(net.inputs, last(last.input))(pictures(16, side, 9), training=False).numpy()
    last.activation = activation
    axes = tuple(range(scores.ndim - 1))
    spread = scores.std(0).mean()
    last.kernel.assign(last.kernel / spread)
    last.bias.assign(-scores.mean(axes) / spread)


def with_tf2onnx(net, path):
    shape = (None, *net.input_shape[1:])
    function = tf.function(lambda images: net(images, training=False))
    signature = [tf.TensorSpec(shape, tf.float32, name="images")]
    tf2onnx.convert.from_function(function, signature, opset=OPSET, output_path=str(path))


def with_keras(net, path):
    net.export(str(path), format="onnx", verbose=False)


EXPORTERS = {"tf2onnx": with_tf2onnx, "keras": with_keras}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    zoo = Zoo(arguments.out)
    for name, build in NETWORKS.items():
        missing = [e for e in EXPORTERS if not (zoo.folder / f"{name}-{e}.onnx").exists()]
        if not missing:
            continue
        keras.utils.set_random_seed(0)
        net = build()
        side = net.input_shape[1]
        settle(net, side)
        feed = pictures(2, side, 77)
        for exporter in missing:

            def maker(path):
                EXPORTERS[exporter](net, path)
                return "NHWC", ([feed], [net(feed, training=False).numpy()])

            zoo.make(f"{name}-{exporter}", maker)


if __name__ == "__main__":
    main()
