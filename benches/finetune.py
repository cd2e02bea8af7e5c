"""Fine-tuning beside PyTorch: the same head, on random features, turn by turn.

    cargo build --release --example finetune_speed
    python benches/finetune.py [--rounds 5] [--threads 2]

Run by hand. Needs torch and ONNX Runtime (ONNX_PRUNE_ORT_LIB, or an active environment with the
onnxruntime package). Each round runs every contestant once, so that other work on the machine falls
on all of them alike; given are medians and spreads of the wall time, and of its ratio to PyTorch's
in the same round. Loading and compiling are not timed on either side.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch

# widths, batch, samples, epochs
SETTINGS = [
    ([941, 154, 10], 128, 60_000, 5),
    # 60,000 samples would be 6 GB: two times 2,048 show the same steps.
    ([25_088, 512, 10], 64, 2_048, 2),
]
OPTIMIZERS = ["sgd", "momentum", "adamw"]


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def layers(widths):
    pairs = list(zip(widths, widths[1:]))
    modules = []
    for at, (inputs, outputs) in enumerate(pairs):
        modules.append(torch.nn.Linear(inputs, outputs))
        if at + 1 < len(pairs):
            modules.append(torch.nn.ReLU())
    return torch.nn.Sequential(*modules)


def optimizer(name, parameters):
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=1e-4)
    if name == "momentum":
        return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)
    if name == "adamw fused":
        return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0, fused=True)
    # What one gets without asking: weight_decay=0 in both, so that the same is computed.
    return torch.optim.Adam(parameters, lr=1e-4)


def pytorch(name, features, labels, widths, batch, epochs):
    torch.manual_seed(0)
    net = layers(widths)
    steps = optimizer(name, net.parameters())
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(steps, epochs * len(features) // batch)
    loss_of = torch.nn.CrossEntropyLoss()
    begin, used = time.perf_counter(), cpu()
    for _ in range(epochs):
        order = torch.randperm(len(features))
        for first in range(0, len(features), batch):
            chosen = order[first : first + batch]
            loss = loss_of(net(features[chosen]), labels[chosen])
            steps.zero_grad()
            loss.backward()
            steps.step()
            rate.step()
    return time.perf_counter() - begin, cpu() - used


def ours(binary, name, widths, batch, samples, epochs, threads, engine):
    words = [",".join(map(str, widths)), batch, samples, epochs, name, threads]
    environment = dict(os.environ, ENGINE=engine)
    run = subprocess.run([binary, *map(str, words)], stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(run.stdout)


def spread(values, unit=""):
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f}-{max(values):.2f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--binary", default="target/release/examples/finetune_speed")
    parser.add_argument("--only", type=int, help="one setting, counted from 0")
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS))
    parser.add_argument("--tract", action="store_true")
    parser.add_argument("--epochs", type=int, help="instead of those of the setting")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds", flush=True)
    for number, (widths, batch, samples, epochs) in enumerate(SETTINGS):
        if options.only not in (None, number):
            continue
        epochs = options.epochs or epochs
        features, labels = torch.rand(samples, widths[0]) * 2 - 1, torch.arange(samples) % widths[-1]
        print(f"\n{'->'.join(map(str, widths))}, batch {batch}, {samples} samples, {epochs} epochs")
        for name in options.optimizers.split(","):
            theirs, fused, mine = [], [], []
            for _ in range(options.rounds):
                theirs.append(pytorch(name, features, labels, widths, batch, epochs))
                if name == "adamw":
                    fused.append(pytorch("adamw fused", features, labels, widths, batch, epochs))
                mine.append(ours(options.binary, name, widths, batch, samples, epochs, options.threads, "ort"))
            walls = [one["wall"] for one in mine]
            print(f"  {name}: PyTorch {spread([wall for wall, _ in theirs], ' s')}, cpu {spread([used for _, used in theirs])}")
            if fused:
                print(f"    PyTorch fused=True {spread([wall for wall, _ in fused], ' s')}")
            print(f"    here {spread(walls, ' s')}, cpu {spread([one['cpu'] for one in mine])}")
            print(f"    PyTorch / here {spread([wall / one for (wall, _), one in zip(theirs, walls)])}")
            if fused:
                print(f"    fused / here {spread([wall / one for (wall, _), one in zip(fused, walls)])}")
            shares = [one["products"] / one["wall"] for one in mine]
            bare = [one["bare"] / one["wall"] for one in mine]
            print(f"    products / here {spread(shares)}; without the old weights {spread(bare)}", flush=True)
            if options.tract:
                one = ours(options.binary, name, widths, batch, samples, epochs, options.threads, "tract")
                print(f"    tract {one['wall']:.2f} s, products {one['products']:.2f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
