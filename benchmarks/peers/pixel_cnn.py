"""A gated PixelCNN in PyTorch, its maps padded on the side of the past; sampled by a pass of the network a pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

FIRST_KERNEL = 7


def gate(maps: Tensor) -> Tensor:
    """tanh(a) sigmoid(b), a and b the halves of the channels."""
    a, b = maps.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedBlock(nn.Module):
    """(vertical, horizontal) -> both, and what the skip connection takes; the last block makes that alone."""

    def __init__(self, channels: int, filters: int, kernel: int, residual: bool, last: bool):
        super().__init__()
        self.depth, self.side, self.residual, self.last = (kernel + 1) // 2, kernel // 2, residual, last
        self.vertical = nn.Conv2d(channels, 2 * filters, (self.depth, kernel))
        self.link = nn.Conv2d(2 * filters, 2 * filters, 1)
        self.horizontal = nn.Conv2d(channels, 2 * filters, (1, self.depth))
        self.out = nn.Conv2d(filters, filters if last else 2 * filters, 1)

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (batch, channels, height, width)."""
        rows = self.vertical(pad(vertical, (self.side, self.side, self.depth - 1, 0)))
        out = self.out(gate(self.horizontal(pad(horizontal, (self.depth - 1, 0, 0, 0))) + self.link(rows)))
        if self.last:
            return rows, horizontal, out
        added, skip = out.chunk(2, dim=1)
        return gate(rows), horizontal + added if self.residual else added, skip


class PixelCNN(nn.Module):
    """values (batch, 1, height, width) in [-1, 1] -> logits (batch, levels, height, width)."""

    def __init__(self, levels: int, filters: int, blocks: int, kernel: int):
        super().__init__()
        kernels = [FIRST_KERNEL, *[kernel] * (blocks - 1)]
        self.blocks = nn.ModuleList(
            GatedBlock(filters if number else 1, filters, size, number > 0, number == blocks - 1)
            for number, size in enumerate(kernels)
        )
        self.hidden, self.logits = nn.Conv2d(filters, filters, 1), nn.Conv2d(filters, levels, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Logits of each pixel, given those before it."""
        vertical, horizontal = pad(values[:, :, :-1], (0, 0, 1, 0)), pad(values[:, :, :, :-1], (1, 0, 0, 0))
        skips = []
        for block in self.blocks:
            vertical, horizontal, skip = block(vertical, horizontal)
            skips.append(skip)
        return self.logits(relu(self.hidden(relu(sum(skips)))))

    @torch.no_grad()
    def sample(self, uniform: Tensor) -> Tensor:
        """uniform (batch, 1, height, width) -> values likewise: the whole network for every pixel."""
        values = torch.zeros_like(uniform)
        levels = self.logits.out_channels
        for row in range(uniform.shape[2]):
            for column in range(uniform.shape[3]):
                probabilities = self(values)[:, :, row, column].softmax(1)
                codes = (probabilities.cumsum(1)[:, :-1] <= uniform[:, :, row, column]).sum(1)
                values[:, 0, row, column] = codes * (2.0 / (levels - 1)) - 1.0
        return values


class TrainStep:
    """One update.

    Args:
        image_shape: (height, width, 1).
        levels: of a pixel.
        filters: channels of both stacks.
        blocks: gated layers.
        kernel: of all but the first.
        bfloat16: run forward passes under `torch.autocast`; the loss is float32.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        levels: int = 2,
        filters: int = 32,
        blocks: int = 7,
        kernel: int = 5,
        *,
        bfloat16: bool = False,
    ):
        self.levels, self.size, self.bfloat16 = levels, tuple(image_shape[:2]), bfloat16
        self.network = PixelCNN(levels, filters, blocks, kernel)
        self.networks = {"pixel_cnn": self.network}
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-3, (0.9, 0.999))

    def __call__(self, images: Tensor) -> tuple[float]:
        """One step on images (batch, 1, height, width) in [-1, 1]; returns the loss."""
        self.optimizer.zero_grad()
        loss = self.loss(images)
        loss.backward()
        self.optimizer.step()
        return (loss.item(),)

    def sample(self, count: int) -> Tensor:
        """Images, (count, 1, height, width) in [-1, 1]."""
        return self.network.sample(torch.rand(count, 1, *self.size))

    def loss(self, images: Tensor) -> Tensor:
        """-log p(x), nats, the mean over the batch; of two levels, pixels above 0 are the upper one."""
        codes = (images > 0).long() if self.levels == 2 else ((images + 1) * ((self.levels - 1) / 2) + 0.5).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits = self.network(codes.to(images.dtype) * (2.0 / (self.levels - 1)) - 1.0)
        return cross_entropy(logits.to(images.dtype), codes[:, 0], reduction="sum") / len(images)
