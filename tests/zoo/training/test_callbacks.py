"""What a run writes while it trains: that its numbers are right, the best checkpoint, the warnings."""

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from recipes import autoencoder_fashion_mnist, dcgan_fashion_mnist
from serving.card import read_card
from serving.images import make_grid, to_uint8
from serving.pipeline import Pipeline
from zoo.data.load import load_images
from zoo.evaluation.extractors import extract_features
from zoo.metrics.distances import nearest_neighbor_distance, sliced_wasserstein_distance
from zoo.models.vae import VAE
from zoo.training.callbacks import COLUMNS, compute_update_ratios, make_batch, reconstruct_pairs
from zoo.training.checkpoints import Checkpoints
from zoo.training.devices import choose_strategy
from zoo.training.optimizers import SGD, Adam
from zoo.training.recipe import Recipe
from zoo.training.run import build_and_compile
from zoo.training.train import train
from zoo.training.validation import Scorer, choose_scorer

SCORE = "sliced_wasserstein_distance"  # of twins, whose images no extractor takes
TINY = dataclasses.replace(
    dcgan_fashion_mnist.recipe,
    data="embedded",
    smoke=True,
    deterministic=False,
    precision="float32",  # models are built of it without a run, too
    steps=6,
    batch_size=8,
    log_every=2,
    sample_every=6,
    checkpoint_every=2,
    keep=3,
    score_every=None,
)


TINY_AUTOENCODER = dataclasses.replace(
    TINY,
    preset=autoencoder_fashion_mnist.recipe.preset,
    optimizers={"autoencoder": Adam(0.01)},
)


def trained(directory: Path, recipe: Recipe = TINY, **changes: Any) -> tuple[Path, str]:
    """The run directory, and what the console said."""
    said = io.StringIO()
    train(dataclasses.replace(recipe, run_dir=directory, **changes), Console(file=said, width=10_000))
    return directory, said.getvalue()


