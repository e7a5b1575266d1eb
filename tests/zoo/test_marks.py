"""What `make test` leaves out: conftest.py names tests that there are, and each preset keeps three."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from zoo.presets.table import PRESETS

HERE = Path(__file__).parent


@pytest.fixture
def marks(request: pytest.FixtureRequest) -> ModuleType:
    """conftest.py beside this file, as pytest has imported it."""
    plugins = request.config.pluginmanager.get_plugins()
    (found,) = [plugin for plugin in plugins if getattr(plugin, "__file__", None) == str(HERE / "conftest.py")]
    assert isinstance(found, ModuleType)
    return found


def test_the_names_are_those_of_tests(marks: ModuleType) -> None:
    written = {
        name for path in HERE.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(marks.FOR_EVERY_PRESET) == 3
    assert marks.FOR_EVERY_PRESET | set(marks.SECONDS) | set(marks.FOR_FEW_PRESETS) <= written
    assert set().union(*marks.FOR_FEW_PRESETS.values()) <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_every_preset_keeps_a_case_of_replicas_of_a_resumed_run_and_of_an_export(marks: ModuleType, preset) -> None:
    assert not [test for test in marks.FOR_EVERY_PRESET if marks.is_left_to_test_all(test, preset)]
    first = marks.FIRST_OF_CLASS[preset.model] == preset.name
    assert marks.is_left_to_test_all("test_train_smoke", preset) == (not first)
