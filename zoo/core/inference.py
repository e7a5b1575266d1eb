"""`Inference`: what a model does with its abilities, in Keras.

It samples, encodes, decodes, reconstructs, translates and enlarges images, and bounds log p(x).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf

from serving.card import find_sampling
from serving.likelihood import Bound, log_prob
from serving.sampling.sampler import OutputType, Sampler, run_in_batches
from serving.session import check_feeds
from serving.translation import Images, Task, find_abilities, transform
from zoo.core.ability import Ability
from zoo.core.types import Tensor

ROWS = 250  # of one run of an ability


class Inference(ABC):
    """Runs the abilities of the model that it is part of."""

    @abstractmethod
    def abilities(self) -> Mapping[str, Ability]:
        """Name -> what the model can do once exported; the first is the default."""

    def run_ability(self, name: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one ability: arrays by input name -> arrays by output name.

        Args:
            name: of the ability.
            feeds: float64 does for float32, and int64 for int32.

        Raises:
            serving.session.InputError: an array is missing, not known, of another shape or of another kind.
        """
        return self._run(name, self._check_feeds(name, feeds))

    def sample(
        self, count: int, seed: int = 0, *, output_type: OutputType = "uint8", batch_size: int = 64, **choices: Any
    ) -> Any:
        """Draw images; image i depends on (seed, i) alone.

        Args:
            count: how many.
            seed: 0 <= seed < 2**64.
            output_type: "uint8" or "float32", an array (count, height, width, channels); "pil", a list of images.
            batch_size: images per call of the network.
            **choices: what else the ability takes, such as `labels`; `steps` of a Markov chain.
        """
        name = find_sampling(self._abilities) or "generate"
        sampler = Sampler(
            self._ability(name).card(), lambda feeds: self.run_ability(name, feeds), batch_size=batch_size
        )
        return sampler.sample(count, seed, output_type=output_type, **choices)

    def encode(self, images: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """Codes of images, (count, units); of a model with a posterior its mean.

        Args:
            images: (count, height, width, channels) in [-1, 1].
            **more: what else the ability takes, such as `label`, (count,).

        Raises:
            ValueError: the model has no such ability; likewise below.
        """
        return self._first_output("encode", image=images, **more)

    def decode(self, codes: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """Images in [-1, 1], (count, height, width, channels), of codes or latents, (count, units)."""
        name = self._ability("decode").network.inputs[0].name
        return self._first_output("decode", **{name: codes}, **more)

    def reconstruct(self, images: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """What decoding gives back of images, both (count, height, width, channels) in [-1, 1]."""
        return self._first_output("reconstruct", image=images, **more)

    def log_prob(self, images: np.ndarray, **options: Any) -> Bound:
        """A lower bound of each image's log p(x), nats.

        Of gray images under a Bernoulli likelihood it bounds no log-probability: it is a cross-entropy, not
        normalized.

        Args:
            images: (count, height, width, channels) in [-1, 1].
            **options: samples, seed, bound and others of `serving.likelihood.log_prob`.
        """
        ability = self._ability("log_prob").card()
        return log_prob(ability, lambda feeds: self.run_ability("log_prob", feeds), images, **options)

    def translate(self, images: Images, direction: str | None = None, **options: Any) -> Any:
        """Images of one collection as those of another.

        Args:
            images: an array of uint8, a Pillow image, or a list of them: see `serving.translation.transform`.
            direction: "a_to_b" or "b_to_a"; the model's first when not given.
            **options: tile, overlap, background, batch_size and progress, as there.

        Returns:
            What `images` are, of the same size, with the channels of the other collection and the images' own alpha.

        Raises:
            ValueError: the model has no such ability.
            serving.session.InputError: an image or option is not what it should be.
        """
        able = find_abilities(self._abilities, "translate")
        chosen = f"translate_{direction}" if direction else next(iter(able), "translate")
        return self._transform("translate", chosen, images, options)

    def upscale(self, images: Images, **options: Any) -> Any:
        """Images enlarged; arguments and errors as those of `translate`.

        Returns:
            What `images` are, larger; gray stays gray, and color color.
        """
        return self._transform("upscale", "upscale", images, options)

    def _transform(self, task: Task, name: str, images: Images, options: Mapping[str, Any]) -> Any:
        ability = self._ability(name).card()
        return transform(task, ability, lambda feeds: self.run_ability(name, feeds), images, **options)

    def _ability(self, name: str) -> Ability:
        if name not in self._abilities:
            raise ValueError(f"{type(self).__name__} can't {name}: its abilities are {', '.join(self._abilities)}.")
        return self._abilities[name]

    def _check_feeds(self, name: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What `run_ability` takes, in the inputs' own types."""
        specs = self._ability(name).card().inputs
        arrays = {key: np.asarray(value) for key, value in feeds.items()}
        for spec in specs:
            if spec.name in arrays and arrays[spec.name].dtype.kind == np.dtype(spec.dtype).kind:
                arrays[spec.name] = arrays[spec.name].astype(spec.dtype, copy=False)
        check_feeds(specs, arrays)
        return arrays

    def _run(self, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """An ability on arrays that fit."""
        return {key: value.numpy() for key, value in self._ability_functions[name](dict(arrays)).items()}

    def _first_output(self, name: str, **feeds: np.ndarray) -> np.ndarray:
        """Of an ability, some rows at a time."""
        ability, arrays = self._ability(name), self._check_feeds(name, feeds)
        outputs = run_in_batches(partial(self._run, name), ability.card().inputs, arrays, ROWS)
        return outputs[ability.output_names[0]]

    @cached_property
    def _abilities(self) -> Mapping[str, Ability]:
        return self.abilities()  # each call builds the networks anew

    @cached_property
    def _ability_functions(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Tensor]]]:
        return {
            name: tf.function(ability, input_signature=[{spec.name: spec for spec in ability.signature()}])
            for name, ability in self._abilities.items()
        }
