"""PyTorch's DCGAN example (pytorch/examples, dcgan/main.py), in our own words and with our networks' biases.

The layers are the example's: a latent is projected to 4x4 and doubled up to the image. It leaves out three biases
that Keras' pair has (of the images, of the first map, of the logit); here they are in, and the logit stays bare
until the loss, so that both sides train the same function.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

KERNEL, BASE, WIDEST = 4, 4, 8
WIDTH = 64  # the example's
REAL, FAKE = 1.0, 0.0


def map_channels(image_size: int, width: int) -> list[int]:
    """Channels of the maps from half the image's size down to 4x4."""
    return [width * min(2**stage, WIDEST) for stage in range((image_size // BASE).bit_length() - 1)]


def generator(image_size: int, channels: int, latent_dim: int, width: int) -> nn.Sequential:
    """latent (batch, latent_dim, 1, 1) -> image (batch, channels, image_size, image_size) in [-1, 1]."""
    widths = map_channels(image_size, width)[::-1]
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, widths[0], KERNEL, 1, 0, bias=False)]
    for count, following in zip(widths, [*widths[1:], None], strict=True):
        layers += [nn.BatchNorm2d(count), nn.ReLU(inplace=True)]
        if following is not None:
            layers.append(nn.ConvTranspose2d(count, following, KERNEL, 2, 1, bias=False))
    layers += [nn.ConvTranspose2d(widths[-1], channels, KERNEL, 2, 1), nn.Tanh()]
    return nn.Sequential(*layers).apply(start)


def discriminator(image_size: int, channels: int, width: int) -> nn.Sequential:
    """image (batch, channels, image_size, image_size) in [-1, 1] -> logit (batch, 1, 1, 1)."""
    widths = map_channels(image_size, width)
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], KERNEL, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for count, following in pairwise(widths):
        layers += [nn.Conv2d(count, following, KERNEL, 2, 1, bias=False), nn.BatchNorm2d(following)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    layers.append(nn.Conv2d(widths[-1], 1, KERNEL, 1, 0))
    return nn.Sequential(*layers).apply(start)


def start(layer: nn.Module) -> None:
    """N(0, 0.02) for kernels, N(1, 0.02) for the scales of batch norm, 0 for biases."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
        nn.init.normal_(layer.weight, 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class TrainStep:
    """The example's iteration: the fakes are drawn once, for both updates.

    Args:
        image_shape: (size, size, channels).
        latent_dim: length of a latent vector.
        width: channels of the largest map.
        bfloat16: run forward passes and losses under `torch.autocast`.
        channels_last: keep maps and kernels in that memory format.
        compiled: run both networks through `torch.compile`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 100,
        width: int = WIDTH,
        *,
        bfloat16: bool = False,
        channels_last: bool = False,
        compiled: bool = False,
    ):
        size, _, channels = image_shape
        self.latent_dim, self.bfloat16 = latent_dim, bfloat16
        self.generator = generator(size, channels, latent_dim, width)
        self.discriminator = discriminator(size, channels, width)
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        if channels_last:
            for network in self.networks.values():
                network.to(memory_format=torch.channels_last)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), 2e-4, (0.5, 0.999))
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), 2e-4, (0.5, 0.999))
        self.generate = torch.compile(self.generator, dynamic=False) if compiled else self.generator
        self.discriminate = torch.compile(self.discriminator, dynamic=False) if compiled else self.discriminator

    def __call__(self, real: Tensor) -> tuple[float, float]:
        """One step on real (batch, channels, height, width); returns both losses."""
        self.discriminator_optimizer.zero_grad()
        real_loss = self.loss(real, REAL)
        real_loss.backward()
        with self.autocast():
            fake = self.generate(torch.randn(len(real), self.latent_dim, 1, 1))
        fake_loss = self.loss(fake.detach(), FAKE)
        fake_loss.backward()
        self.discriminator_optimizer.step()

        self.generator_optimizer.zero_grad()
        generator_loss = self.loss(fake, REAL)
        generator_loss.backward()
        self.generator_optimizer.step()
        return (real_loss + fake_loss).item(), generator_loss.item()

    def loss(self, images: Tensor, label: float) -> Tensor:
        """Binary cross-entropy of D's logits with one label for all."""
        with self.autocast():
            logits = self.discriminate(images).flatten()
            return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    def autocast(self) -> torch.autocast:
        """What forward passes run under."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)
