"""A board of likelihoods: rows that are true, that are kept where nothing has changed, and tables that say so."""

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import logsumexp

from serving.card import Ability, Data, Input, Output
from serving.pipeline import Pipeline
from zoo import pretrained
from zoo.data.images import ImageSet, to_float32
from zoo.data.load import load_images
from zoo.evaluation import board_estimates as module
from zoo.evaluation.board import (
    Board,
    BoardImages,
    BoardOptions,
    Declared,
    Published,
    Row,
    load_board_images,
    read_declared,
)
from zoo.evaluation.board_estimates import BASELINE, GraphEvaluation, sample_prior
from zoo.evaluation.board_table import evaluate_board, make_table, read_rows, write_board
from zoo.evaluation.source import ExportedModel, fixed_permutation
from zoo.export.export import export
from zoo.models.rbm import RBM
from zoo.models.vae import VAE
from zoo.presets.table import PRESETS

NAME = "vae-mnist"
SHAPE = (4, 4, 1)
QUIET: Callable[[str], None] = lambda message: None  # noqa: E731
PUBLISHED = Published(
    "small", "VAE of others", -9.5, "ELBO, 3 epochs", "arXiv:0000.00000", (NAME, "wgan-fashion-mnist")
)
OTHER = Published("small", "a model of others", -7.25, "exact", "somewhere")


def write_images(folder: Path, counts: dict[str, int], levels: list[int]) -> str:
    """A folder of random images, with splits."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for kind in ("a", "b"):
            (folder / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = random.choice(levels, SHAPE[:2]).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / kind / f"{number:03}.png")
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Black and white images."""
    return write_images(tmp_path_factory.mktemp("black-and-white"), {"train": 30, "test": 12}, [0, 0, 255])


def export_model(model: Any, directory: Path, name: str, source: str) -> Path:
    """As a preset of this name, trained on these images."""
    preset = replace(
        PRESETS[name], arguments=model.get_config(), model=f"{type(model).__module__}.{type(model).__name__}"
    )
    data = Data("small", "train", 60, "", source)
    recipe = {"steps": 30, "batch_size": 20}
    export(model, directory / name, preset=preset, data=data, recipe=recipe, formats=("onnx",))
    return directory / name


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    """A VAE of two latents, so that log p(x) is an integral over the plane."""
    model = VAE(SHAPE, latent_dim=2, hidden=(5,), activation="tanh", bound_samples=4)
    random = np.random.default_rng(1)
    for network in (model.encoder, model.decoder):
        network.set_weights([random.normal(0.0, 0.9, weight.shape) for weight in network.get_weights()])
    for head in ("mean", "log_scale"):  # a posterior that reaches wherever the true one does
        model.encoder.get_layer(head).set_weights([random.normal(0.0, 0.1, (5, 2)), np.zeros(2)])
    return export_model(model, tmp_path_factory.mktemp("exported"), NAME, data)


