"""The adversarial pairs: numbers by hand, the published value function, and logits far out; smoothed labels, pairs that
are compared, matched features; the commitment; what reconstructions and codes cost.
"""

from typing import get_args

import keras
import numpy as np
import pytest
from keras import ops

from zoo.core.arguments import choose
from zoo.core.step import input_gradient
from zoo.losses.adversarial import (
    ADVERSARIAL_LOSSES,
    LOSSES,
    RELATIVISTIC_LOSSES,
    LossName,
    feature_matching,
    least_squares,
    minimax_discriminator_loss,
)
from zoo.losses.reconstruction import (
    binary_cross_entropy,
    brightness,
    commitment_loss,
    kl_sparsity,
    l1_sparsity,
    mean_squared_error,
    peak_signal_to_noise,
    squared_error,
)
from zoo.losses.rows import per_row, sum_per_row

LOG_2, LOG_3, LOG_4 = np.log([2.0, 3.0, 4.0])

# Two rows. D(x) = sigmoid(logit): sigmoid(0) = 1/2, sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4.
REAL = np.array([0.0, LOG_3])
FAKE = np.array([0.0, -LOG_3])
# For the losses of the bare logit.
REAL_BARE = np.array([3.0, -0.5])
FAKE_BARE = np.array([-2.0, 0.5])

GOLDEN = {
    # D: -log 1/2 - log(1 - 1/2) = 2 log 2;  -log 3/4 - log(1 - 1/4) = 2 log 4/3.   G: log 1/2; log(1 - 1/4) = log 3/4.
    "minimax": (REAL, FAKE, [2 * LOG_2, 2 * (LOG_4 - LOG_3)], [-LOG_2, LOG_3 - LOG_4]),
    # D as above.   G: -log 1/2; -log 1/4.
    "non_saturating": (REAL, FAKE, [2 * LOG_2, 2 * (LOG_4 - LOG_3)], [LOG_2, LOG_4]),
    # D: 1/2 (3-1)^2 + 1/2 (-2)^2 = 4;  1/2 (-1.5)^2 + 1/2 (0.5)^2 = 1.25.   G: 1/2 (-3)^2 = 4.5; 1/2 (-0.5)^2 = 0.125.
    "least_squares": (REAL_BARE, FAKE_BARE, [4.0, 1.25], [4.5, 0.125]),
    # D: max(0, 1-3) + max(0, 1-2) = 0;  max(0, 1.5) + max(0, 1.5) = 3.   G: 2; -0.5.
    "hinge": (REAL_BARE, FAKE_BARE, [0.0, 3.0], [2.0, -0.5]),
    # D: -2 - 3 = -5;  0.5 + 0.5 = 1.   G: 2; -0.5.
    "wasserstein": (REAL_BARE, FAKE_BARE, [-5.0, 1.0], [2.0, -0.5]),
}


def column(values):
    return ops.convert_to_tensor(np.asarray(values, np.float32)[:, None])


