"""The models that a server holds: opened and checked before it listens, then only read."""

import logging
from typing import Any

import msgspec
import numpy as np

from serving.card import Ability, Card
from serving.pipeline import Pipeline
from serving.server.http.v2 import InferRequest, decode_request, decode_tensor, describe, encode_tensor
from serving.session import InputError

logger = logging.getLogger("serving")


class ServedModel:
    """One model with all abilities that have an ONNX file."""

    def __init__(self, card: Card, pipelines: dict[str, Pipeline], row_limit: int) -> None:
        self.card, self.pipelines, self.row_limit = card, pipelines, row_limit

    def metadata(self) -> dict[str, Any]:
        """The protocol's model metadata, of the default ability; our extension: `parameters` describes them all."""
        abilities = {name: _tensors(pipeline.ability) for name, pipeline in self.pipelines.items()}
        default = self.card.default_ability
        return {
            "name": self.card.name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            **abilities[default],
            "parameters": {"ability": default, "abilities": abilities},
        }

    def infer(self, body: bytes) -> bytes:
        """Answer one request, JSON to JSON; InputError says what is wrong with it."""
        request = decode_request(body)
        ability = request.parameters.ability or self.card.default_ability
        if ability not in self.pipelines:
            raise InputError(f"{self.card.name!r} serves no ability {ability!r}: choose from {sorted(self.pipelines)}")
        results = self._results(self.pipelines[ability], request)
        names = [output.name for output in request.outputs] or list(results)
        if unknown := [name for name in names if name not in results]:
            raise InputError(f"outputs {unknown} are unknown: this answer has {list(results)}")
        answer = {
            "model_name": self.card.name,
            "model_version": "1",
            "outputs": [encode_tensor(name, results[name]) for name in names],
        }
        return msgspec.json.encode(answer if request.id is None else {**answer, "id": request.id})

    def _results(self, pipeline: Pipeline, request: InferRequest) -> dict[str, np.ndarray]:
        sampling = request.parameters.sampling()
        if request.inputs and sampling:
            raise InputError(f"inputs and the parameters {sorted(sampling)} exclude each other: give one or the other")
        if request.inputs:
            feeds = {tensor.name: decode_tensor(tensor) for tensor in request.inputs}
            if len(feeds) != len(request.inputs):
                raise InputError("two inputs of one name")
            self._limit(max([1, *(array.shape[0] for array in feeds.values() if array.ndim)]))
            return pipeline.run(feeds)
        if "count" not in sampling:
            raise InputError("nothing to do: give inputs, or parameters with a count (and seed, start, labels)")
        self._limit(sampling["count"])
        images = pipeline.sample(**sampling, output_type="float32")
        return {pipeline.sampler.image.name: np.asarray(images)}

    def _limit(self, rows: int) -> None:
        if not 1 <= rows <= self.row_limit:
            raise InputError(f"{rows} rows: give 1 to {self.row_limit} in one request")


def _tensors(ability: Ability) -> dict[str, Any]:
    return {
        "inputs": [describe(spec) for spec in ability.inputs],
        "outputs": [describe(spec) for spec in ability.outputs],
    }
