"""A convolutional VAE in PyTorch, with PixelCNN++'s discretized logistic in place of a Gaussian."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

KERNEL, STRIDE = 4, 2
FIRST_SCALE = 0.3  # of images in [-1, 1]
HALF_LEVEL = 1 / 255  # half of the distance between two gray levels, of images in [-1, 1]
LEAST_PROBABILITY = 1e-12


class Encoder(nn.Module):
    """image (batch, channels, height, width) in [-1, 1] -> mean and log_scale, (batch, latent_dim) each."""

    def __init__(self, image_shape: Sequence[int], latent_dim: int, hidden: Sequence[int]):
        super().__init__()
        height, width, channels = image_shape
        layers: list[nn.Module] = []
        for count, following in pairwise([channels, *hidden]):
            layers += [nn.Conv2d(count, following, KERNEL, STRIDE, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        size = hidden[-1] * (height // STRIDE ** len(hidden)) * (width // STRIDE ** len(hidden))
        self.mean, self.log_scale = nn.Linear(size, latent_dim), nn.Linear(size, latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """q(z|x)."""
        features = self.layers(images)
        return self.mean(features), self.log_scale(features)


class Decoder(nn.Module):
    """latent (batch, latent_dim) -> pixels (batch, channels, height, width), unbounded."""

    def __init__(self, image_shape: Sequence[int], latent_dim: int, hidden: Sequence[int]):
        super().__init__()
        height, width, channels = image_shape
        maps = (hidden[-1], height // STRIDE ** len(hidden), width // STRIDE ** len(hidden))
        layers: list[nn.Module] = [nn.Linear(latent_dim, maps[0] * maps[1] * maps[2]), nn.Unflatten(1, maps)]
        for count, following in pairwise([*reversed(hidden), channels]):
            layers += [nn.ReLU(), nn.ConvTranspose2d(count, following, KERNEL, STRIDE, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Where p(x|z) is centered."""
        return self.layers(latents)


class DiscretizedLogistic(nn.Module):
    """log p(x|z) in nats: the logistic's mass between the middles of neighboring gray levels, both tails included."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())

    def forward(self, images: Tensor, centers: Tensor) -> Tensor:
        """images and centers (batch, channels, height, width) -> (batch,)."""
        inverse_scale = torch.exp(-self.log_scale)
        upper = inverse_scale * (images - centers + HALF_LEVEL)
        lower = inverse_scale * (images - centers - HALF_LEVEL)
        within = torch.log((torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=LEAST_PROBABILITY))
        pixels = torch.where(images < -0.999, logsigmoid(upper), torch.where(images > 0.999, -softplus(lower), within))
        return pixels.flatten(1).sum(1)


class TrainStep:
    """One update of encoder, decoder and the likelihood's scale.

    Args:
        image_shape: (height, width, channels).
        latent_dim: dimensions of z.
        hidden: channels of the encoder's convolutions.
        bfloat16: run forward passes under `torch.autocast`; the loss is float32.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 20,
        hidden: Sequence[int] = (32, 64),
        *,
        bfloat16: bool = False,
    ):
        self.bfloat16 = bfloat16
        self.encoder, self.decoder = Encoder(image_shape, latent_dim, hidden), Decoder(image_shape, latent_dim, hidden)
        self.likelihood = DiscretizedLogistic()
        self.networks = {"encoder": self.encoder, "decoder": self.decoder, "likelihood": self.likelihood}
        parameters = [parameter for network in self.networks.values() for parameter in network.parameters()]
        self.optimizer = torch.optim.Adam(parameters, 1e-3, (0.5, 0.999))

    def __call__(self, images: Tensor) -> tuple[float]:
        """One step on images (batch, channels, height, width); returns the loss."""
        self.optimizer.zero_grad()
        loss = self.loss(images)
        loss.backward()
        self.optimizer.step()
        return (loss.item(),)

    def loss(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """-ELBO, the mean over the batch; noise (batch, latent_dim) is drawn where it is not given."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            mean, log_scale = self.encoder(images)
            noise = torch.randn_like(mean) if noise is None else noise
            centers = self.decoder(mean + log_scale.exp() * noise)
        mean, log_scale, centers = (each.to(images.dtype) for each in (mean, log_scale, centers))
        divergence = 0.5 * (mean.square() + (2 * log_scale).exp() - 1.0 - 2 * log_scale).sum(1)
        return (divergence - self.likelihood(images, centers)).mean()