def test_every_loss_has_golden_numbers():
    assert set(GOLDEN) == set(ADVERSARIAL_LOSSES)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers_one_value_a_row(name):
    real, fake, discriminator, generator = GOLDEN[name]
    loss_pair = ADVERSARIAL_LOSSES[name]
    np.testing.assert_allclose(loss_pair.discriminator(column(real), column(fake)), discriminator, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(loss_pair.generator(column(fake)), generator, rtol=1e-6)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_map_of_logits_is_averaged_within_its_row(name):
    # Row 0 of the map holds both rows' logits of the golden case, row 1 the second one twice: the mean, and itself.
    real, fake, discriminator, generator = GOLDEN[name]
    patches = [ops.reshape(column([*side, side[1], side[1]]), (2, 1, 2, 1)) for side in (real, fake)]
    loss_pair = ADVERSARIAL_LOSSES[name]
    for rows, golden in (
        (loss_pair.discriminator(*patches), discriminator),
        (loss_pair.generator(patches[1]), generator),
    ):
        np.testing.assert_allclose(rows, [np.mean(golden), golden[1]], rtol=1e-6, atol=1e-7)


def test_codes_of_least_squares_by_hand():
    loss_pair = least_squares(-1.0, 2.0, 0.5)
    # D: 1/2 (3 - 2)^2 + 1/2 (-2 + 1)^2 = 1;  1/2 (-2.5)^2 + 1/2 (1.5)^2 = 4.25.   G: 1/2 (-2.5)^2; 0.
    np.testing.assert_allclose(loss_pair.discriminator(column(REAL_BARE), column(FAKE_BARE)), [1.0, 4.25], rtol=1e-6)
    np.testing.assert_allclose(loss_pair.generator(column(FAKE_BARE)), [3.125, 0.0], rtol=1e-6)
    assert loss_pair.threshold == 0.5
    for fake, real in (
        (1.0, 1.0),
        (1.0, 0.0),
        (float("nan"), 1.0),
    ):  # accuracy and ADA take images' answer for higher
        with pytest.raises(ValueError, match=rf"a = {fake}, b = {real}: choose b > a"):
            least_squares(fake, real)


def test_against_the_best_discriminator_least_squares_is_pearsons_divergence():
    """Eq. 5 and 6: D* = (b p + a q) / (p + q); with a, b, c = -1, 1, 0, twice the loss is chi^2 of p + q and 2 q."""
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(6), 2)
    best = (p - q) / (p + q)
    loss_pair = least_squares(-1.0, 1.0, 0.0)

    def loss(answers):  # for every outcome, weighed by how likely it is real and fake
        zero = column(np.zeros(6))
        real = loss_pair.discriminator(column(answers), zero) - loss_pair.discriminator(column(np.ones(6)), zero)
        fake = loss_pair.discriminator(column(np.ones(6)), column(answers))
        return float(np.sum(p * np.asarray(real) + q * np.asarray(fake)))

    for _ in range(5):
        assert loss(best) < loss(best + random.normal(0, 0.1, 6))
    both = np.asarray(loss_pair.generator(column(best))) * (p + q)  # C(G) has the term of the images as well
    assert 2 * both.sum() == pytest.approx(np.sum((2 * q - (p + q)) ** 2 / (p + q)), rel=1e-5)


