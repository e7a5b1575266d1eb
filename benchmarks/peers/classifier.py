"""A small VGG with batch norm in PyTorch, on images that are shifted and mirrored at random."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STAGES = 3
SHIFT = 0.1  # of the side
BLACK = -1.0


class Classifier(nn.Module):
    """image (batch, channels, height, width) in [-1, 1] -> logits (batch, classes)."""

    def __init__(self, channels: int, classes: int, width: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        for stage in range(STAGES):
            if stage:
                layers.append(nn.AvgPool2d(2))
            for _ in range(2):
                layers.append(nn.Conv2d(channels, width * 2**stage, 3, padding=1, bias=False))
                channels = width * 2**stage
                layers += [nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        return self.logits(self.dropout(self.layers(images)))


class TrainStep:
    """One update.

    Args:
        image_shape: (height, width, channels).
        classes: their names.
        width: channels of the first maps.
        dropout: of the features.
        bfloat16: run forward pass and loss under `torch.autocast`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: Sequence[str],
        width: int = 32,
        dropout: float = 0.3,
        *,
        bfloat16: bool = False,
    ):
        self.bfloat16 = bfloat16
        self.classifier = Classifier(image_shape[-1], len(classes), width, dropout)
        self.networks = {"classifier": self.classifier}
        self.optimizer = torch.optim.Adam(self.classifier.parameters(), 1e-3, (0.9, 0.999))

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[float]:
        """One step on images (batch, channels, height, width) and labels (batch,); returns the loss."""
        self.optimizer.zero_grad()
        loss = self.loss(augment(images), labels)
        loss.backward()
        self.optimizer.step()
        return (loss.item(),)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The cross-entropy, the mean over the batch."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return nn.functional.cross_entropy(self.classifier(images), labels, label_smoothing=0.1)


def augment(images: Tensor) -> Tensor:
    """Each image moved by whole pixels, up to a tenth of its side either way, and every second one mirrored."""
    count, _, height, width = images.shape
    down, right = round(SHIFT * height), round(SHIFT * width)
    padded = nn.functional.pad(images, (right, right, down, down), value=BLACK)
    rows = torch.randint(2 * down + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(2 * right + 1, (count, 1)) + torch.arange(width)
    each = torch.arange(count)[:, None, None]
    moved = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, moved.flip(3), moved)
