"""Parts of mixtures: categories from uniform numbers, rows to start at, triangular factors."""

import numpy as np
import tensorflow as tf

from zoo.layers.mixtures import choose_category, choose_rows, invert_cholesky


def test_a_category_is_where_the_uniform_number_falls() -> None:
    odds = np.array([0.25, 0.0, 0.5, 0.25], np.float32)
    uniform = np.array([0.0, 0.2499, 0.25, 0.7499, 0.75, 0.99999994], np.float32)
    np.testing.assert_array_equal(np.argmax(choose_category(odds, uniform), axis=1), [0, 0, 2, 2, 3, 3])
    np.testing.assert_array_equal(np.sum(choose_category(odds, uniform), axis=1), np.ones(6))


def test_each_row_has_odds_of_its_own() -> None:
    odds = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    np.testing.assert_array_equal(choose_category(odds, np.array([0.5, 0.5], np.float32)), [[1, 0], [0, 1]])


def test_a_category_is_there_where_rounding_leaves_the_sum_below_one() -> None:
    odds = np.array([0.5, 0.25], np.float32)
    np.testing.assert_array_equal(choose_category(odds, np.array([0.9], np.float32)), [[0, 1]])


def test_components_start_at_rows_of_their_own() -> None:
    uniform = np.random.default_rng(0).uniform(size=7).astype(np.float32)
    chosen = choose_rows(tf.constant(uniform), tf.range(7, dtype=tf.int64), 4).numpy()
    np.testing.assert_array_equal(np.argmax(chosen, axis=0), np.argsort(uniform)[:4])
    np.testing.assert_allclose(chosen.mean(axis=0), 0.25)
    assert (chosen > 0).sum() == 4


def test_more_components_than_rows_share_them() -> None:
    chosen = choose_rows(tf.constant([0.3, 0.1]), tf.range(2, dtype=tf.int64), 5).numpy()
    np.testing.assert_array_equal(np.argmax(chosen, axis=0), [1, 0, 1, 0, 1])


def test_the_inverse_factor_is_that_of_numpy() -> None:
    root = np.random.default_rng(0).normal(size=(3, 5, 5))
    matrices = root @ root.transpose(0, 2, 1) + np.eye(5)
    np.testing.assert_allclose(invert_cholesky(matrices), np.linalg.inv(np.linalg.cholesky(matrices)), atol=1e-12)
