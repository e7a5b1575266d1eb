"""A conditional GAN in PyTorch: DCGAN's layers, categorical batch norm in G, spectral norm and projection in D."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.peers.dcgan import BASE, KERNEL, map_channels


class CategoricalConditionalBatchNorm2d(nn.Module):
    """Batch norm with a scale and a shift for each class and channel."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """maps (batch, channels, height, width) and labels (batch,) -> the same shape as maps."""
        return self.norm(maps) * self.scale(labels)[:, :, None, None] + self.shift(labels)[:, :, None, None]


class Generator(nn.Module):
    """latent (batch, latent_dim), label (batch,) -> image (batch, channels, image_size, image_size) in [-1, 1]."""

    def __init__(self, image_size: int, channels: int, classes: int, latent_dim: int, width: int):
        super().__init__()
        widths = map_channels(image_size, width)[::-1]
        self.project = nn.Linear(latent_dim, widths[0] * BASE * BASE, bias=False)
        self.norms = nn.ModuleList(CategoricalConditionalBatchNorm2d(count, classes) for count in widths)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, KERNEL, 2, 1, bias=False) for a, b in pairwise(widths))
        self.pixels = nn.ConvTranspose2d(widths[-1], channels, KERNEL, 2, 1)
        self.apply(start)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """G(z, y)."""
        maps = self.project(latents).unflatten(1, (-1, BASE, BASE))
        for norm, up in zip(self.norms, [*self.ups, self.pixels], strict=True):
            maps = up(relu(norm(maps, labels)))
        return torch.tanh(maps)


class Discriminator(nn.Module):
    """image (batch, channels, image_size, image_size) in [-1, 1], label (batch,) -> logit (batch, 1)."""

    def __init__(self, image_size: int, channels: int, classes: int, width: int):
        super().__init__()
        widths = [channels, *map_channels(image_size, width)]
        self.downs = nn.ModuleList(nn.Conv2d(a, b, KERNEL, 2, 1) for a, b in pairwise(widths))
        self.psi = nn.Linear(widths[-1] * BASE * BASE, 1, bias=False)
        self.embedding = nn.Embedding(classes, widths[-1] * BASE * BASE)
        self.apply(start)
        for layer in (*self.downs, self.psi, self.embedding):
            spectral_norm(layer)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """psi(phi(x)) + y^T V phi(x)."""
        maps = images
        for down in self.downs:
            maps = leaky_relu(down(maps), 0.2)
        features = maps.flatten(1)
        return self.psi(features) + (self.embedding(labels) * features).sum(1, keepdim=True)


def start(layer: nn.Module) -> None:
    """N(0, 0.02) for kernels, 0 for biases."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class TrainStep:
    """One update of D, then one of G on the same fakes, scored again; fakes are of the images' classes.

    Args:
        image_shape: (size, size, channels).
        classes: their names.
        latent_dim: length of a latent vector.
        width: channels of the largest map.
        bfloat16: run forward passes and losses under `torch.autocast`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: Sequence[str],
        latent_dim: int = 100,
        width: int = 64,
        *,
        bfloat16: bool = False,
    ):
        size, _, channels = image_shape
        self.latent_dim, self.bfloat16 = latent_dim, bfloat16
        self.generator = Generator(size, channels, len(classes), latent_dim, width)
        self.discriminator = Discriminator(size, channels, len(classes), width)
        self.networks = {"discriminator": self.discriminator, "generator": self.generator}
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), 2e-4, (0.0, 0.9))
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), 2e-4, (0.0, 0.9))

    def __call__(self, real: Tensor, labels: Tensor) -> tuple[float, float]:
        """One step on real (batch, channels, height, width) and labels (batch,); returns both losses."""
        with self.autocast():
            fake = self.generator(torch.randn(len(real), self.latent_dim), labels)
        self.discriminator_optimizer.zero_grad()
        discriminator_loss = self.discriminator_loss(real, fake.detach(), labels)
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        self.generator_optimizer.zero_grad()
        generator_loss = self.generator_loss(fake, labels)
        generator_loss.backward()
        self.generator_optimizer.step()
        return discriminator_loss.item(), generator_loss.item()

    def discriminator_loss(self, real: Tensor, fake: Tensor, labels: Tensor) -> Tensor:
        """E max(0, 1 - D(x, y)) + E max(0, 1 + D(G(z, y), y))."""
        with self.autocast():
            real_logits, fake_logits = self.discriminator(real, labels), self.discriminator(fake, labels)
            return relu(1.0 - real_logits).mean() + relu(1.0 + fake_logits).mean()

    def generator_loss(self, fake: Tensor, labels: Tensor) -> Tensor:
        """-E D(G(z, y), y)."""
        with self.autocast():
            return -self.discriminator(fake, labels).mean()

    def autocast(self) -> torch.autocast:
        """What forward passes and losses run under."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)
