"""Deep belief network (Hinton, Osindero and Teh, Neural Computation 2006): greedy layers, then up-down fine-tuning.

recognition = q(h_k | h_(k-1)), generative = p(h_(k-1) | h_k), h_0 = v; top = the machine that the last two layers form.
Bound of log p(v) with log Z by annealed importance sampling: Salakhutdinov and Murray, ICML 2008, section 5.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, final

import keras
import numpy as np
from keras import layers, ops

from serving.card import Feed, Iteration, Kind
from zoo.core.ability import Ability
from zoo.core.arguments import check_counts, check_image_shape
from zoo.core.batch import images_of, rows_of
from zoo.core.model import GenerativeModel
from zoo.core.noise import Draws
from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers.boltzmann import (
    FIRST_WEIGHT,
    Machine,
    PersistentChains,
    RestrictedBoltzmann,
    draw_bernoulli,
)
from zoo.losses.likelihoods import image_of_logits, logit
from zoo.losses.reconstruction import brightness
from zoo.metrics.annealing import annealed_importance_sampling, base_rate_bias
from zoo.networks.functional import named_network

ANNEALING_SEED = 0


@final
class DBN(GenerativeModel):
    """Learns layers of binary units one after the other, then all together by contrastive wake-sleep.

    A layer is learned as a machine of its own, on samples of the layers below, its weights tied: recognition and
    generative weights begin alike and take the same gradient, so their optimizers should be alike too. What the machine
    uses is the mean of both. Then they part: the wake phase trains the generative weights on what is recognized in the
    images, the sleep phase the recognition weights on what is generated from the top machine's samples.

    Visible units are v = (x + 1) / 2 of black and white images; gray ones are taken for their probabilities.

    Args:
        image_shape: (height, width, channels); images are float32 in [-1, 1].
        units: of each hidden layer from the bottom; the last two form the top machine. At least two.
        layer_steps: train steps of each of these layers; what comes after is fine-tuning.
        gibbs_steps: k, steps of Gibbs sampling from a start to a machine's samples.
        persistent: start at where the last step's samples ended (PCD) instead of at the data (CD).
        chains: samples that are kept of the steps before, where persistent: as many as rows of a batch, or more.
        fine_tuning_scale: factor of all losses in fine-tuning, whose steps are to be smaller than those before.
        initial_brightness: of images before anything is learned, between 0 and 1.
        bound_samples: samples of the hidden layers that the ability log_prob takes at once.
        sampling_steps: steps of Gibbs sampling that `sample` takes by default, from an empty hidden layer.
        annealing_chains: of the estimate of log Z.
        annealing_temperatures: of the same.

    Raises:
        ValueError: a number out of its range, fewer than two layers, not as many steps as layers.
    """

    occasional_metrics = ("wake_loss", "sleep_loss")

    def __init__(
        self,
        image_shape: Sequence[int],
        units: Sequence[int] = (500, 500),
        layer_steps: Sequence[int] = (50_000, 50_000),
        gibbs_steps: int = 1,
        persistent: bool = False,
        chains: int = 100,
        fine_tuning_scale: float = 0.1,
        initial_brightness: float = 0.5,
        bound_samples: int = 10,
        sampling_steps: int = 1_000,
        annealing_chains: int = 100,
        annealing_temperatures: int = 10_000,
    ):
        super().__init__()
        self.image_shape = shape = check_image_shape(image_shape)
        if len(units) < 2 or len(layer_steps) != len(units) or min(*units, *layer_steps) < 1:
            raise ValueError(
                f"units={list(units)}, layer_steps={list(layer_steps)}: give two layers or more, steps for each, all "
                "of them at least 1."
            )
        check_counts(gibbs_steps=gibbs_steps, chains=chains, bound_samples=bound_samples)
        check_counts(sampling_steps=sampling_steps, annealing_temperatures=annealing_temperatures)
        if annealing_chains < 2:
            raise ValueError(f"annealing_chains={annealing_chains}: choose at least 2.")
        if not 0.0 < initial_brightness < 1.0 or not fine_tuning_scale > 0.0:
            raise ValueError(
                f"initial_brightness={initial_brightness}, fine_tuning_scale={fine_tuning_scale}: choose a brightness "
                "between 0 and 1, and a scale > 0."
            )
        self.gibbs_steps, self.sampling_steps, self.bound_samples = gibbs_steps, sampling_steps, bound_samples
        self.fine_tuning_scale = fine_tuning_scale
        self.annealing_chains, self.temperatures = annealing_chains, annealing_temperatures
        self.begins = (0, *accumulate(layer_steps))
        self.pixels = math.prod(shape)
        self.sizes = (self.pixels, *units)
        precision = full_precision()
        self.lower = len(units) - 1
        """Layers below the top machine."""
        self.recognizers, self.generators = [], []
        for number, (below, above) in enumerate(pairwise(self.sizes[:-1]), start=1):
            first = logit(initial_brightness) if number == 1 else 0.0
            kernel, bias = keras.initializers.RandomNormal(stddev=FIRST_WEIGHT), keras.initializers.Constant(first)
            up = layers.Dense(above, kernel_initializer=kernel, dtype=precision, name=f"recognition_{number}")
            down = layers.Dense(below, bias_initializer=bias, dtype=precision, name=f"generative_{number}")
            up.build((None, below))
            down.build((None, above))
            down.kernel.assign(ops.transpose(up.kernel))
            self.recognizers.append(up)
            self.generators.append(down)
        self.top = RestrictedBoltzmann(self.sizes[-2], self.sizes[-1], dtype=precision, name="top")
        visible, hidden = (keras.Input((size,)) for size in (self.pixels, self.sizes[-2]))
        self.recognition = keras.Model(visible, self.recognize(visible), name="recognition")
        self.generative = keras.Model(hidden, self.generate_logits(hidden), name="generative")
        top = [self.top(hidden, of=quantity) for quantity in ("free_energy", "hidden_logits")]
        self.top_machine = keras.Model(hidden, top, name="top_machine")
        kept = self.sizes[:-1] if persistent else ()
        self.chains = [PersistentChains(chains, size, dtype=precision) for size in kept]
        for number, layer in enumerate(self.chains):
            setattr(self, f"chains_{number}", layer)  # TensorFlow's checkpoints pass over what only a list holds
        self.setup("loss", "data_free_energy", "model_free_energy", "reconstruction_error", *self.occasional_metrics)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """q, p of the lower layers, and the machine on top."""
        return {
            "recognition": (self.recognition,),
            "generative": (self.generative,),
            "top": (self.top_machine,),
        }

    # Stages

    def plan_of(self, step: int) -> int:
        """The layer that is learned, from 0; the number of layers in fine-tuning."""
        return sum(step >= begin for begin in self.begins) - 1

    def fresh_optimizers(self, step: int) -> Sequence[str]:
        """Those of the players that learn a new layer, and all where fine-tuning begins."""
        if step not in self.begins[1:]:
            return ()
        return self.learners(self.plan_of(step))

    def learners(self, stage: int) -> tuple[str, ...]:
        """The players that are updated in a stage."""
        if stage < self.lower:
            return ("recognition", "generative")
        return ("top",) if stage == self.lower else tuple(self.players)

    def updated_variables(self, player: str) -> list[keras.Variable]:
        """Those of the layer that is learned; all in fine-tuning, and of the top machine."""
        if player == "top" or self.plan is None or self.plan >= self.lower:
            return self.variables_of(player)
        stack = self.recognizers if player == "recognition" else self.generators
        return stack[self.plan].trainable_variables

    def machine(self, stage: int) -> Machine:
        """The machine that is learned in a stage, with tied weights below the top."""
        if stage >= self.lower:
            return self.top.machine
        up, down = self.recognizers[stage], self.generators[stage]
        biases = (ops.convert_to_tensor(layer.bias) for layer in (down, up))
        return Machine(tie(ops.convert_to_tensor(up.kernel), ops.transpose(down.kernel)), *biases)

    # Up and down

    def recognize(self, visible: Tensor) -> Tensor:
        """Means of the layer below the top one's hidden units, each layer's given the means below."""
        for layer in self.recognizers:
            visible = ops.sigmoid(layer(visible))
        return visible

    def generate_logits(self, hidden: Tensor) -> Tensor:
        """Logits of v given the top machine's visible units, each layer's given the means above."""
        *upper, lowest = reversed(self.generators)
        for layer in upper:
            hidden = ops.sigmoid(layer(hidden))
        return lowest(hidden)

    def draw_up(self, visible: Tensor, draws: Draws, count: int) -> list[Tensor]:
        """v and a sample of each of the first `count` layers above it, by q."""
        found = [visible]
        for layer in self.recognizers[:count]:
            found.append(draw_bernoulli(layer(found[-1]), draws.uniform(layer.units)))
        return [ops.stop_gradient(each) for each in found]

    def draw_down(self, hidden: Tensor, draws: Draws) -> list[Tensor]:
        """A sample of each layer below, by p, in the order of `draw_up`."""
        found = [hidden]
        for layer in reversed(self.generators):
            found.append(draw_bernoulli(layer(found[-1]), draws.uniform(layer.units)))
        return [ops.stop_gradient(each) for each in reversed(found)]

    # Learning

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of the layer that is learned, or of all players by a wake and a sleep phase."""
        draws, stage = self.draws(data), min(self.plan, self.lower)
        awake = self.draw_up(self.to_visible(images_of(data)), draws, stage)
        start = self.chains[stage].take(rows_of(data)) if self.chains else awake[-1]
        samples = self.machine(stage).gibbs_chain(start, draws, self.gibbs_steps)
        losses = dict.fromkeys(self.learners(stage), partial(self.contrastive_loss, stage, awake[-1], samples))
        recorded: dict[str, Tensor] = {}
        if self.plan > self.lower:
            asleep = self.draw_down(samples, draws)
            losses["generative"] = partial(self.wake_loss, awake)
            losses["recognition"] = partial(self.sleep_loss, asleep)
        for computed in [self.compute_gradients(player, loss) for player, loss in losses.items()]:
            _, found = self.apply_gradients(computed)
            recorded |= found
        self.keep(stage, awake[-1], samples)
        return self.record(**recorded)

    def keep(self, stage: int, data: Tensor, samples: Tensor) -> None:
        """The chains' ends, and what the top machine's data are on average."""
        if self.chains:
            self.chains[stage].put(samples)
        if stage == self.lower:
            self.top.update_mean(data)

    def contrastive_loss(self, stage: int, data: Tensor, samples: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """F(data) - F(samples) of a stage's machine, one value per row, and what is recorded besides.

        Args:
            stage: the layer.
            data: what the machine is to learn, (batch, size).
            samples: of the machine, likewise, held constant.
        """
        found = self.machine(stage).contrast(data, samples)
        loss = found.data - found.samples
        recorded = {"data_free_energy": found.data, "model_free_energy": found.samples}
        return self.scale() * loss, {"loss": loss, **recorded, "reconstruction_error": found.error}

    def wake_loss(self, awake: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """-sum_k log p(h_(k-1) | h_k) of what was recognized, one value per row."""
        pairs = zip(self.generators, awake[:-1], awake[1:], strict=True)
        loss = sum(cross_entropy(below, layer(above)) for layer, below, above in pairs)
        return self.scale() * loss, {"wake_loss": loss}

    def sleep_loss(self, asleep: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """-sum_k log q(h_k | h_(k-1)) of what was generated, one value per row."""
        pairs = zip(self.recognizers, asleep[:-1], asleep[1:], strict=True)
        loss = sum(cross_entropy(above, layer(below)) for layer, below, above in pairs)
        return self.scale() * loss, {"sleep_loss": loss}

    def scale(self) -> float:
        """The factor of this stage's losses."""
        return self.fine_tuning_scale if self.plan > self.lower else 1.0

    def to_visible(self, images: Tensor) -> Tensor:
        """x -> v, (batch, height, width, channels) -> (batch, pixels)."""
        return ops.reshape(brightness(images), (-1, self.pixels))

    def to_image(self, logits: Tensor) -> Tensor:
        """Logits of v -> the mean as x in [-1, 1]."""
        return ops.reshape(image_of_logits(logits), (-1, *self.image_shape))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The bound of both batches without log Z, which is the same for both: its gap grows with memorization.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        found = {}
        for name, batch in {"train": training, "held_out": held_out}.items():
            images = ops.convert_to_tensor(images_of(batch))
            noise = keras.random.uniform((len(images), 1, sum(self.sizes[1:-1])), seed=0)  # the same each time
            bound = self.bound(self.to_visible(images), ops.cast(noise, images.dtype), "free_energy")
            found[f"{name}_unnormalized_bound"] = ops.mean(bound)
        return found

    def bound(self, visible: Tensor, noise: Tensor, of: str = "log_prob") -> Tensor:
        """E_q [sum_k log p(h_(k-1) | h_k) - log q(h_k | h_(k-1)) + log p(h_top)], nats, (batch,).

        The expectation is the mean over samples. The entropy of q could be had exactly, and would make it less exact:
        where q is the posterior, the terms of each sample add up to log p(v) itself.

        Args:
            visible: v, (batch, pixels).
            noise: uniform in [0, 1), (batch, samples, units of all layers but the last).
            of: "log_prob" of the top machine, or "free_energy" to leave log Z out.
        """
        below, first, total = visible[:, None], 0, 0.0
        for up, down in zip(self.recognizers, self.generators, strict=True):
            logits = up(below)
            above = draw_bernoulli(logits, noise[:, :, first : first + up.units])
            total = total + cross_entropy(above, logits) - cross_entropy(below, down(above))
            below, first = above, first + up.units
        log_prob = self.top(below, of=of)
        return ops.mean(total + (log_prob if of == "log_prob" else -log_prob), axis=1)

    def finish(self) -> None:
        """Estimate log Z of the top machine by AIS, of the weights as files of float16 hold them."""
        found = annealed_importance_sampling(
            **self.top.matrices("float16"),
            base_bias=base_rate_bias(np.asarray(self.top.mean)),
            temperatures=self.temperatures,
            chains=self.annealing_chains,
            seed=ANNEALING_SEED,
            visible=self.top.visible,
        )
        self.top.set_log_partition(found.value)

    # Abilities

    def abilities(self) -> Mapping[str, Ability]:
        """step: Gibbs sampling on top, an image from below it; encode, decode, reconstruct: means; log_prob: a bound.

        Until `finish` has estimated it, log Z is that of a machine without weights.
        """
        image, code = keras.Input(self.image_shape, name="image"), keras.Input(self.sizes[-1:], name="code")
        noise = keras.Input((self.bound_samples, sum(self.sizes[1:-1])), name="noise")
        visible = self.to_visible(image)
        codes = ops.sigmoid(self.top(self.recognition(visible), of="hidden_logits"))
        outputs: dict[str, tuple[list[Tensor], dict[str, Tensor], Kind]] = {
            "encode": ([image], {"code": codes}, "code"),
            "decode": ([code], {"image": self.decoded(code)}, "image"),
            "reconstruct": ([image], {"reconstruction": self.decoded(codes)}, "reconstruction"),
            "log_prob": ([image, noise], {"bound": self.bound(visible, noise)}, "log_prob"),
        }
        feeds: dict[str, Feed] = {"image": "image", "code": "code", "noise": "uniform"}
        ranges = {**dict.fromkeys(("image", "reconstruction"), (-1.0, 1.0)), "noise": (0.0, 1.0)}
        estimator = f"AIS of {self.annealing_chains:,} chains, {self.temperatures:,} temperatures"
        return {"step": self.step_ability()} | {
            name: Ability(
                named_network(taken, found),
                feeds,
                dict.fromkeys(found, kind),
                ranges,
                supports={"bound": "binary"},
                estimators={"bound": estimator},
            )
            for name, (taken, found, kind) in outputs.items()
        }

    def decoded(self, codes: Tensor) -> Tensor:
        """Means of the top hidden units -> an image by means all the way down."""
        return self.to_image(self.generative(self.top(codes, of="visible_mean")))

    def step_ability(self) -> Ability:
        """hidden, noise -> the top machine's visible units -> its next hidden ones; the image by a pass down."""
        hidden = keras.Input(self.sizes[-1:], name="hidden")
        noises = {"hidden_uniform": keras.Input(self.sizes[-1:], name="hidden_uniform")}
        for number in range(self.lower, 0, -1):
            noises[f"uniform_{number}"] = keras.Input((self.sizes[number],), name=f"uniform_{number}")
        top_logits = self.top(hidden, of="visible_values")
        units = top = draw_bernoulli(top_logits, noises[f"uniform_{self.lower}"])
        for number in range(self.lower - 1, 0, -1):
            units = draw_bernoulli(self.generators[number](units), noises[f"uniform_{number}"])
        outputs = {
            "image": self.to_image(self.generators[0](units)),
            "next_hidden": draw_bernoulli(self.top(top, of="hidden_logits"), noises["hidden_uniform"]),
            "top_logits": top_logits,
        }
        return Ability(
            named_network([hidden, *noises.values()], outputs),
            {"hidden": "state", **dict.fromkeys(noises, "uniform")},
            {"image": "image", "top_logits": "logits", "next_hidden": "state"},
            {"image": (-1.0, 1.0), **dict.fromkeys(noises, (0.0, 1.0))},
            iteration=Iteration("gibbs", self.sampling_steps, {"hidden": "next_hidden"}),
        )


def tie(one: Tensor, other: Tensor) -> Tensor:
    """The mean of both, whose gradient each of them is given in full: alike at first, they stay so."""
    total = one + other
    return total - ops.stop_gradient(0.5 * total)


def cross_entropy(values: Tensor, logits: Tensor) -> Tensor:
    """-log of Bernoulli probabilities, summed over the last axis."""
    return ops.sum(ops.softplus(logits) - values * logits, axis=-1)
