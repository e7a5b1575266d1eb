"""WGAN-GP in PyTorch, as common repositories have it: DCGAN's generator, a critic with layer norm, a double backward.

Layer norm over a whole row, with a scale and a shift per channel, is PyTorch's `GroupNorm` of one group.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.peers.dcgan import KERNEL, generator, map_channels, start

PENALTY_WEIGHT = 10.0


def critic(image_size: int, channels: int, width: int) -> nn.Sequential:
    """image (batch, channels, image_size, image_size) in [-1, 1] -> score (batch, 1, 1, 1)."""
    widths = map_channels(image_size, width)
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], KERNEL, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    for count, following in pairwise(widths):
        layers += [nn.Conv2d(count, following, KERNEL, 2, 1, bias=False), nn.GroupNorm(1, following)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    layers.append(nn.Conv2d(widths[-1], 1, KERNEL, 1, 0, bias=False))
    return nn.Sequential(*layers).apply(start)


class TrainStep:
    """Algorithm 1: `critic_steps` updates of the critic, each on images and latents of its own, then one of G.

    Args:
        image_shape: (size, size, channels).
        latent_dim: length of a latent vector.
        width: channels of the largest map.
        critic_steps: n_critic.
        bfloat16: run forward passes and losses under `torch.autocast`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 100,
        width: int = 64,
        critic_steps: int = 5,
        *,
        bfloat16: bool = False,
    ):
        size, _, channels = image_shape
        self.latent_dim, self.critic_steps, self.bfloat16 = latent_dim, critic_steps, bfloat16
        self.generator = generator(size, channels, latent_dim, width)
        self.critic = critic(size, channels, width)
        self.networks = {"critic": self.critic, "generator": self.generator}
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), 1e-4, (0.0, 0.9))
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), 1e-4, (0.0, 0.9))

    def __call__(self, images: Tensor) -> tuple[float, float]:
        """One step on images (critic_steps, batch, channels, height, width); returns the last losses."""
        self.critic.requires_grad_(True)
        for real in images:
            with torch.no_grad(), self.autocast():
                fake = self.generator(self.latents(len(real)))
            self.critic_optimizer.zero_grad()
            critic_loss = self.critic_loss(real, fake, torch.rand(len(real), 1, 1, 1))
            critic_loss.backward()
            self.critic_optimizer.step()

        self.critic.requires_grad_(False)  # spares its gradients by the weights
        self.generator_optimizer.zero_grad()
        generator_loss = self.generator_loss(self.latents(images.shape[1]))
        generator_loss.backward()
        self.generator_optimizer.step()
        return critic_loss.item(), generator_loss.item()

    def critic_loss(self, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """E D(G(z)) - E D(x) + lambda E (||grad D(x_hat)|| - 1)^2; mix, (batch, 1, 1, 1): how far x_hat is from x."""
        with self.autocast():
            between = (real + mix * (fake - real)).requires_grad_()
            scores = self.critic(between)
            (gradient,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
            penalty = (gradient.flatten(1).norm(2, dim=1) - 1.0).square().mean()
            return self.critic(fake).mean() - self.critic(real).mean() + PENALTY_WEIGHT * penalty

    def generator_loss(self, latents: Tensor) -> Tensor:
        """-E D(G(z))."""
        with self.autocast():
            return -self.critic(self.generator(latents)).mean()

    def latents(self, count: int) -> Tensor:
        """Standard normal (count, latent_dim, 1, 1)."""
        return torch.randn(count, self.latent_dim, 1, 1)

    def autocast(self) -> torch.autocast:
        """What forward passes and losses run under."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)
