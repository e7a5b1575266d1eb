"""Arrays in, arrays out: what a served model does with a request, whatever protocol carried it.

A protocol decodes its message, calls `ServedModel.infer` and encodes the arrays that come back: see
`serving.server.http.v2`. Nothing here knows of a protocol.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from msgspec import UNSET

from serving.card import Card, CardError
from serving.pipeline import Pipeline
from serving.sampling.iteration import choose_steps
from serving.sampling.sampler import Run, Sampler, run_in_batches
from serving.server.batching import Abandoned, Batcher, BatchingOptions
from serving.server.errors import AbandonedError, DeadlineError, QueueFullError, UnavailableError
from serving.server.metrics import Metrics
from serving.session import NVIDIA_PROVIDERS, InputError, ModelFileError, ProviderError
from serving.translation import Images, find_abilities, transform

logger = logging.getLogger("serving")

CAUSES: dict[type[Exception], str] = {
    InputError: "input",
    ModelFileError: "model",
    QueueFullError: "queue_full",
    DeadlineError: "deadline",
    AbandonedError: "abandoned",
    UnavailableError: "unavailable",
}


@dataclass(frozen=True)
class _Opened:
    pipelines: dict[str, Pipeline]
    batchers: dict[str, Batcher]


class ServedModel:
    """One version of a model with all abilities that have an ONNX file; safe to share between threads.

    It can be unloaded, and opens its files again when it is next used. A request keeps what it began with.

    Attributes: card; version; abilities, those that are served, by name, as the card describes them; options; provider,
    of ONNX Runtime, that the default ability runs on; used, when it last was, by `time.monotonic()`.
    """

    def __init__(
        self,
        card: Card,
        open_pipelines: Callable[[], dict[str, Pipeline]],
        options: BatchingOptions = BatchingOptions(),  # noqa: B008 (frozen)
        *,
        version: str = "1",
        metrics: Metrics | None = None,
    ) -> None:
        """Open the model and run each of its abilities once.

        Args:
            card: of the model.
            open_pipelines: opens the abilities, by name, the card's default among them; called again after `unload`.
            options: how requests share batches, and how large they may be.
            version: as in its folder's name.
            metrics: are told of batches and errors.

        Raises:
            CardError, ModelFileError, ProviderError: of `open_pipelines`, or as in `warm_up`.
        """
        self.card, self.version, self.options = card, version, options
        self.used = time.monotonic()
        self._open_pipelines, self._metrics = open_pipelines, metrics or Metrics()
        self._opening = threading.Lock()
        self._opened: _Opened | None = self._open()
        self.abilities = {name: pipeline.ability for name, pipeline in self._opened.pipelines.items()}
        self.provider: str = self._opened.pipelines[card.default_ability].session.provider

    def _open(self) -> _Opened:
        pipelines = self._open_pipelines()
        for pipeline in pipelines.values():
            warm_up(pipeline, self.options)
        return _Opened(pipelines, {name: self._make_batcher(name, pipeline) for name, pipeline in pipelines.items()})

    def _make_batcher(self, name: str, pipeline: Pipeline) -> Batcher:
        observer = self._metrics.observe_ability(self.card.name, name)
        run: Run = lambda feeds: pipeline.run(feeds)  # noqa: E731 - the method that it has when it is called
        return Batcher(run, pipeline.ability, self.options, fill=is_filled(pipeline), observer=observer)

    def _use(self) -> _Opened:
        self.used = time.monotonic()
        with self._opening:
            if self._opened is None:
                try:
                    self._opened = self._open()
                except (CardError, ModelFileError, ProviderError, OSError) as error:
                    logger.error("%s, version %s, does not open again: %s", self.card.name, self.version, error)
                    raise UnavailableError(f"{self.card.name!r} does not open; the server's log says why") from error
                logger.info("%s, version %s: loaded again", self.card.name, self.version)
            return self._opened

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """The open abilities by name; opens them, if need be.

        Raises:
            UnavailableError: a file is not what it was.
        """
        return self._use().pipelines

    @property
    def loaded(self) -> bool:
        """Whether its graphs are in memory."""
        return self._opened is not None

    @property
    def in_hand(self) -> int:
        """Rows of requests that wait or run."""
        opened = self._opened
        return sum(batcher.in_hand for batcher in opened.batchers.values()) if opened else 0

    def unload(self) -> None:
        """Give its memory back as soon as no request holds it."""
        with self._opening:
            self._opened = None

    def infer(
        self,
        feeds: Mapping[str, np.ndarray],
        *,
        ability: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        deadline: float | None = None,
        abandoned: Abandoned | None = None,
    ) -> dict[str, np.ndarray]:
        """Run an ability on arrays, or sample images from a seed; waits for its turn, beside other threads.

        Args:
            feeds: an array for each input of the ability, by name; empty to sample.
            ability: which one to run; the card's default when not given.
            sampling: arguments of `Sampler.sample` other than `output_type`, `count` among them; empty to run the
                ability on `feeds`.
            outputs: names of the outputs to return; all when empty.
            deadline: by `time.monotonic()`: nothing is begun later. A run of a batch that has begun is not broken off.
            abandoned: whether nobody waits for the answer any more: nothing more is begun then. Other threads ask it.

        Returns:
            Arrays by output name. Sampling gives one: float32 (count, height, width, channels) in the card's range.

        Raises:
            InputError: the ability, an input, an output or a sampling argument is unknown or does not fit, an output is
                named twice, there are more rows or steps than the options allow, or both or neither of `feeds` and
                `sampling` are given.
            ModelFileError: the graph fails on these arrays.
            QueueFullError, DeadlineError, AbandonedError: see `serving.server.errors`.
        """
        name = self._find_ability(ability)
        with self._counting(name):
            opened = self._use()
            if len(set(outputs)) < len(outputs):
                raise InputError("an output is asked for twice: name each once")
            if feeds and sampling:
                raise InputError(
                    f"inputs and the parameters {sorted(sampling)} exclude each other: give one or the other"
                )
            pipeline, batcher = opened.pipelines[name], opened.batchers[name]
            run = partial(batcher.run, deadline=deadline, abandoned=abandoned)
            known = [pipeline.sampler.image.name] if sampling else [spec.name for spec in pipeline.ability.outputs]
            if unknown := [output for output in outputs if output not in known]:
                raise InputError(f"outputs {unknown} are unknown: this answer has {known}")
            if feeds:
                results = self._run(pipeline, batcher, run, feeds)
            else:
                results = self._sample(pipeline, batcher, run, sampling)
            return {output: results[output] for output in outputs or results}

    def transform(
        self,
        task: Any,
        images: Images,
        *,
        ability: str | None = None,
        deadline: float | None = None,
        abandoned: Abandoned | None = None,
        **options: Any,
    ) -> Any:
        """Translate or enlarge images of any size, their tiles in turn with other requests.

        Args:
            task: "translate" or "upscale".
            images, **options: of `serving.translation.transform`, all but `batch_size`.
            ability: which of those for the task; the only one, or the first, when not given.
            deadline, abandoned: as in `infer`.

        Returns:
            What `images` are.

        Raises:
            InputError: no such ability, or images or options that are not what they should be.
            Others: as in `infer`.
        """
        able = find_abilities(self.abilities, task)
        if not able:
            raise InputError(f"{self.card.name!r} can't {task}: it has {sorted(self.abilities)}")
        name = able[0] if ability is None else ability
        if name not in able:
            raise InputError(f"ability {name!r} does not {task}: choose from {able}")
        several = isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.ndim == 4)
        count = len(images) if several else 1  # type: ignore[arg-type]
        with self._counting(name):
            self._check_rows(count)
            batcher = self._use().batchers[name]
            with batcher.admit(count):
                run = partial(batcher.run, deadline=deadline, abandoned=abandoned)
                return transform(task, self.abilities[name], run, images, batch_size=batcher.rows, **options)

    def _find_ability(self, ability: str | None) -> str:
        name = ability or self.card.default_ability
        if name not in self.abilities:
            raise InputError(f"{self.card.name!r} serves no ability {name!r}: choose from {sorted(self.abilities)}")
        return name

    def _run(
        self, pipeline: Pipeline, batcher: Batcher, run: Run, feeds: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        # Any first axis counts as rows: this holds before it is known whether the arrays fit the graph.
        rows = max([1, *(array.shape[0] for array in feeds.values() if array.ndim)])
        self._check_rows(rows)
        pipeline.check(feeds)
        with batcher.admit(rows):
            return run_in_batches(run, pipeline.ability.inputs, feeds, batcher.rows_at_once(feeds))

    def _sample(
        self, pipeline: Pipeline, batcher: Batcher, run: Run, sampling: Mapping[str, Any] | None
    ) -> dict[str, np.ndarray]:
        if not sampling or "count" not in sampling:
            raise InputError("nothing to do: give inputs, or parameters with a count (and seed, start, labels)")
        self._check_rows(rows := sampling["count"])
        ability = pipeline.ability
        steps = choose_steps(ability, sampling.get("steps"))
        largest = max(self.options.request_steps, 0 if ability.iteration is UNSET else ability.iteration.count)
        if steps > largest:
            raise InputError(f"steps={steps}: give 1 to {largest} in one request")
        # Seeds give no free heights or widths: the size of a row is known without feeds.
        sampler = Sampler(ability, run, batch_size=batcher.rows)
        with batcher.admit(rows):
            images = sampler.sample(**sampling, output_type="float32")
        return {sampler.image.name: np.asarray(images)}

    def _check_rows(self, rows: int) -> None:
        if not 1 <= rows <= self.options.request_rows:
            raise InputError(f"{rows} rows: give 1 to {self.options.request_rows} in one request")

    @contextmanager
    def _counting(self, ability: str) -> Iterator[None]:
        """Count an error by its cause."""
        try:
            yield
        except Exception as error:
            cause = next((cause for kind, cause in CAUSES.items() if isinstance(error, kind)), "other")
            self._metrics.count_error(self.card.name, ability, cause)
            raise


def is_filled(pipeline: Pipeline) -> bool:
    """Whether batches are filled up to few sizes: a GPU chooses its programs anew for each, a CPU has no need of it."""
    return pipeline.session.provider in NVIDIA_PROVIDERS


def warm_up(pipeline: Pipeline, options: BatchingOptions) -> None:
    """Run an ability at each size of batch that it has to be prepared for, so that no request pays for that.

    Raises:
        ModelFileError: as in `Session.warm_up`.
    """
    free = any(isinstance(size, str) for spec in pipeline.ability.inputs for size in spec.shape[1:])
    # The largest first: an engine that was built for it serves the others. Which heights and widths come, none knows.
    for size in reversed(options.buckets if is_filled(pipeline) and not free else (1,)):
        pipeline.session.warm_up(batch=size)
