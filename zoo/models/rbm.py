"""Restricted Boltzmann machine (Smolensky 1986; Hinton, Neural Computation 2002), learned by samples.

v and h = visible and hidden units, free_energy = F(v), gibbs_steps = k of CD-k, persistent = PCD (Tieleman, ICML 2008).
log Z by annealed importance sampling (Salakhutdinov and Murray, ICML 2008).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, final

import keras
import numpy as np
from keras import ops

from serving.card import Feed, Iteration, Kind
from zoo.core.ability import Ability
from zoo.core.arguments import check_counts, check_image_shape
from zoo.core.batch import images_of, rows_of
from zoo.core.model import GenerativeModel
from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers.boltzmann import PersistentChains, RestrictedBoltzmann, draw_bernoulli, draw_visible
from zoo.losses.likelihoods import logit
from zoo.losses.reconstruction import brightness, kl_sparsity
from zoo.metrics.annealing import annealed_importance_sampling, base_rate_bias
from zoo.networks.functional import named_network

ANNEALING_SEED = 0


@final
class RBM(GenerativeModel):
    """Learns p(v) of images by one layer of binary hidden units.

    Binary visible units are v = (x + 1) / 2 of black and white images; gray ones are taken for their probabilities.
    Gaussian units of variance 1 are v = (x - image_mean) / image_scale.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        units: hidden units.
        visible: "bernoulli" or "gaussian".
        gibbs_steps: k, steps of Gibbs sampling from a start to the model's samples.
        persistent: start at where the last step's samples ended (PCD) instead of at the images (CD).
        chains: samples that are kept of the steps before, where persistent: as many as rows of a batch, or more.
        sparsity_target: mean activation that hidden units are brought to, between 0 and 1; None for none.
        sparsity_weight: of its divergence, summed over the units.
        initial_brightness: of images before anything is learned, between 0 and 1.
        image_mean: of Gaussian units, in units of images in [-1, 1].
        image_scale: of Gaussian units, likewise: the standard deviation that is to be 1.
        sampling_steps: steps of Gibbs sampling that `sample` takes by default, from an empty hidden layer.
        annealing_chains: of the estimate of log Z.
        annealing_temperatures: of the same.

    Raises:
        ValueError: an unknown kind of units, a number out of its range.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        units: int = 500,
        visible: Literal["bernoulli", "gaussian"] = "bernoulli",
        gibbs_steps: int = 1,
        persistent: bool = False,
        chains: int = 100,
        sparsity_target: float | None = None,
        sparsity_weight: float = 1.0,
        initial_brightness: float = 0.5,
        image_mean: float = 0.0,
        image_scale: float = 1.0,
        sampling_steps: int = 1_000,
        annealing_chains: int = 100,
        annealing_temperatures: int = 10_000,
    ):
        super().__init__()
        self.image_shape = shape = check_image_shape(image_shape)
        check_counts(units=units, gibbs_steps=gibbs_steps, chains=chains, sampling_steps=sampling_steps)
        check_counts(annealing_temperatures=annealing_temperatures)
        if annealing_chains < 2:
            raise ValueError(f"annealing_chains={annealing_chains}: choose at least 2.")
        if not 0.0 < initial_brightness < 1.0 or not image_scale > 0.0:
            raise ValueError(
                f"initial_brightness={initial_brightness}, image_scale={image_scale}: choose a brightness between 0 "
                "and 1, and a scale > 0."
            )
        if sparsity_target is not None and not (0.0 < sparsity_target < 1.0 and sparsity_weight >= 0.0):
            raise ValueError(
                f"sparsity_target={sparsity_target}, sparsity_weight={sparsity_weight}: choose a target between 0 and "
                "1, and a weight >= 0."
            )
        self.units, self.gibbs_steps, self.sampling_steps = units, gibbs_steps, sampling_steps
        self.sparsity_target, self.sparsity_weight = sparsity_target, sparsity_weight
        self.image_mean, self.image_scale = image_mean, image_scale
        self.annealing_chains, self.temperatures = annealing_chains, annealing_temperatures
        self.pixels = int(np.prod(shape))
        first = (
            logit(initial_brightness) if visible == "bernoulli" else self.standardize(2.0 * initial_brightness - 1.0)
        )
        self.rbm = RestrictedBoltzmann(self.pixels, units, visible, first, dtype=full_precision(), name="rbm")
        values = keras.Input((self.pixels,), name="visible")
        outputs = [self.rbm(values, of=quantity) for quantity in ("free_energy", "hidden_logits")]
        self.machine = keras.Model(values, outputs, name="machine")
        self.chains = PersistentChains(chains, self.pixels, dtype=full_precision()) if persistent else None
        sparsity = () if sparsity_target is None else ("sparsity",)
        self.setup("loss", "data_free_energy", "model_free_energy", "reconstruction_error", *sparsity)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """The one machine."""
        return {"machine": (self.machine,)}

    def abilities(self) -> Mapping[str, Ability]:
        """step: one step of Gibbs sampling; encode, decode, reconstruct: means; log_prob: by log Z of AIS; free_energy.

        Until `finish` has estimated it, log Z is that of a machine without weights.
        """
        image, code = keras.Input(self.image_shape, name="image"), keras.Input((self.units,), name="code")
        visible = self.to_visible(image)
        means = ops.sigmoid(self.rbm(visible, of="hidden_logits"))
        outputs: dict[str, tuple[Tensor, dict[str, Tensor], Kind]] = {
            "encode": (image, {"code": means}, "code"),
            "decode": (code, {"image": self.to_image(self.rbm(code, of="visible_mean"))}, "image"),
            "reconstruct": (
                image,
                {"reconstruction": self.to_image(self.rbm(means, of="visible_mean"))},
                "reconstruction",
            ),
            "log_prob": (image, {"estimate": self.log_prob_of_image(visible)}, "log_prob"),
            "free_energy": (image, {"free_energy": self.rbm(visible, of="free_energy")}, "score"),
        }
        feeds: dict[str, Feed] = {"image": "image", "code": "code"}
        ranges = dict.fromkeys(("image", "reconstruction"), (-1.0, 1.0))
        estimator = f"AIS of {self.annealing_chains:,} chains, {self.temperatures:,} temperatures"
        return {"step": self.step_ability()} | {
            name: Ability(
                named_network([taken], found),
                feeds,
                dict.fromkeys(found, kind),
                ranges,
                supports={"estimate": "binary" if self.rbm.binary else "real"},
                estimators={"estimate": estimator},
            )
            for name, (taken, found, kind) in outputs.items()
        }

    def step_ability(self) -> Ability:
        """hidden, noise -> v of p(v|h) -> the next hidden units; the image is the mean of p(v|h)."""
        noise = "visible_uniform" if self.rbm.binary else "visible_normal"
        hidden = keras.Input((self.units,), name="hidden")
        visible_noise = keras.Input((self.pixels,), name=noise)
        hidden_noise = keras.Input((self.units,), name="hidden_uniform")
        values = self.rbm(hidden, of="visible_values")
        visible = draw_visible(values, visible_noise, self.rbm.binary)
        outputs = {
            "image": self.to_image(self.rbm(hidden, of="visible_mean")),
            "next_hidden": draw_bernoulli(self.rbm(visible, of="hidden_logits"), hidden_noise),
            "visible_logits": values,
        }
        return Ability(
            named_network([hidden, visible_noise, hidden_noise], outputs),
            {"hidden": "state", noise: "uniform" if self.rbm.binary else "normal", "hidden_uniform": "uniform"},
            {"image": "image", "visible_logits": "logits", "next_hidden": "state"},
            {"image": (-1.0, 1.0), "visible_uniform": (0.0, 1.0), "hidden_uniform": (0.0, 1.0)},
            iteration=Iteration("gibbs", self.sampling_steps, {"hidden": "next_hidden"}),
        )

    def standardize(self, images: Any) -> Any:
        """Images in [-1, 1] in units of Gaussian visible ones."""
        return (images - self.image_mean) / self.image_scale

    def to_visible(self, images: Tensor) -> Tensor:
        """x -> v, (batch, height, width, channels) -> (batch, pixels)."""
        values = brightness(images) if self.rbm.binary else self.standardize(images)
        return ops.reshape(values, (-1, self.pixels))

    def to_image(self, visible: Tensor) -> Tensor:
        """v or its mean -> x in [-1, 1], the reverse of `to_visible`."""
        values = 2.0 * visible - 1.0 if self.rbm.binary else self.image_mean + self.image_scale * visible
        return ops.reshape(ops.clip(values, -1.0, 1.0), (-1, *self.image_shape))

    def log_prob_of_image(self, visible: Tensor) -> Tensor:
        """log p(x) of x with these v, nats, (batch,)."""
        log_prob = self.rbm(visible, of="log_prob")
        return log_prob if self.rbm.binary else log_prob - self.pixels * float(np.log(self.image_scale))

    def contrastive_loss(self, visible: Tensor, samples: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """F(v) - F(v'), v' held constant, and the divergence of the mean activation; one value per row.

        Args:
            visible: v of images, (batch, pixels).
            samples: v' of the model, likewise.

        Returns:
            The loss, and what is recorded besides: both free energies, the squared error a visible unit of the mean of
            p(v|E h), the divergence where there is a target.
        """
        found = self.rbm.machine.contrast(visible, samples)
        loss = found.data - found.samples
        recorded = {
            "data_free_energy": found.data,
            "model_free_energy": found.samples,
            "reconstruction_error": found.error,
        }
        if self.sparsity_target is not None:
            recorded["sparsity"] = kl_sparsity(found.activations, self.sparsity_target)
            loss = loss + self.sparsity_weight * recorded["sparsity"]
        return loss, recorded

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update by the images and by samples of the model, k steps from the images or from the last samples."""
        draws, visible = self.draws(data), self.to_visible(images_of(data))
        start = visible if self.chains is None else self.chains.take(rows_of(data))
        samples = self.rbm.machine.gibbs_chain(start, draws, self.gibbs_steps)
        loss, recorded = self.minimize("machine", partial(self.contrastive_loss, visible, samples))
        self.rbm.update_mean(visible)
        if self.chains is not None:
            self.chains.put(samples)
        return self.record(loss=loss, **recorded)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """Mean free energies of both batches, whose gap grows as the machine memorizes, and their squared errors.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train": training, "held_out": held_out}.items():
            visible = self.to_visible(ops.convert_to_tensor(images_of(batch)))
            contrast = self.rbm.machine.contrast(visible, visible)
            found[f"{name}_free_energy"] = ops.mean(contrast.data)
            found[f"{name}_squared_error"] = ops.mean(contrast.error)
        return found

    def annealed_machine(self) -> dict[str, np.ndarray]:
        """What annealing estimates log Z of: weights (pixels, units), visible_bias and hidden_bias."""
        return self.rbm.matrices()

    def finish(self) -> None:
        """Estimate log Z by AIS, of the weights as files of float16 hold them."""
        found = annealed_importance_sampling(
            **self.rbm.matrices("float16"),
            base_bias=base_rate_bias(np.asarray(self.rbm.mean), self.rbm.visible),
            temperatures=self.temperatures,
            chains=self.annealing_chains,
            seed=ANNEALING_SEED,
            visible=self.rbm.visible,
        )
        self.rbm.set_log_partition(found.value)
