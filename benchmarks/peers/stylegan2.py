"""StyleGAN2 in PyTorch: each row's kernels modulated and demodulated, all rows in one grouped convolution.

The generator adds up images of all sizes; the discriminator is residual; the path length is penalized.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its name in PyTorch's world)

from benchmarks.peers import stylegan
from benchmarks.peers.progan import (
    GAIN,
    LEAK,
    START_SIZE,
    EqualConv2d,
    EqualLinear,
    channels_of,
    double,
    last_block,
    sizes_of,
)
from benchmarks.peers.stylegan import Blur, Noise, StyleTrainStep

TAPS = (1, 3, 3, 1)


class ModulatedConv2d(nn.Module):
    """A convolution whose kernel a style scales, row by row; `up` doubles the maps by a transposed one and a filter."""

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        style_dim: int,
        *,
        up: bool = False,
        demodulate: bool = True,
        gain: float = 1.0,
        bias: bool = False,
    ):
        super().__init__()
        self.affine = EqualLinear(style_dim, channels, gain=1.0, start=1.0)
        self.weight = nn.Parameter(torch.randn(1, filters, channels, size, size))
        self.bias = nn.Parameter(torch.zeros(1, filters, 1, 1)) if bias else None
        self.blur = Blur(TAPS, 1, gain=4.0) if up else nn.Identity()
        self.up, self.demodulate, self.gain = up, demodulate, gain
        self.scale = (channels * size**2) ** -0.5

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(batch, channels, side, side) -> (batch, filters, side, side), or of twice the side."""
        rows, channels, height, width = x.shape
        filters, _, size, _ = self.weight.shape[1:]
        weight = self.weight * self.affine(style)[:, None, :, None, None] * self.scale
        if self.demodulate:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        weight = weight * self.gain
        x = x.reshape(1, rows * channels, height, width)
        if self.up:
            weight = weight.transpose(1, 2).reshape(rows * channels, filters, size, size)
            x = F.conv_transpose2d(x, weight, stride=2, groups=rows)
        else:
            x = F.conv2d(x, weight.reshape(rows * filters, channels, size, size), padding=size // 2, groups=rows)
        x = self.blur(x.reshape(rows, filters, *x.shape[2:]))
        return x if self.bias is None else x + self.bias


class StyledLayer(nn.Module):
    """A modulated convolution, noise, bias, leaky ReLU."""

    def __init__(self, channels: int, filters: int, style_dim: int, *, up: bool):
        super().__init__()
        self.convolution = ModulatedConv2d(channels, filters, 3, style_dim, up=up, gain=GAIN)
        self.noise = Noise(filters, per_channel=False)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """The maps."""
        return F.leaky_relu(self.noise(self.convolution(x, style), noise), LEAK)


class Generator(stylegan.Generator):
    """StyleGAN's, with layers of another kind and an image that is a sum."""

    def add_synthesis(self, widths: Sequence[int], colors: int, style_dim: int) -> None:
        """The layers that draw the image; `widths`: channels of each size."""
        self.constant = nn.Parameter(torch.randn(1, widths[0], START_SIZE, START_SIZE))
        self.layers = nn.ModuleList([StyledLayer(widths[0], widths[0], style_dim, up=False)])
        for before, width in pairwise(widths):
            self.layers.append(StyledLayer(before, width, style_dim, up=True))
            self.layers.append(StyledLayer(width, width, style_dim, up=False))
        self.to_rgb = nn.ModuleList(
            ModulatedConv2d(width, colors, 1, style_dim, demodulate=False, bias=True) for width in widths
        )
        self.blur = Blur()

    def forward(self, styles: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """g(w)."""
        of_layers = styles.unbind(1)
        x = self.constant.expand(len(styles), -1, -1, -1)
        x = self.layers[0](x, of_layers[0], noise[0])
        image = self.to_rgb[0](x, of_layers[1])
        for level, to_rgb in enumerate(self.to_rgb[1:]):
            first = 2 * level + 1
            x = self.layers[first](x, of_layers[first], noise[first])
            x = self.layers[first + 1](x, of_layers[first + 1], noise[first + 1])
            image = self.blur(double(image)) + to_rgb(x, of_layers[first + 2])
        return image


class ResidualBlock(nn.Module):
    """(batch, channels, side, side) -> (batch, filters, side / 2, side / 2)."""

    def __init__(self, channels: int, filters: int):
        super().__init__()
        half = 0.5**0.5
        self.shortcut = nn.Sequential(
            Blur(TAPS, 1), EqualConv2d(channels, filters, 1, half, stride=2, padding=0, bias=False)
        )
        self.layers = nn.Sequential(
            EqualConv2d(channels, channels, 3),
            nn.LeakyReLU(LEAK),
            Blur(TAPS, 2),
            EqualConv2d(channels, filters, 3, GAIN * half, stride=2, padding=0),
            nn.LeakyReLU(LEAK),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return self.layers(x) + self.shortcut(x)


class Discriminator(nn.Sequential):
    """image (batch, channels, image_size, image_size) -> logit (batch, 1)."""

    def __init__(self, image_size: int, colors: int, base: int, most: int, group_size: int | None):
        features, *widths = (channels_of(size, base, most) for size in (START_SIZE // 2, *sizes_of(image_size)))
        blocks = (ResidualBlock(*pair) for pair in zip(widths[:0:-1], widths[-2::-1], strict=True))
        first = EqualConv2d(colors, widths[-1], 1)
        super().__init__(first, nn.LeakyReLU(LEAK), *blocks, last_block(widths[0], features, group_size))


class TrainStep(StyleTrainStep):
    """StyleGAN2's; see `StyleTrainStep` and `zoo.models.stylegan.StyleGAN` for the arguments."""

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 512,
        style_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 16384,
        channel_max: int = 512,
        group_size: int | None = 4,
        r1_weight: float = 10.0,
        r1_interval: int = 16,
        path_length_weight: float = 0.0,
        path_length_interval: int = 4,
        *,
        bfloat16: bool = False,
    ):
        size, _, colors = image_shape
        generator = Generator(size, colors, latent_dim, style_dim, mapping_layers, channel_base, channel_max)
        discriminator = Discriminator(size, colors, channel_base, channel_max, group_size)
        penalties = r1_weight, r1_interval, path_length_weight, path_length_interval
        super().__init__(generator, discriminator, latent_dim, 2e-3, *penalties, bfloat16)
