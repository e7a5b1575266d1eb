"""The buffer of earlier samples, beside the same written out in plain Python."""

import numpy as np
import pytest

from zoo.layers.history import ImageHistory


def published(size, batches, numbers):
    """CycleGAN's image pool, sample by sample: what each batch is exchanged for, and what is held at the end."""
    held, given = [], []
    for batch, chances in zip(batches, numbers, strict=True):
        out = []
        for sample, (chance, place) in zip(batch, chances, strict=True):
            if len(held) < size:
                held.append(sample)
                out.append(sample)
            elif chance > 0.5:
                index = int(place * size)
                out.append(held[index])
                held[index] = sample
            else:
                out.append(sample)
        given.append(np.stack(out))
    return given, held


def draw(count, rows, seed=0):
    random = np.random.default_rng(seed)
    batches = random.normal(size=(count, rows, 2, 2, 1)).astype(np.float32)
    return batches, random.uniform(size=(count, rows, 2)).astype(np.float32)


@pytest.mark.parametrize(("size", "rows"), [(3, 1), (3, 2), (5, 4), (2, 7), (50, 3)])
def test_samples_are_exchanged_as_in_the_published_code(size, rows):
    history, (batches, numbers) = ImageHistory(size, (2, 2, 1)), draw(20, rows)
    expected, held = published(size, batches, numbers)
    for batch, chances, given in zip(batches, numbers, expected, strict=True):
        np.testing.assert_array_equal(history.exchange(batch, chances, np.arange(rows)), given)
    np.testing.assert_array_equal(history.images.numpy()[: len(held)], held)
    assert int(history.count) == min(size, 20 * rows)


def test_half_of_what_a_full_buffer_gives_out_is_old():
    history, (batches, numbers) = ImageHistory(10, (2, 2, 1)), draw(60, 10, seed=1)
    given = [np.asarray(history.exchange(*each, np.arange(10))) for each in zip(batches, numbers, strict=True)]
    new = np.mean([one == other for one, other in zip(given[1:], batches[1:], strict=True)])
    assert new == pytest.approx(0.5, abs=0.05)


def test_its_state_is_saved_and_not_trained():
    history = ImageHistory(4, (2, 2, 1))
    assert not history.trainable_variables
    assert {variable.shape for variable in history.variables} == {(4, 2, 2, 1), ()}
    again = ImageHistory.from_config(history.get_config())
    assert (again.size, again.image_shape) == (4, (2, 2, 1))