def test_minimax_is_the_value_function_of_equation_1():
    # V(D, G) = E[log D(x)] + E[log(1 - D(G(z)))]: D climbs it, G descends it.
    random = np.random.default_rng(0)
    real, fake = random.normal(0, 3, (2, 50))
    real_score, fake_score = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    loss_pair = ADVERSARIAL_LOSSES["minimax"]
    value = np.log(real_score) + np.log(1 - fake_score)
    np.testing.assert_allclose(loss_pair.discriminator(column(real), column(fake)), -value, rtol=1e-5)
    np.testing.assert_allclose(loss_pair.generator(column(fake)), np.log(1 - fake_score), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(loss_pair.score(column(real))[:, 0], real_score, rtol=1e-5)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_logits_far_out_neither_overflow_nor_lose_their_gradient(name):
    loss_pair = ADVERSARIAL_LOSSES[name]
    # Right beyond doubt: 0 + 0. Wrong beyond doubt: -log sigmoid(-100) = 100, twice.
    rows = loss_pair.discriminator(column([100.0, -100.0]), column([-100.0, 100.0]))
    np.testing.assert_allclose(rows, [0.0, 200.0], atol=1e-6)
    slope = input_gradient(lambda real: loss_pair.discriminator(real, column([0.0, 0.0])), column([100.0, -100.0]))
    np.testing.assert_allclose(slope[:, 0], [0.0, -1.0], atol=1e-6)
    # log(1 - D) and -log D at D = sigmoid(-100) and sigmoid(100).
    expected = {"minimax": [0.0, -100.0], "non_saturating": [100.0, 0.0]}[name]
    np.testing.assert_allclose(loss_pair.generator(column([-100.0, 100.0])), expected, atol=1e-6)


def test_the_early_gradient_is_why_one_does_not_saturate():
    # D is sure of a fake, logit -5: d/dlogit log(1 - D) = -D = -0.0067;  d/dlogit -log D = D - 1 = -0.9933.
    slopes = [
        float(input_gradient(ADVERSARIAL_LOSSES[name].generator, column([-5.0]))[0, 0])
        for name in ("minimax", "non_saturating")
    ]
    np.testing.assert_allclose(slopes, [-1 / (1 + np.exp(5)), 1 / (1 + np.exp(5)) - 1], rtol=1e-5)


def test_per_row_keeps_the_first_axis_alone():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_allclose(per_row(ops.convert_to_tensor(values)), [5.5, 17.5])  # means of 0..11 and 12..23


def test_in_all_keeps_the_first_axis_alone():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_allclose(
        sum_per_row(ops.convert_to_tensor(values)), [66.0, 210.0]
    )  # 12 values of means 5.5 and 17.5


def test_the_commitment_loss_by_hand_moves_the_encoder_alone():
    inputs = ops.convert_to_tensor(np.array([[[1.0, 2.0]], [[0.0, 4.0]]], np.float32))
    codes = ops.convert_to_tensor(np.array([[[1.0, 0.0]], [[3.0, 3.0]]], np.float32))
    # (0^2 + 2^2) / 2 = 2;  (3^2 + 1^2) / 2 = 5.
    np.testing.assert_allclose(commitment_loss(inputs, codes), [2.0, 5.0])
    # By z: 2 (z - e) / 2.
    slope = input_gradient(lambda encoded: commitment_loss(encoded, codes), inputs)
    np.testing.assert_allclose(slope, [[[0.0, 2.0]], [[-3.0, 1.0]]])
    assert input_gradient(lambda found: commitment_loss(inputs, found), codes) is None
    # The straight-through output depends on z: sg stops that path too. Without it z - (z + constant) has slope 0.
    constant = np.array(codes) - np.array(inputs)
    straight = input_gradient(lambda encoded: commitment_loss(encoded, encoded + constant), inputs)
    np.testing.assert_allclose(straight, slope)


def test_an_unknown_loss_names_the_good_ones():
    with pytest.raises(ValueError, match=r"loss='wgan': choose from \['hinge', 'least_squares', 'minimax'"):
        choose("loss", "wgan", ADVERSARIAL_LOSSES)


@pytest.mark.parametrize(
    ("loss", "real", "fake", "expected"),
    [
        # D(x) > 1/2 and D(G(z)) < 1/2: both right, one right, both wrong, and undecided, which is not right.
        ("non_saturating", [1.0, 1.0, -1.0, 0.0], [-1.0, 1.0, 1.0, 0.0], [1.0, 0.5, 0.0, 0.0]),
        ("minimax", [0.1], [-0.1], [1.0]),
        ("hinge", [0.5], [-0.5], [1.0]),
        # Targets 1 and 0: the half between them parts.
        ("least_squares", [0.6, 0.4], [0.4, 0.6], [1.0, 0.0]),
        # A constant on top of a critic changes nothing: the pair decides.
        ("wasserstein", [101.0, 99.0], [100.0, 100.0], [1.0, 0.0]),
    ],
)
def test_accuracy_counts_right_answers(loss, real, fake, expected):
    found = ADVERSARIAL_LOSSES[loss].accuracy(column(real), column(fake))
    np.testing.assert_array_equal(ops.convert_to_numpy(found), np.array(expected, np.float32))


# One-sided label smoothing


def test_smoothed_labels_by_hand():
    # 0.9 of the image's label: row 0, D = 1/2: 0.9 log 2 + 0.1 log 2 = log 2.
    # Row 1, D = 3/4: 0.9 log 4/3 + 0.1 log 4 = log 4 - 0.9 log 3. The samples' terms stay log 2 and log 4/3.
    found = minimax_discriminator_loss(column(REAL), column(FAKE), smoothing=0.1)
    np.testing.assert_allclose(found, [2 * LOG_2, 2 * LOG_4 - 1.9 * LOG_3], rtol=1e-6)
    plain = minimax_discriminator_loss(column(REAL), column(FAKE), smoothing=0.0)
    np.testing.assert_array_equal(plain, minimax_discriminator_loss(column(REAL), column(FAKE)))


def test_smoothing_moves_the_best_answer_for_images_alone():
    # -(1 - s) log D - s log(1 - D) is least at D = 1 - s, with s = 1/4 the logit log 3; that for samples is -infinity.
    def slopes(logits, side):
        def loss(values):
            sides = (values, column([0.0])) if side == "real" else (column([0.0]), values)
            return minimax_discriminator_loss(*sides, smoothing=0.25)

        return float(input_gradient(loss, column(logits))[0, 0])

    assert slopes([LOG_3], "real") == pytest.approx(0.0, abs=1e-6)
    assert slopes([LOG_3 + 0.1], "real") > 0.01 > -0.01 > slopes([LOG_3 - 0.1], "real")
    assert slopes([-5.0], "fake") == pytest.approx(1 / (1 + np.exp(5)), rel=1e-5)


# Relativistic pairs

RELATIVISTIC_GOLDEN = {
    # C(x) - C(G(z)) = 0 and 2 log 3 = log 9: sigmoid = 1/2 and 9/10.   D: log 2; log 10/9.   G: log 2; log 10.
    "relativistic": (REAL, FAKE, [LOG_2, np.log(10 / 9)], [LOG_2, np.log(10)]),
    # E C(x) = log 3 = -E C(G(z)). Against the other side's mean, x: log 3 and 3 log 3 = log 27, sigmoid 3/4 and 27/28;
    # G(z): -log 3 and -log 27, sigmoid = 1/4 and 1/28.
    # D: -log 3/4 - log(1 - 1/4) = 2 log 4/3; 2 log 28/27.   G: -log 1/4 - log(1 - 3/4) = 2 log 4; 2 log 28.
    "relativistic_average": (
        2 * REAL,
        2 * FAKE,
        [2 * np.log(4 / 3), 2 * np.log(28 / 27)],
        [2 * LOG_4, 2 * np.log(28)],
    ),
}


def test_a_paired_game_has_golden_numbers_and_a_table_of_its_own():
    assert set(RELATIVISTIC_GOLDEN) == set(RELATIVISTIC_LOSSES)
    assert all(loss_pair.paired for loss_pair in RELATIVISTIC_LOSSES.values())
    assert not any(loss_pair.paired for loss_pair in ADVERSARIAL_LOSSES.values())


@pytest.mark.parametrize("name", RELATIVISTIC_GOLDEN)
def test_golden_numbers_of_a_paired_game(name):
    real, fake, discriminator, generator = RELATIVISTIC_GOLDEN[name]
    loss_pair = RELATIVISTIC_LOSSES[name]
    np.testing.assert_allclose(loss_pair.discriminator(column(real), column(fake)), discriminator, rtol=1e-5)
    np.testing.assert_allclose(loss_pair.generator(column(fake), column(real)), generator, rtol=1e-5)
    np.testing.assert_array_equal(loss_pair.accuracy(column([2.0, 1.0]), column([1.0, 2.0])), [1.0, 0.0])


@pytest.mark.parametrize("name", RELATIVISTIC_GOLDEN)
def test_a_paired_game_depends_on_differences_only(name):
    loss_pair = RELATIVISTIC_LOSSES[name]
    real, fake = np.random.default_rng(0).normal(0, 2, (2, 6))
    for side in (loss_pair.discriminator, loss_pair.generator):
        found = side(column(real), column(fake))
        np.testing.assert_allclose(side(column(real + 7.0), column(fake + 7.0)), found, rtol=1e-4, atol=1e-6)
        assert np.abs(np.subtract(side(column(real + 7.0), column(fake)), found)).min() > 1e-4
    equal = column(np.full(4, 3.0))
    np.testing.assert_allclose(loss_pair.discriminator(equal, equal), 4 * [LOG_2 * (2 if "average" in name else 1)])


def test_maps_of_a_paired_game_are_compared_place_by_place_and_averages_taken_over_all():
    real, fake = np.random.default_rng(1).normal(0, 2, (2, 3, 2, 2, 1))
    sides = [ops.convert_to_tensor(side) for side in (real, fake)]
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    paired = softplus(fake - real).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(RELATIVISTIC_LOSSES["relativistic"].discriminator(*sides), paired)
    average = (softplus(fake.mean() - real) + softplus(fake - real.mean())).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(RELATIVISTIC_LOSSES["relativistic_average"].discriminator(*sides), average)


@pytest.mark.parametrize("name", RELATIVISTIC_GOLDEN)
def test_logits_far_apart_keep_the_gradient_of_the_losing_side(name):
    generator = RELATIVISTIC_LOSSES[name].generator
    fake, real = column([-100.0]), column([100.0])
    assert np.isfinite(generator(fake, real)).all()
    # Two equal terms in the averaged loss_pair, both of slope -1: the one row is its side's mean.
    slope = input_gradient(lambda fake: generator(fake, real), fake)
    np.testing.assert_allclose(slope, [[-2.0 if "average" in name else -1.0]], atol=1e-6)


# What is taken over the global batch

WEIGHT = np.array([[0.8], [-1.1]])
X = np.random.default_rng(2).normal(0.3, 1.0, (7, 2))
OTHER = np.random.default_rng(3).normal(-0.5, 1.0, (7, 2))
GAMES = {
    "relativistic_average, discriminator": RELATIVISTIC_LOSSES["relativistic_average"].discriminator,
    "relativistic_average, generator": RELATIVISTIC_LOSSES["relativistic_average"].generator,
    "feature_matching": lambda real, fake: feature_matching(ops.concatenate([real, real**2], 1), fake**3),
    "kl_sparsity": lambda real, fake: kl_sparsity(ops.sigmoid(ops.concatenate([real, fake**2], 1)), 0.1),
}


def slope_by_differences(rows, weight, step=1e-6):
    """Of the mean over the rows, in float64 on one replica."""

    def total(way):
        return float(np.mean(rows(ops.convert_to_tensor(weight + step * way.reshape(weight.shape)))))

    slopes = [(total(one) - total(-one)) / (2 * step) for one in np.eye(weight.size)]
    return np.reshape(slopes, weight.shape)


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("name", GAMES)
def test_an_update_against_means_of_the_global_batch(probe, fit, name, replicas):
    """C(x) = w x on both sides; SGD at rate 1 moves w by the gradient of what the whole batch gives."""
    loss = GAMES[name]

    def on_one(weight):
        return loss(*(ops.matmul(ops.convert_to_tensor(side), weight) for side in (X, OTHER)))

    def algorithm(model, x, target):
        return model.minimize("inner", lambda: loss(model.inner(x), model.inner(target)))

    model = probe(algorithm, replicas, inner=WEIGHT.tolist())
    history = fit(model, X.astype(np.float32), target=OTHER.astype(np.float32))
    expected = slope_by_differences(on_one, WEIGHT)
    assert np.abs(expected).min() > 0.1
    np.testing.assert_allclose(WEIGHT - model.inner.weights[0].numpy(), expected, rtol=2e-5, atol=1e-6)
    assert history["loss"] == [pytest.approx(float(np.mean(on_one(ops.convert_to_tensor(WEIGHT)))), rel=1e-5)]


def test_feature_matching_by_hand():
    real = ops.convert_to_tensor(np.array([[1.0, 0.0], [3.0, 4.0]]))  # mean (2, 2)
    fake = ops.convert_to_tensor(np.array([[0.0, 5.0], [2.0, 3.0]]))  # mean (1, 4)
    np.testing.assert_allclose(feature_matching(real, fake), [5.0, 5.0])  # 1^2 + 2^2, on both rows
    # Of the rows' mean, by each of two samples: 2 (mean - mean) / 2 = (-1, 2).
    slope = input_gradient(lambda fake: feature_matching(real, fake) / 2, fake)
    np.testing.assert_allclose(slope, [[-1.0, 2.0], [-1.0, 2.0]])
    # Maps of features are vectors of all of their values.
    maps = [ops.reshape(side, (2, 1, 2, 1)) for side in (real, fake)]
    np.testing.assert_allclose(feature_matching(*maps), [5.0, 5.0])


def test_features_in_half_precision_are_summed_in_float32():
    # 300 * 400 and its square overflow float16, whose largest number is 65504.
    real, fake = (np.full((400, 1), value, np.float16) for value in (300.0, 0.0))
    found = feature_matching(ops.convert_to_tensor(real), ops.convert_to_tensor(fake))
    np.testing.assert_allclose(found, np.full(400, 90000.0, np.float32), rtol=1e-6)


# What reconstructions cost

# Two rows of two pixels: x = 0, 1 and 3/4, 0;  r = sigmoid(0), sigmoid(log 3) = 1/2, 3/4, then 3/4, 1/2.
IMAGES = ops.reshape(ops.convert_to_tensor(np.array([-1.0, 1.0, 0.5, -1.0])), (2, 2, 1, 1))
LOGITS = ops.reshape(ops.convert_to_tensor(np.array([0.0, LOG_3, LOG_3, 0.0])), (2, 2, 1, 1))


def test_reconstruction_losses_by_hand():
    np.testing.assert_allclose(ops.reshape(brightness(IMAGES), (-1,)), [0.0, 1.0, 0.75, 0.0])
    # (0 - 1/2)^2 + (1 - 3/4)^2 = 5/16;  (3/4 - 3/4)^2 + (0 - 1/2)^2 = 1/4.
    np.testing.assert_allclose(squared_error(IMAGES, LOGITS), [5 / 16, 1 / 4], rtol=1e-6)
    # -log 1/2 - log 3/4 = log 8/3;  -3/4 log 3/4 - 1/4 log 1/4 - log 1/2 = log 4 - 3/4 log 3 + log 2.
    expected = [LOG_2 + LOG_4 - LOG_3, LOG_4 - 0.75 * LOG_3 + LOG_2]
    np.testing.assert_allclose(binary_cross_entropy(IMAGES, LOGITS), expected, rtol=1e-6)


def test_the_cross_entropy_is_that_of_keras_over_all_pixels():
    random = np.random.default_rng(0)
    images = random.uniform(-1.0, 1.0, (5, 3, 4, 2)).astype(np.float32)
    logits = random.normal(0.0, 3.0, images.shape).astype(np.float32)
    keras_loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")  # the mean over the last axis
    expected = 24 * keras_loss((images.reshape(5, 24) + 1) / 2, logits.reshape(5, 24)).numpy()
    found = binary_cross_entropy(*map(ops.convert_to_tensor, (images, logits)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pixels_that_are_wrong_beyond_doubt_cost_their_logit():
    # -log(1 - sigmoid(200)) = 200, of slope 1; black and sure of it: 0.
    black, logits = ops.full((2, 1, 1, 1), -1.0), ops.reshape(column([200.0, -200.0]), (2, 1, 1, 1))
    np.testing.assert_allclose(binary_cross_entropy(black, logits), [200.0, 0.0], atol=1e-6)
    slope = input_gradient(lambda logits: binary_cross_entropy(black, logits), logits)
    np.testing.assert_allclose(ops.reshape(slope, (-1,)), [1.0, 0.0], atol=1e-6)


# What codes cost

CODES = ops.convert_to_tensor(np.array([[0.2, 0.1], [0.8, 0.4]]))  # means 1/2 and 1/4


def test_activity_by_hand():
    codes = ops.convert_to_tensor(np.array([[1.0, -2.0], [0.0, 0.5]]))
    np.testing.assert_allclose(l1_sparsity(codes), [3.0, 0.5])
    np.testing.assert_allclose(input_gradient(l1_sparsity, codes)[:, 1], [-1.0, 1.0])


def test_the_rate_divergence_by_hand():
    # rho = 1/4. Unit 0: 1/4 log(1/4 / 1/2) + 3/4 log(3/4 / 1/2) = 3/4 log 3 - log 2. Unit 1 is at its target: 0.
    np.testing.assert_allclose(kl_sparsity(CODES, 0.25), 2 * [0.75 * LOG_3 - LOG_2], rtol=1e-6)
    # By h of the rows' mean: (-rho / mean + (1 - rho) / (1 - mean)) / 2 rows = (-1/2 + 3/2) / 2; at the target 0.
    slope = input_gradient(lambda codes: kl_sparsity(codes, 0.25) / 2, CODES)
    np.testing.assert_allclose(slope, [[0.5, 0.0], [0.5, 0.0]], atol=1e-6)


def test_the_rate_divergence_is_zero_at_its_target_alone():
    for rate in (0.05, 0.5, 0.9):
        codes = ops.convert_to_tensor(np.array([[rate - 0.04], [rate + 0.04]]))  # each away from it, the mean on it
        np.testing.assert_allclose(kl_sparsity(codes, rate), [0.0, 0.0], atol=1e-12)
        for other in (rate - 0.02, rate + 0.02):
            assert float(kl_sparsity(codes, other)[0]) > 5e-4


def test_units_that_are_all_off_or_all_on_have_a_divergence():
    # At 1e-6 from the ends, in float32: 1/4 log(1/4 / 1e-6) + 3/4 log 3/4, and 1/4 log 1/4 + 3/4 log(3/4 / 1e-6).
    found = [kl_sparsity(ops.full((3, 1), value), 0.25)[0] for value in (0.0, 1.0)]
    far, near = 6 * np.log(10), 0.25 * np.log(0.25) + 0.75 * np.log(0.75)
    np.testing.assert_allclose(found, [0.25 * far + near, 0.75 * far + near], rtol=5e-3)


def test_every_loss_has_a_name_that_options_can_show():
    assert set(get_args(LossName)) == set(LOSSES)


def test_psnr_is_of_the_range_of_256_levels():
    """One gray level: 20 log10 255 = 48.13 dB; white for black: 0 dB; alike: no more than 100 dB."""
    black = np.full((3, 4, 5, 3), -1.0, np.float32)
    other = black + np.array([2 / 255, 2.0, 0.0], np.float32)[:, None, None, None]
    np.testing.assert_allclose(mean_squared_error(other, black), [(2 / 255) ** 2, 4.0, 0.0], rtol=1e-4)
    np.testing.assert_allclose(peak_signal_to_noise(other, black), [48.1308, 0.0, 100.0], atol=1e-3)


def test_a_rows_mean_squared_error_is_over_all_its_values():
    random = np.random.default_rng(0)
    maps, others = random.normal(size=(2, 3, 4, 4, 7))
    expected = [np.mean((maps[row] - others[row]) ** 2) for row in range(3)]
    np.testing.assert_allclose(mean_squared_error(maps, others), expected, rtol=1e-6)
