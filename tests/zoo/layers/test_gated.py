"""The gated block, beside the paper's equation written out; what comes back from its config."""

import itertools

import numpy as np
from keras import ops

from zoo.layers.gated import GatedBlock, gate


def test_a_block_is_the_papers_equation():
    """Figure 2, written out place by place: tanh(W_f * x) sigmoid(W_g * x) in both stacks, the link before the gate."""
    block = GatedBlock(2, 3)
    vertical, horizontal = (np.random.default_rng(seed).normal(size=(1, 4, 4, 2)).astype(np.float32) for seed in (0, 1))
    block([vertical, horizontal])
    random = np.random.default_rng(2)
    for variable in block.weights:
        variable.assign(random.normal(0.0, 0.4, variable.shape))
    rows, across, skip = (ops.convert_to_numpy(each) for each in block([vertical, horizontal]))

    def at(maps, kernel, bias, places):
        values = sum(maps[0, r, c] @ kernel[i] for i, (r, c) in enumerate(places) if 0 <= c < 4 and 0 <= r < 4)
        return values + bias

    def gated(values):
        return np.tanh(values[:2]) / (1 + np.exp(-values[2:]))

    weights = {
        name: [v.numpy() for v in getattr(block, name).weights] for name in ("vertical", "link", "horizontal", "out")
    }
    kernel, bias = weights["vertical"]
    for row, column in itertools.product(range(4), range(4)):
        places = [(row + i - 1, column + j - 1) for i, j in itertools.product(range(2), range(3))]
        above = at(vertical, kernel.reshape(6, 2, 4), bias, places)
        beside = at(
            horizontal, weights["horizontal"][0][0], weights["horizontal"][1], [(row, column - 1), (row, column)]
        )
        out = gated(beside + above @ weights["link"][0][0, 0] + weights["link"][1]) @ weights["out"][0][0, 0]
        out = out + weights["out"][1]
        np.testing.assert_allclose(rows[0, row, column], gated(above), atol=1e-6)
        np.testing.assert_allclose(across[0, row, column], horizontal[0, row, column] + out[:2], atol=1e-5)
        np.testing.assert_allclose(skip[0, row, column], out[2:], atol=1e-5)


def test_what_is_gated_is_split_in_halves():
    np.testing.assert_allclose(gate(np.array([[1.0, 2.0]], np.float32)), [[np.tanh(1.0) / (1 + np.exp(-2.0))]], 1e-6)


def test_the_class_shifts_what_is_gated_in_both_stacks():
    block = GatedBlock(2, 3, classes=3)
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    labels = np.array([2, 0], np.int32)
    block([maps, maps, labels])
    shifts = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    block.shift.embeddings.assign(shifts)
    found = block([maps, maps, labels])
    for row, label in enumerate(labels):
        plain = GatedBlock(2, 3)
        plain([maps, maps])
        plain.set_weights([each for each in block.get_weights() if each.shape != (3, 8)])
        plain.vertical.bias.assign(block.vertical.bias + shifts[label, :4])
        # The vertical stack's own shift does not come through the link: it is taken off again.
        through = (shifts[label, :4] @ np.asarray(block.link.kernel)[0, 0]).astype(np.float32)
        plain.horizontal.bias.assign(block.horizontal.bias + shifts[label, 4:] - through)
        for mine, other in zip(found, plain([maps, maps]), strict=True):
            np.testing.assert_allclose(mine[row], other[row], atol=1e-5)


def test_it_comes_back_from_its_config():
    layer = GatedBlock(3, 5, False, True, 2, name="block")
    assert GatedBlock.from_config(layer.get_config()).get_config() == layer.get_config()
