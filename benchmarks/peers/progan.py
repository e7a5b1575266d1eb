"""Progressive GAN in PyTorch at its highest resolution: equalized layers, pixel norm, a double backward every step.

Nearest neighbors then a convolution to double maps, a convolution then means to halve them. As a network that has grown
it holds the ways from and to images of all sizes and uses the largest.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its name in PyTorch's world)

GAIN, LEAK, START_SIZE = 2**0.5, 0.2, 4
PENALTY_WEIGHT, DRIFT, EMA_DECAY = 10.0, 0.001, 0.999


class EqualLinear(nn.Module):
    """(batch, features) -> (batch, units), an equalized learning rate; `start` None leaves the bias out."""

    def __init__(self, features: int, units: int, gain: float = GAIN, rate: float = 1.0, start: float | None = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, features) / rate)
        self.bias = None if start is None else nn.Parameter(torch.full((units,), start / rate))
        self.scale, self.rate = gain * rate / features**0.5, rate

    def forward(self, x: Tensor) -> Tensor:
        """W x + b."""
        return F.linear(x, self.weight * self.scale, None if self.bias is None else self.bias * self.rate)


class EqualConv2d(nn.Module):
    """(batch, channels, side, side) -> (batch, filters, side / stride, side / stride), an equalized learning rate."""

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        gain: float = GAIN,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(filters, channels, size, size))
        self.bias = nn.Parameter(torch.zeros(filters)) if bias else None
        self.scale = gain / (channels * size**2) ** 0.5
        self.stride, self.padding = stride, size // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class PixelNorm(nn.Module):
    """Over the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """x / sqrt(mean of x^2)."""
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class ChannelBias(nn.Module):
    """A number per channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x + b."""
        return x + self.bias[:, None, None]


class MinibatchStddev(nn.Module):
    """One channel more, of how consecutive rows differ; `group_size` None compares the whole batch."""

    def __init__(self, group_size: int | None):
        super().__init__()
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, side, side) -> (batch, channels + 1, side, side)."""
        rows = self.group_size or len(x)
        deviation = (x.unflatten(0, (-1, rows)).var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        return torch.cat([x, deviation.repeat_interleave(rows)[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)


def sizes_of(image_size: int) -> list[int]:
    """4, 8, ... image_size."""
    return [START_SIZE * 2**level for level in range((image_size // START_SIZE).bit_length())]


def channels_of(size: int, base: int, most: int) -> int:
    """Channels of maps of this side."""
    return min(2 * base // size, most)


def double(x: Tensor) -> Tensor:
    """Nearest neighbors."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class GeneratorBlock(nn.Module):
    """(batch, channels, side, side) -> (batch, filters, 2 side, 2 side); the first one does not double."""

    def __init__(self, channels: int, filters: int, *, first: bool):
        super().__init__()
        activation = (nn.LeakyReLU(LEAK), PixelNorm())
        start = ChannelBias(filters) if first else EqualConv2d(channels, filters, 3)
        self.layers = nn.Sequential(start, *activation, EqualConv2d(filters, filters, 3), *activation)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        """The maps."""
        return self.layers(x if self.first else double(x))


class Generator(nn.Module):
    """latent (batch, latent_dim) -> image (batch, channels, image_size, image_size)."""

    def __init__(self, image_size: int, colors: int, latent_dim: int, base: int, most: int):
        super().__init__()
        widths = [channels_of(size, base, most) for size in sizes_of(image_size)]
        self.norm = PixelNorm()
        self.project = EqualLinear(latent_dim, widths[0] * START_SIZE**2, GAIN / START_SIZE, start=None)
        self.blocks = nn.ModuleList(
            GeneratorBlock(before, width, first=before == 0)
            for before, width in zip([0, *widths], widths, strict=False)
        )
        self.to_rgb = nn.ModuleList(EqualConv2d(width, colors, 1, gain=1.0) for width in widths)

    def forward(self, latents: Tensor) -> Tensor:
        """G(z)."""
        x = self.project(self.norm(latents)).unflatten(1, (-1, START_SIZE, START_SIZE))
        for block in self.blocks:
            x = block(x)
        return self.to_rgb[-1](x)


def last_block(channels: int, features: int, group_size: int | None) -> nn.Sequential:
    """(batch, channels, 4, 4) -> score (batch, 1)."""
    return nn.Sequential(
        MinibatchStddev(group_size),
        EqualConv2d(channels + 1, channels, 3),
        nn.LeakyReLU(LEAK),
        nn.Flatten(),
        EqualLinear(channels * START_SIZE**2, features),
        nn.LeakyReLU(LEAK),
        EqualLinear(features, 1, gain=1.0),
    )


