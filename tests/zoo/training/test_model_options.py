"""Options of a model are read from its source as its constructor means them, without importing it."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from recipes import dcgan_images, vae_mnist, wgan_gp_fashion_mnist
from zoo.presets.table import PRESETS, resolve_class
from zoo.training.main import main, parse_recipe
from zoo.training.model_options import REQUIRED, ModelOption, check_names, read_meanings, read_options
from zoo.training.recipe import Recipe

SIZES = """
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Norm = Literal["batch", "none"]
RATES = (0.1, 0.2)
SMALL = RATES
"""
PENALTIES = '''
from typing import TypedDict

from {package}.sizes import Norm


class PenaltyOptions(TypedDict, total=False):
    r1: float
    penalty_norm: Norm


class Penalty:
    """What is added.

    Args:
        r1: gamma, of the squared
            slope: at images.
        penalty_norm: of the layers.
    """

    def __init__(self, r1: float = 0.5, penalty_norm: Norm = "none"):
        pass
'''
MODEL = '''
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import no_such_package  # so that an import would fail

from {package} import sizes
from {package}.penalties import PenaltyOptions
from {package}.sizes import SMALL, Norm


class Model:
    """A model.

    Args:
        image_shape: (height, width, channels).
        rates: of all layers.
        width: in [-1, 1].
        norm: "batch" or "none".

    Raises:
        ValueError: never: it is a test.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        rates: Sequence[float] = SMALL,
        width: int | None = None,
        norm: sizes.Norm | None = None,
        flip: bool = False,
        scale: float | Norm = -1.0,
        extra: Mapping[str, Any] | None = None,
        *,
        loss: str,
        **penalty: Unpack[PenaltyOptions],
    ):
        pass


class Open:
    def __init__(self, **anything: Any):
        pass


class Late:
    def __init__(self, rate: float = float("inf")):
        pass


class Bare:
    pass
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of three modules, the last of which can't be imported; a name of its own, since sources are cached."""
    name = f"options_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    for module, text in {"__init__": "", "sizes": SIZES, "penalties": PENALTIES, "model": MODEL}.items():
        (tmp_path / name / f"{module}.py").write_text(text.replace("{package}", name))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return name


