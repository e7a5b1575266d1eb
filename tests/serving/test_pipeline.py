import re

import numpy as np
import pytest

from serving import Pipeline
from serving.card import CardError, FileMismatchError, encode_card, read_card
from serving.sampling.noise import draw
from serving.session import CPU, InputError


def test_a_directory_becomes_images(tanh_model, weights):
    pipeline = Pipeline.from_directory(tanh_model, providers=[CPU], threads=1, batch_size=3)
    images = pipeline.sample(7, seed=11, output_type="float32")
    latents = draw(pipeline.ability.inputs[0], range(7), 11)
    np.testing.assert_allclose(images, np.tanh(latents @ weights).reshape(7, 8, 8, 1), atol=1e-6)
    assert pipeline.card == read_card(tanh_model)
    assert pipeline.session.providers == (CPU,)


def test_every_input_gets_what_its_feed_says(mirror_model):
    pipeline = Pipeline.from_directory(mirror_model)
    rows = pipeline.sample(4, seed=2, start=1, labels="bag", truncation=0.5, output_type="float32").reshape(4, 7)
    latent, jitter, label, _ = pipeline.ability.inputs
    np.testing.assert_array_equal(rows[:, :4], draw(latent, range(1, 5), 2) / 2)
    np.testing.assert_array_equal(rows[:, 4:6], draw(jitter, range(1, 5), 2))
    assert rows[:, 6].tolist() == [2, 2, 2, 2]
    drawn = pipeline.sample(4, seed=2, start=1, output_type="float32").reshape(4, 7)
    np.testing.assert_array_equal(drawn[:, :4], draw(latent, range(1, 5), 2))
    np.testing.assert_array_equal(drawn[:, 6], draw(label, range(1, 5), 2))


def test_another_ability_runs_on_what_it_is_given(tanh_model, weights):
    encoder = Pipeline.from_directory(tanh_model, ability="encode")
    images = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 8, 8, 1)
    np.testing.assert_allclose(encoder.run({"image": images})["code"], images.reshape(2, 64) @ weights.T, rtol=1e-5)
    with pytest.raises(InputError, match="makes no image"):
        encoder.sample(1)


@pytest.mark.parametrize("rows", [0, 1, 3, 7])
def test_a_run_in_batches_gives_what_one_run_gives(mirror_model, rows):
    pipeline = Pipeline.from_directory(mirror_model, providers=[CPU], threads=1)
    feeds = {spec.name: draw(spec, range(rows), 5) for spec in pipeline.ability.inputs[:3]}
    feeds["truncation"] = np.array([0.5], np.float32)  # one for all rows
    whole, sizes, session_run = pipeline.run(feeds), [], pipeline.session.run
    pipeline.session.run = lambda part: sizes.append(len(next(iter(part.values())))) or session_run(part)
    parts = pipeline.run(feeds, batch_size=3)
    assert sizes == {0: [0], 1: [1], 3: [3], 7: [3, 3, 1]}[rows]
    assert parts.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


def test_batches_are_not_to_hide_that_arrays_do_not_fit(tanh_model):
    encoder = Pipeline.from_directory(tanh_model, ability="encode")
    images = np.zeros((5, 8, 8, 1), np.float32)
    with pytest.raises(InputError, match="batch_size=0: give 1 or more"):
        encoder.run({"image": images}, batch_size=0)
    with pytest.raises(InputError, match="expected float32 of shape"):
        encoder.run({"image": images[..., 0]}, batch_size=2)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_of_no_class_is_refused_before_the_graph_runs(mirror_model, label):
    pipeline = Pipeline.from_directory(mirror_model)
    feeds = {spec.name: np.zeros((1, *spec.shape[1:]), spec.dtype) for spec in pipeline.session.inputs}
    assert pipeline.run(feeds)["image"].shape == (1, 1, 7, 1)
    with pytest.raises(InputError, match=r"input 'label': a label is 0 to 2: \['shirt', 'shoe', 'bag'\]"):
        pipeline.run({**feeds, "label": np.array([label])})


@pytest.mark.parametrize("ability", ["reconstruct", "upscale"])
def test_an_ability_without_a_graph_is_refused_with_the_good_ones(tanh_model, ability):
    message = (
        f"{tanh_model}: 'tanh-model' has no ONNX file for the ability '{ability}': choose from ['encode', 'generate']"
    )
    with pytest.raises(CardError, match=re.escape(message)):
        Pipeline.from_directory(tanh_model, ability=ability)


def test_a_changed_graph_is_refused_unless_verified_before(tanh_model):
    path = tanh_model / "generate.onnx"
    path.write_bytes(path.read_bytes().replace(b"graph", b"graqh"))
    with pytest.raises(FileMismatchError, match="changed: expected sha256"):
        Pipeline.from_directory(tanh_model)
    assert len(Pipeline.from_directory(tanh_model, verify=False).sample(1)) == 1
    assert Pipeline.from_directory(tanh_model, ability="encode")  # the files of other abilities are not read


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"latent"', '"z"', "inputs: the card says z float32['batch', 4], the graph has latent float32['batch', 4]"),
        ("4\n", "5\n", "inputs: the card says latent float32['batch', 5], the graph has latent float32['batch', 4]"),
        ('"float32"', '"float64"', "inputs: the card says latent float64['batch', 4]"),
        (
            "8,\n            8,",
            '"height",\n            "width",',
            "outputs: the card says image float32['batch', 'height', 'width', 1], the graph has image float32['batch',",
        ),
    ],
)
def test_a_card_that_contradicts_its_graph_is_refused(tanh_model, edit_card, old, new, message):
    edit_card(tanh_model, old, new, checked=True)
    with pytest.raises(CardError, match=re.escape(f"{tanh_model / 'generate.onnx'}: {message}")):
        Pipeline.from_directory(tanh_model)


def test_a_size_that_the_graph_leaves_free_is_none_that_a_card_can_name(tanh_model, edit_graph, edit_card):
    def free(model):
        model.graph.input[0].type.tensor_type.shape.dim[1].Clear()

    edit_graph(tanh_model, free)
    edit_card(tanh_model, "4\n", "1048576\n", checked=True)
    message = (
        "inputs: the card says latent float32['batch', 1048576], the graph has latent float32['batch', 'latent:1']"
    )
    with pytest.raises(CardError, match=re.escape(message)):
        Pipeline.from_directory(tanh_model)


@pytest.mark.parametrize("place", ["input", "output"])
def test_a_multiple_on_the_card_is_one_in_the_graph(image_model, edit_graph, place):
    """Under other names no run could tell that the graph gives other sizes."""
    assert Pipeline.from_directory(image_model, ability="upscale").ability.scale == 4

    def rename(model):
        getattr(model.graph, place)[0].type.tensor_type.shape.dim[1].dim_param = "unk__7"

    edit_graph(image_model, rename, "upscale")
    with pytest.raises(CardError, match=re.escape(f"upscale.onnx: {place}s: the card says ")):
        Pipeline.from_directory(image_model, ability="upscale")


def test_a_pipeline_needs_only_what_the_card_lists(tanh_model, tmp_path):
    """A model copied elsewhere, without its other files, still samples the same images."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "card.json").write_bytes(encode_card(read_card(tanh_model)))
    (copy / "generate.onnx").write_bytes((tanh_model / "generate.onnx").read_bytes())
    expected = Pipeline.from_directory(tanh_model).sample(3, seed=4)
    np.testing.assert_array_equal(Pipeline.from_directory(copy).sample(3, seed=4), expected)
