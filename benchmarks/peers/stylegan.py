"""StyleGAN in PyTorch at its highest resolution: styles by instance norm, bilinear filters, R1 every so many steps.

A filter is a convolution of each channel by itself. `StyleTrainStep` is the step of StyleGAN2, too.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its name in PyTorch's world)

from benchmarks.peers import progan
from benchmarks.peers.progan import (
    LEAK,
    START_SIZE,
    EqualConv2d,
    EqualLinear,
    MovingAverage,
    PixelNorm,
    channels_of,
    double,
    sizes_of,
)

RATE, MIXING, MEAN_DECAY = 0.01, 0.9, 0.995


class Blur(nn.Module):
    """A low-pass filter of these taps along each side, with zeros around the maps."""

    def __init__(self, taps: Sequence[float] = (1, 2, 1), padding: int = 1, gain: float = 1.0):
        super().__init__()
        line = torch.tensor(taps, dtype=torch.float32)
        self.register_buffer("kernel", gain * torch.outer(line, line)[None, None] / line.sum() ** 2)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Each channel filtered."""
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, -1, -1, -1).to(x.dtype), padding=self.padding, groups=channels)


class Noise(nn.Module):
    """Noise by a strength, for each channel or (`per_channel` False) for all, and a bias."""

    def __init__(self, channels: int, *, per_channel: bool = True):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1) if per_channel else torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x + B noise + b."""
        return x + self.strength * noise + self.bias


class AdaIN(nn.Module):
    """Instance norm, then a scale and a shift by a style."""

    def __init__(self, channels: int, style_dim: int):
        super().__init__()
        self.affine = EqualLinear(style_dim, 2 * channels, gain=1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(1 + y_s) norm(x) + y_b."""
        scale, bias = self.affine(style)[..., None, None].chunk(2, 1)
        return (1.0 + scale) * F.instance_norm(x, eps=1e-8) + bias


class StyledLayer(nn.Module):
    """A convolution (none from 0 channels), noise, bias, leaky ReLU, style; `up` doubles the maps before."""

    def __init__(self, channels: int, filters: int, style_dim: int, *, up: bool = False):
        super().__init__()
        self.convolution = EqualConv2d(channels, filters, 3, bias=False) if channels else nn.Identity()
        self.blur = Blur() if up else nn.Identity()
        self.up, self.noise, self.style = up, Noise(filters), AdaIN(filters, style_dim)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """(batch, channels, side, side) -> (batch, filters, side, side), or of twice the side."""
        x = self.blur(self.convolution(double(x) if self.up else x))
        return self.style(F.leaky_relu(self.noise(x, noise), LEAK), style)


class Mapping(nn.Sequential):
    """z (batch, latent_dim) -> w (batch, style_dim)."""

    def __init__(self, latent_dim: int, style_dim: int, depth: int):
        widths = [latent_dim, *[style_dim] * (depth - 1)]
        layers = [[EqualLinear(width, style_dim, rate=RATE), nn.LeakyReLU(LEAK)] for width in widths]
        super().__init__(PixelNorm(), *(module for pair in layers for module in pair))