def rows(directory: Path) -> list[dict[str, float]]:
    with (directory / "log.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def model_at(directory: Path, step: int, recipe: Recipe = TINY) -> Any:
    """The model as the run's checkpoint of `step` has it."""
    model = build_and_compile(recipe, recipe.to_preset(), choose_strategy(recipe))
    Checkpoints(model, directory, 1).load(step)
    return model


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rates so high that the score does not improve to the end."""
    rates = {"generator": Adam(0.02), "discriminator": Adam(0.002)}
    return trained(tmp_path_factory.mktemp("runs") / "run", score_every=2, optimizers=rates)[0]


def test_the_best_checkpoint_is_kept_beside_the_last_ones(scored: Path) -> None:
    scores = {int(row["step"]): row[SCORE] for row in rows(scored)}
    assert list(scores) == [2, 4, 6]
    assert len(set(scores.values())) == 3
    best = min(scores, key=lambda step: scores[step])
    record = json.loads((scored / "best" / f"ckpt-{best}.json").read_text())
    assert record["facts"][SCORE] == pytest.approx(scores[best], rel=1e-5)
    assert [path.stem for path in (scored / "best").glob("*.index")] == [f"ckpt-{best}"]
    assert sorted(path.stem for path in (scored / "checkpoints").glob("*.index")) == ["ckpt-2", "ckpt-4", "ckpt-6"]


def test_a_single_training_image_has_no_diversity_to_compare_with(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "data" / split / "1.png")
    directory, _ = trained(tmp_path / "run", data=str(tmp_path / "data"), batch_size=1, steps=2, score_every=2)
    (row,) = rows(directory)
    assert np.isnan(row["diversity"])
    assert np.isfinite(row[SCORE])
    assert (directory / "export" / "card.json").exists()


def test_score_diversity_and_update_ratio_are_those_of_the_models_that_were_saved(scored: Path) -> None:
    rates = {"generator": Adam(0.02), "discriminator": Adam(0.002)}
    recipe = dataclasses.replace(TINY, optimizers=rates)
    model, row = model_at(scored / "checkpoints", 6, recipe), rows(scored)[-1]
    options = {"image_size": 16, "channels": 1, "fit": "pad"}
    image_set = load_images("embedded", split="train", **options)
    training = image_set.images[:1000].astype(np.float32) / 127.5 - 1.0
    samples = model.sample(1000, seed=1, output_type="float32")
    assert row[SCORE] == pytest.approx(sliced_wasserstein_distance(samples, training), rel=1e-4)
    shown = model.sample(64, seed=0, output_type="float32")
    ratio = nearest_neighbor_distance(shown) / nearest_neighbor_distance(training[:64])
    assert row["diversity"] == pytest.approx(ratio, rel=1e-4)


def test_the_best_is_exported_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distances = iter([0.3, 0.1, 0.2])
    scorer = Scorer(SCORE, SCORE, 8, lambda samples: next(distances))
    monkeypatch.setattr("zoo.training.callbacks.choose_scorer", lambda images, padded: scorer)
    rates = {"generator": Adam(0.02), "discriminator": Adam(0.002)}
    directory, _ = trained(tmp_path / "run", score_every=2, optimizers=rates, export="best")
    card = read_card(directory / "export")
    assert card.recipe["steps"] == 4
    assert card.recipe["exported"] == f"best of 6 steps by {SCORE} = 0.1, scored every 2"
    recipe = dataclasses.replace(TINY, optimizers=rates)
    kept, last = (
        model_at(directory / folder, step, recipe).sample(4) for folder, step in (("best", 4), ("checkpoints", 6))
    )
    exported = Pipeline.from_directory(directory / "export").sample(4).astype(int)
    assert np.abs(exported - kept).max() <= 2  # weights in float16
    assert np.abs(exported - last).max() > 2
    with pytest.raises(ValueError, match="choose score_every"):
        dataclasses.replace(TINY, export="best")


def test_the_last_step_is_exported_where_no_score_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(SCORE, SCORE, 8, lambda samples: float("nan"))
    monkeypatch.setattr("zoo.training.callbacks.choose_scorer", lambda images, padded: scorer)
    directory, said = trained(tmp_path / "run", score_every=2, export="best")
    assert read_card(directory / "export").recipe["exported"] == "the last of 6 steps"
    assert "no score was recorded, so there is no best step: exporting the last of 6 steps." in said


def test_a_scorer_sees_what_the_extractor_takes() -> None:
    """28x28 images padded to 32x32: the center is scored by features; other sizes by pixels."""
    padded = load_images("embedded", split="train", image_size=32, channels=1, fit="pad")
    plain = load_images("embedded", split="train", image_size=28, channels=1)
    scorers = [choose_scorer(padded, padded=True), choose_scorer(plain, padded=False)]
    assert [scorer.name for scorer in scorers] == ["frechet_distance"] * 2
    assert scorers[0].label.startswith("FCD(cnn-fashion-mnist@")
    others = [image_set.images[5000:6000].astype(np.float32) / 127.5 - 1.0 for image_set in (padded, plain)]
    healthy = [scorer.distance(images) for scorer, images in zip(scorers, others, strict=True)]
    assert healthy[0] == pytest.approx(healthy[1], rel=1e-6)
    assert scorers[0].distance(-others[0]) > 100 * healthy[0]
    scaled = load_images("embedded", split="train", image_size=32, channels=1, fit="squash")
    assert choose_scorer(scaled, padded=False).name == SCORE


def test_training_images_wait_for_the_first_score_and_are_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def extract(extractor: Any, images: np.ndarray) -> Any:
        seen.append(len(images))
        return extract_features(extractor, images)

    monkeypatch.setattr("zoo.training.validation.extract_features", extract)
    images = load_images("embedded", split="train", image_size=28, channels=1)
    scorer = choose_scorer(images, padded=False)
    assert seen == []
    samples = images.images[:300].astype(np.float32) / 127.5 - 1.0
    assert scorer.distance(samples) == scorer.distance(samples)
    assert seen == [9_000]


def test_an_update_ratio_is_change_over_weights() -> None:
    before = {"generator": [np.array([3.0, 0.0]), np.array([[4.0]])], "critic": [np.zeros(2)]}
    after = {"generator": [np.array([3.0, 0.3]), np.array([[4.4]])], "critic": [np.zeros(2)]}
    # ||(0, 0.3, 0.4)|| / ||(3, 0, 4)|| = 0.5 / 5
    found = compute_update_ratios(before, after)
    assert found == {"generator_update_ratio": pytest.approx(0.1), "critic_update_ratio": 0.0}


def test_plain_gradient_descent_moves_weights_by_rate_times_gradient(tmp_path: Path) -> None:
    """So the logged norm, the logged ratio and the rate fit together: ratio = rate * norm / ||weights||."""
    rates = {"generator": SGD(0.01), "discriminator": SGD(0.05)}
    directory, _ = trained(tmp_path / "run", steps=1, log_every=1, checkpoint_every=1, optimizers=rates)
    row, model = rows(directory)[0], model_at(directory / "checkpoints", 1, dataclasses.replace(TINY, optimizers=rates))
    for player, choice in rates.items():
        size = np.sqrt(sum(np.sum(np.square(v.numpy())) for v in model.variables_of(player)))
        expected = choice.learning_rate * row[f"{player}_gradient_norm"] / size
        assert row[f"{player}_update_ratio"] == pytest.approx(expected, rel=1e-2)


def test_several_steps_an_execution_give_the_same_run(tmp_path: Path) -> None:
    single, _ = trained(tmp_path / "single")
    double, _ = trained(tmp_path / "double", steps_per_execution=2)
    assert rows(single)
    for one, other in zip(rows(single), rows(double), strict=True):
        for name in one.keys() - {"seconds", "generator_update_ratio", "discriminator_update_ratio"}:
            assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), name
    assert [path.name for path in (double / "checkpoints").glob("*.index")]
    for found, expected in zip(
        model_at(double / "checkpoints", 6).get_weights(),
        model_at(single / "checkpoints", 6).get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_xla_compiles_is_the_plain_one_up_to_rounding(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "plain")
    compiled, _ = trained(tmp_path / "compiled", xla=True)
    assert rows(plain)
    for one, other in zip(rows(plain), rows(compiled), strict=True):
        for name in one.keys() - {"seconds"}:
            assert other[name] == pytest.approx(one[name], rel=2e-3, abs=1e-5), name


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_in_half_precision_saves_resumes_and_exports_float32(precision: str, tmp_path: Path) -> None:
    changes = {"precision": precision, "checkpoint_every": 1}
    directory, _ = trained(tmp_path / "run", steps=2, **changes)
    _, said = trained(directory, steps=3, resume=True, **changes)
    assert "resumed at step 2" in said
    card = json.loads((directory / "export" / "card.json").read_text())
    assert card["recipe"]["precision"] == precision
    assert {tensor["dtype"] for tensor in card["abilities"]["generate"]["inputs"]} == {"float32"}
    saved = tf.saved_model.load(str(directory / "export" / "saved_model" / "1"))
    types = {
        operation.outputs[0].dtype
        for operation in saved.signatures["generate"].graph.get_operations()
        if operation.outputs
    }
    assert not types & {tf.bfloat16, tf.float16}


def test_a_failing_run_is_warned_of_on_the_console_in_tensorboard_and_in_the_report(tmp_path: Path) -> None:
    """The saturating loss and a discriminator that learns 100 times as fast: its generator gets no gradient."""
    directory, said = trained(
        tmp_path / "run",
        steps=80,
        log_every=4,
        sample_every=80,
        checkpoint_every=80,
        batch_size=16,
        model={"loss": "minimax"},
        optimizers={"generator": Adam(1e-4), "discriminator": Adam(1e-2)},
    )
    warnings = [line for line in said.splitlines() if line.startswith("warning: vanishing gradients at step ")]
    assert len(warnings) == 1  # once, not at every row
    assert "--model.loss non_saturating" in warnings[0]
    events = [
        value
        for file in directory.glob("tensorboard/*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "failure_mode"
    ]
    assert len(events) == 1
    assert b"vanishing gradients" in tf.make_ndarray(events[0].tensor).item()
    assert "Vanishing gradients" in (directory / "report.html").read_text(encoding="utf-8")


def test_a_stable_run_is_not_warned_of(tmp_path: Path) -> None:
    _, said = trained(tmp_path / "run", steps=80, log_every=4, sample_every=80, checkpoint_every=80, batch_size=16)
    assert "step 80/80" in said
    assert "warning" not in said


def test_a_single_image_can_be_overfitted(tmp_path: Path) -> None:
    """Nothing is as far from its neighbor as training images are from theirs: the column has no number."""
    for split in ("train", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for number in range(8):
            Image.new("L", (16, 16), 200).save(tmp_path / "data" / split / f"{number}.png")
    directory, _ = trained(tmp_path / "run", data=str(tmp_path / "data"), steps=2, log_every=1, sample_every=2)
    assert [np.isnan(row["diversity"]) for row in rows(directory)] == [True, True]
    assert (directory / "report.html").exists()
    assert (directory / "export" / "card.json").exists()


# Models that give images back


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
def test_reconstructions_stand_beside_their_images(classes: tuple[str, ...]) -> None:
    model = VAE((8, 8, 1), latent_dim=3, hidden=(6,), bound_samples=1, classes=classes)
    random = np.random.default_rng(0)
    for network in (model.encoder, model.decoder):
        network.set_weights([random.normal(0.0, 1.0, weight.shape) for weight in network.get_weights()])
    images = random.integers(0, 256, (40, 8, 8, 1)).astype(np.float32) / 127.5 - 1.0
    labels = np.arange(40) % 3  # int64, as the data's
    found = reconstruct_pairs(model, {"image": images, "label": labels})
    assert (found.shape, found.dtype) == ((64, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(found[0::2], to_uint8(images[:32], (-1.0, 1.0)))
    told = {"label": labels[:32]} if classes else {}
    given_back = to_uint8(model.reconstruct(images[:32], **told), (-1.0, 1.0))
    np.testing.assert_array_equal(found[1::2], given_back)
    if classes:
        other = reconstruct_pairs(model, {"image": images, "label": (labels + 1) % 3})
        np.testing.assert_array_equal(other[0::2], found[0::2])
        assert (other[1::2] != found[1::2]).any(axis=(1, 2, 3)).all()


@pytest.fixture(scope="module")
def given_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an autoencoder."""
    return trained(tmp_path_factory.mktemp("runs") / "run", TINY_AUTOENCODER)[0]


def test_a_model_that_draws_nothing_shows_held_out_images_beside_what_it_gives_back(given_back: Path) -> None:
    assert sorted(path.name for path in given_back.glob("samples/*")) == ["step-0000000.png", "step-0000006.png"]
    held_out = load_images("embedded", split="test", image_size=8, channels=1, fit="crop")
    model = model_at(given_back / "checkpoints", 6, TINY_AUTOENCODER)
    pairs = reconstruct_pairs(model, make_batch(held_out))
    np.testing.assert_array_equal(pairs[0::2], held_out.images[:32])
    shown = np.asarray(Image.open(given_back / "samples" / "step-0000006.png")).astype(int)
    # A gray level: the last digit of a float may round the other way.
    assert np.abs(shown - make_grid(pairs, COLUMNS)[:, :, 0]).max() <= 1
    before = np.asarray(Image.open(given_back / "samples" / "step-0000000.png")).astype(int)
    assert np.abs(shown - before).max() > 10
    last = rows(given_back)[-1]
    assert {"loss", "reconstruction_loss", "train_squared_error", "held_out_squared_error"} <= set(last)
    assert "diversity" not in last


def test_its_export_has_the_image_and_shows_it(given_back: Path) -> None:
    export = given_back / "export"
    card = read_card(export)
    assert "reconstructions.png" in card.files
    assert "samples.png" not in card.files
    readme = (export / "README.md").read_text()
    assert "](reconstructions.png)" in readme
    assert "samples.png" not in readme
    exported = np.asarray(Image.open(export / "reconstructions.png")).astype(int)
    shown = np.asarray(Image.open(given_back / "samples" / "step-0000006.png"))
    assert np.abs(exported - shown).max() <= 1


def test_no_pair_is_torn_however_few_held_out_images_there_are(tmp_path: Path) -> None:
    """Nine pairs: a sheet as square as can be would have five columns."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 9)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / "data" / split / f"{number}.png")
    recipe = dataclasses.replace(TINY_AUTOENCODER, data=str(tmp_path / "data"), steps=2, sample_every=2)
    directory, _ = trained(tmp_path / "run", recipe)
    images = load_images(str(tmp_path / "data"), split="test", image_size=8, channels=1).images
    for path in (directory / "samples" / "step-0000002.png", directory / "export" / "reconstructions.png"):
        cells = np.asarray(Image.open(path))
        # 2 pixels of padding: columns are 10 apart, and each even one is an image.
        found = [cells[2 + 10 * row : 10 + 10 * row, 2 + 20 * pair :][:, :8] for row in range(3) for pair in range(4)]
        np.testing.assert_array_equal(np.stack(found[:9]), images[..., 0])


def test_a_model_that_draws_and_gives_back_is_shown_by_samples_and_exported_with_both(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY_AUTOENCODER, preset="vae-mnist")
    directory, _ = trained(tmp_path / "run", recipe, steps=2, sample_every=2)
    card = read_card(directory / "export")
    assert {"samples.png", "reconstructions.png"} <= set(card.files)
    model = model_at(directory / "checkpoints", 2, recipe)
    shown = np.asarray(Image.open(directory / "samples" / "step-0000002.png")).astype(int)
    assert np.abs(shown - make_grid(model.sample(64, seed=0))[:, :, 0]).max() <= 1
    assert "diversity" in rows(directory)[-1]
