"""CycleGAN in PyTorch, as the authors' repository builds and trains it; no bias where a norm takes it away again."""

import random
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

CYCLE_WEIGHT, IDENTITY_WEIGHT = 10.0, 5.0
POOL_SIZE = 50


class ResidualBlock(nn.Module):
    """(batch, width, height, side) -> the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=False),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return x + self.residual(x)


def translator(channels: int, width: int, blocks: int) -> nn.Sequential:
    """(batch, channels, height, width) -> the same shape, in [-1, 1]."""
    down = [
        layer
        for factor in (1, 2)
        for layer in (
            nn.Conv2d(factor * width, 2 * factor * width, 3, 2, 1, bias=False),
            nn.InstanceNorm2d(2 * factor * width),
            nn.ReLU(inplace=True),
        )
    ]
    up = [
        layer
        for factor in (2, 1)
        for layer in (
            nn.ConvTranspose2d(2 * factor * width, factor * width, 3, 2, 1, output_padding=1, bias=False),
            nn.InstanceNorm2d(factor * width),
            nn.ReLU(inplace=True),
        )
    ]
    first = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7, bias=False), nn.InstanceNorm2d(width), nn.ReLU(True)]
    last = [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()]
    return nn.Sequential(*first, *down, *(ResidualBlock(4 * width) for _ in range(blocks)), *up, *last)


def discriminator(channels: int, width: int, halvings: int) -> nn.Sequential:
    """(batch, channels, height, width) -> logits of patches (batch, 1, rows, columns)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for number in range(1, halvings + 1):
        before, after = width * min(2 ** (number - 1), 8), width * min(2**number, 8)
        layers += [
            nn.Conv2d(before, after, 4, 2 if number < halvings else 1, 1, bias=False),
            nn.InstanceNorm2d(after),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(width * min(2**halvings, 8), 1, 4, 1, 1))


class ImagePool:
    """Earlier fakes, of which half of those that are asked for come back."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def query(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> likewise."""
        given = []
        for image in images.detach():
            if len(self.images) < POOL_SIZE:
                self.images.append(image)
                given.append(image)
            elif random.random() > 0.5:
                index = random.randrange(POOL_SIZE)
                given.append(self.images[index])
                self.images[index] = image
            else:
                given.append(image)
        return torch.stack(given)


class TrainStep:
    """Networks, losses and optimizers; called with images of both collections, it trains one step."""

    def __init__(
        self,
        image_shape: Sequence[int],
        width: int = 64,
        blocks: int | None = None,
        discriminator_width: int = 64,
        *,
        bfloat16: bool = False,
    ):
        channels, blocks = image_shape[-1], blocks or 6
        halvings = 3 if image_shape[0] >= 128 else 2
        self.bfloat16 = bfloat16
        self.a_to_b, self.b_to_a = (translator(channels, width, blocks) for _ in range(2))
        self.discriminator_a, self.discriminator_b = (
            discriminator(channels, discriminator_width, halvings) for _ in range(2)
        )
        self.networks = {
            "a_to_b": self.a_to_b,
            "b_to_a": self.b_to_a,
            "discriminator_a": self.discriminator_a,
            "discriminator_b": self.discriminator_b,
        }
        for module in chain.from_iterable(network.modules() for network in self.networks.values()):
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        of_translators = chain(self.a_to_b.parameters(), self.b_to_a.parameters())
        of_discriminators = chain(self.discriminator_a.parameters(), self.discriminator_b.parameters())
        self.translators_optimizer = torch.optim.Adam(of_translators, 2e-4, (0.5, 0.999))
        self.discriminators_optimizer = torch.optim.Adam(of_discriminators, 2e-4, (0.5, 0.999))
        self.pool_a, self.pool_b = ImagePool(), ImagePool()

    def __call__(self, a: Tensor, b: Tensor) -> tuple[float, float]:
        """One step on images (batch, channels, height, width) of each collection; returns both losses."""
        for network in (self.discriminator_a, self.discriminator_b):
            network.requires_grad_(False)  # spares its gradients by the weights
        self.translators_optimizer.zero_grad()
        loss, fake_a, fake_b = self.translator_loss(a, b)
        loss.backward()
        self.translators_optimizer.step()

        for network in (self.discriminator_a, self.discriminator_b):
            network.requires_grad_(True)
        self.discriminators_optimizer.zero_grad()
        losses = self.discriminator_loss(a, b, self.pool_a.query(fake_a), self.pool_b.query(fake_b))
        losses.backward()
        self.discriminators_optimizer.step()
        return loss.item(), losses.item()

    def translator_loss(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss of both translators, F(b) and G(a)."""
        with self.autocast():
            fake_b, fake_a = self.a_to_b(a), self.b_to_a(b)
            cycle = l1_loss(self.b_to_a(fake_b).float(), a) + l1_loss(self.a_to_b(fake_a).float(), b)
            identity = l1_loss(self.b_to_a(a).float(), a) + l1_loss(self.a_to_b(b).float(), b)
            logits = self.discriminator_a(fake_a).float(), self.discriminator_b(fake_b).float()
            adversarial = sum(mse_loss(each, torch.ones_like(each)) for each in logits)
        return adversarial + CYCLE_WEIGHT * cycle + IDENTITY_WEIGHT * identity, fake_a, fake_b

    def discriminator_loss(self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor) -> Tensor:
        """The mean loss of both discriminators."""
        loss = torch.zeros(())
        pairs = ((self.discriminator_a, a, fake_a), (self.discriminator_b, b, fake_b))
        with self.autocast():
            for network, real, fake in pairs:
                real_logits, fake_logits = network(real).float(), network(fake).float()
                of_real = mse_loss(real_logits, torch.ones_like(real_logits))
                loss = loss + 0.5 * (of_real + mse_loss(fake_logits, torch.zeros_like(fake_logits)))
        return loss

    def autocast(self) -> torch.autocast:
        """What forward passes and losses run under."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)