def test_a_constructor_is_read_with_what_it_imports(package: str) -> None:
    norm = Literal["batch", "none"]
    assert list(read_options(f"{package}.model.Model").values()) == [
        ModelOption("image_shape", tuple[int, ...], REQUIRED, "(height, width, channels)."),
        ModelOption("rates", tuple[float, ...], (0.1, 0.2), "of all layers."),
        ModelOption("width", int | None, None, "in [-1, 1]."),
        ModelOption("norm", norm | None, None, '"batch" or "none".'),
        ModelOption("flip", bool, False, ""),
        ModelOption("scale", float | norm, -1.0, ""),
        ModelOption("extra", None, None, ""),
        ModelOption("loss", str, REQUIRED, ""),
        ModelOption("r1", float, 0.5, "gamma, of the squared slope: at images."),
        ModelOption("penalty_norm", norm, "none", "of the layers."),
    ]
    assert f"{package}.model" not in sys.modules


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.Open", r"Open: \*\*anything must be annotated as Unpack"),
        ("model.Late", r"the default float\(.inf.\) is neither a literal nor a constant"),
        ("model.Bare", "Bare has no __init__ of its own"),
        ("model.Missing", "model does not define Missing"),
        ("sizes.RATES", "RATES is no class"),
        ("nowhere.Model", "there is no module"),
    ],
)
def test_what_cannot_be_read_is_said(name: str, reason: str, package: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_options(f"{package}.{name}")


def test_the_meaning_of_an_argument_ends_with_its_section() -> None:
    assert read_meanings("A model.\n\nArgs:\n    a: one,\n        two.\n    b: three.\n\nRaises:\n    c: no.") == {
        "a": "one, two.",
        "b": "three.",
    }
    assert read_meanings("A model without arguments.") == {}


def signature_of(model: str) -> dict[str, inspect.Parameter]:
    """The constructor's parameters, those of an unpacked TypedDict's class in the place of **."""
    constructor = resolve_class(model).__init__
    parameters = dict(list(inspect.signature(constructor).parameters.items())[1:])
    (*_, last) = parameters.values()
    if last.kind is not last.VAR_KEYWORD:
        return parameters
    (options,) = get_args(get_type_hints(constructor)[last.name])
    del parameters[last.name]
    return parameters | signature_of(f"{options.__module__}.{options.__name__.removesuffix('Options')}")


@pytest.mark.parametrize("model", sorted({preset.model for preset in PRESETS.values()}))
def test_every_model_is_read_as_python_reads_it(model: str) -> None:
    found, expected = read_options(model), signature_of(model)
    assert list(found) == list(expected)
    assert {name: option.default for name, option in found.items()} == {
        name: parameter.default for name, parameter in expected.items()
    }
    for name, option in found.items():
        assert option.help, name
        hint = expected[name].annotation
        if option.type is not None and get_origin(option.type) is not tuple:
            assert option.type == hint, name
        elif option.type is not None:
            assert get_args(option.type)[0] == get_args(hint)[0], name


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_presets_arguments_are_its_models(name: str) -> None:
    options = read_options(PRESETS[name].model)
    assert set(PRESETS[name].arguments) | set(PRESETS[name].tiny) <= set(options)


# On the command line


def chosen(recipe: Recipe, *arguments: str) -> dict[str, Any]:
    return dict(parse_recipe(recipe, arguments).model)


def test_a_value_has_the_constructors_type() -> None:
    assert chosen(vae_mnist.recipe, "--model.hidden", "64", "32", "--model.scale", "0.5", "--model.beta", "2") == {
        "hidden": (64, 32),
        "scale": 0.5,
        "beta": 2.0,
    }
    assert chosen(vae_mnist.recipe, "--model.scale", "learned", "--model.hidden") == {"scale": "learned", "hidden": ()}
    assert chosen(dcgan_images.recipe, "--model.ema-decay", "None") == {"ema_decay": None}
    assert chosen(dcgan_images.recipe) == {}


def test_what_a_recipe_chooses_stays_beside_what_the_command_line_does() -> None:
    recipe = Recipe("dcgan-images", model={"loss": "hinge", "width": 8})
    assert chosen(recipe, "--model.width", "16") == {"loss": "hinge", "width": 16}


def test_help_shows_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(vae_mnist.recipe, ["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in read_options("zoo.models.vae.VAE").keys() - {"image_shape"}:
        assert f"--model.{name.replace('_', '-')} " in shown
    assert "--model.image-shape" not in shown
    assert "--model.latent-dim INT dimensions of z. (default: 50)" in shown  # the preset's
    assert "(default: 200 200)" in shown
    assert "--model.architecture {dense,convolutional}" in shown
    assert "(default: dense)" in shown  # the constructor's


def test_help_and_a_refusal_load_no_tensorflow() -> None:
    script = """
import sys
from recipes import wgan_gp_fashion_mnist as module
from zoo.training.main import main
try:
    main(module.recipe, sys.argv[1:])
finally:
    assert not {"tensorflow", "keras", "zoo.models.wgan"} & set(sys.modules)
"""
    root = Path(__file__).parents[3]
    for arguments, status in ((["--help"], 0), (["--model.clipp", "1"], 2), (["--model.prior", "cauchy"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=root, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert "AssertionError" not in done.stderr


def test_a_choice_that_there_is_not_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(wgan_gp_fashion_mnist.recipe, ["--model.prior", "cauchy"])
    assert exit_.value.code == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "Expected one of ('normal', 'uniform')" in shown


def test_names_are_checked() -> None:
    check_names("zoo.models.wgan.WGAN", ["clip", "width"])
    with pytest.raises(ValueError, match=r"^WGAN takes no clipp; it takes latent_dim, .* Did you mean clip\?$"):
        check_names("zoo.models.wgan.WGAN", ["clip", "clipp"])
