"""Rewrites files of the zoo into other precisions (f16, bf16, int8), and one with a Dropout put in."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from record import run

BASE = "head-two-dense-torchscript"


class Samples(quantization.CalibrationDataReader):
    def __init__(self, images):
        self.batches = iter([{"images": batch} for batch in np.array_split(images, 8)])

    def get_next(self):
        return next(self.batches, None)


def insert_dropout(source, path):
    """Copies `source`, with a Dropout in inference mode after its last Relu."""
    model = onnx.load(source)
    graph = model.graph
    index = max(i for i, node in enumerate(graph.node) if node.op_type == "Relu")
    relu = graph.node[index]
    old = relu.output[0]
    relu.output[0] = f"{old}_before_dropout"
    graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "dropout_ratio"))
    dropout = helper.make_node("Dropout", [relu.output[0], "dropout_ratio"], [old], "dropout")
    graph.node.insert(index + 1, dropout)
    onnx.save(model, path)
    return "Dropout in inference mode, put in by hand"


def to_f16(source, path, keep_io):
    """f16 weights and computation; with `keep_io`, behind a Cast at the input and before one at the output."""
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=keep_io), path)


def to_bf16_head(source, path):
    """The nodes from the first Gemm on in bf16, between two Casts; the convolutions stay f32."""
    model = onnx.load(source)
    graph = model.graph
    first = next(i for i, node in enumerate(graph.node) if node.op_type == "Gemm")
    weights = {name for node in list(graph.node)[first:] for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in weights:
            values = numpy_helper.to_array(tensor)
            bits = values.astype(np.float32).view(np.uint32)
            rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
            tensor.CopyFrom(
                helper.make_tensor(tensor.name, TensorProto.BFLOAT16, values.shape, rounded.tobytes(), raw=True)
            )
    into = graph.node[first].input[0]
    graph.node[first].input[0] = f"{into}_bf16"
    last = graph.node[-1]
    out = last.output[0]
    last.output[0] = f"{out}_bf16"
    graph.node.insert(first, helper.make_node("Cast", [into], [f"{into}_bf16"], "to_bf16", to=TensorProto.BFLOAT16))
    graph.node.append(helper.make_node("Cast", [f"{out}_bf16"], [out], "to_f32", to=TensorProto.FLOAT))
    del graph.value_info[:]
    onnx.save(model, path)


def quantise(source, path, images, quant_format, per_channel=False):
    quantization.quantize_static(
        source, path, Samples(images), quant_format=quant_format, per_channel=per_channel,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8
    )  # fmt: skip


def quantise_head_only(source, path, images):
    """QDQ around the dense layers only."""
    names = [node.name for node in onnx.load(source).graph.node if node.op_type == "Gemm"]
    quantization.quantize_static(
        source, path, Samples(images), quant_format=quantization.QuantFormat.QDQ, nodes_to_quantize=names
    )


def make(zoo, small, large):
    """`small` and `large` are calibration images for the head variants and for the torchvision networks."""
    qdq, operators = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator

    def rewrite(base, suffix, write, images):
        """A file checked against the outputs of the one it is made from."""
        source = zoo.folder / f"{base}.onnx"

        def maker(path):
            write(source, path)
            return "", ([images[:2]], run(source, {"images": images[:2]}))

        zoo.make(f"{base}-{suffix}", maker)

    for base in (BASE, "head-two-dense-dynamo", "head-pooled-linear-torchscript"):
        for suffix, write in {
            "f16-converted": lambda source, path: to_f16(source, path, keep_io=False),
            "f16-inside": lambda source, path: to_f16(source, path, keep_io=True),
            "int8-qdq": lambda source, path: quantise(source, path, small, qdq),
            "int8-qdq-per-channel": lambda source, path: quantise(source, path, small, qdq, per_channel=True),
            "int8-qdq-head": lambda source, path: quantise_head_only(source, path, small),
            "int8-qoperator": lambda source, path: quantise(source, path, small, operators),
            "int8-dynamic": lambda source, path: quantization.quantize_dynamic(source, path),
        }.items():
            rewrite(base, suffix, write, small)
    for base in (BASE, "head-linear-torchscript"):
        rewrite(base, "bf16-head", to_bf16_head, small)
    for base in ("resnet18-torchscript", "mobilenet_v2-dynamo"):
        rewrite(base, "f16-inside", lambda source, path: to_f16(source, path, keep_io=True), large)
        rewrite(base, "int8-qdq", lambda source, path: quantise(source, path, large, qdq), large)