@pytest.fixture
def shipped(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one model that there is."""
    monkeypatch.setattr(pretrained, "SHIPPED", (exported.parent,))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return exported


@pytest.fixture
def declared(data: str) -> Declared:
    board = Board("small", "Small images", data, ("binary",), "fixed")
    return Declared((board,), (PUBLISHED, OTHER))


def exact_log_prob(directory: Path, images: np.ndarray) -> np.ndarray:
    """log of the integral of p(z) p(x|z), on a grid of the plane."""
    line = np.linspace(-6.0, 6.0, 121, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    means = Pipeline.from_directory(directory, ability="decode").run({"latent": grid})["image"]
    rates = np.clip((means.reshape(len(grid), -1).astype(np.float64) + 1) / 2, 1e-7, 1 - 1e-7)
    white = (images.reshape(len(images), -1) > 0).astype(np.float64)
    given = white @ np.log(rates).T + (1 - white) @ np.log1p(-rates).T
    prior = -0.5 * np.square(grid.astype(np.float64)).sum(axis=1) - math.log(2 * math.pi)
    return logsumexp(given + prior, axis=1) + 2 * math.log(line[1] - line[0])


def pick(rows: list[Row], estimator: str, model: str = NAME) -> Row:
    """The last of a model's rows by an estimator."""
    return [row for row in rows if (row.model, row.estimator) == (model, estimator)][-1]


def test_bounds_lie_below_the_truth_and_come_to_it(shipped: Path, declared: Declared, tmp_path: Path) -> None:
    options = BoardOptions(samples=2_000)
    rows = evaluate_board(tmp_path / "out", options, QUIET, QUIET, declared)
    images = load_board_images(declared.boards[0], options)
    exact = exact_log_prob(shipped, images.given).mean()
    elbo, bound, simple = (pick(rows, name).value for name in ("ELBO", "importance", "Monte Carlo"))
    curve = [row.value for row in rows if row.estimator == "importance"]
    assert elbo < curve[0] < curve[-1] == bound
    assert bound == pytest.approx(exact, abs=0.02)
    assert simple == pytest.approx(exact, abs=0.1)
    assert elbo < exact - 0.1
    row = pick(rows, "importance")
    assert (row.samples, row.count, row.epochs, row.unit, row.binarization) == (2_000, 24, 10.0, "nats", "fixed")


def test_the_baseline_is_each_pixels_share_of_white(shipped: Path, declared: Declared, tmp_path: Path) -> None:
    row = pick(evaluate_board(tmp_path, BoardOptions(samples=4), QUIET, QUIET, declared), "exact", BASELINE)
    source = declared.boards[0].data
    train, test = (
        load_images(source, split=split, image_size=None, channels=1).images > 0 for split in ("train", "test")
    )
    rates = (train.sum(axis=0) + 1) / (len(train) + 2)
    values = np.where(test, np.log(rates), np.log(1 - rates)).sum(axis=(1, 2, 3))
    assert row.value == pytest.approx(values.mean(), rel=1e-12)
    assert row.error == pytest.approx(values.std(ddof=1) / math.sqrt(len(values)), rel=1e-12)


def test_plain_monte_carlo_is_unbiased_in_the_probability(shipped: Path, declared: Declared) -> None:
    images = load_board_images(declared.boards[0], BoardOptions())
    model = ExportedModel(shipped, module.read_card(shipped))
    found = np.stack(
        [sample_prior(model, images, BoardOptions(samples=8, seed=seed), "")[0].values for seed in range(300)]
    )
    truth = exact_log_prob(shipped, images.given)
    ratios = np.exp(found - truth)
    error = ratios.mean(axis=1).std(ddof=1) / math.sqrt(len(ratios))
    assert abs(ratios.mean() - 1.0) < 4 * error
    assert found.mean() < truth.mean() - 0.05  # and its logarithm is too low


def test_what_stands_in_the_table_is_kept_and_what_has_changed_is_not(
    shipped: Path, declared: Declared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate_board(tmp_path, BoardOptions(samples=8), QUIET, QUIET, declared)
    computed: list[int] = []
    compute = GraphEvaluation.compute
    monkeypatch.setattr(GraphEvaluation, "compute", lambda self: (computed.append(self.rounds), compute(self))[1])
    again = evaluate_board(tmp_path, BoardOptions(samples=8), QUIET, QUIET, declared)
    assert not computed
    assert again == read_rows(tmp_path / "likelihood.csv")
    assert [row.model for row in again] == [row.model for row in first]
    more = evaluate_board(tmp_path, BoardOptions(samples=12), QUIET, QUIET, declared)
    assert computed == [3]
    assert {row.samples for row in more if row.estimator == "importance"} == {4, 12}
    fewer = evaluate_board(tmp_path, BoardOptions(samples=12, count=10), QUIET, QUIET, declared)
    assert computed == [3, 3]
    assert {row.count for row in fewer} == {10}


def test_a_run_that_is_cut_off_keeps_what_it_has_made(
    shipped: Path, declared: Declared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "sample_prior", fail)
    with pytest.raises(KeyboardInterrupt):
        evaluate_board(tmp_path, BoardOptions(samples=8), QUIET, QUIET, declared)
    assert {row.estimator for row in read_rows(tmp_path / "likelihood.csv")} == {"exact", "importance", "ELBO"}


def test_rows_of_a_model_that_is_not_here_stay(shipped: Path, declared: Declared, tmp_path: Path) -> None:
    there = Row(*("small", "iwae-mnist", "ELBO", 1, -99.0, 0.5, "nats", 24, "fixed", "", 1.0, "a", "b", "ab", "cd"))
    gone = replace(there, model="a preset of old")
    write_board(tmp_path, [there, gone], declared)
    rows = evaluate_board(tmp_path, BoardOptions(samples=4), QUIET, QUIET, declared)
    assert rows[-1] == read_rows(tmp_path / "likelihood.csv")[-1] == there
    assert gone not in rows


def test_the_table_has_published_values_beside_and_below(shipped: Path, declared: Declared, tmp_path: Path) -> None:
    said: list[str] = []
    rows = evaluate_board(tmp_path, BoardOptions(samples=8), QUIET, said.append, declared)
    assert said == ["wgan-fashion-mnist is left out: it has no weights here."]
    lines = (tmp_path / "likelihood.md").read_text().splitlines()
    assert lines[0] == "### Small images"
    of_model = [line for line in lines if f"`{NAME}`" in line]
    row = pick(rows, "importance")
    published = "-9.5: ELBO, 3 epochs (arXiv:0000.00000)"
    assert of_model == [
        f"| `{NAME}` | 10 | importance bound, K = 8 | {row.value:.2f} ± {row.error:.2f} | 24 | {published} |"
    ]
    assert lines[-1] == "| a model of others |  |  |  |  | -7.25: exact (somewhere) |"
    assert sum(BASELINE in line for line in lines) == 1
    with (tmp_path / "likelihood.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert {line["published"] for line in written if line["model"] == NAME} == {"-9.5"}
    assert {line["published"] for line in written if line["model"] == BASELINE} == {""}


def test_rows_come_back_from_the_file_as_they_were(declared: Declared, tmp_path: Path) -> None:
    row = Row(
        *("small", "x", "AIS", 100, -86.25, 0.125, "nats", 10, "fixed", "the class", 2.5, "a, b", "c", "ab", "cd")
    )
    write_board(tmp_path, [row], declared)
    assert read_rows(tmp_path / "likelihood.csv") == [row]
    assert read_rows(tmp_path / "none.csv") == []
    assert "AIS, 100 chains, given the class | -86.25 ± 0.12 | 10 |" in make_table(declared.boards[0], [row], ())


@pytest.mark.parametrize("text", ["model,value\na,1\n", None])
def test_another_table_is_left_alone(declared: Declared, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "likelihood.csv"
    if text is None:
        write_board(tmp_path, [], declared)
        text = path.read_text() + "a,b,AIS,many" + "," * 14 + "\n"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no board"):
        evaluate_board(tmp_path, BoardOptions(), QUIET, QUIET, declared)
    assert path.read_text() == text


def test_models_of_other_images_or_samples_are_left_out_with_a_reason(
    shipped: Path, declared: Declared, tmp_path: Path
) -> None:
    said: list[str] = []
    rows = evaluate_board(tmp_path, BoardOptions(samples=6), QUIET, said.append, declared)
    assert "vae-mnist is left out: samples=6: the graph takes 4 at once, give a multiple of it" in said
    assert {row.model for row in rows} == {BASELINE}
    nowhere = Declared((replace_board(declared, data=str(tmp_path / "nowhere")),), ())
    with pytest.raises(ValueError, match="no board can be made"):
        evaluate_board(tmp_path / "other", BoardOptions(), QUIET, said.append, nowhere)
    assert "nowhere" in said[-1]
    of_levels = Declared((replace_board(declared, supports=("levels",)),), ())
    with pytest.raises(ValueError, match="no board can be made"):
        evaluate_board(tmp_path / "third", BoardOptions(), QUIET, QUIET, of_levels)


def replace_board(declared: Declared, **changes: Any) -> Board:
    board = declared.boards[0]
    return Board(**{name: getattr(board, name) for name in board.__struct_fields__} | changes)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"samples": 0}, "samples=0"),
        ({"count": 1}, "count=1"),
        ({"chains": 1}, "chains=1"),
        ({"temperatures": 0}, "=0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        BoardOptions(**options)


def test_more_images_than_there_are_leave_a_board_out(shipped: Path, declared: Declared, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match="no board can be made"):
        evaluate_board(tmp_path, BoardOptions(count=25), QUIET, said.append, declared)
    assert "count=25" in said[-1]
    assert "24 test images" in said[-1]


def test_gray_images_are_binarized_by_their_brightness_and_always_alike(tmp_path: Path) -> None:
    source = write_images(tmp_path / "gray", {"train": 2, "test": 60}, [0, 51, 255])
    board = Board("gray", "", source, ("binary",), "dynamic")
    first, again = (load_board_images(board, BoardOptions(count=count)) for count in (None, 40))
    other = load_board_images(board, BoardOptions(seed=1))
    assert set(np.unique(first.test.images)) == {0, 255}
    np.testing.assert_array_equal(first.test.images[:40], again.test.images)
    assert (first.test.images != other.test.images).any()
    gray = load_images(source, split="test", image_size=None, channels=1).images[fixed_permutation(120)]
    for level, share in ((0, 0.0), (51, 0.2), (255, 1.0)):
        drawn = first.test.images[gray == level] > 0
        assert drawn.mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / drawn.size) + 1e-12)
    assert len({first.test.fingerprint, again.test.fingerprint, other.test.fingerprint}) == 3


def make_images(supports: tuple[Any, ...], levels: np.ndarray, labels: np.ndarray | None = None) -> BoardImages:
    """A board of these images, which are its training images too."""
    images = ImageSet(levels, labels, ("a", "b"), "made", "test", "ab", 0, (), "")
    return BoardImages(Board("made", "", "made", supports, "none"), images, images, 0)


def make_pipeline(run: Callable[[dict[str, np.ndarray]], np.ndarray], support: Any, labeled: bool = False) -> Any:
    """An ability log_prob that knows log p(x)."""
    inputs = [Input("image", "float32", ("batch", 2, 2, 1), "image")]
    inputs += [Input("label", "int32", ("batch",), "label", classes=("a", "b"))] * labeled
    output = Output("exact", "float32", ("batch",), "log_prob", support=support)
    ability = Ability(tuple(inputs), (output,), None)
    return SimpleNamespace(ability=ability, card=SimpleNamespace(name="made"), run=lambda feeds: {"exact": run(feeds)})


def test_a_uniform_density_of_gray_levels_takes_eight_bits() -> None:
    seen: list[np.ndarray] = []

    def run(feeds: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(feeds["image"])
        return np.full(len(feeds["image"]), 4 * math.log(255 / 512))  # of 256 levels, each 2 / 255 wide

    levels = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 1)).astype(np.uint8)
    images = make_images(("real",), levels)
    findings = GraphEvaluation(make_pipeline(run, "real"), images, "real", 0, 1, QUIET).compute()
    task = module.Task("made", "", "", 0.0, lambda: findings)
    (row,) = module.make_rows(task, findings, images)
    assert (row.value, row.unit) == (pytest.approx(8.0, abs=1e-6), "bits a dimension")
    noise = (np.concatenate(seen) - to_float32(levels)) / (2 / 255)
    assert -0.5001 <= noise.min() < -0.4 < 0.4 < noise.max() <= 0.5001


