"""VAE (arXiv:1312.6114), beta-VAE, conditional VAE (arXiv:1406.5298), IWAE (arXiv:1509.00519).

encoder = q(z|x), decoder and likelihood = p(x|z), latents = z, noise = epsilon, importance_samples = K of IWAE,
log_weights = log p(x|z) p(z) / q(z|x), beta of beta-VAE (Higgins et al., ICLR 2017).
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, final

import keras
from keras import ops

from serving.card import Feed, Kind
from zoo.core.ability import Ability
from zoo.core.arguments import check_class_names, check_image_shape
from zoo.core.batch import images_of, labels_of
from zoo.core.model import GenerativeModel
from zoo.core.precision import full_precision
from zoo.core.replicas import global_mean
from zoo.core.types import Tensor
from zoo.losses.likelihoods import Divergence, LogLikelihood, LogRatio
from zoo.networks import coders
from zoo.networks.functional import named_network

BOUNDS = ("elbo", "importance_weighted")  # of `Bounds`, those that are exported
ACTIVE = 0.01  # variance over images of a latent's mean from which it counts as in use (IWAE, section 5.2)


class Bounds(NamedTuple):
    """What K samples of z say of log p(x), nats; the first two are lower than it on average.

    Args:
        elbo: (batch,), E log p(x|z) - KL(q(z|x) || p(z)): the first term by the mean over the samples.
        importance_weighted: (batch,), log of the mean weight: IWAE's L_K.
        log_likelihood: (batch,), the ELBO's first term.
        divergence: (batch, latent_dim), KL(q(z|x) || p(z)) of each dimension.
        mean: (batch, latent_dim), of q(z|x).
    """

    elbo: Tensor
    importance_weighted: Tensor
    log_likelihood: Tensor
    divergence: Tensor
    mean: Tensor


@final
class VAE(GenerativeModel):
    """Learns q(z|x) and p(x|z) together, by a lower bound of log p(x).

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        latent_dim: dimensions of z.
        architecture: "dense" or "convolutional".
        hidden: units of the encoder's hidden layers, or channels of its convolutions, each of which halves both sides;
            the decoder has them in reverse.
        activation: of the hidden layers.
        likelihood: "bernoulli" for black and white images, "discretized_logistic" for gray levels, or "gaussian".
        scale: of the latter two, one for all pixels: a number, in units of images in [-1, 1], or "learned".
        beta: weight of the divergence; 1 makes the loss a bound.
        warmup_steps: the weight grows to beta over so many steps, linearly: the first has beta / warmup_steps
            (arXiv:1602.02282, section 2.3).
        free_bits: nats of divergence that each dimension, on average over the global batch, has for nothing
            (arXiv:1606.04934, appendix C.8, lambda).
        importance_samples: K of the loss; more than 1 makes it IWAE's.
        initial_brightness: of what the decoder gives before it has learned, between 0 and 1. The training images' mean
            spares it the first steps, in which latents that are not used yet collapse.
        classes: their names, by number, where encoder and decoder are given the class.
        bound_samples: samples of z that the ability log_prob takes at once.

    Raises:
        ValueError: an unknown choice, a number out of its range, K > 1 with another weight of the divergence.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 20,
        architecture: Literal["dense", "convolutional"] = "dense",
        hidden: Sequence[int] = (512, 256),
        activation: str = "relu",
        likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] = "bernoulli",
        scale: float | Literal["learned"] = "learned",
        beta: float = 1.0,
        warmup_steps: int = 0,
        free_bits: float = 0.0,
        importance_samples: int = 1,
        initial_brightness: float = 0.5,
        classes: Sequence[str] = (),
        bound_samples: int = 50,
    ):
        super().__init__()
        self.image_shape = shape = check_image_shape(image_shape)
        if beta < 0.0 or warmup_steps < 0 or free_bits < 0.0:
            raise ValueError(f"beta={beta}, warmup_steps={warmup_steps}, free_bits={free_bits}: choose numbers from 0.")
        if latent_dim < 1 or importance_samples < 1 or bound_samples < 1:
            raise ValueError(
                f"latent_dim={latent_dim}, importance_samples={importance_samples}, bound_samples={bound_samples}: "
                "choose at least 1."
            )
        if importance_samples > 1 and (beta, warmup_steps, free_bits) != (1.0, 0, 0.0):
            raise ValueError(
                f"importance_samples={importance_samples}: the divergence has no term of its own there; leave beta, "
                "warmup_steps and free_bits as they are."
            )
        if not 0.0 < initial_brightness < 1.0:
            raise ValueError(f"initial_brightness={initial_brightness}: choose a number between 0 and 1.")
        self.classes = check_class_names(classes) if classes else ()
        self.beta, self.warmup_steps, self.free_bits = beta, warmup_steps, free_bits
        self.importance_samples, self.bound_samples = importance_samples, bound_samples
        self.latent_dim = latent_dim
        coder: dict[str, Any] = {"architecture": architecture, "hidden": hidden, "activation": activation}
        coder["classes"] = len(classes)
        self.encoder = coders.encoder(shape, {"mean": latent_dim, "log_scale": latent_dim}, **coder)
        full = full_precision()
        self.log_likelihood = LogLikelihood(likelihood, scale, dtype=full, name="log_likelihood")
        initial_value = self.log_likelihood.likelihood.value(initial_brightness)
        self.decoder = coders.decoder(shape, ("latent", latent_dim), initial_value=initial_value, **coder)
        images = [keras.Input(shape, name="image"), keras.Input((None, *shape), name="values")]
        self.likelihood = keras.Model(images, self.log_likelihood(*images), name="likelihood")
        self.divergence = Divergence(dtype=full, name="divergence")
        self.log_ratio = LogRatio(dtype=full, name="log_ratio")
        metric_names = ["loss", "elbo", "log_likelihood", "divergence"]
        if importance_samples > 1:
            metric_names.append("importance_weighted")
        self.setup(*metric_names)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """All of it together."""
        return {"autoencoder": (self.encoder, self.decoder, self.likelihood)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate and decode: latent -> image, the mean of p(x|z); encode, reconstruct; log_prob: two bounds.

        log_prob takes normal noise, (batch, bound_samples, latent_dim). Where there are classes, each takes a label.
        """
        image, latent = keras.Input(self.image_shape, name="image"), keras.Input((self.latent_dim,), name="latent")
        noise = keras.Input((self.bound_samples, self.latent_dim), name="noise")
        label = keras.Input((), dtype="int32", name="label") if self.classes else None
        mean, log_scale = self.encoder(self.inputs(image, label))
        bounds = self.bounds(image, noise, label)
        outputs: dict[str, tuple[list[Tensor], dict[str, Tensor], Kind]] = {
            "generate": ([latent], {"image": self.image(latent, label)}, "image"),
            "decode": ([latent], {"image": self.image(latent, label)}, "image"),
            "encode": ([image], {"mean": mean, "scale": ops.exp(log_scale)}, "code"),
            "reconstruct": ([image], {"reconstruction": self.image(mean, label)}, "reconstruction"),
            "log_prob": ([image, noise], {name: getattr(bounds, name) for name in BOUNDS}, "log_prob"),
        }
        feeds: dict[str, Feed] = {"image": "image", "noise": "normal", "label": "label"}
        return {
            name: Ability(
                named_network([*inputs, *([label] if label is not None else [])], found),
                {**feeds, "latent": "normal" if name == "generate" else "code"},
                dict.fromkeys(found, kind),
                dict.fromkeys(("image", "reconstruction"), (-1.0, 1.0)),
                {"label": self.classes},
                dict.fromkeys(BOUNDS, self.log_likelihood.likelihood.support),
            )
            for name, (inputs, found, kind) in outputs.items()
        }

    def inputs(self, first: Tensor, labels: Tensor | None) -> Any:
        """What encoder and decoder take: an image or a latent, and the class where there are classes."""
        return [first, labels] if self.classes else first

    def image(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """The mean of p(x|z), (batch, height, width, channels) in [-1, 1]."""
        return self.log_likelihood.likelihood.image(self.decoder(self.inputs(latents, labels)))

    def bounds(self, images: Tensor, noise: Tensor, labels: Tensor | None = None, training: bool = False) -> Bounds:
        """Lower bounds of log p(x).

        Args:
            images: x, (batch, height, width, channels) in [-1, 1].
            noise: epsilon, standard normal, (batch, K, latent_dim).
            labels: (batch,) integers, where there are classes.
            training: of the networks.
        """
        samples = noise.shape[1]
        mean, log_scale = self.encoder(self.inputs(images, labels), training=training)
        noise = ops.cast(noise, mean.dtype)
        latents = mean[:, None] + ops.exp(log_scale)[:, None] * noise  # (batch, K, latent_dim), reparameterized
        repeated = None if labels is None else ops.repeat(labels, samples, axis=0)
        values = self.decoder(
            self.inputs(ops.reshape(latents, (-1, self.latent_dim)), repeated), training=training
        )  # (batch K, height, width, channels)
        values = ops.reshape(values, (-1, samples, *self.image_shape))
        log_likelihood = self.likelihood([ops.convert_to_tensor(images), values], training=training)
        divergence = self.divergence(mean, log_scale)
        log_weights = log_likelihood + self.log_ratio(mean, log_scale, latents)
        expected = ops.mean(log_likelihood, axis=1)
        return Bounds(
            expected - ops.sum(divergence, axis=1),
            ops.logsumexp(log_weights, axis=1) - math.log(samples),
            expected,
            divergence,
            mean,
        )

    def negative_bound(self, images: Tensor, noise: Tensor, labels: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """-ELBO, its divergence weighed, or -L_K; one value per row. The arguments are those of `bounds`."""
        found = self.bounds(images, noise, labels, training=True)
        recorded = {
            "elbo": found.elbo,
            "log_likelihood": found.log_likelihood,
            "divergence": ops.sum(found.divergence, axis=1),
        }
        if self.importance_samples > 1:
            return -found.importance_weighted, recorded | {"importance_weighted": found.importance_weighted}
        return self.divergence_weight() * self.free_bits_kl(found.divergence) - found.log_likelihood, recorded

    def free_bits_kl(self, divergence: Tensor) -> Tensor:
        """The divergence, one value per row, of which no dimension counts less than its free bits."""
        if not self.free_bits:
            return ops.sum(divergence, axis=1)
        (mean,) = global_mean([ops.sum(ops.stop_gradient(divergence), axis=0)], divergence)
        return ops.sum(ops.where(mean > self.free_bits, divergence, self.free_bits), axis=1)

    def divergence_weight(self) -> Tensor:
        """The weight of the divergence at this step."""
        grown = ops.cast(self.step.read_value() + 1, full_precision()) / max(1, self.warmup_steps)
        return self.beta * ops.minimum(1.0, grown)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of all networks."""
        noise = self.draws(data).normal(self.importance_samples, self.latent_dim)
        labels = ops.cast(labels_of(data), "int32") if self.classes else None
        loss, recorded = self.minimize("autoencoder", partial(self.negative_bound, images_of(data), noise, labels))
        return self.record(loss=loss, **recorded)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The ELBO of both batches, and the share of latent dimensions whose mean depends on the held-out image.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}, with "label" where there are classes.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train_elbo": training, "held_out_elbo": held_out}.items():
            images = ops.convert_to_tensor(images_of(batch))
            noise = keras.random.normal((len(images), 1, self.latent_dim), seed=0)  # the same each time
            bounds = self.bounds(images, noise, ops.cast(labels_of(batch), "int32") if self.classes else None)
            found[name] = ops.mean(bounds.elbo)
        used = ops.var(bounds.mean, axis=0) > ACTIVE
        return {**found, "active_unit_share": ops.mean(ops.cast(used, "float32"))}
