"""The table of presets: plain data that names real classes, and repeats none of their defaults."""

import importlib
import inspect
import json
import re
from typing import Any

import pytest

from zoo.core.model import GenerativeModel
from zoo.losses.regularization import Regularization
from zoo.presets.preset import Preset
from zoo.presets.table import EXTRACTORS, PRESETS, UnknownPresetError, find_preset

presets = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


def class_of(preset: Preset) -> Any:
    module, name = preset.model.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


@presets
def test_name_is_one_that_a_card_takes(preset: Preset) -> None:
    assert find_preset(preset.name) is preset
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", preset.name)
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,5}/[\w.-]+", preset.paper)
    assert preset.summary.endswith(".")


@presets
def test_class_is_a_final_model_of_the_zoo(preset: Preset) -> None:
    assert preset.model.startswith("zoo.models.")
    assert issubclass(class_of(preset), GenerativeModel)
    assert class_of(preset).__final__
    assert not inspect.isabstract(class_of(preset))


@presets
@pytest.mark.parametrize("field", ["arguments", "tiny"])
def test_arguments_differ_from_what_they_change(preset: Preset, field: str) -> None:
    """The preset's from the class defaults, the twin's from the preset's: a twin may go back to a default."""
    parameters = dict(inspect.signature(class_of(preset)).parameters)
    if parameters.pop("regularization", None):
        parameters |= dict(inspect.signature(Regularization).parameters)
    chosen, before = getattr(preset, field), {name: each.default for name, each in parameters.items()}
    if field == "tiny":
        before |= preset.arguments
    assert set(chosen) <= set(parameters)
    assert not [name for name, value in chosen.items() if before[name] == value]


@presets
def test_arguments_survive_the_card(preset: Preset) -> None:
    """card.json keeps them as JSON: lists for tuples, everything else as it was."""
    twin = preset.twin()
    again = class_of(twin)(**json.loads(json.dumps(twin.arguments)))
    direct = class_of(twin)(**twin.arguments)
    assert [v.shape for v in again.exported_weights().values()] == [v.shape for v in direct.exported_weights().values()]
    assert json.dumps(again.get_config()) == json.dumps(direct.get_config())


@presets
def test_twin_is_the_same_configuration_but_smaller(preset: Preset) -> None:
    twin = preset.twin()
    assert (twin.name, twin.model, twin.family) == (preset.name, preset.model, preset.family)
    assert twin.arguments == {**preset.arguments, **preset.tiny}
    assert preset.twin().twin() == twin
    sizes = [sum(v.value.shape.num_elements() for v in class_of(p)(**p.arguments).weights) for p in (twin, preset)]
    assert sizes[0] < sizes[1] / 4


def test_a_data_set_has_one_extractor_and_that_is_a_classifier() -> None:
    declared = [data for preset in PRESETS.values() for data in preset.extractor_for]
    assert sorted(EXTRACTORS) == sorted(declared)
    assert EXTRACTORS["fashion_mnist"] == "cnn-fashion-mnist"
    assert {PRESETS[name].model for name in EXTRACTORS.values()} == {"zoo.models.classifier.Classifier"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dcgan-fashion-mnits", "did you mean dcgan-fashion-mnist"),
        ("dcgan-fashion", "did you mean dcgan-fashion-mnist"),
        ("qqq", ", ".join(sorted(PRESETS))),
        ("", ", ".join(sorted(PRESETS))),
    ],
)
def test_unknown_preset_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnknownPresetError, match=re.escape(hint)) as caught:
        find_preset(name)
    assert str(caught.value).startswith(f"unknown preset {name!r}: ")
