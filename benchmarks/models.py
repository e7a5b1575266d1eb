"""The models whose train steps are measured: a recipe of each, what its step needs, and what its peer is given."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.presets.table import resolve_class
from zoo.training.optimizers import build_optimizers
from zoo.training.recipe import Recipe


@dataclass(frozen=True)
class Passes:
    """How often a train step needs each pass of a network, for each row of the batch.

    Args:
        forward: forward passes.
        by_weights: gradients by the weights.
        by_input: gradients by what each layer is given, down to the first layer's output.
        by_image: the same, down to the network's input.
        gradient_penalty: gradient penalties of a critic, as `benchmarks.flops.penalty_flops` counts them.
    """

    forward: int = 0
    by_weights: int = 0
    by_input: int = 0
    by_image: int = 0
    gradient_penalty: int = 0


# D scores images and fakes for its own update, then the fakes for G's, whose gradient needs D's by the image.
GENERATOR = Passes(forward=1, by_weights=1, by_input=1)
DISCRIMINATOR = Passes(forward=3, by_weights=2, by_input=2, by_image=1)
GENERATOR_TWICE = Passes(forward=2, by_weights=1, by_input=1)  # on fresh latents for its own update
CRITIC_STEPS = 5  # WGAN-GP's
WITHOUT_AUGMENTATION = {"augment": ""}
STYLE_SIZES = (
    *("image_shape", "latent_dim", "style_dim", "mapping_layers", "channel_base", "channel_max", "group_size"),
    *("r1_weight", "r1_interval"),
)


@dataclass(frozen=True)
class Measured:
    """A model whose train step is measured.

    Args:
        recipe: the name of its module in `recipes`.
        peer: the name of its peer's in `benchmarks.peers`.
        passes: network -> the passes that a step needs of it for each row of the batch; empty where they are not
            counted, as those of second derivatives through styles and filters are not.
        sizes: the constructor's arguments that the peer takes, too.
        critic_passes: network -> the passes that each update of a critic needs besides, where a step has several.
        labels: whether it learns from labels.
        targets: whether it learns from two collections of images.
        average: whether the moving average that it keeps by default is left out, since its peer keeps none.
        settings: arguments that differ from the preset's, on both sides.
        period: steps after which its lazy penalties come again: a turn is made of whole ones.
        bfloat16: whether its layers compute in it where that is asked for.
    """

    recipe: str
    peer: str
    passes: Mapping[str, Passes]
    sizes: tuple[str, ...]
    critic_passes: Mapping[str, Passes] = field(default_factory=dict)
    labels: bool = False
    targets: bool = False
    average: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    period: int = 1
    bfloat16: bool = True

    def find_recipe(self, tiny: bool = False) -> Recipe:
        """The recipe, or its smoke run with the preset's tiny twin."""
        recipe: Recipe = importlib.import_module(f"recipes.{self.recipe}").recipe
        return recipe.shrink() if tiny else recipe

    def arguments(self, tiny: bool = False, **changes: Any) -> dict[str, Any]:
        """The constructor's: those of the preset, or of its tiny twin, but for `changes`."""
        average = {"ema_decay": None} if self.average else {}
        return {**self.find_recipe(tiny).to_preset().arguments, **average, **self.settings, **changes}

    def peer_arguments(self, tiny: bool = False, **changes: Any) -> dict[str, Any]:
        """Those of them that the peer takes, too."""
        return {name: value for name, value in self.arguments(tiny, **changes).items() if name in self.sizes}

    def build(self, tiny: bool = False, **changes: Any) -> Any:
        """The model with these arguments, not compiled; one that grows stands at the step where it has grown."""
        from zoo.core.growth import GrowthSchedule

        model = resolve_class(self.find_recipe().to_preset().model)(**self.arguments(tiny, **changes))
        schedule = getattr(model, "schedule", None)
        if isinstance(schedule, GrowthSchedule):
            model.step.assign(schedule.start(schedule.levels) + schedule.fade_steps)
        return model

    def make_optimizers(self, model: Any) -> dict[str, Any]:
        """Player -> the recipe's optimizer, as fast with the updates by lazy penalties."""
        return build_optimizers(self.find_recipe().optimizers, model.lazy_intervals)

    def step_flops(self, model: Any) -> int:
        """FLOPs that a step of `model` needs for each row of the batch."""
        from benchmarks.flops import network_flops

        networks = {network.name: network for networks in model.players.values() for network in networks}
        once, an_update = (
            sum(network_flops(networks[name], passes) for name, passes in found.items())
            for found in (self.passes, self.critic_passes)
        )
        return once + model.minibatches_per_step * an_update

    def make_batch(self, arguments: Mapping[str, Any], rows: int) -> dict[str, np.ndarray]:
        """Noise as a batch: "image" (rows, height, width, channels) in [-1, 1] and "row"; "label", "target" as needed.

        Of a critic that is updated several times a step, "image" is (rows, updates, height, width, channels).
        """
        draw = np.random.default_rng(0)
        updates = (self.minibatches(arguments),) if self.minibatches(arguments) > 1 else ()
        images = draw.uniform(-1, 1, (rows, *updates, *arguments["image_shape"])).astype(np.float32)
        batch = {"image": images, "row": np.arange(rows)}
        if self.targets:
            batch["target"] = draw.uniform(-1, 1, images.shape).astype(np.float32)
        return batch | ({"label": draw.integers(0, len(arguments["classes"]), rows)} if self.labels else {})

    def minibatches(self, arguments: Mapping[str, Any]) -> int:
        """Images of a row of the batch."""
        return arguments.get("critic_steps", CRITIC_STEPS) if "critic_steps" in self.sizes else 1


