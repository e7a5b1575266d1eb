"""A classifier that a deep belief network began: its layers, its rate, its table."""

from pathlib import Path

import keras
import numpy as np
import pytest

from studies import pretraining
from studies.figures import read_table
from studies.pretraining import (
    COLUMNS,
    Options,
    Part,
    choose_rows,
    compare,
    fit,
    make_classifier,
    read_layers,
    summarize,
)
from zoo.models.dbn import DBN

SHAPE, PIXELS, CLASSES = (3, 3, 1), 9, 2


@pytest.fixture
def network() -> DBN:
    model = DBN(SHAPE, units=(5, 4, 3), layer_steps=(1, 1, 1))
    random = np.random.default_rng(0)
    for player in model.players:
        for variable in model.variables_of(player):
            variable.assign(random.normal(0, 1, variable.shape))
    return model


def make_part(count: int, seed: int) -> Part:
    """Two classes, of which the second is brighter."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    visible = random.uniform(0, 0.8, (count, PIXELS)) + 0.2 * labels[:, None]
    return Part(visible.astype(np.float32), labels)


def test_the_hidden_layers_of_a_pretrained_classifier_are_the_network_s(network: DBN) -> None:
    classifier = make_classifier(read_layers(network), CLASSES, seed=0, pretrained=True)
    hidden = keras.Model(classifier.input, classifier.get_layer("hidden_2").output)
    visible = make_part(7, 1).visible
    codes = network.run_ability("encode", {"image": 2.0 * visible.reshape(-1, *SHAPE) - 1.0})["code"]
    np.testing.assert_allclose(hidden.predict(visible, verbose=0), codes, atol=1e-5)


def test_both_starts_have_the_same_sizes_and_softmax_and_no_other_weight(network: DBN) -> None:
    random, pretrained = (make_classifier(read_layers(network), CLASSES, 3, each) for each in (False, True))
    for one, other in zip(random.weights, pretrained.weights, strict=True):
        assert one.shape == other.shape
        assert np.array_equal(one, other) == one.path.startswith("logits")
    again = make_classifier(read_layers(network), CLASSES, 3, False)
    assert all(np.array_equal(one, other) for one, other in zip(random.weights, again.weights, strict=True))


def test_labels_are_as_many_of_each_class() -> None:
    part = choose_rows(make_part(50, 0), 6, CLASSES, seed=1)
    assert np.bincount(part.labels).tolist() == [3, 3]
    with pytest.raises(ValueError, match="labels=5: give a multiple of the 2 classes"):
        choose_rows(part, 5, CLASSES, seed=1)


def test_an_update_is_one_of_adam_on_the_cross_entropy(network: DBN) -> None:
    """Adam's first step is the rate, in the direction that the gradient of the logits' bias tells."""
    classifier = make_classifier(read_layers(network), CLASSES, 0, pretrained=True)
    part = Part(make_part(4, 0).visible, np.ones(4, np.int64))  # all of class 1
    fit(classifier, part, 1, 0.01, batch_size=100, seed=0)
    np.testing.assert_allclose(classifier.get_layer("logits").bias, [-0.01, 0.01], rtol=1e-3)


def test_each_start_takes_the_rate_that_validation_images_choose(network: DBN, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the pre-trained classifier the lower of two, of the random one the higher; test images have no say."""
    runs = []

    def fake_fit(classifier: keras.Model, part: Part, updates: int, rate: float, batch_size: int, seed: int) -> None:
        runs.append((len(part.labels), updates, rate, seed))
        started = np.allclose(classifier.get_layer("hidden_0").kernel, network.recognizers[0].kernel)
        classifier.result = (0.9 if (rate == 0.1) == started else 0.5) + 0.01 * (seed % 10)

    monkeypatch.setattr(pretraining, "fit", fake_fit)
    train, validation, test = make_part(20, 0), make_part(8, 1), make_part(9, 2)
    monkeypatch.setattr(
        pretraining,
        "measure_accuracy",
        lambda classifier, part: classifier.result if part is validation else 1.0 - classifier.result,
    )
    options = Options("", labels=(4, None), updates=(7, 9), rates=(0.1, 0.2), seeds=2)
    rows = list(compare(read_layers(network), train, validation, test, options))
    assert [(row["labels"], row["start"], row["updates"], row["learning_rate"], row["seed"]) for row in rows] == [
        *((4, "random", 7, 0.2, seed) for seed in range(2)),
        *((4, "pre-trained", 7, 0.1, seed) for seed in range(2)),
        *((20, "random", 9, 0.2, seed) for seed in range(2)),
        *((20, "pre-trained", 9, 0.1, seed) for seed in range(2)),
    ]
    assert (rows[1]["validation_accuracy"], rows[1]["test_accuracy"]) == ("0.9100", "0.0900")
    assert runs[:4] == [(4, 7, 0.1, 1_000), (4, 7, 0.2, 1_000), (4, 7, 0.2, 0), (4, 7, 0.2, 1)]
    assert list(summarize(rows))[2:] == [
        "| 4 | 7 | 9.50 ± 0.71 | 0.2 | 9.50 ± 0.71 | 0.1 |",
        "| 20 | 9 | 9.50 ± 0.71 | 0.2 | 9.50 ± 0.71 | 0.1 |",
    ]


def test_one_call_writes_the_table_and_the_figure(
    network: DBN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretraining, "load_pretrained", lambda name: network)
    monkeypatch.setattr(pretraining, "load", lambda source, shape, split: make_part(60, 0 if split == "train" else 1))
    options = Options(
        "dbn-mnist",
        labels=(10, None),
        updates=(3, 4),
        rates=(0.01, 0.02),
        seeds=2,
        batch_size=8,
        validation=20,
        table=tmp_path / "pretraining.csv",
        figure=tmp_path / "pretraining.png",
    )
    pretraining.main(options)
    rows = read_table(options.table, COLUMNS)
    assert [row["labels"] for row in rows] == ["10"] * 4 + ["40"] * 4  # 60 but for 20 of validation
    assert options.figure.read_bytes().startswith(b"\x89PNG")
    assert "| labels | updates | random, % | its rate | pre-trained, % | its rate |" in capsys.readouterr().out


def test_what_is_no_comparison_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a number of updates for each number of labels"):
        Options("dbn-mnist", updates=(3,))
    monkeypatch.setattr(pretraining, "load_pretrained", lambda name: keras.Sequential())
    with pytest.raises(ValueError, match="rbm-mnist is no deep belief network, but a Sequential"):
        pretraining.main(Options("rbm-mnist"))