class Generator(nn.Module):
    """styles (batch, layers, style_dim), noise for each layer -> image (batch, channels, image_size, image_size)."""

    def __init__(self, image_size: int, colors: int, latent_dim: int, style_dim: int, depth: int, base: int, most: int):
        super().__init__()
        self.mapping = Mapping(latent_dim, style_dim, depth)
        self.register_buffer("mean_latent", torch.zeros(style_dim))
        sizes = sizes_of(image_size)
        self.style_count = 2 * len(sizes)
        self.add_synthesis([channels_of(size, base, most) for size in sizes], colors, style_dim)
        self.noise_sizes = [size for size in sizes for _ in range(2)][-len(self.layers) :]

    def add_synthesis(self, widths: Sequence[int], colors: int, style_dim: int) -> None:
        """The layers that draw the image; `widths`: channels of each size."""
        self.constant = nn.Parameter(torch.randn(1, widths[0], START_SIZE, START_SIZE))
        self.layers = nn.ModuleList()
        for before, width in zip([0, *widths], widths, strict=False):
            self.layers.append(StyledLayer(before, width, style_dim, up=before > 0))
            self.layers.append(StyledLayer(width, width, style_dim))
        self.to_rgb = nn.ModuleList(EqualConv2d(width, colors, 1, gain=1.0) for width in widths)

    def forward(self, styles: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """g(w)."""
        x = self.constant.expand(len(styles), -1, -1, -1)
        for layer, style, each in zip(self.layers, styles.unbind(1), noise, strict=True):
            x = layer(x, style, each)
        return self.to_rgb[-1](x)

    def draw_styles(self, latents: Tensor, others: Tensor) -> Tensor:
        """A style for each layer, from some layer on those of the others in most steps; moves the mean style."""
        first = self.mapping(latents)
        self.mean_latent.lerp_(first.detach().mean(0).to(self.mean_latent.dtype), 1.0 - MEAN_DECAY)
        styles = first[:, None].repeat(1, self.style_count, 1)
        if random.random() < MIXING:
            cut = random.randint(1, self.style_count - 1)
            styles = torch.cat([styles[:, :cut], self.mapping(others)[:, None].expand_as(styles)[:, cut:]], 1)
        return styles

    def draw_noise(self, rows: int) -> list[Tensor]:
        """Standard normal maps."""
        return [torch.randn(rows, 1, size, size) for size in self.noise_sizes]


def halving_block(channels: int, filters: int) -> nn.Sequential:
    """(batch, channels, side, side) -> (batch, filters, side / 2, side / 2)."""
    first, second = EqualConv2d(channels, channels, 3), EqualConv2d(channels, filters, 3)
    return nn.Sequential(first, nn.LeakyReLU(LEAK), Blur(), second, nn.AvgPool2d(2), nn.LeakyReLU(LEAK))


class Discriminator(progan.Discriminator):
    """Progressive GAN's with a filter where maps are halved."""

    halving_block = staticmethod(halving_block)


class StyleTrainStep:
    """D on images and fakes, then G on the same fakes; each once more by its penalty, where it is due.

    Args:
        generator: g and f.
        discriminator: D.
        latent_dim: length of z.
        learning_rate: of both, before what a penalty's updates take off.
        r1_weight: gamma.
        r1_interval: steps from one penalty of D to the next.
        path_length_weight: of G's penalty.
        path_length_interval: steps from one to the next.
        bfloat16: run forward passes and losses under `torch.autocast`.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: int,
        learning_rate: float,
        r1_weight: float,
        r1_interval: int,
        path_length_weight: float,
        path_length_interval: int,
        bfloat16: bool,
    ):
        self.generator, self.discriminator, self.latent_dim, self.bfloat16 = (
            *(generator, discriminator),
            *(latent_dim, bfloat16),
        )
        self.r1_weight, self.r1_interval = r1_weight, r1_interval
        self.path_length_weight, self.path_length_interval = path_length_weight, path_length_interval
        self.networks = {"discriminator": discriminator, "generator": generator}
        self.average = MovingAverage(generator)
        self.mean_path_length, self.done = torch.zeros(()), 0
        self.discriminator_optimizer = lazy_adam(discriminator, learning_rate, r1_interval if r1_weight else None)
        self.generator_optimizer = lazy_adam(
            generator, learning_rate, path_length_interval if path_length_weight else None
        )

    def __call__(self, real: Tensor) -> tuple[float, ...]:
        """One step on real (batch, channels, height, width); returns the losses."""
        with self.autocast():
            fake = self.draw_fakes(len(real))
        self.discriminator.requires_grad_(True)
        losses = [self.update(self.discriminator_optimizer, self.discriminator_loss(real, fake.detach()))]
        if self.r1_weight and self.done % self.r1_interval == 0:
            losses.append(self.update(self.discriminator_optimizer, self.r1_loss(real)))
        self.discriminator.requires_grad_(False)  # spares its gradients by the weights
        losses.append(self.update(self.generator_optimizer, self.generator_loss(fake)))
        if self.path_length_weight and self.done % self.path_length_interval == 0:
            losses.append(self.update(self.generator_optimizer, self.draw_path_length_loss(len(real))))
        self.average.update()
        self.done += 1
        return tuple(losses)

    def update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        """One step down `loss`."""
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def draw_styles(self, rows: int) -> Tensor:
        """Of fresh latents."""
        return self.generator.draw_styles(torch.randn(rows, self.latent_dim), torch.randn(rows, self.latent_dim))

    def draw_fakes(self, rows: int) -> Tensor:
        """Images of fresh latents and noise."""
        return self.generator(self.draw_styles(rows), self.generator.draw_noise(rows))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E log D(x) - E log(1 - D(G(z)))."""
        with self.autocast():
            return F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake)).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """-E log D(G(z))."""
        with self.autocast():
            return F.softplus(-self.discriminator(fake)).mean()

    def r1_loss(self, real: Tensor) -> Tensor:
        """k gamma / 2 E ||grad D(x)||^2."""
        with self.autocast():
            real = real.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
            return 0.5 * self.r1_weight * self.r1_interval * gradient.square().sum((1, 2, 3)).mean()

    def draw_path_length_loss(self, rows: int) -> Tensor:
        """That of fresh latents and noise."""
        with self.autocast():
            styles = self.draw_styles(rows)
            images = self.generator(styles, self.generator.draw_noise(rows))
            return self.path_length_loss(styles, images, torch.randn_like(images))

    def path_length_loss(self, styles: Tensor, images: Tensor, direction: Tensor) -> Tensor:
        """k gamma_pl E (||J_w^T y|| - a)^2; images: of these styles, direction: standard normal of their shape."""
        with self.autocast():
            along = (images * direction / (images.shape[2] * images.shape[3]) ** 0.5).sum()
            (gradient,) = torch.autograd.grad(along, styles, create_graph=True)
            lengths = gradient.square().sum(2).mean(1).sqrt()
            self.mean_path_length = self.mean_path_length + 0.01 * (lengths.detach().mean() - self.mean_path_length)
            weight = self.path_length_weight * self.path_length_interval
            return weight * (lengths - self.mean_path_length).square().mean()

    def autocast(self) -> torch.autocast:
        """What forward passes and losses run under."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)


def lazy_adam(network: nn.Module, learning_rate: float, interval: int | None) -> torch.optim.Adam:
    """Adam(0, 0.99), as fast with one update more every `interval` steps."""
    share = interval / (interval + 1) if interval else 1.0
    return torch.optim.Adam(network.parameters(), learning_rate * share, (0.0, 0.99**share))


class TrainStep(StyleTrainStep):
    """StyleGAN's; see `StyleTrainStep` and `zoo.models.stylegan.StyleGAN` for the arguments."""

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 512,
        style_dim: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 8192,
        channel_max: int = 512,
        group_size: int | None = 4,
        r1_weight: float = 10.0,
        r1_interval: int = 16,
        *,
        bfloat16: bool = False,
    ):
        size, _, colors = image_shape
        generator = Generator(size, colors, latent_dim, style_dim, mapping_layers, channel_base, channel_max)
        discriminator = Discriminator(size, colors, channel_base, channel_max, group_size)
        super().__init__(generator, discriminator, latent_dim, 1e-3, r1_weight, r1_interval, 0.0, 1, bfloat16)
