"""Makes the PyTorch part of the zoo: many ways of writing a classifier, with random weights, by both exporters.

    pip install -r requirements.txt
    python make.py OUT                     # everything
    python make.py OUT --only heads timm   # some sections

Sections: heads (under 1 MB each), torchvision, precision (f16, bf16, int8), timm. Files are `<net>-<exporter>.onnx`;
`index.tsv` beside them has one line per file, or the reason why there is none. Existing files are skipped.
"""

import argparse
import warnings
from pathlib import Path

import onnx
import timm
import torch
import torchvision
from torch import nn

import heads
import precision
from record import Zoo

OPSET = 18
TORCHVISION = (
    "vgg16", "resnet18", "resnet50", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
    "squeezenet1_1", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip
TIMM = ("vgg11", "deit_tiny_distilled_patch16_224", "mobilenetv3_small_100", "levit_128s", "regnetx_002")


def images(batch, side, seed=0):
    """Smooth random pictures that differ in brightness, contrast and pattern, [batch, 3, side, side]."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, 3, 4, 4, generator=random) * (0.5 + torch.rand(batch, 1, 1, 1, generator=random))
    fine = torch.randn(batch, 3, side, side, generator=random)
    picture = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear") + 0.3 * fine
    return picture + 0.5 * torch.randn(batch, 3, 1, 1, generator=random)


def settle(net, side, classes):
    """Gives `net` running statistics, and class scores that vary from image to image.

    Norm layers get random scales, and dense layers that start at zero random weights. The layers of `classes` outputs
    are then scaled and shifted so that, over a few images, their outputs have mean 0 and standard deviation 1.
    Returns that deviation before scaling, divided by the outputs' mean magnitude: near 0, all images look alike.
    """
    for module in net.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        elif isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.trunc_normal_(module.weight, std=0.02)
        for name, parameter in module.named_parameters(recurse=False):
            if name in ("layer_scale", "gamma"):
                nn.init.uniform_(parameter, 0.1, 0.3)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    last = [
        m
        for m in net.modules()
        if (isinstance(m, nn.Linear) and m.out_features == classes)
        or (isinstance(m, nn.Conv2d) and m.out_channels == classes)
    ]
    outputs = {}
    with torch.no_grad():
        if norms:
            for norm in norms:
                norm.momentum = None  # the mean of all batches
                norm.reset_running_stats()
            net.train()
            for batch in range(2):
                net(images(16, side, batch))
        net.eval()
        hooks = [m.register_forward_hook(lambda m, _, out: outputs.update({m: out.float()})) for m in last]
        net(images(8, side, 9))
        for hook in hooks:
            hook.remove()
        variety = []
        for module, out in outputs.items():
            mean = out.mean([axis for axis in range(out.ndim) if axis != 1])
            spread = out.std(0).mean()
            variety.append((spread / out.abs().mean()).item())
            module.weight /= spread
            if module.bias is not None:
                module.bias.copy_((module.bias - mean) / spread + 0.1 * torch.randn_like(module.bias))
    return min(variety)


def export_torchscript(net, path, example, names, opset=OPSET, **options):
    axes = {name: {0: "batch"} for name in ("images", *names)}
    torch.onnx.export(
        net, (example,), path, dynamo=False, input_names=["images"], output_names=list(names), dynamic_axes=axes,
        opset_version=opset, **options
    )  # fmt: skip


def export_dynamo(net, path, example, names, opset=OPSET, external_data=False, batch_dynamic=True):
    shapes = ({0: torch.export.Dim("batch")},) if batch_dynamic else None
    torch.onnx.export(
        net, (example,), path, dynamo=True, input_names=["images"], output_names=list(names), dynamic_shapes=shapes,
        opset_version=opset, external_data=external_data, verbose=False
    )  # fmt: skip
    drop_stack_traces(path)


def drop_stack_traces(path):
    """Takes out the file names of this computer that the dynamo exporter notes on every node."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


def by_dynamo(net, path, example, names, **options):
    """With a dynamic batch, or with a static one where the exporter does not manage that."""
    try:
        export_dynamo(net, path, example, names, **options)
        return ""
    except Exception as error:
        export_dynamo(net, path, example, names, batch_dynamic=False, **options)
        return f"static batch ({type(error).__name__})"


def by_torchscript(net, path, example, names, **options):
    export_torchscript(net, path, example, names, **options)
    return ""


EXPORTERS = {"torchscript": by_torchscript, "dynamo": by_dynamo}


def reference(net, example):
    """Feeds and the outputs PyTorch computes from them, as numpy arrays."""
    with torch.no_grad():
        outputs = net(example)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [example.numpy()], [output.double().numpy() for output in outputs]


def export(zoo, name, build, side, classes, exporters=EXPORTERS, names=("logits",)):
    """Exports one network by every exporter. `build` is called only if a file is missing."""
    missing = [e for e in exporters if not (zoo.folder / f"{name}-{e}.onnx").exists()]
    if not missing:
        return
    torch.manual_seed(0)
    net = build()
    variety = settle(net, side, classes)
    names = getattr(net, "output_names", names)
    example = images(2, side, 77)
    for exporter in missing:

        def maker(path):
            note = exporters[exporter](net, path, example, names)
            flag = f"score variety {variety:.2g}" if variety < 0.1 else ""
            # One image more than the exporter saw, so that a batch size written into the file shows.
            fed = example if note.startswith("static") else images(3, side, 78)
            return "; ".join(part for part in (note, flag) if part), reference(net, fed)

        zoo.make(f"{name}-{exporter}", maker)


def make_heads(zoo):
    for variant in heads.HEADS:
        export(zoo, f"head-{variant}", lambda: heads.classifier(variant), 32, heads.CLASSES)

    def unfolded(net, path, example, names):
        return by_torchscript(net, path, example, names, do_constant_folding=False)

    def old_opset(net, path, example, names):
        return by_torchscript(net, path, example, names, opset=11)

    def training(opset):
        """Dropout stays in the file: below opset 12 as a node that does nothing, from then on in training mode."""

        def exporter(net, path, example, names):
            dropouts = [m for m in net.modules() if isinstance(m, nn.Dropout)]
            for module in dropouts:
                module.train()
            mode = torch.onnx.TrainingMode.PRESERVE
            export_torchscript(net, path, example, names, opset=opset, training=mode, do_constant_folding=False)
            for module in dropouts:
                module.eval()
            return f"opset {opset}, Dropout in the file"

        return exporter

    def channels_last(net, path, example, names):
        net = net.to(memory_format=torch.channels_last)
        return by_dynamo(net, path, example.to(memory_format=torch.channels_last), names)

    def dropout_head():
        torch.manual_seed(0)
        net = heads.classifier("two-dense")
        net.head.insert(3, nn.Dropout(0.3))
        return net

    def one(name, build, exporters):
        export(zoo, f"head-{name}", build, 32, heads.CLASSES, exporters)

    for variant in ("no-bias", "two-dense", "conv1x1"):
        one(f"{variant}-unfolded", lambda: heads.classifier(variant), {"torchscript": unfolded})
    for variant in ("two-dense", "batchnorm", "hardswish", "gelu", "view"):
        one(f"{variant}-opset11", lambda: heads.classifier(variant), {"torchscript": old_opset})

    def new_opset(net, path, example, names):
        return by_dynamo(net, path, example, names, opset=23)

    for variant in ("gelu", "pooled-two-dense", "layernorm", "attention-pool"):
        one(f"{variant}-opset23", lambda: heads.classifier(variant), {"dynamo": new_opset})
    one("dropout-opset11", dropout_head, {"torchscript": training(11)})
    one("dropout-training", dropout_head, {"torchscript": training(OPSET)})
    one("pooled-two-dense-channels-last", lambda: heads.classifier("pooled-two-dense"), {"dynamo": channels_last})
    source = zoo.folder / f"{precision.BASE}.onnx"
    zoo.make("head-dropout-inference", lambda path: precision.insert_dropout(source, path))


def make_torchvision(zoo):
    for name in TORCHVISION:
        export(zoo, name, lambda: getattr(torchvision.models, name)(weights=None), 224, 1000)

    def external(net, path, example, names):
        return by_dynamo(net, path, example, names, external_data=True)

    export(zoo, "resnet18", lambda: torchvision.models.resnet18(weights=None), 224, 1000, {"dynamo-external": external})


def make_timm(zoo):
    for name in TIMM:
        export(zoo, f"timm-{name}", lambda: timm.create_model(name, pretrained=False), 224, 1000)


def make_precision(zoo):
    for variant in ("linear", "two-dense"):
        for exporter, write in EXPORTERS.items():
            zoo.make(f"head-{variant}-f16-{exporter}", lambda path: half(variant, torch.float16, write, path))
            zoo.make(f"head-{variant}-bf16-{exporter}", lambda path: half(variant, torch.bfloat16, write, path))
    precision.make(zoo, images(64, 32, 5).numpy(), images(8, 224, 5).numpy())


def half(variant, dtype, write, path):
    """The whole network in `dtype`, input and output too."""
    torch.manual_seed(0)
    net = heads.classifier(variant)
    settle(net, 32, heads.CLASSES)
    net, example = net.to(dtype), images(2, 32, 77).to(dtype)
    note = write(net, path, example, ("logits",))
    return note, reference(net, images(3, 32, 78).to(dtype)) if dtype == torch.float16 else None


SECTIONS = {"heads": make_heads, "torchvision": make_torchvision, "precision": make_precision, "timm": make_timm}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    zoo = Zoo(arguments.out)
    for section in SECTIONS:
        if section in arguments.only:
            SECTIONS[section](zoo)


if __name__ == "__main__":
    main()