def halving_block(channels: int, filters: int) -> nn.Sequential:
    """(batch, channels, side, side) -> (batch, filters, side / 2, side / 2)."""
    first, second = EqualConv2d(channels, channels, 3), EqualConv2d(channels, filters, 3)
    return nn.Sequential(first, nn.LeakyReLU(LEAK), second, nn.AvgPool2d(2), nn.LeakyReLU(LEAK))


class Discriminator(nn.Module):
    """image (batch, channels, image_size, image_size) -> score (batch, 1)."""

    halving_block = staticmethod(halving_block)

    def __init__(self, image_size: int, colors: int, base: int, most: int, group_size: int | None):
        super().__init__()
        features, *widths = (channels_of(size, base, most) for size in (START_SIZE // 2, *sizes_of(image_size)))
        self.from_rgb = nn.ModuleList(
            nn.Sequential(EqualConv2d(colors, width, 1), nn.LeakyReLU(LEAK)) for width in widths
        )
        blocks = [
            self.halving_block(width, narrower) for width, narrower in zip(widths[:0:-1], widths[-2::-1], strict=True)
        ]
        self.blocks = nn.Sequential(*blocks, last_block(widths[0], features, group_size))

    def forward(self, images: Tensor) -> Tensor:
        """D(x)."""
        return self.blocks(self.from_rgb[-1](images))


class MovingAverage:
    """Of a network's parameters, after each step."""

    def __init__(self, network: nn.Module):
        self.network, self.average = network, copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Average + (1 - decay) (network - average)."""
        for average, parameter in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(parameter, 1.0 - EMA_DECAY)


class TrainStep:
    """One update of D on fakes of its own, then one of G.

    Args:
        image_shape: (size, size, channels).
        latent_dim: length of a latent vector.
        channel_base: maps of size x size have 2 channel_base / size channels ...
        channel_max: ... and at most these.
        group_size: rows that D compares.
        bfloat16: run forward passes and losses under `torch.autocast`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 512,
        channel_base: int = 8192,
        channel_max: int = 512,
        group_size: int | None = 4,
        *,
        bfloat16: bool = False,
    ):
        size, _, colors = image_shape
        self.latent_dim, self.bfloat16 = latent_dim, bfloat16
        self.generator = Generator(size, colors, latent_dim, channel_base, channel_max)
        self.discriminator = Discriminator(size, colors, channel_base, channel_max, group_size)
        self.networks = {"discriminator": self.discriminator, "generator": self.generator}
        self.average = MovingAverage(self.generator)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), 1e-3, (0.0, 0.99))
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), 1e-3, (0.0, 0.99))

    def __call__(self, real: Tensor) -> tuple[float, float]:
        """One step on real (batch, channels, height, width); returns both losses."""
        self.discriminator.requires_grad_(True)
        with torch.no_grad(), self.autocast():
            fake = self.generator(torch.randn(len(real), self.latent_dim))
        self.discriminator_optimizer.zero_grad()
        discriminator_loss = self.discriminator_loss(real, fake, torch.rand(len(real), 1, 1, 1))
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)  # spares its gradients by the weights
        self.generator_optimizer.zero_grad()
        generator_loss = self.generator_loss(torch.randn(len(real), self.latent_dim))
        generator_loss.backward()
        self.generator_optimizer.step()
        self.average.update()
        return discriminator_loss.item(), generator_loss.item()

    def discriminator_loss(self, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """E D(G(z)) - E D(x) + lambda E (||grad D(x_hat)|| - 1)^2 + epsilon E D(x)^2; mix, (batch, 1, 1, 1)."""
        with self.autocast():
            between = (real + mix * (fake - real)).requires_grad_()
            (gradient,) = torch.autograd.grad(self.discriminator(between).sum(), between, create_graph=True)
            penalty = (gradient.flatten(1).norm(2, dim=1) - 1.0).square().mean()
            scores = self.discriminator(real)
            distance = self.discriminator(fake).mean() - scores.mean()
            return distance + PENALTY_WEIGHT * penalty + DRIFT * scores.square().mean()

    def generator_loss(self, latents: Tensor) -> Tensor:
        """-E D(G(z))."""
        with self.autocast():
            return -self.discriminator(self.generator(latents)).mean()

    def autocast(self) -> torch.autocast:
        """What forward passes and losses run under."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)
