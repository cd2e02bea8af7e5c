"""Small classifiers, [N, 3, 32, 32] to 10 classes, that differ in the head only: one per way of writing a head.

`HEADS` maps a variant's name to a function that builds it on the [N, 32, 4, 4] map of a two-convolution trunk.
"""

import torch
from torch import nn
from torch.nn import functional

CHANNELS, SIDE, HIDDEN, CLASSES = 32, 4, 64, 10
FEATURES = CHANNELS * SIDE * SIDE


class Trunk(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, CHANNELS, 3, stride=2, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
        )  # fmt: skip


class Function(nn.Module):
    """A module made of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def dense(*between, bias=True):
    """Flatten, a dense layer, `between`, a dense layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, HIDDEN, bias), *between, nn.Linear(HIDDEN, CLASSES, bias))


def pooled(*layers):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)


def prelu():
    layer = nn.PReLU(HIDDEN)
    nn.init.uniform_(layer.weight, 0.05, 0.5)
    return layer


class AverageAndMaxPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2 * CHANNELS, CLASSES)

    def forward(self, x):
        pools = functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)
        return self.fc(torch.cat(pools, 1).flatten(1))


class ResidualHead(nn.Module):
    """fc3(x + fc2(relu(fc1(x))))."""

    def __init__(self):
        super().__init__()
        self.fc0 = nn.Linear(FEATURES, HIDDEN)
        self.fc1 = nn.Linear(HIDDEN, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        x = functional.relu(self.fc0(x.flatten(1)))
        return self.fc3(x + self.fc2(functional.relu(self.fc1(x))))


class GatedHead(nn.Module):
    """fc(x * sigmoid(gate(x)))."""

    def __init__(self):
        super().__init__()
        self.fc0 = nn.Linear(FEATURES, HIDDEN)
        self.gate = nn.Linear(HIDDEN, HIDDEN)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        x = functional.relu(self.fc0(x.flatten(1)))
        return self.fc(x * torch.sigmoid(self.gate(x)))


class TwoBranches(nn.Module):
    """Two hidden layers side by side, concatenated."""

    def __init__(self):
        super().__init__()
        self.fc_a = nn.Linear(FEATURES, HIDDEN)
        self.fc_b = nn.Linear(FEATURES, HIDDEN // 2)
        self.fc_c = nn.Linear(HIDDEN + HIDDEN // 2, CLASSES)

    def forward(self, x):
        x = x.flatten(1)
        return self.fc_c(torch.cat([functional.relu(self.fc_a(x)), functional.relu(self.fc_b(x))], 1))


class Tokens(nn.Module):
    """Tokens [N, T, C] of the map, after `extra` learned ones, through one residual self-attention."""

    def __init__(self, extra=0):
        super().__init__()
        self.extra = nn.Parameter(torch.randn(1, extra, CHANNELS)) if extra else None
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        if self.extra is not None:
            tokens = torch.cat([self.extra.expand(tokens.shape[0], -1, -1), tokens], 1)
        q, k, v = self.qkv(tokens).chunk(3, dim=2)
        weights = torch.softmax(q @ k.transpose(1, 2) * CHANNELS**-0.5, dim=2)
        return self.norm(tokens + weights @ v)


class TokenMean(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = Tokens()
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x):
        return self.fc(self.tokens(x).mean(1))


class ClassToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = Tokens(1)
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x):
        return self.fc(self.tokens(x)[:, 0])


class Distilled(nn.Module):
    """Two tokens, a dense layer each, averaged."""

    def __init__(self):
        super().__init__()
        self.tokens = Tokens(2)
        self.fc_a = nn.Linear(CHANNELS, CLASSES)
        self.fc_b = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x):
        tokens = self.tokens(x)
        return (self.fc_a(tokens[:, 0]) + self.fc_b(tokens[:, 1])) / 2


class AttentionPool(nn.Module):
    """nn.MultiheadAttention with the mean token as its query."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(CHANNELS, 4, batch_first=True)
        self.fc = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        pool, _ = self.attention(tokens.mean(1, keepdim=True), tokens, tokens, need_weights=False)
        return self.fc(pool[:, 0])


class TwoOutputs(nn.Module):
    """Two class scores that read one hidden layer."""

    output_names = ("logits", "second_logits")

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, HIDDEN)
        self.fc_a = nn.Linear(HIDDEN, CLASSES)
        self.fc_b = nn.Linear(HIDDEN, 4)

    def forward(self, x):
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc_a(x), self.fc_b(x)


class Embedding(nn.Module):
    """The hidden layer is a graph output too."""

    output_names = ("logits", "embedding")

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        embedding = functional.relu(self.fc1(x.flatten(1)))
        return self.fc2(embedding), embedding


class View(nn.Module):
    """The flatten is a reshape to a shape computed from the input's."""

    def __init__(self):
        super().__init__()
        self.head = dense(nn.ReLU())[1:]

    def forward(self, x):
        return self.head(x.view(x.size(0), -1))


class Twins(nn.Module):
    """Two hidden layers with one weight: the same parameter (`tied`), or equal values in two parameters."""

    def __init__(self, tied):
        super().__init__()
        self.fc0 = nn.Linear(FEATURES, HIDDEN)
        self.fc1 = nn.Linear(HIDDEN, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, CLASSES)
        if tied:
            self.fc2.weight = self.fc1.weight
        else:
            self.fc2.load_state_dict(self.fc1.state_dict())
        for layer in (self.fc0, self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = x.flatten(1)
        for layer in (self.fc0, self.fc1, self.fc2):
            x = functional.relu(layer(x))
        return self.fc3(x)


class DoubleEnd(nn.Module):
    """The last layer computes in f64."""

    def __init__(self):
        super().__init__()
        self.head = dense(nn.ReLU())[:-1]
        self.fc = nn.Linear(HIDDEN, CLASSES).double()

    def forward(self, x):
        return self.fc(self.head(x).double()).float()


def gem_pool(x):
    """Generalised mean over the positions, exponent 3."""
    return x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


def l2_normalise(x):
    return functional.normalize(x, dim=1)


def two_dense_then(function):
    return nn.Sequential(dense(nn.ReLU()), Function(function))


HEADS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, CLASSES)),
    "pooled-linear": lambda: pooled(nn.Flatten(), nn.Linear(CHANNELS, CLASSES)),
    "pooled-two-dense": lambda: pooled(
        nn.Flatten(), nn.Linear(CHANNELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
    ),
    "two-dense": lambda: dense(nn.ReLU()),
    "three-dense": lambda: dense(nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
    "two-dense-linear-between": lambda: dense(),
    "batchnorm": lambda: dense(nn.ReLU(), nn.BatchNorm1d(HIDDEN)),
    "batchnorm-before-relu": lambda: dense(nn.BatchNorm1d(HIDDEN), nn.ReLU()),
    "batchnorm-on-features": lambda: pooled(nn.Flatten(), nn.BatchNorm1d(CHANNELS), nn.Linear(CHANNELS, CLASSES)),
    "no-bias": lambda: dense(nn.ReLU(), bias=False),
    "leaky-relu": lambda: dense(nn.LeakyReLU(0.1)),
    "elu": lambda: dense(nn.ELU()),
    "relu6": lambda: dense(nn.ReLU6()),
    "hardswish": lambda: dense(nn.Hardswish()),
    "hardsigmoid": lambda: dense(nn.Hardsigmoid()),
    "softplus": lambda: dense(nn.Softplus()),
    "mish": lambda: dense(nn.Mish()),
    "sigmoid": lambda: dense(nn.Sigmoid()),
    "silu": lambda: dense(nn.SiLU()),
    "gelu": lambda: dense(nn.GELU()),
    "gelu-tanh": lambda: dense(nn.GELU(approximate="tanh")),
    "tanh": lambda: dense(nn.Tanh()),
    "prelu": lambda: dense(prelu()),
    "layernorm": lambda: dense(nn.ReLU(), nn.LayerNorm(HIDDEN)),
    "conv1x1": lambda: pooled(nn.Conv2d(CHANNELS, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, CLASSES, 1), nn.Flatten()),
    "fully-convolutional": lambda: nn.Sequential(
        nn.Conv2d(CHANNELS, HIDDEN, SIDE), nn.ReLU(), nn.Conv2d(HIDDEN, CLASSES, 1), nn.Flatten()
    ),
    "squeezenet": lambda: nn.Sequential(
        nn.Dropout(), nn.Conv2d(CHANNELS, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "avg-max-pool": AverageAndMaxPool,
    "gem-pool": lambda: nn.Sequential(Function(gem_pool), nn.Linear(CHANNELS, CLASSES)),
    "l2-normalised": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), Function(l2_normalise), nn.Linear(CHANNELS, CLASSES)
    ),
    "residual": ResidualHead,
    "gated": GatedHead,
    "distilled": Distilled,
    "two-outputs": TwoOutputs,
    "embedding-output": Embedding,
    "softmax": lambda: two_dense_then(lambda x: torch.softmax(x, 1)),
    "log-softmax": lambda: two_dense_then(lambda x: torch.log_softmax(x, 1)),
    "sigmoid-end": lambda: two_dense_then(torch.sigmoid),
    "argmax": lambda: two_dense_then(lambda x: torch.argmax(x, 1)),
    "temperature": lambda: two_dense_then(lambda x: x / 2.5),
    "token-mean": TokenMean,
    "class-token": ClassToken,
    "view": View,
    "nhwc-flatten": lambda: nn.Sequential(Function(lambda x: x.permute(0, 2, 3, 1)), dense(nn.ReLU())),
    "tied": lambda: Twins(tied=True),
    "equal-initializers": lambda: Twins(tied=False),
    "cast": lambda: dense(nn.ReLU(), Function(lambda x: x.half().float())),
    "cast-double": DoubleEnd,
    "attention-pool": AttentionPool,
    "two-branches": TwoBranches,
}


def classifier(variant):
    """The trunk and the head `variant` on it."""
    head = HEADS[variant]()
    net = nn.Sequential()
    net.add_module("trunk", Trunk())
    net.add_module("head", head)
    net.output_names = getattr(head, "output_names", ("logits",))
    return net