def test_given_the_class_and_summed_over_the_classes() -> None:
    labels = np.array([0, 0, 0, 1])
    images = make_images(("binary",), np.zeros((4, 2, 2, 1), np.uint8), labels)
    pipeline = make_pipeline(lambda feeds: np.where(feeds["label"] == 0, -1.0, -3.0), "binary", labeled=True)
    given, summed = GraphEvaluation(pipeline, images, "binary", 0, 1, QUIET).compute()
    np.testing.assert_allclose(given.values, [-1, -1, -1, -3])
    np.testing.assert_allclose(summed.values, math.log(0.75 * math.exp(-1) + 0.25 * math.exp(-3)))
    assert (given.given, summed.given) == ("the class", "")


def test_a_model_that_tells_classes_says_how_likely_an_image_is_in_its_own() -> None:
    labels, log_given = np.array([0, 0, 0, 1]), np.array([[-1.0, -4.0], [-2.0, -2.5], [-3.0, -0.5], [-5.0, -6.0]])
    images = make_images(("binary",), np.zeros((4, 2, 2, 1), np.uint8), labels)
    log_joint = log_given + np.log([0.75, 0.25])  # as often as the classes of the training images
    exact = logsumexp(log_joint, axis=1)
    opened = {
        "log_prob": make_pipeline(lambda feeds: exact, "binary"),
        "classify": SimpleNamespace(run=lambda feeds, batch_size: {"logits": log_joint + 9.0}),
    }
    summed, given = module.split_by_class(SimpleNamespace(open=opened.get), images)  # type: ignore[arg-type]
    np.testing.assert_allclose(summed.values, exact, rtol=1e-12)
    np.testing.assert_allclose(given.values, log_given[np.arange(4), labels], rtol=1e-12)
    assert (given.given, summed.given) == ("the class", "")


def test_a_boltzmann_machine_is_annealed_both_ways(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: Declared
) -> None:
    model = RBM(SHAPE, units=4, annealing_chains=50, annealing_temperatures=50)
    model.machine.set_weights(
        [np.random.default_rng(5).normal(0.0, 0.5, weight.shape) for weight in model.machine.get_weights()]
    )
    model.finish()
    directory = export_model(model, tmp_path / "exported", NAME, data)
    monkeypatch.setattr(pretrained, "SHIPPED", (directory.parent,))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    rows = evaluate_board(tmp_path / "out", BoardOptions(chains=50, temperatures=50), QUIET, QUIET, declared)
    found = {row.estimator: row for row in rows if row.model == NAME}
    assert set(found) == {"estimate", "AIS", "RAISE"}
    assert (found["AIS"].samples, found["RAISE"].samples) == (50, 5)
    assert found["AIS"].value == pytest.approx(found["RAISE"].value, abs=0.3)
    assert found["AIS"].value == pytest.approx(found["estimate"].value, abs=0.3)


def test_what_is_declared_can_be_read() -> None:
    found = read_declared()
    names = {board.name for board in found.boards}
    assert {value.board for value in found.published} <= names
    assert all(value.value < 0 for value in found.published if value.board != "levels")
