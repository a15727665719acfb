"""The networks as a PyTorch user writes them: NCHW, plain modules, same sizes.

The names of children are those of our parameters, so that tests can copy weights; sides must be
multiples of the stride, as a benchmark's are. Initial weights are PyTorch's own.
"""

import torch
from torch import nn
from torch.nn import functional as F


def conv_block(c: int, features: list[int], *, norm: bool) -> nn.Sequential:
    """3x3 convolutions, each with batch norm (if `norm`) and ReLU."""
    layers: list[nn.Module] = []
    for out in features:
        layers.append(nn.Conv2d(c, out, 3, padding=1, bias=not norm))
        layers += [nn.BatchNorm2d(out)] if norm else []
        layers.append(nn.ReLU(inplace=True))
        c = out
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """As `zoo.models.UNet` without batch norm."""

    def __init__(self, num_classes: int, *, width: int = 64, depth: int = 4, dropout: float = 0.5):
        super().__init__()
        self.depth, c = depth, 3
        for level in range(depth + 1):
            features = width * 2**level
            self.add_module(f"encoder_{level}", conv_block(c, [features] * 2, norm=False))
            c = features
        self.dropout = nn.Dropout(dropout)
        for level in reversed(range(depth)):
            features = width * 2**level
            self.add_module(f"up_{level}", nn.ConvTranspose2d(2 * features, features, 2, stride=2))
            block = conv_block(2 * features, [features] * 2, norm=False)
            self.add_module(f"decoder_{level}", block)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        skips = []
        for level in range(self.depth):
            x = self.get_submodule(f"encoder_{level}")(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.dropout(self.get_submodule(f"encoder_{self.depth}")(x))
        for level in reversed(range(self.depth)):
            x = torch.cat([skips[level], self.get_submodule(f"up_{level}")(x)], 1)
            x = self.get_submodule(f"decoder_{level}")(x)
        return self.head(x)


class MaxUnpoolNet(nn.Module):
    """As `zoo.models.MaxUnpoolNet`."""

    def __init__(self, num_classes: int, *, width: int = 64, blocks=(2, 2, 3, 3, 3)):
        super().__init__()
        features, c = [width * min(2**level, 8) for level in range(len(blocks))], 3
        self.levels = len(blocks)
        for level, n in enumerate(blocks):
            block = conv_block(c, [features[level]] * n, norm=True)
            self.add_module(f"encoder_{level}", block)
            c = features[level]
        for level, n in enumerate(blocks):
            outs = [features[level]] * (n - 1) + features[level - 1 : level]
            self.add_module(f"decoder_{level}", conv_block(features[level], outs, norm=True))
        self.head = nn.Conv2d(width, num_classes, 3, padding=1)

    def forward(self, x):
        places = []
        for level in range(self.levels):
            x = self.get_submodule(f"encoder_{level}")(x)
            x, index = F.max_pool2d(x, 2, return_indices=True)
            places.append(index)
        for level in reversed(range(self.levels)):
            x = F.max_unpool2d(x, places[level], 2)
            x = self.get_submodule(f"decoder_{level}")(x)
        return self.head(x)


class FCN32s(nn.Module):
    """As `zoo.models.FCN32s` with pad=0."""

    output_stride = 32

    def __init__(self, num_classes: int, *, width: int = 64, dropout: float = 0.5):
        super().__init__()
        c = 3
        for level, n in enumerate((2, 2, 3, 3, 3)):
            features = width * min(2**level, 8)
            self.add_module(f"stage_{level + 1}", conv_block(c, [features] * n, norm=False))
            c = features
        self.fc6, self.fc7 = (
            nn.Conv2d(c, 64 * width, 7, padding=3),
            nn.Conv2d(64 * width, 64 * width, 1),
        )
        self.dropout, k = nn.Dropout(dropout), num_classes
        self.score_fr = nn.Conv2d(64 * width, k, 1)
        # By the features of a pool, what scores it and what brings the scores before to its size.
        self.skips = [(4, 8 * width, "upscore2"), (3, 4 * width, "upscore_pool4")]
        self.skips = self.skips[: {32: 0, 16: 1, 8: 2}[self.output_stride]]
        for level, c, up in self.skips:
            self.add_module(f"score_pool{level}", nn.Conv2d(c, k, 1))
            self.add_module(up, nn.ConvTranspose2d(k, k, 4, stride=2, padding=1, bias=False))
        s = self.output_stride
        last = nn.ConvTranspose2d(k, k, 2 * s, stride=s, padding=s // 2, bias=False)
        self.add_module(f"upscore{s}", last)

    def forward(self, x):
        pools = []
        for level in range(1, 6):
            x = F.max_pool2d(self.get_submodule(f"stage_{level}")(x), 2)
            pools.append(x)
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.dropout(F.relu(self.fc7(x)))
        x = self.score_fr(x)
        for level, _, up in self.skips:
            skip = self.get_submodule(f"score_pool{level}")(pools[level - 1])
            x = self.get_submodule(up)(x) + skip
        return self.get_submodule(f"upscore{self.output_stride}")(x)


class FCN16s(FCN32s):
    """As `zoo.models.FCN16s` with pad=0."""

    output_stride = 16


class FCN8s(FCN32s):
    """As `zoo.models.FCN8s` with pad=0."""

    output_stride = 8


class PatchClassifier(nn.Module):
    """As `zoo.models.PatchClassifier`, the whole image at once: dilated, poolings of stride 1."""

    def __init__(self, num_classes: int, *, window=95, kernels=(4, 5, 4, 4), width=48, hidden=200):
        super().__init__()
        self.sides, self.levels, c, left = (window // 2, (window - 1) // 2), len(kernels), 3, window
        for i, k in enumerate(kernels):
            self.add_module(f"conv_{i}", nn.Conv2d(c, width, k, dilation=2**i))
            c, left = width, (left - k + 1) // 2
        self.hidden = nn.Conv2d(width, hidden, left, dilation=2**self.levels)
        self.head = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, x):
        x = F.pad(x, 2 * self.sides, mode="reflect")
        for i in range(self.levels):
            x = F.relu(self.get_submodule(f"conv_{i}")(x))
            x = F.max_pool2d(x, 2, stride=1, dilation=2**i)
        return self.head(F.relu(self.hidden(x)))


def dense_layer(c: int, features: int, kernel_size: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(c, eps=1e-4),
        nn.ReLU(inplace=True),
        nn.Conv2d(c, features, kernel_size, padding=kernel_size // 2),
        nn.Dropout(dropout),
    )


class DenseBlock(nn.Module):
    """Layers that each read all before them; returns all maps."""

    def __init__(self, c: int, depth: int, growth_rate: int, dropout: float):
        super().__init__()
        for i in range(depth):
            layer = dense_layer(c + i * growth_rate, growth_rate, 3, dropout)
            self.add_module(f"layer_{i}", layer)

    def forward(self, x):
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class FCDenseNet103(nn.Module):
    """As `zoo.models.FCDenseNet103`, which 56 is by other fields."""

    def __init__(
        self, num_classes, *, growth_rate=16, blocks=(4, 5, 7, 10, 12, 15), features=48, dropout=0.2
    ):
        super().__init__()
        self.new = [n * growth_rate for n in blocks]
        *self.levels, lowest = range(len(blocks))
        self.first, c, skips = nn.Conv2d(3, features, 3, padding=1), features, []
        for level, n in enumerate(blocks):
            self.add_module(f"down_{level}", DenseBlock(c, n, growth_rate, dropout))
            c += self.new[level]
            skips.append(c)
            if level != lowest:
                self.add_module(f"transition_down_{level}", dense_layer(c, c, 1, dropout))
        for level in reversed(self.levels):
            c = self.new[level + 1]
            self.add_module(f"transition_up_{level}", nn.ConvTranspose2d(c, c, 3, stride=2))
            c += skips[level]
            self.add_module(f"up_{level}", DenseBlock(c, blocks[level], growth_rate, dropout))
        self.head = nn.Conv2d(c + self.new[0], num_classes, 1)

    def forward(self, x):
        x, skips = self.first(x), []
        for level in self.levels:
            x = self.get_submodule(f"down_{level}")(x)
            skips.append(x)
            x = F.max_pool2d(self.get_submodule(f"transition_down_{level}")(x), 2)
        x = self.get_submodule(f"down_{len(self.levels)}")(x)
        for level in reversed(self.levels):
            x = self.get_submodule(f"transition_up_{level}")(x[:, -self.new[level + 1] :])
            x = torch.cat([skips[level], x[:, :, :-1, :-1]], 1)
            x = self.get_submodule(f"up_{level}")(x)
        return self.head(x)


class SiameseEncoder(nn.Module):
    """As `zoo.models.SiameseEncoder`."""

    def __init__(self, *, channels: int = 1, features=48, width=64, dropout=0.3):
        super().__init__()
        for i, c in enumerate((channels, width)):
            self.add_module(f"Conv_{i}", nn.Conv2d(c, width, 2))
        self.Dense_0, self.dropout = nn.Linear(width, features), nn.Dropout(dropout)

    def forward(self, x):
        for conv in (self.Conv_0, self.Conv_1):
            x = F.relu(conv(F.pad(x, (0, 1, 0, 1))))
            x = self.dropout(F.max_pool2d(x, 2))
        return self.Dense_0(x.mean((2, 3)))


class ResidualBlock(nn.Module):
    """Its first convolution is the shortcut's, where the shape changes."""

    def __init__(self, c: int, features: int, stride: int):
        super().__init__()
        self.BatchNorm_0, self.BatchNorm_1 = nn.BatchNorm2d(c), nn.BatchNorm2d(features)
        convs = [nn.Conv2d(c, features, 3, stride=stride, padding=int(stride == 1), bias=False)]
        convs.append(nn.Conv2d(features, features, 3, padding=1, bias=False))
        if stride > 1 or c != features:
            convs.insert(0, nn.Conv2d(c, features, 1, stride=stride, bias=False))
        for i, conv in enumerate(convs):
            self.add_module(f"Conv_{i}", conv)
        self.stride, self.last = stride, len(convs) - 1

    def forward(self, x):
        y = F.relu(self.BatchNorm_0(x))
        x = self.Conv_0(y) if self.last == 2 else x
        # Zeros at the end of an even side, as JAX has it.
        y = F.pad(y, (0, 1, 0, 1)) if self.stride > 1 else y
        y = F.relu(self.BatchNorm_1(self.get_submodule(f"Conv_{self.last - 1}")(y)))
        return x + self.get_submodule(f"Conv_{self.last}")(y)


class ResidualEncoder(nn.Module):
    """As `zoo.models.ResidualEncoder` with one block a stage."""

    def __init__(self, *, channels: int = 1, features=128, width=32, depth=3):
        super().__init__()
        self.depth, c = depth, width
        self.Conv_0 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        for stage in range(depth):
            block = ResidualBlock(c, width * 2**stage, 2 if stage else 1)
            self.add_module(f"ResidualBlock_{stage}", block)
            c = width * 2**stage
        self.BatchNorm_0, self.Dense_0 = nn.BatchNorm2d(c), nn.Linear(c, features)

    def forward(self, x):
        x = self.Conv_0(x)
        for stage in range(self.depth):
            x = self.get_submodule(f"ResidualBlock_{stage}")(x)
        return self.Dense_0(F.relu(self.BatchNorm_0(x)).mean((2, 3)))