MODELS = {
    "dcgan": Measured(
        "dcgan_images",
        "dcgan",
        {"generator": GENERATOR, "discriminator": DISCRIMINATOR},
        ("image_shape", "latent_dim", "width"),
    ),
    "wgan-gp": Measured(
        "wgan_gp_fashion_mnist",
        "wgan_gp",
        {"generator": GENERATOR, "critic": Passes(forward=1, by_image=1)},
        ("image_shape", "latent_dim", "width", "critic_steps"),
        {"generator": Passes(forward=1), "critic": Passes(forward=2, by_weights=2, by_input=2, gradient_penalty=1)},
    ),
    "sngan": Measured(
        "sngan_fashion_mnist",
        "sngan",
        {"generator": GENERATOR_TWICE, "discriminator": DISCRIMINATOR},
        ("image_shape", "latent_dim", "width"),
    ),
    "cgan": Measured(
        "cgan_fashion_mnist",
        "cgan",
        {"generator": GENERATOR, "discriminator": DISCRIMINATOR},
        ("image_shape", "classes", "latent_dim", "width"),
        labels=True,
    ),
    "vae": Measured(
        "beta_vae_fashion_mnist",  # convolutional
        "vae",
        {
            "encoder": Passes(forward=1, by_weights=1, by_input=1),
            "decoder": Passes(forward=1, by_weights=1, by_image=1),  # by the latents, for the encoder
        },
        ("image_shape", "latent_dim", "hidden"),
        average=False,
        settings={"latent_dim": 20, "beta": 1.0, "likelihood": "discretized_logistic"},
    ),
    "classifier": Measured(
        "cnn_fashion_mnist",
        "classifier",
        {"classifier": Passes(forward=1, by_weights=1, by_input=1)},
        ("image_shape", "classes", "width"),
        labels=True,
    ),
    "progan": Measured(
        "progan_sign_digits",
        "progan",
        {},
        ("image_shape", "latent_dim", "channel_base", "channel_max", "group_size"),
        average=False,
        settings=WITHOUT_AUGMENTATION,
    ),
    "stylegan": Measured(
        "stylegan_sign_digits",
        "stylegan",
        {},
        STYLE_SIZES,
        average=False,
        settings=WITHOUT_AUGMENTATION,
        period=16,
    ),
    "stylegan2": Measured(
        "stylegan2_sign_digits",
        "stylegan2",
        {},
        (*STYLE_SIZES, "path_length_weight", "path_length_interval"),
        average=False,
        settings=WITHOUT_AUGMENTATION,
        period=16,
    ),
    "cyclegan": Measured(
        "cyclegan_blob_to_noto",
        "cyclegan",
        {},
        ("image_shape", "width", "blocks", "discriminator_width"),
        targets=True,
        average=False,
    ),
    "pixelcnn": Measured(
        "pixelcnn_mnist",
        "pixel_cnn",
        {},
        ("image_shape", "levels", "filters", "blocks", "kernel"),
    ),
    "rbm": Measured(
        "rbm_mnist",
        "rbm",
        {},
        ("image_shape", "units", "gibbs_steps", "persistent", "chains", "sampling_steps"),
        average=False,
        bfloat16=False,
    ),
}
