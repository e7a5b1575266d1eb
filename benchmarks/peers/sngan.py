"""SN-GAN in PyTorch: residual networks, `spectral_norm` on every kernel of the discriminator, the hinge loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils.parametrizations import spectral_norm

BASE, PLAIN_SIDE, PLAIN_BLOCKS = 4, 8, 2


class UpBlock(nn.Module):
    """(batch, channels, side, side) -> (batch, width, 2 side, 2 side)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.Upsample(scale_factor=2))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return self.residual(x) + self.shortcut(x)


class DownBlock(nn.Module):
    """(batch, channels, side, side) -> (batch, width, side / 2, side / 2); an image is not rectified at first."""

    def __init__(self, channels: int, width: int, *, first: bool):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Identity() if first else nn.ReLU(),
            spectral_norm(nn.Conv2d(channels, width, 3, padding=1)),
            nn.ReLU(),
            spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
            nn.AvgPool2d(2),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), spectral_norm(nn.Conv2d(channels, width, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return self.residual(x) + self.shortcut(x)


class PlainBlock(nn.Module):
    """(batch, width, side, side) -> the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.ReLU(),
            spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
            nn.ReLU(),
            spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return self.residual(x) + x


class Generator(nn.Module):
    """latent (batch, latent_dim) -> image (batch, channels, image_size, image_size) in [-1, 1]."""

    def __init__(self, image_size: int, channels: int, latent_dim: int, width: int):
        super().__init__()
        doublings = (image_size // BASE).bit_length() - 1
        self.project = nn.Linear(latent_dim, width * BASE * BASE)
        self.blocks = nn.Sequential(*(UpBlock(width, width) for _ in range(doublings)))
        self.pixels = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()
        )

    def forward(self, latents: Tensor) -> Tensor:
        """G(z)."""
        maps = self.project(latents).unflatten(1, (-1, BASE, BASE))
        return self.pixels(self.blocks(maps))


class Discriminator(nn.Module):
    """image (batch, channels, image_size, image_size) in [-1, 1] -> logit (batch, 1)."""

    def __init__(self, image_size: int, channels: int, width: int):
        super().__init__()
        halvings = (image_size // PLAIN_SIDE).bit_length() - 1
        down = [DownBlock(width if number else channels, width, first=not number) for number in range(halvings)]
        self.blocks = nn.Sequential(*down, *(PlainBlock(width) for _ in range(PLAIN_BLOCKS)))
        self.logit = spectral_norm(nn.Linear(width, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        """D(x)."""
        return self.logit(relu(self.blocks(images)).sum((2, 3)))


class TrainStep:
    """One update of D, then one of G on fresh fakes.

    Args:
        image_shape: (size, size, channels).
        latent_dim: length of a latent vector.
        width: channels of every map.
        bfloat16: run forward passes and losses under `torch.autocast`.
    """

    def __init__(self, image_shape: Sequence[int], latent_dim: int = 128, width: int = 32, *, bfloat16: bool = False):
        size, _, channels = image_shape
        self.latent_dim, self.bfloat16 = latent_dim, bfloat16
        self.generator = Generator(size, channels, latent_dim, width)
        self.discriminator = Discriminator(size, channels, width)
        self.networks = {"discriminator": self.discriminator, "generator": self.generator}
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), 2e-4, (0.0, 0.9))
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), 2e-4, (0.0, 0.9))

    def __call__(self, real: Tensor) -> tuple[float, float]:
        """One step on real (batch, channels, height, width); returns both losses."""
        with torch.no_grad(), self.autocast():
            fake = self.generator(torch.randn(len(real), self.latent_dim))
        self.discriminator_optimizer.zero_grad()
        discriminator_loss = self.discriminator_loss(real, fake)
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        self.generator_optimizer.zero_grad()
        generator_loss = self.generator_loss(torch.randn(len(real), self.latent_dim))
        generator_loss.backward()
        self.generator_optimizer.step()
        return discriminator_loss.item(), generator_loss.item()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))."""
        with self.autocast():
            return relu(1.0 - self.discriminator(real)).mean() + relu(1.0 + self.discriminator(fake)).mean()

    def generator_loss(self, latents: Tensor) -> Tensor:
        """-E D(G(z))."""
        with self.autocast():
            return -self.discriminator(self.generator(latents)).mean()

    def autocast(self) -> torch.autocast:
        """What forward passes and losses run under."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)
