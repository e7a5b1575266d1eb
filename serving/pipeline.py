"""A directory with a card -> a model that samples and runs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.card import Ability, Card, CardError, TensorSpec, read_card, split_size, to_line, verify_files
from serving.likelihood import Bound, log_prob
from serving.sampling.sampler import Sampler, run_in_batches
from serving.session import InputError, Session, check_feeds
from serving.translation import Images, Task, find_abilities, transform


class Pipeline:
    """One ability of an exported model, on ONNX Runtime; safe to share between threads.

    Attributes: card; ability, its record in the card; session; sampler, and its method as `sample`.
    """

    def __init__(self, card: Card, ability: Ability, session: Session, *, batch_size: int = 64) -> None:
        """Take what `from_directory` has read, verified and opened.

        Args:
            card: of the model.
            ability: its record in the card.
            session: of the ability's graph.
            batch_size: the most rows of one run of `sample`.

        Raises:
            ValueError: `batch_size` is less than 1.
        """
        self.card, self.ability, self.session = card, ability, session
        self.sampler = Sampler(ability, session.run, batch_size=batch_size)
        self.sample = self.sampler.sample

    @classmethod
    def from_directory(
        cls,
        directory: str | Path,
        *,
        ability: str | None = None,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        strict: bool = False,
        require_gpu: bool = False,
        spinning: bool = True,
        verify: bool = True,
        batch_size: int = 64,
    ) -> "Pipeline":
        """Read the card, verify the graph's size and sha256, open it, and compare its tensors with the card's.

        Args:
            directory: holds card.json and the files that it lists.
            ability: which one to open; the card's default when not given.
            providers, threads, strict, require_gpu, spinning: as in `Session`.
            verify: False trusts files that were verified before.
            batch_size: the most rows of one run of `sample`.

        Raises:
            CardError: the card, the ability or the file is not what it should be.
            ModelFileError, ProviderError: as in `Session`.
        """
        card = read_card(directory)
        name = card.default_ability if ability is None else ability
        usable = sorted(key for key, value in card.abilities.items() if value.file)
        if name not in usable:
            raise CardError(
                f"{directory}: {card.name!r} has no ONNX file for the ability {name!r}: choose from {usable}"
            )
        chosen = card.abilities[name]
        assert chosen.file is not None  # it is among the usable ones
        if verify:
            verify_files(directory, card, [chosen.file])
        path = Path(directory) / chosen.file
        session = Session(
            path,
            providers=providers,
            threads=threads,
            strict=strict,
            require_gpu=require_gpu,
            spinning=spinning,
            sha256=card.files[chosen.file].sha256 if verify else None,
        )
        # What a multiple is of must have its name in the graph, too: a session checks outputs by the graph's names.
        named = {
            each
            for spec in chosen.outputs
            for size in spec.shape
            for each in (size, split_size(size)[1])
            if split_size(size)[0] > 1
        }
        _compare(f"{path}: inputs", chosen.inputs, session.inputs, named)
        _compare(f"{path}: outputs", chosen.outputs, session.outputs, named)
        return cls(card, chosen, session, batch_size=batch_size)

    def run(self, feeds: Mapping[str, np.ndarray], *, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Every output of the ability by name.

        Args:
            feeds: an array for each input, by name.
            batch_size: the most rows of one run of the graph, which bounds its memory; all at once when not given.

        Raises:
            InputError: an array does not fit, or a label names no class.
        """
        self.check(feeds)
        if batch_size is None:
            return self.session.run(feeds)
        return run_in_batches(self.session.run, self.ability.inputs, feeds, batch_size)

    def check(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Check what `run` would be given, and run nothing.

        Raises:
            InputError: as in `run`.
        """
        check_feeds(self.session.inputs, feeds)
        for spec in self.ability.inputs:
            if spec.classes and not np.isin(feeds[spec.name], range(len(spec.classes))).all():
                raise InputError(f"input {spec.name!r}: a label is 0 to {len(spec.classes) - 1}: {list(spec.classes)}")

    def log_prob(self, images: np.ndarray, **options: Any) -> Bound:
        """A lower bound of each image's log p(x), by the ability log_prob: see `serving.likelihood.log_prob`.

        Of gray images under a Bernoulli likelihood it bounds no log-probability: it is a cross-entropy, not
        normalized.
        """
        return log_prob(self.ability, self.run, images, **options)

    def translate(self, images: Images, **options: Any) -> Any:
        """Images of one collection as those of another, by the ability translate_a_to_b or translate_b_to_a.

        Args:
            images: an array of uint8, a Pillow image, or a list of them: see `serving.translation.transform`.
            **options: tile, overlap, background, batch_size and progress, as there.

        Returns:
            What `images` are, of the same size, with the channels of the other collection and the images' own alpha.

        Raises:
            InputError: another ability is open, or an image or option is not what it should be.
        """
        return self._transform("translate", images, options)

    def upscale(self, images: Images, **options: Any) -> Any:
        """Images enlarged by the ability upscale; arguments and errors as those of `translate`.

        Returns:
            What `images` are, `ability.scale` times as high and wide; gray stays gray, and color color.
        """
        return self._transform("upscale", images, options)

    def _transform(self, task: Task, images: Images, options: Mapping[str, Any]) -> Any:
        able = find_abilities(self.card.abilities, task)
        if self.ability not in [self.card.abilities[name] for name in able]:
            advice = f"open one of {able}" if able else f"it has only {sorted(self.card.abilities)}"
            raise InputError(f"{self.card.name!r} can't {task} by the ability that is open: {advice}")
        return transform(task, self.ability, self.run, images, **options)


def _compare(what: str, said: Sequence[TensorSpec], found: Sequence[TensorSpec], named: Collection[int | str]) -> None:
    """The card's names, dtypes and shapes against the graph's; CardError where they differ.

    Free sizes may have other names in the graph, as tf2onnx gives them, but for those that are `named`.
    """
    graph = {spec.name: spec for spec in found}
    agree = {spec.name for spec in said} == set(graph) and all(
        spec.dtype == graph[spec.name].dtype
        and len(spec.shape) == len(graph[spec.name].shape)
        and all(
            a == b or (isinstance(a, str) and isinstance(b, str) and a not in named)
            for a, b in zip(spec.shape, graph[spec.name].shape, strict=True)
        )
        for spec in said
    )
    if not agree:
        raise CardError(to_line(f"{what}: the card says {_short(said)}, the graph has {_short(found)}"))


def _short(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in specs)
