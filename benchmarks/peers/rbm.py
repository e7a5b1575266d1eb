"""A restricted Boltzmann machine in PyTorch: contrastive divergence, from the images or persistent, by autograd."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class RBM(nn.Module):
    """E(v, h) = -b v - c h - v W h of units in {0, 1}."""

    def __init__(self, pixels: int, units: int):
        super().__init__()
        self.weights = nn.Parameter(0.01 * torch.randn(pixels, units))
        self.visible_bias, self.hidden_bias = nn.Parameter(torch.zeros(pixels)), nn.Parameter(torch.zeros(units))

    def hidden_logits(self, visible: Tensor) -> Tensor:
        """v (batch, pixels) -> logits of p(h|v), (batch, units)."""
        return torch.addmm(self.hidden_bias, visible, self.weights)

    def visible_logits(self, hidden: Tensor) -> Tensor:
        """h (batch, units) -> logits of p(v|h), (batch, pixels)."""
        return torch.addmm(self.visible_bias, hidden, self.weights.t())

    def free_energy(self, visible: Tensor) -> Tensor:
        """F(v), (batch,)."""
        return -visible @ self.visible_bias - softplus(self.hidden_logits(visible)).sum(1)

    @torch.no_grad()
    def gibbs(self, visible: Tensor, steps: int, uniforms: Iterator[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """v after so many steps of Gibbs sampling from v; uniforms (of h, of v) are drawn where they are not given."""
        for uniform in uniforms or repeat(None, steps):
            hidden = draw(self.hidden_logits(visible), uniform and uniform[0])
            visible = draw(self.visible_logits(hidden), uniform and uniform[1])
        return visible

    def sample(self, count: int, steps: int) -> Tensor:
        """The mean of p(v|h) in the last of so many steps, of which the first draws v from no hidden unit at all."""
        hidden = self.hidden_bias.new_zeros(count, len(self.hidden_bias))
        for _ in range(steps - 1):
            hidden = draw(self.hidden_logits(draw(self.visible_logits(hidden))))
        return self.visible_logits(hidden).sigmoid()


def draw(logits: Tensor, uniform: Tensor | None = None) -> Tensor:
    """1 where u < sigmoid(logit), else 0."""
    return ((torch.rand_like(logits) if uniform is None else uniform) < logits.sigmoid()).to(logits.dtype)


class TrainStep:
    """One update.

    Args:
        image_shape: (height, width, channels).
        units: hidden units.
        gibbs_steps: of contrastive divergence.
        persistent: whether samples go on from those of the step before instead of from the images.
        chains: samples that are kept, where persistent: as many as rows of a batch, or more.
        sampling_steps: steps of Gibbs sampling of a sample.
        bfloat16: run the products of the update under `torch.autocast`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        units: int = 500,
        gibbs_steps: int = 1,
        persistent: bool = False,
        chains: int = 100,
        sampling_steps: int = 1_000,
        *,
        bfloat16: bool = False,
    ):
        pixels = prod(image_shape)
        self.gibbs_steps, self.sampling_steps, self.bfloat16 = gibbs_steps, sampling_steps, bfloat16
        self.chains, self.first = torch.zeros(chains, pixels) if persistent else None, 0
        self.network = RBM(pixels, units)
        self.networks = {"machine": self.network}
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.05)

    def __call__(self, images: Tensor, uniforms: Iterator[tuple[Tensor, Tensor]] | None = None) -> tuple[float]:
        """One step on images (batch, channels, height, width) in [-1, 1]; returns the loss."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss = self.loss(0.5 * (images.flatten(1) + 1.0), uniforms)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return (loss.item(),)

    def loss(self, visible: Tensor, uniforms: Iterator[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """F(v) - F(v'), v' the samples, which the chains keep: the mean over the batch of v, (batch, pixels)."""
        if self.chains is None:
            samples = self.network.gibbs(visible, self.gibbs_steps, uniforms)
        else:
            rows = (torch.arange(len(visible)) + self.first) % len(self.chains)
            samples = self.network.gibbs(self.chains[rows], self.gibbs_steps, uniforms)
            self.chains[rows], self.first = samples.to(self.chains.dtype), (self.first + len(rows)) % len(self.chains)
        return (self.network.free_energy(visible) - self.network.free_energy(samples)).mean()

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Images, (count, pixels) from 0 to 1."""
        return self.network.sample(count, self.sampling_steps)
