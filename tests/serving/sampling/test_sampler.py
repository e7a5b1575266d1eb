"""Samples depend on seed and number alone, and bad arguments are refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.card import Ability, Input, Output
from serving.sampling.noise import draw
from serving.sampling.sampler import Sampler, run_in_batches
from serving.session import InputError

LATENT = Input("latent", "float32", ("batch", 3), "normal")
OTHER = Input("other", "float32", ("batch", 3), "normal")
LABEL = Input("label", "int64", ("batch",), "label", classes=("cat", "dog", "frog"))
IMAGE = Output("image", "float32", ("batch", 1, 3, 1), "image", (-4.0, 4.0), "NHWC")
IMAGE_INPUT = Input("image", "float32", ("batch", 1, 3, 1), "image")
words = st.integers(0, 2**64 - 1)


def mirror(feeds):
    return {"image": feeds["latent"].reshape(-1, 1, 3, 1)}


def sampler(*inputs, batch_size=64, run=mirror):
    return Sampler(Ability(inputs or (LATENT,), (IMAGE,)), run, batch_size=batch_size)


@given(
    seed=words,
    count=st.integers(0, 20),
    start=st.integers(0, 1000),
    batch_size=st.integers(1, 8),
    other_batch_size=st.integers(1, 8),
)
def test_image_i_depends_on_seed_and_i_alone(seed, count, start, batch_size, other_batch_size):
    part = sampler(batch_size=batch_size).sample(count, seed, start=start, output_type="float32")
    whole = sampler(batch_size=other_batch_size).sample(count + 5, seed, start=start, output_type="float32")
    assert part.shape == (count, 1, 3, 1)
    np.testing.assert_array_equal(part, whole[:count])
    np.testing.assert_array_equal(part.reshape(-1, 3), draw(LATENT, range(start, start + count), seed))


def test_inputs_are_independent_of_each_other_and_of_their_order_and_number():
    seen = []

    def record(feeds):
        seen.append({name: array.copy() for name, array in feeds.items()})
        return mirror(feeds)

    for inputs in [(LATENT,), (LATENT, OTHER), (OTHER, LABEL, LATENT)]:
        sampler(*inputs, run=record).sample(500, seed=3, output_type="float32")
    latents = [
        np.concatenate([feeds["latent"] for feeds in seen[first : first + 8]]) for first in range(0, len(seen), 8)
    ]
    assert len(latents) == 3
    np.testing.assert_array_equal(latents[0], latents[1])
    np.testing.assert_array_equal(latents[0], latents[2])
    other = np.concatenate([feeds["other"] for feeds in seen[8:16]])
    correlation = np.corrcoef(latents[0].ravel(), other.ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(1500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count=-1: give 0 <= count < 2**64"),
        ({"count": 1.5}, "count=1.5: give an integer"),
        ({"count": 0, "seed": -1}, "seed=-1: give 0 <= seed < 2**64"),
        ({"count": 1, "seed": 2**64}, f"seed={2**64}: give 0 <= seed < 2**64"),
        ({"count": 1, "seed": 0.5}, "seed=0.5: give an integer"),
        ({"count": 2, "start": 2**64 - 1}, f"index={2**64}: give 0 <= index < 2**64"),
        ({"count": 1, "output_type": "jpeg"}, "output_type='jpeg': choose from ('uint8', 'float32', 'pil')"),
        ({"count": 1, "labels": 0}, "labels given, but no input of this ability takes a label: it takes ['normal']"),
        ({"count": 1, "truncation": 0.5}, "truncation given, but no input of this ability takes a truncation"),
    ],
)
def test_a_bad_argument_is_refused(arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        sampler().sample(**arguments)


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (2, [2, 2, 2]),
        ("dog", [1, 1, 1]),
        ([0, 1, 2], [0, 1, 2]),
        (["frog", 0, "cat"], [2, 0, 0]),
        (np.arange(3), [0, 1, 2]),
    ],
)
def test_labels_are_numbers_or_names_for_all_or_each(labels, numbers):
    seen = []

    def run(feeds):
        seen.append(feeds["label"])
        return mirror(feeds)

    sampler(LATENT, LABEL, run=run, batch_size=2).sample(3, labels=labels)
    assert [len(batch) for batch in seen] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(seen), np.array(numbers, np.int64), strict=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (3, "label 3: the classes are 0 to 2: choose from ['cat', 'dog', 'frog'] or their numbers"),
        (-1, "label=-1: give 0 <= label"),
        ("bird", "label 'bird': no such class: choose from ['cat', 'dog', 'frog']"),
        ([0, 1], "2 labels for 3 images: give one for all or one for each"),
        (0.5, "label=0.5: give an integer"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(InputError, match=re.escape(message)):
        sampler(LATENT, LABEL).sample(3, labels=labels)


def test_labels_without_class_names_must_be_given():
    plain = Input("label", "int32", ("batch", 1), "label")
    with pytest.raises(InputError, match="the card names no classes to draw from: give labels"):
        sampler(LATENT, plain).sample(1)
    with pytest.raises(InputError, match=f"label {2**31}: the classes are 0 to {2**31 - 1}: give its number"):
        sampler(LATENT, plain).sample(1, labels=2**31)
    seen = []
    sampler(LATENT, plain, run=lambda feeds: seen.append(feeds["label"]) or mirror(feeds)).sample(2, labels=[5, 7])
    np.testing.assert_array_equal(seen[0], np.array([[5], [7]], np.int32), strict=True)


@pytest.mark.parametrize(("shape", "expected"), [((), 0.7), ((1,), [0.7]), (("batch", 1), [[0.7], [0.7]])])
def test_truncation_takes_the_shape_its_input_has(shape, expected):
    seen = []
    spec = Input("psi", "float32", shape, "truncation")
    one = sampler(LATENT, spec, run=lambda feeds: seen.append(feeds["psi"]) or mirror(feeds))
    one.sample(2, truncation=0.7)
    one.sample(2)
    np.testing.assert_array_equal(seen[0], np.array(expected, np.float32), strict=True)
    assert (seen[1] == 1).all()


@pytest.mark.parametrize("value", [1e39, float("nan"), float("inf"), 10**400, "half", [1.0]])
def test_a_truncation_is_a_finite_number(value):
    with pytest.raises(InputError, match=r"truncation=.*: give a (finite )?number"):
        sampler(LATENT, Input("psi", "float32", ("batch",), "truncation")).sample(1, truncation=value)


@pytest.mark.parametrize("labels", [[[0], [1, 2]], [[0, 1]], [None], [1.5], np.array([[0], [1]])])
def test_labels_that_are_no_list_of_classes_are_refused(labels):
    with pytest.raises(InputError, match=r"give an integer|labels for 3 images"):
        sampler(LATENT, LABEL).sample(3 if len(labels) > 1 else 1, labels=labels)


def test_a_graph_that_makes_as_many_images_as_it_likes_is_no_sampler():
    with pytest.raises(InputError, match="this ability makes 1 images where 3 are asked for"):
        sampler(run=lambda feeds: {"image": np.zeros((1, 1, 3, 1), np.float32)}).sample(3)


def test_what_has_no_rows_runs_once():
    spec = Input("psi", "float32", (), "truncation")
    outputs = run_in_batches(lambda feeds: {"y": feeds["psi"] * 2}, [spec], {"psi": np.float32(3)}, 2)
    assert outputs == {"y": 6}


def test_an_ability_that_needs_more_than_a_seed_or_makes_no_image_says_so():
    with pytest.raises(InputError, match="input 'image' takes 'image', which no seed gives"):
        sampler(IMAGE_INPUT).sample(1)
    score = Ability((LATENT,), (Output("score", "float32", ("batch",), "score"),))
    with pytest.raises(InputError, match=r"this ability makes no image, only \['score'\]"):
        Sampler(score, mirror).sample(1)
    with pytest.raises(InputError, match=r"only .* are drawn"):
        draw(IMAGE_INPUT, [0], 0)


def test_more_images_than_memory_holds_are_refused_after_one_batch():
    batches = []

    def count(feeds):
        batches.append(len(feeds["latent"]))
        return mirror(feeds)

    with pytest.raises(MemoryError):
        sampler(run=count).sample(2**56, seed=0)
    assert batches == [64]


def test_no_images_have_the_shape_of_images():
    assert sampler().sample(0).shape == (0, 1, 3, 1)
    assert sampler().sample(0).dtype == np.uint8
    assert sampler().sample(0, output_type="float32").dtype == np.float32
    assert sampler().sample(0, output_type="pil") == []


def test_a_batch_has_one_row_or_more():
    with pytest.raises(ValueError, match="batch_size=0: give 1 or more"):
        sampler(batch_size=0)


def test_uint8_and_pil_samples_are_the_float_sample_in_gray_levels():
    raw = sampler().sample(4, seed=5, output_type="float32")
    levels = sampler().sample(4, seed=5)
    np.testing.assert_array_equal(levels, np.clip(np.rint((raw + 4) * 255 / 8), 0, 255).astype(np.uint8), strict=True)
    images = sampler().sample(4, seed=5, output_type="pil")
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in images]), levels[..., 0])
