"""StyleGAN (arXiv:1812.04948) and StyleGAN2 (arXiv:1912.04958).

mapping = f, synthesis = g, generator = g(f(z)), discriminator = D, latents = z, styles = w for each layer, truncation =
psi, mean latent = w_avg, noise_* = the inputs of B, r1_weight = gamma, path_length_weight = gamma_pl.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from types import ModuleType
from typing import Any, Literal, NamedTuple, Unpack, final

import keras
from keras import ops

from serving.card import Feed
from zoo.core.ability import Ability
from zoo.core.arguments import check_counts, check_image_shape, choose
from zoo.core.batch import images_of
from zoo.core.growth import GrowthSchedule, Stage, read_growth, set_growth, stage_of
from zoo.core.noise import Draws
from zoo.core.replicas import global_mean
from zoo.core.types import Tensor
from zoo.layers.minibatch import in_whole_groups
from zoo.layers.style import mix_styles
from zoo.losses.adversarial import ADVERSARIAL_LOSSES
from zoo.losses.path_length import PathLength, path_lengths
from zoo.losses.penalties import zero_centered_penalty
from zoo.losses.regularization import Regularization, RegularizationOptions
from zoo.models.adversarial import AdversarialModel
from zoo.networks import stylegan, stylegan2
from zoo.networks.functional import with_ema, with_image_in_range
from zoo.networks.growing import as_grown, discriminator_at, generator_at, images_at, sizes_of, take_whole
from zoo.networks.style import layers_at, mapping_of, mean_latent_of, styles_of, synthesis_of

ARCHITECTURES: dict[str, ModuleType] = {"stylegan": stylegan, "stylegan2": stylegan2}
# The others take features of D, or the gradient that R1 takes.
REGULARIZATION = ("augment", "augment_target", "instance_noise", "instance_noise_steps", "label_smoothing")


class Plan(NamedTuple):
    """What of a step is decided before it is traced.

    Args:
        stage: how far the networks have grown.
        r1: whether D's penalty is due.
        path_length: whether G's penalty is due.
    """

    stage: Stage
    r1: bool
    path_length: bool


@final
class StyleGAN(AdversarialModel):
    """G maps z to w, and draws an image from a learned constant, which w styles at every layer.

    Args:
        image_shape: (size, size, channels), size 8, 16, 32 and so on; images are float32 in [-1, 1].
        latent_dim: length of z.
        style_dim: length of w.
        architecture: "stylegan": styles by AdaIN, bilinear filters, a discriminator without shortcuts; or "stylegan2":
            weight demodulation, a generator whose image is the sum of those of all resolutions, a residual D.
        channel_base: channels of maps of 2 x 2, which halve with every doubling of the side; None for the authors':
            8,192 of StyleGAN, 16,384 of StyleGAN2.
        channel_max: the most channels.
        mapping_layers: layers of f, whose learning rate is a hundredth of the others'.
        fade_steps: train steps in which a resolution fades in, from 8x8 on; None for networks that do not grow. Of
            "stylegan" alone.
        stable_steps: train steps between two fades, and before the first.
        mixing: probability of a step whose images have the styles of a second z from some layer on.
        mean_decay: of the moving average of w that truncation goes towards.
        r1_weight: gamma, of ||grad D(x)||^2 / 2 at images (arXiv:1801.04406); 0 to leave it out.
        r1_interval: steps from one update of D by that penalty to the next; its weight is multiplied by as many.
        path_length_weight: gamma_pl, of the path length penalty; 0 to leave it out.
        path_length_interval: likewise, of G.
        group_size: rows that D compares with each other, consecutive ones of a replica; None for the global batch.
        ema_decay: decay of the moving average of G that is sampled and exported, 0 <= ema_decay < 1; None for G itself.
        **regularization: of the arguments of `zoo.losses.regularization.Regularization`, those in REGULARIZATION.

    Raises:
        ValueError: an unknown choice, a number out of its range, growth of "stylegan2", or one of fade_steps and
            stable_steps without the other.
    """

    occasional_metrics = ("gradient_penalty", "path_length")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int = 512,
        style_dim: int = 512,
        architecture: Literal["stylegan", "stylegan2"] = "stylegan",
        channel_base: int | None = None,
        channel_max: int = 512,
        mapping_layers: int = 8,
        fade_steps: int | None = None,
        stable_steps: int | None = None,
        mixing: float = 0.9,
        mean_decay: float = 0.995,
        r1_weight: float = 10.0,
        r1_interval: int = 16,
        path_length_weight: float = 0.0,
        path_length_interval: int = 4,
        group_size: int | None = 4,
        ema_decay: float | None = 0.999,
        **regularization: Unpack[RegularizationOptions],
    ):
        super().__init__()
        networks = choose("architecture", architecture, ARCHITECTURES)
        shape = check_image_shape(image_shape)
        check_counts(latent_dim=latent_dim, style_dim=style_dim, mapping_layers=mapping_layers)
        check_counts(channel_base=channel_base, channel_max=channel_max)
        check_counts(r1_interval=r1_interval, path_length_interval=path_length_interval)
        for name, share in {"mixing": mixing, "mean_decay": mean_decay}.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name}={share}: choose from [0, 1].")
        for name, weight in {"r1_weight": r1_weight, "path_length_weight": path_length_weight}.items():
            if not weight >= 0.0:
                raise ValueError(f"{name}={weight}: choose a number >= 0; 0 leaves it out.")
        if (fade_steps is None) != (stable_steps is None):
            raise ValueError(f"fade_steps={fade_steps}, stable_steps={stable_steps}: give both, or none to not grow.")
        if fade_steps is not None and architecture != "stylegan":
            raise ValueError(f"fade_steps={fade_steps}: the networks of {architecture!r} do not grow; leave it out.")
        if unfit := sorted(set(regularization) - set(REGULARIZATION)):
            raise ValueError(f"{', '.join(unfit)}: of regularization, StyleGAN takes {', '.join(REGULARIZATION)}.")
        self.regularization = Regularization.from_options(regularization)
        self.loss_pair = self.regularization.smooth_labels(ADVERSARIAL_LOSSES["non_saturating"])
        self.architecture = architecture
        self.latent_dim = latent_dim
        self.mixing = mixing
        self.mean_decay = mean_decay
        self.r1_weight, self.r1_interval = r1_weight, r1_interval
        self.path_length_weight, self.path_length_interval = path_length_weight, path_length_interval
        self.group_size = group_size
        levels = len(sizes_of(shape)) - 1
        self.schedule = None
        if fade_steps is not None and stable_steps is not None:
            self.schedule = GrowthSchedule(levels, fade_steps, stable_steps)
        self.grown = Stage(levels, fading=False)
        channels = {"channel_base": channel_base or networks.CHANNEL_BASE, "channel_max": channel_max}
        build_generator = partial(networks.generator, shape, latent_dim, style_dim, mapping_layers, **channels)
        self.generator = build_generator()
        self.discriminator = networks.discriminator(shape, **channels, group_size=group_size)
        self.generator_ema, ema = with_ema(self.generator, build_generator, ema_decay)
        # Other views of the same layers, which nothing tracks or saves. StyleGAN2's do not grow.
        grows = architecture == "stylegan"
        self.generator_at = cache(partial(generator_at if grows else take_whole, self.generator))
        self.discriminator_at = cache(partial(discriminator_at if grows else take_whole, self.discriminator))
        self.synthesis_at = cache(lambda stage: synthesis_of(self.generator_at(stage)))
        self.mapping_network = cache(partial(mapping_of, self.generator))
        self.path_length = PathLength()
        if self.schedule is None and architecture == "stylegan":
            set_growth((self.generator, self.generator_ema, self.discriminator), float(levels))
        penalties = {
            "gradient_penalty": ("discriminator", r1_weight, r1_interval),
            "path_length": ("generator", path_length_weight, path_length_interval),
        }
        chosen = {name: (player, interval) for name, (player, weight, interval) in penalties.items() if weight}
        self.lazy_intervals = dict(chosen.values())
        metric_names = ("discriminator_loss", "generator_loss", "real_score", "fake_score", "discriminator_accuracy")
        self.setup(*metric_names, *chosen, ema=ema)

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """D and G."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """generate: z -> image; map: z -> styles; synthesize: styles -> image; all by the EMA of G."""
        network = as_grown(self.generator_ema) if self.architecture == "stylegan" else self.generator_ema
        noise: dict[str, Feed] = {tensor.name: "noise_map" for tensor in network.inputs[2:]}
        latent: dict[str, Feed] = {"latent": "normal", "truncation": "truncation"}
        draw = partial(Ability, kinds={"image": "image"}, ranges={"image": (-1.0, 1.0)})
        return {
            "generate": draw(with_image_in_range(network), {**latent, **noise}),
            "map": Ability(styles_of(network), latent, {"styles": "style"}),
            "synthesize": draw(with_image_in_range(synthesis_of(network)), {"styles": "style", **noise}),
        }

    def plan_of(self, step: int) -> Plan:
        """How far the networks of a step have grown, and which penalties are due."""
        return Plan(
            self.schedule.stage(step) if self.schedule else self.grown,
            bool(self.r1_weight) and step % self.r1_interval == 0,
            bool(self.path_length_weight) and step % self.path_length_interval == 0,
        )

    def updated_variables(self, player: str) -> list[keras.Variable]:
        """The variables of D, or of G, as far as it has grown."""
        network_at = {"discriminator": self.discriminator_at, "generator": self.generator_at}[player]
        return list(network_at(self.plan.stage).trainable_variables)

    def fresh_optimizers(self, step: int) -> Sequence[str]:
        """Both players', when a resolution begins to fade in."""
        return tuple(self.players) if self.schedule and self.schedule.begins(step) else ()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log D(x) - log(1 - D(G(z))), one value per row, and what is recorded besides.

        Args:
            real: x, (batch, height, width, channels) of the stage's size.
            fake: G(z), likewise.
        """
        discriminate = partial(self.discriminator_at(self.plan.stage), training=True)
        real_logits = discriminate(self.discriminator_input(real))
        fake_logits = discriminate(self.discriminator_input(fake))
        loss = self.loss_pair.discriminator(real_logits, fake_logits)
        return loss, self.discriminator_metrics(real_logits, fake_logits)

    def r1_loss(self, real: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """k gamma / 2 ||grad D(x)||^2, k the steps from one to the next, one value per row; recorded without k."""
        discriminate = partial(self.discriminator_at(self.plan.stage), training=True)
        penalty = 0.5 * self.r1_weight * zero_centered_penalty(discriminate, self.discriminator_input(real))
        return self.r1_interval * penalty, {"gradient_penalty": penalty}

    def generator_loss(self, fake: Tensor) -> Tensor:
        """-log D(G(z)), one value per row."""
        discriminate = partial(self.discriminator_at(self.plan.stage), training=True)
        return self.loss_pair.generator(discriminate(self.discriminator_input(fake)))

    def path_length_loss(self, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """k gamma_pl (||J_w^T y|| - a)^2, one value per row; recorded are the lengths."""
        synthesis, styles = self.synthesis_at(self.plan.stage), self.styles(draws)
        noise = self.noise(draws, synthesis)
        direction = draws.normal(*synthesis.output.shape[1:])
        used, left = ops.split(styles, [layers_at(self.plan.stage)], axis=1)

        def synthesize(rows: Tensor) -> Tensor:
            return synthesis([ops.concatenate([rows, left], axis=1), *noise], training=True)

        lengths = path_lengths(synthesize, used, direction)
        weight = self.path_length_interval * self.path_length_weight
        return weight * self.path_length.penalty(lengths), {"path_length": lengths}

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """D is updated, then G on the same fakes; each again by its penalty, where that is due."""
        draws, real, recorded = self.draws(data), self.grow(images_of(data)), {}
        fakes = self.hold("generator", lambda: self.fakes(draws))
        loss = partial(self.discriminator_loss, real, fakes.output)
        discriminator_loss, metrics = self.minimize("discriminator", loss)
        if self.plan.r1:
            _, recorded = self.minimize("discriminator", partial(self.r1_loss, real), allow_unused=True)
        generator_loss = self.minimize("generator", partial(self.generator_loss, fakes.output), through=fakes)
        if self.plan.path_length:
            _, lengths = self.minimize("generator", partial(self.path_length_loss, draws), allow_unused=True)
            recorded = recorded | lengths
        return self.record(discriminator_loss=discriminator_loss, generator_loss=generator_loss, **metrics, **recorded)

    def grow(self, images: Tensor) -> Tensor:
        """The images as a step's networks take them, once these know how far they have grown."""
        if self.schedule is None:
            return images
        progress = self.schedule.progress(self.plan.stage, self.step.read_value())
        set_growth((self.generator, self.generator_ema, self.discriminator), progress)
        return images_at(images, self.plan.stage, progress)

    def fakes(self, draws: Draws) -> Tensor:
        """G(z) for fresh z and noise, (batch, height, width, channels) of the stage's size."""
        synthesis, styles = self.synthesis_at(self.plan.stage), self.styles(draws)
        return synthesis([styles, *self.noise(draws, synthesis)], training=True)

    def styles(self, draws: Draws) -> Tensor:
        """Styles of fresh z, (batch, layers, style_dim), at times mixed from one layer on; moves the mean latent."""
        mapping = partial(self.mapping_network(), training=True)
        first, second = mapping(draws.normal(self.latent_dim)), mapping(draws.normal(self.latent_dim))
        mean_latent = mean_latent_of(self.generator)
        (now,) = global_mean([ops.stop_gradient(ops.sum(first, axis=0))], first)
        mean_latent.assign(mean_latent + (1.0 - self.mean_decay) * (ops.cast(now, mean_latent.dtype) - mean_latent))
        # A layer from 1 to the last of the stage, or one beyond all: nothing is mixed.
        used, count = layers_at(self.plan.stage), layers_at(self.grown)
        cut = 1 + ops.cast(ops.floor((used - 1) * draws.of_the_step()), "int32")
        return mix_styles(first, second, ops.where(draws.of_the_step() < self.mixing, cut, count), count)

    def noise(self, draws: Draws, synthesis: keras.Model) -> list[Tensor]:
        """Standard normal maps for each input of the synthesis network but the first."""
        return [draws.normal(*tensor.shape[1:]) for tensor in synthesis.inputs[1:]]

    def logits(self, batch: Any) -> Tensor:
        """D's logits of a batch's images, (batch, 1), in inference mode, at the size that it has grown to."""
        images, stage = images_of(batch), self.grown
        if self.schedule:
            progress = read_growth(self.discriminator)
            stage = stage_of(progress)
            images = images_at(images, stage, progress)
        return in_whole_groups(partial(self.discriminator_at(stage), training=False), images, self.group_size)
