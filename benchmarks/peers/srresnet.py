"""SRResNet's generator in PyTorch: `nn.PixelShuffle`, a PReLU for each channel."""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """(batch, width, height, width of the maps) -> the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both branches."""
        return x + self.residual(x)


class Generator(nn.Module):
    """(batch, channels, height, width) -> (batch, channels, scale height, scale width), unbounded."""

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 16, scale: int = 4):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU(width))
        self.blocks = nn.Sequential(
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        stages = [
            layer
            for _ in range(scale.bit_length() - 1)
            for layer in (nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(width))
        ]
        self.last = nn.Sequential(*stages, nn.Conv2d(width, channels, 9, padding=4))

    def forward(self, x: Tensor) -> Tensor:
        """Low resolution -> high."""
        x = self.first(x)
        return self.last(x + self.blocks(x))


def generator(channels: int = 3, width: int = 64, blocks: int = 16, scale: int = 4) -> nn.Module:
    """In evaluation mode, without gradients."""
    torch.manual_seed(0)
    return Generator(channels, width, blocks, scale).eval()
