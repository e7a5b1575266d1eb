"""VQ-VAE (arXiv:1711.00937) and the gated PixelCNN (arXiv:1606.05328) over its codes.

encoder = z_e(x), quantizer = z_q and the codebook e, decoder and likelihood = p(x|z_q), prior = p(z), codes = K,
code_dim = D, commitment_weight = beta, codebook_decay = gamma.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, final

import keras
from keras import ops

from serving.card import Feed, Kind
from zoo.core.ability import Ability
from zoo.core.arguments import check_counts, check_image_shape, choose
from zoo.core.batch import images_of
from zoo.core.model import GenerativeModel
from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers.quantizer import CodeUsage, LookUp, Quantizer, perplexity_of
from zoo.losses.likelihoods import LogLikelihood
from zoo.losses.reconstruction import brightness, commitment_loss
from zoo.losses.rows import per_row
from zoo.networks import pixel_cnn, vq_vae
from zoo.networks.coders import smallest
from zoo.networks.functional import named_network

PRIOR_KERNEL = 3  # of all blocks but the first, which sees three codes to each side: codes are few


class Found(NamedTuple):
    """What an update of the autoencoder has found besides its loss.

    Args:
        vectors: z_e, (batch, height, width, code_dim).
        indices: the nearest codes, (batch, height, width) int32.
        terms: of the loss, without their weights, (batch,) each.
    """

    vectors: Tensor
    indices: Tensor
    terms: dict[str, Tensor]


@final
class VQVAE(GenerativeModel):
    """Learns to give back images through codes out of a codebook; then, which codes go together.

    As in the paper, both one after the other: the prior learns of codes that stand still.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        codes: K, vectors in the codebook.
        code_dim: D, their dimension.
        hidden: channels of the encoder's strided convolutions, each of which halves both sides; the decoder has them in
            reverse.
        blocks: residual blocks of each of the two.
        block_width: channels inside of a residual block.
        likelihood: of a pixel: "discretized_logistic" for gray levels, "bernoulli" for black and white images, or
            "gaussian".
        scale: of a likelihood that has one, for all pixels: a number, in units of images in [-1, 1], or "learned".
        commitment_weight: beta.
        codebook: how it learns: by a "moving_average" of the vectors that chose a code, or by "gradient".
        codebook_decay: gamma, of the moving averages; where the codebook learns by gradient, of how often codes are
            used.
        revive_below: a code whose share of the vectors, on a moving average, falls below such a part of 1 / K is
            replaced by a vector of the batch, drawn at random; 0 never replaces any.
        usage_window: steps that the metric `codes_used` looks back on.
        prior_begins: the first train steps, in which the autoencoder learns alone; from then on it stands still, and
            the prior learns alone.
        prior_filters: channels of the prior's maps.
        prior_blocks: its gated blocks.

    Raises:
        ValueError: an unknown choice, a number out of its range, sides that can't be halved so often.
    """

    occasional_metrics = (
        *("autoencoder_loss", "reconstruction_loss", "commitment_loss", "codebook_loss", "revived_codes"),
        "prior_loss",
    )
    plan: Literal["autoencoder", "prior"]

    def __init__(
        self,
        image_shape: Sequence[int],
        codes: int = 512,
        code_dim: int = 64,
        hidden: Sequence[int] = (128, 256),
        blocks: int = 2,
        block_width: int = 256,
        likelihood: Literal["discretized_logistic", "bernoulli", "gaussian"] = "discretized_logistic",
        scale: float | Literal["learned"] = "learned",
        commitment_weight: float = 0.25,
        codebook: Literal["moving_average", "gradient"] = "moving_average",
        codebook_decay: float = 0.99,
        revive_below: float = 0.0,
        usage_window: int = 500,
        prior_begins: int = 100_000,
        prior_filters: int = 64,
        prior_blocks: int = 8,
    ):
        super().__init__()
        self.image_shape = shape = check_image_shape(image_shape)
        check_counts(code_dim=code_dim, block_width=block_width, usage_window=usage_window)
        check_counts(prior_begins=prior_begins, prior_filters=prior_filters)
        for argument, count in {"codes": codes, "prior_blocks": prior_blocks}.items():
            if count < 2:
                raise ValueError(f"{argument}={count}: choose at least 2.")
        if commitment_weight < 0.0 or blocks < 0:
            raise ValueError(f"commitment_weight={commitment_weight}, blocks={blocks}: choose numbers from 0.")
        choose("codebook", codebook, {name: name for name in ("moving_average", "gradient")})
        if not 0.0 <= codebook_decay < 1.0:
            raise ValueError(f"codebook_decay={codebook_decay}: choose 0 <= codebook_decay < 1.")
        if not 0.0 <= revive_below < 1.0:
            raise ValueError(f"revive_below={revive_below}: choose a part of an even share, 0 <= revive_below < 1.")
        self.code_count, self.commitment_weight = codes, commitment_weight
        self.learns_by_gradient, self.revive_below = codebook == "gradient", revive_below
        self.prior_begins = prior_begins
        self.code_shape = sides = smallest(shape, hidden)
        full = full_precision()
        self.encoder = vq_vae.encoder(shape, code_dim, hidden, blocks, block_width)
        self.decoder = vq_vae.decoder(shape, code_dim, hidden, blocks, block_width)
        self.codebook = Quantizer(codes, codebook_decay, learning=codebook, dtype=full, name="codebook")
        vectors = keras.Input((*sides, code_dim), name="vectors")
        self.quantizer = keras.Model(vectors, self.codebook(vectors), name="quantizer")
        self.look_up = LookUp(self.codebook, dtype=full, name="look_up")
        self.log_likelihood = LogLikelihood(likelihood, scale, dtype=full, name="log_likelihood")
        images = [keras.Input(shape, name="image"), keras.Input(shape, name="values")]
        self.likelihood = keras.Model(images, self.log_likelihood(*images), name="likelihood")
        self.prior = pixel_cnn.pixel_cnn(
            (*sides, 1), codes, prior_filters, prior_blocks, PRIOR_KERNEL, embedding=prior_filters, name="prior"
        )
        self.usage = CodeUsage(codes, usage_window, name="usage")
        left_out = {"codebook_loss": self.learns_by_gradient, "revived_codes": revive_below > 0.0}
        occasional = (name for name in self.occasional_metrics if left_out.get(name, True))
        self.setup("perplexity", "codes_used", *occasional)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """All that images go through, and the prior."""
        return {
            "autoencoder": (self.encoder, self.quantizer, self.decoder, self.likelihood),
            "prior": (self.prior,),
        }

    def plan_of(self, step: int) -> Literal["autoencoder", "prior"]:
        """Which of the two learns."""
        return "autoencoder" if step < self.prior_begins else "prior"

    def updated_variables(self, player: str) -> list[keras.Variable]:
        """All of the one that learns, none of the other."""
        return self.variables_of(player) if player == self.plan else []

    def abilities(self) -> Mapping[str, Ability]:
        """generate: uniform numbers -> image, by the prior's codes; encode, decode, reconstruct; log_prob: a bound.

        Codes are integers from 0 to K - 1, (batch, height, width). log_prob's `bound` is log p(x|z) + log p(z) of the
        codes z that the encoder gives; other codes could have given x, too.
        """
        image = keras.Input(self.image_shape, name="image")
        codes = keras.Input(self.code_shape, dtype="int32", name="codes")
        uniform = keras.Input(self.code_shape, name="uniform")
        found = self.encode_images(image)
        bound = self.likelihood([image, self.decoder(self.look_up(found))]) + self.log_prior(found)
        drawn, _ = pixel_cnn.pixel_cnn_sampler(self.prior)(uniform[..., None])
        outputs: dict[str, tuple[Tensor, dict[str, Tensor], Kind]] = {
            "generate": (uniform, {"image": self.image(drawn[..., 0])}, "image"),
            "encode": (image, {"codes": found}, "code"),
            "decode": (codes, {"image": self.image(codes)}, "image"),
            "reconstruct": (image, {"reconstruction": self.image(found)}, "reconstruction"),
            "log_prob": (image, {"bound": bound}, "log_prob"),
        }
        feeds: dict[str, Feed] = {"image": "image", "codes": "code", "uniform": "uniform"}
        ranges = dict.fromkeys(("image", "reconstruction"), (-1.0, 1.0))
        ranges |= {"codes": (0.0, self.code_count - 1.0), "uniform": (0.0, 1.0)}
        supports = {"bound": self.log_likelihood.likelihood.support}
        return {
            name: Ability(named_network([taken], made), feeds, dict.fromkeys(made, kind), ranges, supports=supports)
            for name, (taken, made, kind) in outputs.items()
        }

    def encode_images(self, images: Tensor) -> Tensor:
        """The nearest codes, (batch, height, width) int32, of images in [-1, 1]."""
        _, indices = self.quantizer(self.encoder(images, training=False), training=False)
        return indices

    def image(self, codes: Tensor) -> Tensor:
        """The middle of p(x|z), (batch, height, width, channels) in [-1, 1], of codes."""
        return self.log_likelihood.likelihood.image(self.decoder(self.look_up(codes), training=False))

    def log_prior(self, codes: Tensor, training: bool = False) -> Tensor:
        """log p(z), nats in all, (batch,), of codes (batch, height, width)."""
        logits = self.prior(codes[..., None], training=training)  # (batch, height, width, 1, K)
        chosen = ops.take_along_axis(logits, codes[..., None, None], axis=-1)[..., 0]
        return ops.sum(chosen - ops.logsumexp(logits, axis=-1), axis=(1, 2, 3))

    def autoencoder_loss(self, images: Tensor) -> tuple[Tensor, Found]:
        """-log p(x|z_q) + ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2  (eq. 3), one value per row.

        The likelihood is that of a pixel and channel, the squared norms those of a number of a vector, each on average:
        so beta means the same whatever the sizes. Where the codebook follows averages it has no term in the loss.

        Args:
            images: x, (batch, height, width, channels) in [-1, 1].
        """
        vectors = self.encoder(images, training=True)
        quantized, indices = self.quantizer(vectors, training=True)
        log_likelihood = self.likelihood([images, self.decoder(quantized, training=True)], training=True)
        terms = {
            "reconstruction_loss": -log_likelihood / math.prod(self.image_shape),
            "commitment_loss": commitment_loss(vectors, quantized),
        }
        loss = terms["reconstruction_loss"] + self.commitment_weight * terms["commitment_loss"]
        if self.learns_by_gradient:
            terms["codebook_loss"] = per_row(ops.square(self.look_up(indices) - ops.stop_gradient(vectors)))
            loss = loss + terms["codebook_loss"]
        return loss, Found(vectors, indices, terms)

    def prior_loss(self, codes: Tensor) -> Tensor:
        """-log p(z), nats in all, one value per row."""
        return -self.log_prior(codes, training=True)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of encoder, codebook and decoder; or one of the prior, by the codes that they stand still with."""
        draws, images = self.draws(data), images_of(data)
        if self.plan == "prior":
            codes = self.encode_images(images)
            recorded = {"prior_loss": self.minimize("prior", partial(self.prior_loss, codes))}
        else:
            loss, found = self.minimize("autoencoder", partial(self.autoencoder_loss, images))
            codes, recorded = found.indices, {"autoencoder_loss": loss, **found.terms}
            if self.revive_below > 0.0:
                numbers = draws.of_the_step(self.code_count)
                revived = self.codebook.revive(found.vectors, numbers, self.revive_below)
                recorded["revived_codes"] = self.alike(ops.sum(ops.cast(revived, loss.dtype)), loss)
        perplexity, used = self.usage.observe(codes, self.step.read_value())
        rows = next(iter(recorded.values()))
        return self.record(perplexity=self.alike(perplexity, rows), codes_used=self.alike(used, rows), **recorded)

    def alike(self, value: Tensor, rows: Tensor) -> Tensor:
        """A scalar of the global batch as one value per row, like `rows`."""
        return ops.broadcast_to(ops.cast(value, rows.dtype), ops.shape(rows))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """Of both batches: mean squared error a pixel, brightness from 0 to 1, the bound and the codes' perplexity.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train": training, "held_out": held_out}.items():
            images = ops.convert_to_tensor(images_of(batch))
            codes = self.encode_images(images)
            values = self.decoder(self.look_up(codes), training=False)
            errors = brightness(images) - brightness(self.log_likelihood.likelihood.image(values))
            found[f"{name}_squared_error"] = ops.mean(ops.square(errors))
            found[f"{name}_bound"] = ops.mean(self.likelihood([images, values]) + self.log_prior(codes))
            shares = ops.mean(ops.one_hot(ops.reshape(codes, (-1,)), self.code_count), axis=0)
            found[f"{name}_perplexity"] = perplexity_of(shares)
        return found
