"""Autoencoders (arXiv:2003.05991): plain, denoising, sparse, contractive (arXiv:1104.4153), with dropout.

encoder = f, decoder = g, code = h = f(x), reconstruction = g(h). Denoising (Vincent et al., ICML 2008): x~ = corrupted
x, and g(f(x~)) is compared with x. contraction_weight = lambda, sparsity_target = rho, sparsity_weight = beta.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, final

import keras
from keras import ops

from serving.card import Kind
from zoo.core.ability import Ability
from zoo.core.arguments import check_image_shape, choose
from zoo.core.batch import images_of
from zoo.core.model import GenerativeModel
from zoo.core.noise import Draws
from zoo.core.types import Tensor
from zoo.losses.penalties import contraction
from zoo.losses.reconstruction import RECONSTRUCTION_LOSSES, brightness, kl_sparsity, l1_sparsity
from zoo.losses.rows import per_row
from zoo.networks import coders
from zoo.networks.functional import named_network


def mask_pixels(images: Tensor, draws: Draws, level: float) -> Tensor:
    """Each pixel black with probability `level`, in all its channels."""
    kept = draws.uniform(*images.shape[1:3], 1) >= level
    return ops.where(kept, images, -1.0)


def add_noise(images: Tensor, draws: Draws, level: float) -> Tensor:
    """Normal noise of deviation `level` on brightness, which runs from 0 to 1; clipped to that range."""
    return ops.clip(images + 2.0 * level * draws.normal(*images.shape[1:]), -1.0, 1.0)


CORRUPTIONS: dict[str, Callable[[Tensor, Draws, float], Tensor]] = {
    "none": lambda images, draws, level: images,
    "gaussian": add_noise,
    "masking": mask_pixels,
}


@final
class Autoencoder(GenerativeModel):
    """Learns a code from which images can be reconstructed; every variant is a term of the loss.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        code_dim: units of h.
        architecture: "dense" or "convolutional".
        hidden: units of the encoder's hidden layers, or channels of its convolutions, each of which halves both sides;
            the decoder has them in reverse.
        activation: of the hidden layers.
        code_activation: of h: "linear", "sigmoid", "relu" or another of Keras'.
        loss: the reconstruction loss, summed over pixels: "squared_error" or "binary_cross_entropy".
        corruption: of what the encoder is given in training: "none", "gaussian" or "masking".
        corruption_level: the noise's deviation in units of brightness, 0 to 1; or the share of pixels that are masked.
        dropout: rate after every hidden layer.
        sparsity: "none"; "l1", the sum of |h|; "kl", how far each unit's mean is from `sparsity_target`.
        sparsity_weight: beta.
        sparsity_target: rho, of "kl".
        contraction_weight: lambda, of the squared norm of h's Jacobian; 0 for none.

    Raises:
        ValueError: an unknown choice, a number out of its range, "kl" with codes that leave [0, 1].
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        code_dim: int = 32,
        architecture: Literal["dense", "convolutional"] = "dense",
        hidden: Sequence[int] = (512, 256),
        activation: str = "relu",
        code_activation: str = "linear",
        loss: Literal["squared_error", "binary_cross_entropy"] = "squared_error",
        corruption: Literal["none", "gaussian", "masking"] = "none",
        corruption_level: float = 0.25,
        dropout: float = 0.0,
        sparsity: Literal["none", "l1", "kl"] = "none",
        sparsity_weight: float = 1.0,
        sparsity_target: float = 0.05,
        contraction_weight: float = 0.0,
    ):
        super().__init__()
        shape = check_image_shape(image_shape)
        if corruption_level < 0.0 or (corruption == "masking" and corruption_level >= 1.0):
            raise ValueError(f"corruption_level={corruption_level}: choose a deviation >= 0, or a share < 1.")
        if not 0.0 < sparsity_target < 1.0 or sparsity_weight < 0.0 or contraction_weight < 0.0:
            raise ValueError(
                f"sparsity_target={sparsity_target}, sparsity_weight={sparsity_weight}, "
                f"contraction_weight={contraction_weight}: choose a target between 0 and 1, and weights >= 0."
            )
        if sparsity == "kl" and code_activation != "sigmoid":
            raise ValueError(f'code_activation={code_activation!r}: sparsity="kl" compares rates, choose "sigmoid".')
        self.corrupt = partial(choose("corruption", corruption, CORRUPTIONS), level=corruption_level)
        self.pixel_loss = choose("loss", loss, RECONSTRUCTION_LOSSES)
        penalties = {"none": None, "l1": l1_sparsity, "kl": partial(kl_sparsity, rate=sparsity_target)}
        self.sparsity = choose("sparsity", sparsity, penalties)
        self.sparsity_weight, self.contraction_weight = sparsity_weight, contraction_weight
        coder = (architecture, hidden, activation)
        heads = {"code": code_dim}
        self.encoder = coders.encoder(shape, heads, *coder, head_activation=code_activation, dropout=dropout)
        self.decoder = coders.decoder(shape, ("code", code_dim), *coder, dropout=dropout)
        terms = {"sparsity": self.sparsity is not None, "contraction": contraction_weight > 0.0}
        self.setup("loss", "reconstruction_loss", *(name for name, used in terms.items() if used))

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """Both networks together."""
        return {"autoencoder": (self.encoder, self.decoder)}

    def abilities(self) -> Mapping[str, Ability]:
        """reconstruct: image -> reconstruction; encode: image -> code; decode: code -> image."""
        image, code = self.encoder.input, self.decoder.input
        outputs: dict[str, tuple[Tensor, dict[str, Tensor], Kind]] = {
            "reconstruct": (image, {"reconstruction": self.image(self.encoder(image))}, "reconstruction"),
            "encode": (image, {"code": self.encoder(image)}, "code"),
            "decode": (code, {"image": self.image(code)}, "image"),
        }
        return {
            name: Ability(
                named_network([taken], found),
                {"image": "image", "code": "code"},
                dict.fromkeys(found, kind),
                dict.fromkeys(("image", "reconstruction"), (-1.0, 1.0)),
            )
            for name, (taken, found, kind) in outputs.items()
        }

    def image(self, codes: Tensor) -> Tensor:
        """g(h), (batch, height, width, channels) in [-1, 1]."""
        return 2.0 * ops.sigmoid(self.decoder(codes)) - 1.0

    def reconstruction_loss(self, images: Tensor, corrupted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """L(x, g(f(x~))) and the variant's terms, one value per row.

        Args:
            images: x, (batch, height, width, channels) in [-1, 1].
            corrupted: x~, likewise.
        """
        codes = self.encoder(corrupted, training=True)
        recorded = {"reconstruction_loss": self.pixel_loss(images, self.decoder(codes, training=True))}
        loss = recorded["reconstruction_loss"]
        if self.sparsity is not None:
            recorded["sparsity"] = self.sparsity(codes)
            loss = loss + self.sparsity_weight * recorded["sparsity"]
        if self.contraction_weight:
            recorded["contraction"] = contraction(partial(self.encoder, training=True), corrupted)
            loss = loss + self.contraction_weight * recorded["contraction"]
        return loss, recorded

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of both networks."""
        images, draws = images_of(data), self.draws(data)
        loss, recorded = self.minimize(
            "autoencoder", partial(self.reconstruction_loss, images, self.corrupt(images, draws))
        )
        return self.record(loss=loss, **recorded)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """Mean squared error a pixel, of brightness from 0 to 1, of images that are not corrupted.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        batches = {"train_squared_error": training, "held_out_squared_error": held_out}
        return {name: ops.mean(self.squared_errors(images_of(batch))) for name, batch in batches.items()}

    def squared_errors(self, images: Tensor) -> Tensor:
        """The mean over the pixels of (x - g(f(x)))^2, brightness from 0 to 1, one value per row."""
        logits = self.decoder(self.encoder(images, training=False), training=False)
        return per_row(ops.square(brightness(images) - ops.sigmoid(logits)))
