"""Arrays in, arrays out: what a served model does with a request, whatever protocol carried it.

A protocol decodes its message, calls `ServedModel.infer` and encodes the arrays that come back: see
`serving.server.http.v2`. Nothing here knows of a protocol.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.card import Card
from serving.pipeline import Pipeline
from serving.server.errors import AbandonedError, DeadlineError
from serving.session import InputError


class ServedModel:
    """One model with all abilities that have an ONNX file; safe to share between threads.

    Attributes: card; pipelines, one for each ability by name; row_limit.
    """

    def __init__(self, card: Card, pipelines: dict[str, Pipeline], row_limit: int) -> None:
        """Hold a model that is already open.

        Args:
            card: of the model.
            pipelines: one for each ability by name, the card's default among them.
            row_limit: the most rows, or images, of one request.
        """
        self.card, self.pipelines, self.row_limit = card, pipelines, row_limit

    def infer(
        self,
        feeds: Mapping[str, np.ndarray],
        *,
        ability: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        deadline: float | None = None,
        abandoned: Callable[[], bool] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run an ability on arrays, or sample images from a seed.

        Args:
            feeds: an array for each input of the ability, by name; empty to sample.
            ability: which one to run; the card's default when not given.
            sampling: arguments of `Sampler.sample` other than `output_type`, `count` among them; empty to run the
                ability on `feeds`.
            outputs: names of the outputs to return; all when empty.
            deadline: of time.monotonic(), after which nothing is run.
            abandoned: whether nobody waits for the answer any more; then nothing is run.

        Returns:
            Arrays by output name. Sampling gives one: float32 (count, height, width, channels) in the card's range.

        Raises:
            InputError: the ability, an input, an output or a sampling argument is unknown or does not fit, an output is
                named twice, there are more than `row_limit` rows, or both or neither of `feeds` and `sampling` are
                given.
            ModelFileError: the graph fails on these arrays.
            AbandonedError, DeadlineError: it was too late.
        """
        if abandoned and abandoned():
            raise AbandonedError("nobody waits for the answer")
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineError("the time for an answer is over")
        name = ability or self.card.default_ability
        if name not in self.pipelines:
            raise InputError(f"{self.card.name!r} serves no ability {name!r}: choose from {sorted(self.pipelines)}")
        if len(set(outputs)) < len(outputs):
            raise InputError("an output is asked for twice: name each once")
        if feeds and sampling:
            raise InputError(f"inputs and the parameters {sorted(sampling)} exclude each other: give one or the other")
        if feeds:
            results = self._run(self.pipelines[name], feeds)
        else:
            results = self._sample(self.pipelines[name], sampling or {})
        if unknown := [output for output in outputs if output not in results]:
            raise InputError(f"outputs {unknown} are unknown: this answer has {list(results)}")
        return {output: results[output] for output in outputs or results}

    def _run(self, pipeline: Pipeline, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        # Any first axis counts as rows: this holds before it is known whether the arrays fit the graph.
        self._check_rows(max([1, *(array.shape[0] for array in feeds.values() if array.ndim)]))
        return pipeline.run(feeds)

    def _sample(self, pipeline: Pipeline, sampling: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if "count" not in sampling:
            raise InputError("nothing to do: give inputs, or parameters with a count (and seed, start, labels)")
        self._check_rows(sampling["count"])
        images = pipeline.sample(**sampling, output_type="float32")
        return {pipeline.sampler.image.name: np.asarray(images)}

    def _check_rows(self, rows: int) -> None:
        if not 1 <= rows <= self.row_limit:
            raise InputError(f"{rows} rows: give 1 to {self.row_limit} in one request")
