"""Each layer against NumPy, and the same on any number of replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD
from sklearn.cluster import KMeans

from serving.session import Session
from zoo.core import context, noise, replicas, step
from zoo.core.ability import Ability
from zoo.export.onnx import write_onnx
from zoo.layers.convolution import Conv2D, Conv2DTranspose
from zoo.layers.dropout import Dropout
from zoo.layers.maxout import Maxout
from zoo.layers.minibatch import MinibatchDiscrimination, MinibatchStddev
from zoo.layers.quantizer import CodeUsage, Quantizer, perplexity_of
from zoo.layers.spectral_norm import SpectralNorm
from zoo.losses.rows import per_row


def begin_step(start=0, count=200, step=0):
    rows = tf.range(start, start + count, dtype=tf.int64)
    context.activate(noise.Draws(0, tf.constant(step, tf.int64), rows))


def dropped(layer, start=0, count=200, step=0):
    begin_step(start, count, step)
    return layer(tf.ones((count, 500)), training=True).numpy()


def test_dropout_is_the_identity_unless_training():
    x = tf.random.stateless_normal((3, 4), (0, 1))
    for training in (False, None):
        np.testing.assert_array_equal(Dropout(0.9)(x, training=training), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.75])
def test_dropout_keeps_its_share_and_its_mean(rate):
    values = dropped(Dropout(rate))
    np.testing.assert_allclose(np.unique(values), [0.0, 1 / (1 - rate)], rtol=1e-6)
    # 100,000 coins: standard deviation sqrt(rate (1 - rate) / n); five of them
    assert abs((values > 0).mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / values.size)


def test_dropout_draws_anew_for_every_row_layer_and_step():
    layer = Dropout(0.5)
    first, later = dropped(layer), dropped(layer, step=1)
    begin_step()
    layer(tf.ones((200, 500)), training=True)
    second = layer(tf.ones((200, 500)), training=True).numpy()
    assert len(np.unique(first, axis=0)) == 200
    for other in (later, second):  # agreement by chance: 1/2, standard deviation 1/2 / sqrt(100,000)
        assert abs((first == other).mean() - 0.5) < 5 * 0.5 / np.sqrt(first.size)


def test_dropout_masks_belong_to_the_global_rows(strategy_of):
    layer = Dropout(0.5)
    expected = dropped(layer)
    np.testing.assert_array_equal(np.concatenate([dropped(layer, 0, 77), dropped(layer, 77, 123)]), expected)

    strategy = strategy_of(2)
    starts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(100 * context.replica_id_in_sync_group, tf.int64)
    )

    @tf.function
    def on_two_replicas():
        def replica(start):
            context.activate(noise.Draws(0, tf.constant(0, tf.int64), start + tf.range(100, dtype=tf.int64)))
            return layer(tf.ones((100, 500)), training=True)

        return strategy.run(replica, (starts,))

    parts = strategy.experimental_local_results(on_two_replicas())
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_dropout_outside_a_train_step_is_an_error():
    with pytest.raises(RuntimeError, match="no train step is under way"):
        Dropout(0.5)(tf.ones((2, 3)), training=True)


def test_no_step_is_under_way_once_it_is_over(probe, fit):
    model = probe(lambda model, x, target: model.minimize("inner", lambda: model.inner(x)[:, 0]))
    fit(model, np.ones((4, 1), np.float32), target=np.ones(4))
    with pytest.raises(RuntimeError, match="outside a train step"):
        context.active()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_dropout_rate_lies_in_0_to_1(rate):
    with pytest.raises(ValueError, match=rf"rate={rate}: a dropout rate lies in \[0, 1\)"):
        Dropout(rate)


def test_maxout_by_hand():
    layer = Maxout(2, 2)
    layer.build((None, 1))
    layer.set_weights([np.array([[1.0, -1.0, 2.0, 0.0]]), np.array([0.0, 0.0, 0.0, 1.0])])
    # x = 3: max(3, -3), max(6, 1).   x = -3: max(-3, 3), max(-6, 1).
    np.testing.assert_allclose(layer(np.array([[3.0], [-3.0]], np.float32)), [[3.0, 6.0], [3.0, 1.0]])


def test_maxout_against_numpy():
    layer = Maxout(units=4, pieces=5)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    layer.build(x.shape)
    kernel, bias = np.random.default_rng(1).normal(size=(3, 20)), np.random.default_rng(2).normal(size=20)
    layer.set_weights([kernel, bias])
    # Unit u owns columns 5u to 5u + 4.
    expected = [np.max(x @ kernel[:, 5 * u : 5 * u + 5] + bias[5 * u : 5 * u + 5], axis=1) for u in range(4)]
    np.testing.assert_allclose(layer(x), np.stack(expected, axis=1), rtol=1e-5)


# Spectral normalization

# Layer, shape of an input, axis of the kernel that counts output channels.
WRAPPED = {
    "dense": (lambda **options: keras.layers.Dense(5, **options), (7,), 1),
    "convolution": (lambda **options: Conv2D(4, 3, 2, "same", **options), (6, 6, 3), 3),
    "transposed": (lambda **options: Conv2DTranspose(5, 4, 2, "same", **options), (3, 3, 2), 2),
}


def spectral(kind, iterations=0, **options):
    """A built `SpectralNorm` after so many power iterations, and an input."""
    build, shape, _ = WRAPPED[kind]
    keras.utils.set_random_seed(1)
    layer = SpectralNorm(build(**{"name": kind, "dtype": "float64", **options}))
    x = np.random.default_rng(0).normal(size=(4, *shape))
    layer.build(x.shape)
    iterate = tf.function(lambda: layer.normalized_kernel(iterate=True))
    for _ in range(iterations):
        iterate()
    return layer, x


def matrix(kernel, kind):
    """A kernel as (output channels, everything else), without the code under test."""
    axis = WRAPPED[kind][2]
    return np.stack([np.take(kernel, channel, axis).ravel() for channel in range(kernel.shape[axis])])


def largest_singular_value(kernel, kind):
    values = kernel if isinstance(kernel, np.ndarray) else kernel.numpy()
    return np.linalg.svd(matrix(values, kind), compute_uv=False)[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", WRAPPED)
def test_after_power_iterations_the_kernel_in_use_has_norm_1(kind, dtype):
    layer, _ = spectral(kind, iterations=100, dtype=dtype, kernel_initializer=keras.initializers.RandomNormal(0.0, 1.0))
    assert largest_singular_value(layer.layer.kernel, kind) > 2.0  # so there is something to normalize
    assert largest_singular_value(layer.normalized_kernel(), kind) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_call_is_one_power_iteration_of_algorithm_1(kind):
    layer, x = spectral(kind)
    w, u = matrix(layer.layer.kernel.numpy(), kind), layer.u.numpy()
    np.testing.assert_allclose(np.linalg.norm(u), 1.0)
    v = w.T @ u / np.linalg.norm(w.T @ u)
    u = w @ v / np.linalg.norm(w @ v)
    output = layer(x, training=True)
    np.testing.assert_allclose(layer.u, u, rtol=1e-10)

    plain = WRAPPED[kind][0](dtype="float64")
    plain.build(x.shape)
    plain.set_weights([layer.layer.kernel.numpy() / (u @ w @ v), layer.layer.bias.numpy()])
    np.testing.assert_allclose(output, plain(x), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", WRAPPED)
def test_bias_and_activation_are_the_wrapped_layers(kind):
    layer, x = spectral(kind, iterations=3, activation="relu")
    bias = np.random.default_rng(2).normal(size=layer.layer.bias.shape)
    linear = layer(x)
    without, _ = spectral(kind, use_bias=False)
    without.layer.kernel.assign(layer.layer.kernel)
    without.u.assign(layer.u)
    layer.layer.bias.assign(bias)
    np.testing.assert_allclose(linear, np.maximum(without(x), 0), rtol=1e-10)
    np.testing.assert_allclose(layer(x), np.maximum(without(x) + bias, 0), rtol=1e-10)


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_kernel_is_only_read_and_inference_leaves_u(kind):
    layer, x = spectral(kind)
    kernel, u = layer.layer.kernel.numpy(), layer.u.numpy()
    outputs = [layer(x, training=training) for training in (False, None, False)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(layer.u, u)
    layer(x, training=True)
    assert np.abs(layer.u.numpy() - u).max() > 1e-3
    np.testing.assert_array_equal(layer.layer.kernel, kernel)
    assert [variable.name for variable in layer.trainable_variables] == ["kernel", "bias"]
    assert [variable.name for variable in layer.non_trainable_variables] == ["u"]


def kernel_gradient(layer, x, training):
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.sin(layer(x, training=training)))
    return tape.gradient(total, layer.layer.kernel.value).numpy()


def assert_slopes(gradient, loss, kernel):
    """The gradient at `kernel` gives the slope of `loss` along five directions."""
    random = np.random.default_rng(3)
    for _ in range(5):
        way = random.normal(size=kernel.shape)
        slope = (loss(kernel + 1e-5 * way) - loss(kernel - 1e-5 * way)) / 2e-5
        assert np.sum(gradient * way) == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_gradient_is_that_of_w_over_its_largest_singular_value(kind):
    layer, x = spectral(kind, iterations=400)  # u and v are the singular vectors: d sigma / dW = u v^T
    found, kernel = kernel_gradient(layer, x, training=True), layer.layer.kernel.numpy()
    plain = WRAPPED[kind][0](dtype="float64")
    plain.build(x.shape)

    def loss(moved):  # the definition: W over its singular value from LAPACK
        plain.set_weights([moved / largest_singular_value(moved, kind), layer.layer.bias.numpy()])
        return float(tf.reduce_sum(tf.sin(plain(x))))

    assert_slopes(found, loss, kernel)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("iterations", [0, 100])
@pytest.mark.parametrize("kind", WRAPPED)
def test_the_gradient_is_orthogonal_to_the_kernel(kind, iterations, training):
    # W / sigma(W) does not change with W's length, whatever u and v are.
    layer, x = spectral(kind, iterations)
    gradient, kernel = kernel_gradient(layer, x, training), layer.layer.kernel.numpy()
    assert np.linalg.norm(gradient) > 0.1
    assert abs(np.sum(gradient * kernel)) < 1e-10 * np.linalg.norm(gradient) * np.linalg.norm(kernel)


@pytest.mark.parametrize("kind", WRAPPED)
def test_u_and_v_are_constants_of_the_gradient(kind):
    """Away from the singular vectors the slope of v^T W u by W is another one where u and v move with W (eq. 12)."""
    layer, x = spectral(kind)
    kernel, v = layer.layer.kernel.numpy(), matrix(layer.layer.kernel.numpy(), kind).T @ layer.u.numpy()
    v /= np.linalg.norm(v)
    found, u = kernel_gradient(layer, x, training=True), layer.u.numpy()
    plain = WRAPPED[kind][0](dtype="float64")
    plain.build(x.shape)

    def loss(moved):
        plain.set_weights([moved / (u @ matrix(moved, kind) @ v), layer.layer.bias.numpy()])
        return float(tf.reduce_sum(tf.sin(plain(x))))

    assert_slopes(found, loss, kernel)


def test_only_the_direction_of_u_counts():
    # What an average of several u, or u rounded to float16, has lost is its length.
    layer, x = spectral("convolution", iterations=5)
    expected = layer(x)
    layer.u.assign(0.3 * layer.u)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-10)


def test_a_kernel_of_zeros_stays_and_can_leave():
    layer, x = spectral("dense", kernel_initializer="zeros")
    u = layer.u.numpy()
    np.testing.assert_array_equal(layer(x, training=True), np.zeros((4, 5)))
    np.testing.assert_array_equal(layer.u, u)
    gradient = kernel_gradient(layer, x, training=True)
    np.testing.assert_allclose(gradient, np.broadcast_to(x.sum(axis=0)[:, None], (7, 5)), rtol=1e-10)  # cos(0) x
    layer.layer.kernel.assign(np.random.default_rng(0).normal(size=(7, 5)))
    for _ in range(50):
        layer.normalized_kernel(iterate=True)
    assert largest_singular_value(layer.normalized_kernel(), "dense") == pytest.approx(1.0, abs=1e-4)


def test_mixed_precision_computes_sigma_in_float32():
    layer, x = spectral("convolution", iterations=100, dtype="mixed_bfloat16")
    assert layer(x).dtype == tf.bfloat16
    assert {variable.dtype for variable in layer.variables} == {"float32"}
    assert largest_singular_value(layer.normalized_kernel(), "convolution") == pytest.approx(1.0, abs=1e-4)
    single, _ = spectral("convolution", iterations=100, dtype="float32")
    np.testing.assert_allclose(tf.cast(layer(x), tf.float32), single(x), atol=0.05)


@pytest.mark.parametrize("layer", [lambda: keras.layers.Embedding(3, 2), lambda: keras.layers.Conv1D(3, 2)])
def test_spectral_norm_names_the_layers_it_takes(layer):
    with pytest.raises(ValueError, match=r"choose from \['Conv2D', 'Conv2DTranspose', 'Dense'\], with channels last"):
        SpectralNorm(layer())


def per_replica(strategy, function, *arrays):
    """`function` of each replica's rows, as NumPy: outputs by rows are put together, those without come as a list."""
    count = strategy.num_replicas_in_sync
    # As MirroredStrategy splits: ceil(rows / replicas) each, until none are left.
    size = -(-len(arrays[0]) // count)
    parts = [[array[number * size : (number + 1) * size] for array in arrays] for number in range(count)]
    values = [
        strategy.experimental_distribute_values_from_function(
            lambda context, place=place: tf.constant(parts[context.replica_id_in_sync_group][place])
        )
        for place in range(len(arrays))
    ]
    outputs = tf.function(lambda *inputs: strategy.run(function, inputs))(*values)
    return [[part.numpy() for part in strategy.experimental_local_results(output)] for output in outputs]


def test_the_gradient_of_a_sum_over_replicas_is_the_sum_of_gradients(strategy_of):
    def replica(x, weight):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total, twice = replicas.sum_over_replicas([tf.reduce_sum(x), tf.reduce_sum(2 * x)])
            loss = weight[0] * total**2 + 0.0 * twice
        return total, twice, tape.gradient(loss, x)

    total, twice, gradient = per_replica(strategy_of(2), replica, np.array([1.0, 2.0, 4.0]), np.array([5.0, 5.0, 3.0]))
    # Replica 0 holds rows 1 and 2 and the weight 5, replica 1 row 4 and the weight 3; t = 1 + 2 + 4 = 7.
    # d (5 t^2 + 3 t^2) / dx = 2 * (5 + 3) * 7 = 112, for every row.
    np.testing.assert_allclose([total, twice], [[7.0, 7.0], [14.0, 14.0]])
    np.testing.assert_allclose(np.concatenate(gradient), [112.0, 112.0, 112.0])


def all_alike(copies):
    for copy in copies[1:]:
        np.testing.assert_array_equal(copy, copies[0])
    return copies[0]


def copies_of(variable):
    return [copy.numpy() for copy in getattr(variable.value, "values", [variable.value])]


def spectral_step(strategy, kind, x):
    """Two training calls on the replicas' rows: outputs, the mean gradients, u."""
    with strategy.scope():
        layer, _ = spectral(kind)
        optimizer = SGD()

    def replica(rows):
        layer(rows, training=True)
        outputs = []

        def loss():
            outputs.append(layer(rows, training=True))
            return per_row(tf.sin(outputs[-1]))

        computed = step.compute_gradients("player", layer.trainable_variables, optimizer, loss)
        return [outputs[-1], *computed.gradients]

    outputs, *gradients = per_replica(strategy, replica, x)
    return [np.concatenate(outputs), *map(all_alike, gradients), all_alike(copies_of(layer.u))]


@pytest.mark.parametrize("kind", WRAPPED)
def test_spectral_norm_is_the_same_on_two_replicas(kind, strategy_of, difference):
    x = np.random.default_rng(5).normal(size=(5, *WRAPPED[kind][1]))
    expected = spectral_step(strategy_of(1), kind, x)
    assert difference(spectral_step(strategy_of(2), kind, x), expected) < 1e-12
    assert np.abs(expected[-1] - spectral(kind)[0].u.numpy()).max() > 1e-3  # u has moved


def test_a_network_with_spectral_norm_trains_clones_and_exports(tmp_path):
    inputs = keras.Input((8,), name="x")
    x = SpectralNorm(keras.layers.Dense(4 * 4 * 6, activation="relu", name="project"))(inputs)
    x = keras.layers.Reshape((4, 4, 6))(x)
    x = SpectralNorm(Conv2DTranspose(5, 4, 2, "same", activation="relu", name="up"))(x)
    outputs = SpectralNorm(Conv2D(3, 3, padding="same", name="y"))(x)
    network = keras.Model(inputs, outputs, name="network")
    assert network.output_names == ["y"]
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    untrained = network(x).numpy()
    for _ in range(20):
        network(x, training=True)
    expected = network(x).numpy()
    assert np.abs(expected - untrained).max() > 1e-3

    clone = keras.models.clone_model(network)
    clone.set_weights(network.get_weights())
    np.testing.assert_allclose(clone(x), expected, rtol=1e-6)

    write_onnx(Ability(network, {"x": "normal"}, {"y": "code"}), tmp_path / "network.onnx", rounded=False)
    session = Session(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    for rows in (1, 3):
        np.testing.assert_allclose(session.run({"x": x[:rows]})["y"], expected[:rows], rtol=1e-5, atol=1e-5)


# Minibatch statistics

IMAGES = np.random.default_rng(6).normal(size=(8, 3, 2, 4))


def numpy_stddev(x, group_size=None, epsilon=1e-8):
    groups = [x[start : start + (group_size or len(x))] for start in range(0, len(x), group_size or len(x))]
    values = [np.full((len(group), *x.shape[1:3], 1), np.sqrt(group.var(axis=0) + epsilon).mean()) for group in groups]
    return np.concatenate([x, np.concatenate(values)], axis=-1)


def test_minibatch_stddev_by_hand():
    # Two rows of one pixel and two channels: |1 - 5| / 2 = 2 and |3 - 3| / 2 = 0, mean 1.
    x = np.array([[[[1.0, 3.0]]], [[[5.0, 3.0]]]], np.float32)
    np.testing.assert_allclose(MinibatchStddev()(x), [[[[1, 3, 1]]], [[[5, 3, 1]]]], atol=1e-4)


@pytest.mark.parametrize("group_size", [None, 2, 4, 8])
def test_minibatch_stddev_against_numpy(group_size):
    found = MinibatchStddev(group_size, dtype="float64")(IMAGES)
    np.testing.assert_allclose(found, numpy_stddev(IMAGES, group_size), rtol=1e-12)


def test_minibatch_stddev_of_large_values_does_not_cancel():
    # In float32 a mean of squares less a squared mean is off by 1e4^2 * 2^-24 = 6, and the variance here is 1.
    x = (IMAGES + 1e4).astype(np.float32)
    np.testing.assert_allclose(MinibatchStddev()(x)[..., -1], numpy_stddev(x.astype(np.float64))[..., -1], rtol=1e-3)


def test_minibatch_stddev_of_equal_rows_has_a_gradient():
    x = tf.ones((4, 2, 2, 1))
    slope = step.input_gradient(lambda inputs: MinibatchStddev()(inputs)[..., -1], x)
    np.testing.assert_allclose(slope, np.zeros(x.shape))


def test_minibatch_stddev_in_a_network_of_unknown_batch_size():
    inputs = keras.Input((3, 2, 4))
    network = keras.Model(inputs, MinibatchStddev(4)(inputs))
    assert network.output_shape == (None, 3, 2, 5)
    np.testing.assert_allclose(network(IMAGES.astype(np.float32)), numpy_stddev(IMAGES, 4), rtol=1e-5)


def stddev_on(strategy, group_size, x, weights):
    """The output; the gradient of its weighted sum over the global batch; and that of the gradient's square."""
    layer = MinibatchStddev(group_size, dtype="float64")

    def replica(rows, weights):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            slope = step.input_gradient(lambda inputs: weights * tf.sin(layer(inputs)), rows)
            penalty = tf.reduce_sum(slope**2)
        return layer(rows), slope, tape.gradient(penalty, rows)

    return [np.concatenate(parts) for parts in per_replica(strategy, replica, x, weights)]


@pytest.mark.parametrize(("replicas", "rows", "group_size"), [(2, 8, None), (4, 8, None), (4, 7, None), (2, 8, 4)])
def test_minibatch_stddev_is_of_the_global_batch(replicas, rows, group_size, strategy_of, difference):
    # The weights differ by row, so that what a replica gives its neighbors' losses matters.
    x = IMAGES[:rows]
    weights = np.random.default_rng(7).normal(size=(rows, 3, 2, 5))
    expected = stddev_on(strategy_of(1), group_size, x, weights)
    np.testing.assert_allclose(expected[0], numpy_stddev(x, group_size), rtol=1e-12)
    assert difference(stddev_on(strategy_of(replicas), group_size, x, weights), expected) < 1e-12


def test_both_gradients_of_minibatch_stddev_against_finite_differences(strategy_of):
    weights = np.random.default_rng(7).normal(size=(8, 3, 2, 5))
    way = np.random.default_rng(8).normal(size=IMAGES.shape)
    low, high = IMAGES - 1e-6 * way, IMAGES + 1e-6 * way
    _, slope, second = stddev_on(strategy_of(2), None, IMAGES, weights)
    sums = [np.sum(weights * np.sin(numpy_stddev(x))) for x in (low, high)]
    assert np.sum(slope * way) == pytest.approx((sums[1] - sums[0]) / 2e-6, rel=1e-7)
    # The gradient of a gradient penalty goes through the mean too, though the gradient itself does not.
    penalties = [np.sum(stddev_on(strategy_of(1), None, x, weights)[1] ** 2) for x in (low, high)]
    assert np.sum(second * way) == pytest.approx((penalties[1] - penalties[0]) / 2e-6, rel=1e-7)


def test_minibatch_stddev_takes_whole_groups():
    with pytest.raises(ValueError, match="a batch of 8 rows on a replica is not made of groups of 3"):
        MinibatchStddev(3)(IMAGES)
    unknown = tf.function(MinibatchStddev(3), input_signature=[tf.TensorSpec((None, 3, 2, 4))])
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        unknown(tf.constant(IMAGES, tf.float32))
    with pytest.raises(ValueError, match="group_size=1: choose at least 2 rows, or None"):
        MinibatchStddev(1)


# Minibatch discrimination

FEATURES = np.random.default_rng(11).normal(size=(8, 5))


def discrimination(group_size=None, dtype="float64", features=5):
    layer = MinibatchDiscrimination(3, 2, group_size, dtype=dtype)
    layer.build((None, features))
    layer.set_weights([np.random.default_rng(12).normal(0.0, 0.4, (features, 6))])
    return layer


def numpy_discrimination(x, kernel, group_size=None):
    """Loops over the definition: kernel b owns the columns 2b and 2b + 1 of T."""
    closeness = np.zeros((len(x), 3))
    for i in range(len(x)):
        for j in range(len(x)):
            for b in range(3 if group_size is None or i // group_size == j // group_size else 0):
                columns = slice(2 * b, 2 * b + 2)
                closeness[i, b] += np.exp(-np.abs(x[i] @ kernel[:, columns] - x[j] @ kernel[:, columns]).sum())
    return np.concatenate([x, closeness], axis=1)


def test_minibatch_discrimination_by_hand():
    # One kernel of two dimensions, T the identity: M = f. Rows 0 and 1 are |1 - 0| + |2 - 0| = 3 apart, row 2 is row 0.
    layer = MinibatchDiscrimination(1, 2)
    layer.build((None, 2))
    layer.set_weights([np.eye(2)])
    x = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]], np.float32)
    expected = [[1, 2, 2 + np.exp(-3)], [0, 0, 1 + 2 * np.exp(-3)], [1, 2, 2 + np.exp(-3)]]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6)


@pytest.mark.parametrize(("group_size", "rows"), [(None, 8), (2, 8), (4, 8), (3, 8), (4, 1), (None, 1)])
def test_minibatch_discrimination_against_loops(group_size, rows):
    layer, x = discrimination(group_size), FEATURES[:rows]
    expected = numpy_discrimination(x, layer.kernel.numpy(), group_size)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)
    if rows == 1:  # as an exported D sees an image
        np.testing.assert_allclose(layer(x)[:, 5:], np.ones((1, 3)))


def test_equal_rows_are_as_close_as_can_be_and_distant_ones_count_themselves_alone():
    layer = discrimination()
    np.testing.assert_allclose(layer(np.tile(FEATURES[:1], (6, 1)))[:, 5:], np.full((6, 3), 6.0))
    np.testing.assert_allclose(layer(1e4 * FEATURES)[:, 5:], np.ones((8, 3)), rtol=1e-6)
    slope = step.input_gradient(lambda x: layer(x)[:, 5:], tf.constant(np.tile(FEATURES[:1], (6, 1))))
    np.testing.assert_array_equal(slope, np.zeros((6, 5)))  # |.| has no slope at 0: none is taken


def discrimination_on(strategy, group_size, x, weights):
    """The output; the gradients by inputs and T of its weighted sum over the global batch."""
    with strategy.scope():
        layer = discrimination(group_size)
        optimizer = SGD()

    def replica(rows, weights):
        slope = step.input_gradient(lambda inputs: weights * tf.sin(layer(inputs)), rows)
        computed = step.compute_gradients(
            "player", layer.trainable_variables, optimizer, lambda: per_row(weights * tf.sin(layer(rows)))
        )
        return [layer(rows), slope, *computed.gradients]

    output, slope, gradient = per_replica(strategy, replica, x, weights)
    return [np.concatenate(output), np.concatenate(slope), all_alike(gradient)]


@pytest.mark.parametrize(("replicas", "rows", "group_size"), [(2, 8, 2), (2, 8, 4), (4, 8, 2), (2, 7, 4)])
def test_minibatch_discrimination_of_whole_groups_is_the_same_on_replicas(
    replicas, rows, group_size, strategy_of, difference
):
    # 7 rows on 2 replicas are 4 and 3: the last group is smaller, there as here.
    weights = np.random.default_rng(13).normal(size=(rows, 8))
    expected = discrimination_on(strategy_of(1), group_size, FEATURES[:rows], weights)
    assert difference(discrimination_on(strategy_of(replicas), group_size, FEATURES[:rows], weights), expected) < 1e-12


def test_the_gradient_of_minibatch_discrimination_is_that_of_differences(strategy_of):
    layer = discrimination(4)
    kernel, weights = layer.kernel.numpy(), np.random.default_rng(13).normal(size=(8, 8))
    _, by_inputs, by_kernel = discrimination_on(strategy_of(1), 4, FEATURES, weights)

    def total(x, kernel):
        return np.sum(weights * np.sin(numpy_discrimination(x, kernel, 4)))

    way, turn = np.random.default_rng(14).normal(size=FEATURES.shape), np.random.default_rng(15).normal(size=(5, 6))
    slope = (total(FEATURES + 1e-6 * way, kernel) - total(FEATURES - 1e-6 * way, kernel)) / 2e-6
    assert np.sum(by_inputs * way) == pytest.approx(slope, rel=1e-7)
    slope = (total(FEATURES, kernel + 1e-6 * turn) - total(FEATURES, kernel - 1e-6 * turn)) / 2e-6
    assert 8 * 8 * np.sum(by_kernel * turn) == pytest.approx(slope, rel=1e-7)  # of means over 8 values and 8 rows


def test_a_batch_without_groups_is_refused_on_several_replicas(strategy_of):
    with strategy_of(2).scope(), pytest.raises(ValueError, match="compares the rows of one replica, and here are 2"):
        discrimination()(keras.Input((5,), dtype="float64"))


def test_a_discriminator_that_compares_rows_is_exported_and_trains_as_it_infers(tmp_path):
    x = keras.Input((5,), name="x")
    features = MinibatchDiscrimination(3, 2, group_size=4)(keras.layers.Dense(5, name="features")(x))
    network = keras.Model(x, keras.layers.Dense(1, name="y")(features))
    values = FEATURES.astype(np.float32)
    np.testing.assert_array_equal(network(values, training=True), network(values, training=False))
    write_onnx(Ability(network, {"x": "normal"}, {"y": "code"}), tmp_path / "network.onnx", rounded=False)
    session = Session(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    for rows in (1, 8):
        np.testing.assert_allclose(session.run({"x": values[:rows]})["y"], network(values[:rows]), rtol=1e-5, atol=1e-5)


def test_minibatch_discrimination_sums_in_float32():
    # 300 equal rows; in bfloat16 256 + 1 is 256.
    layer = discrimination(dtype="mixed_bfloat16")
    layer.set_weights([np.full((5, 6), 0.1)])
    found = layer(np.zeros((300, 5), np.float32))
    assert found.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(found[:, 5:], tf.float32), np.full((300, 3), 300.0), rtol=2**-8)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({"kernels": 0, "dimensions": 2}, (4, 5), "kernels=0, dimensions=2: choose at least 1 of each"),
        ({"kernels": 2, "dimensions": 0}, (4, 5), "kernels=2, dimensions=0: choose at least 1 of each"),
        ({"kernels": 2, "dimensions": 2, "group_size": 1}, (4, 5), "group_size=1: choose at least 2 rows, or None"),
        ({"kernels": 2, "dimensions": 2}, (4, 3, 3, 1), r"inputs of shape \(4, 3, 3, 1\): give \(batch, features\)"),
    ],
)
def test_minibatch_discrimination_refuses_what_cannot_work(arguments, shape, message):
    with pytest.raises(ValueError, match=message):
        MinibatchDiscrimination(**arguments)(np.zeros(shape, np.float32))


# The quantizer


def quantizer(codebook, **options):
    """A quantizer that has this codebook, as if every code had been used alike so far."""
    codebook = np.asarray(codebook)
    layer = Quantizer(len(codebook), **{"dtype": "float64", **options})
    layer.build((None, codebook.shape[1]))
    layer.codebook.assign(codebook)
    if layer.sums is not None:
        layer.sums.assign(codebook / len(codebook))
    return layer


def test_the_start_is_a_codebook_used_alike():
    layer = Quantizer(512)
    layer.build((None, 4, 4, 64))
    np.testing.assert_allclose(layer.shares, np.full(512, 1 / 512))
    np.testing.assert_allclose(layer.sums, layer.codebook.numpy() / 512, rtol=1e-6)
    assert np.sum(layer.codebook.numpy() ** 2, axis=1).mean() == pytest.approx(1.0, rel=0.02)
    assert layer.trainable_variables == []


def test_the_nearest_code_against_numpy():
    random = np.random.default_rng(9)
    codebook, x = random.normal(size=(11, 3)), random.normal(size=(2, 4, 5, 3))
    quantized, indices = quantizer(codebook)(x)
    expected = np.linalg.norm(x[..., None, :] - codebook, axis=-1).argmin(axis=-1)
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(indices, expected)
    assert indices.dtype == tf.int32
    np.testing.assert_allclose(quantized, codebook[expected], rtol=1e-12)


def test_the_gradient_passes_straight_through():
    layer, x = quantizer([[0.0], [1.0]]), tf.constant([[0.2], [0.9], [3.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum([[5.0], [-1.0], [2.0]] * layer(x, training=True)[0])
    np.testing.assert_allclose(tape.gradient(total, x), [[5.0], [-1.0], [2.0]])


def test_the_codebook_follows_its_vectors_by_hand():
    layer = quantizer([[0.0], [10.0]], decay=0.5, epsilon=0.1)
    quantized, indices = layer(np.array([[1.0], [2.0], [3.0], [8.0]]), training=True)
    np.testing.assert_array_equal(indices, [0, 0, 0, 1])
    np.testing.assert_allclose(quantized, [[0.0], [0.0], [0.0], [10.0]], atol=1e-15)  # the codebook before it moves
    # N: 1/2 [1/2, 1/2] + 1/2 [3/4, 1/4] = [0.625, 0.375].   m: 1/2 [0, 5] + 1/2 [6/4, 8/4] = [0.75, 3.5].
    np.testing.assert_allclose(layer.shares, [0.625, 0.375])
    np.testing.assert_allclose(layer.sums, [[0.75], [3.5]])
    # Smoothed: (N + 0.1) / (1 + 2 * 0.1) = [0.725, 0.475] / 1.2.   e = m / that.
    np.testing.assert_allclose(layer.codebook, [[0.75 * 1.2 / 0.725], [3.5 * 1.2 / 0.475]])


def test_inference_leaves_the_codebook():
    layer = quantizer([[0.0], [10.0]])
    before = layer.get_weights()
    for training in (False, None):
        layer(np.array([[1.0], [8.0]]), training=training)
    for found, expected in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_codes_converge_to_the_means_of_their_clusters():
    layer = quantizer([[-1.0, 0.0], [1.0, 0.0]], decay=0.5)
    x = np.concatenate([np.random.default_rng(0).normal(center, 0.1, (50, 2)) for center in (-3.0, 4.0)])
    for _ in range(30):
        layer(x, training=True)
    np.testing.assert_allclose(layer.codebook, [x[:50].mean(axis=0), x[50:].mean(axis=0)], rtol=1e-6)


def test_a_codebook_without_memory_takes_the_steps_of_k_means():
    random = np.random.default_rng(3)
    x = random.normal(size=(200, 2))  # of no clusters, which takes the algorithm several iterations
    means = start = x[random.choice(len(x), 5, replace=False)]
    layer = quantizer(start, decay=0.0, epsilon=1e-14)
    moved = []
    for _ in range(25):
        nearest = np.linalg.norm(x[:, None] - means, axis=-1).argmin(axis=1)
        before, means = means, np.stack([x[nearest == code].mean(axis=0) for code in range(5)])
        moved.append(np.abs(means - before).max())
        layer(x, training=True)
        np.testing.assert_allclose(layer.codebook, means, rtol=1e-9)
    assert np.count_nonzero(moved) > 3
    assert moved[-1] == 0.0  # and has come to its end, which is scikit-learn's
    found = KMeans(5, init=start, n_init=1, max_iter=100, tol=0.0).fit(x)
    np.testing.assert_allclose(layer.codebook, found.cluster_centers_, rtol=1e-9)


def test_a_dead_code_begins_anew_at_a_vector_of_the_batch():
    shares = np.array([0.5, 0.02, 0.03, 0.45])
    codebook = np.array([[0.0, 0.0], [90.0, 90.0], [-90.0, 90.0], [1.0, 1.0]])
    layer = quantizer(codebook, decay=0.5, epsilon=1e-12)
    layer.shares.assign(shares)
    layer.sums.assign(shares[:, None] * codebook)
    x = np.arange(20.0).reshape(5, 2, 2)  # ten vectors
    dead = layer.revive(x, tf.constant([0.99, 0.35, 0.9, 0.0]), least=0.1)  # of 1/4: 0.025
    np.testing.assert_array_equal(dead, [False, True, False, False])
    vector = np.array([6.0, 7.0])  # 0.35 of ten: number 3
    np.testing.assert_array_equal(layer.codebook, [codebook[0], vector, *codebook[2:]])
    np.testing.assert_allclose(layer.shares, [0.5, 0.25, 0.03, 0.45])
    np.testing.assert_allclose(layer.sums, [0.5 * codebook[0], 0.25 * vector, *(shares[2:, None] * codebook[2:])])
    layer(np.zeros((4, 2)), training=True)  # nothing comes near it: it stays there, with half of its share
    np.testing.assert_allclose(layer.codebook.numpy()[1], vector, rtol=1e-9)
    assert layer.shares.numpy()[1] == pytest.approx(0.125)


@pytest.mark.parametrize("number", [0.0, 1.0 - 2.0**-24])
def test_every_number_below_one_names_a_vector(number):
    layer = quantizer([[7.0]], dtype="float32")
    x = np.arange(300, dtype=np.float32)[:, None]
    layer.shares.assign([0.0])
    layer.revive(x, tf.constant([number]), least=0.5)
    assert float(layer.codebook[0, 0]) == (0.0 if number == 0.0 else 299.0)


def test_a_codebook_may_learn_by_gradient_instead():
    layer = quantizer([[0.0], [10.0]], decay=0.5, learning="gradient")
    quantized, indices = layer(np.array([[1.0], [2.0], [3.0], [8.0]]), training=True)
    np.testing.assert_array_equal(indices, [0, 0, 0, 1])
    np.testing.assert_allclose(quantized, [[0.0], [0.0], [0.0], [10.0]], atol=1e-15)
    np.testing.assert_array_equal(layer.codebook, [[0.0], [10.0]])
    np.testing.assert_allclose(layer.shares, [0.625, 0.375])
    assert [variable.name for variable in layer.trainable_variables] == ["codebook"]
    dead = layer.revive(np.array([[4.0]]), tf.constant([0.5, 0.5], tf.float64), least=0.8)
    np.testing.assert_array_equal(dead, [False, True])  # 0.375 < 0.8 / 2
    np.testing.assert_array_equal(layer.codebook, [[0.0], [4.0]])
    np.testing.assert_allclose(layer.shares, [0.625, 0.5])


def test_codes_used_are_counted_back_to_the_windows_start():
    usage = CodeUsage(4, window=2)
    batches = [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [3, 3, 3, 1], [3, 3, 3, 3], [3, 3, 3, 3]]
    found = [usage.observe(tf.constant(codes), tf.constant(step, tf.int64)) for step, codes in enumerate(batches)]
    # Two steps, this one included: {0}, {0, 1}, {0, 1}, {1, 3}, {1, 3}, {3}.
    assert [float(used) for _, used in found] == [1, 2, 2, 2, 2, 1]
    # e^H of (3/4, 1/4): (3/4)^(-3/4) (1/4)^(-1/4) = 1.7548
    expected = [1.0, 2.0, 1.0, 0.75**-0.75 * 0.25**-0.25, 1.0, 1.0]
    np.testing.assert_allclose([float(perplexity) for perplexity, _ in found], expected, rtol=1e-6)


def test_the_perplexity_of_codes_used_alike_is_their_number():
    np.testing.assert_allclose(perplexity_of(tf.fill([12], 1 / 12)), 12.0, rtol=1e-6)


def test_dead_codes_stay_finite():
    layer = quantizer([[0.0, 0.0], [50.0, 50.0], [-70.0, 20.0]], decay=0.1, dtype="float32")
    for _ in range(60):  # 0.1^60: zero in float32
        quantized, indices = layer(np.full((6, 2), 0.5, np.float32), training=True)
    np.testing.assert_array_equal(indices, np.zeros(6))
    np.testing.assert_allclose(quantized, np.full((6, 2), 0.5), rtol=1e-6)
    np.testing.assert_array_equal(layer.shares[1:], [0.0, 0.0])
    assert np.isfinite(layer.codebook).all()


def quantizer_step(strategy, x, learning):
    """Three calls, codes revived after each: the last outputs, the state, and which codes were revived how often."""
    with strategy.scope():
        keras.utils.set_random_seed(4)
        layer, usage = Quantizer(6, decay=0.5, dtype="float64", learning=learning), CodeUsage(6, window=2)
        layer.build((None, *x.shape[1:]))
    numbers = tf.constant(np.random.default_rng(1).uniform(size=6))
    revived = np.zeros(6, int)
    for number in range(3):

        def replica(rows, number=number):
            quantized, indices = layer(rows, training=True)
            dead = layer.revive(rows, numbers, least=0.9)
            return quantized, indices, dead, *usage.observe(indices, tf.constant(number))

        quantized, indices, dead, *used = per_replica(strategy, replica, x)
        revived += all_alike(dead)
    kept = (layer.codebook, layer.shares, usage.last_used, *([] if layer.sums is None else [layer.sums]))
    state = [all_alike(copies_of(variable)) for variable in kept]
    return [*(np.concatenate(parts) for parts in (quantized, indices)), *map(all_alike, used), *state, revived]


@pytest.mark.parametrize(
    ("replicas", "rows", "learning"),
    [*((*split, "moving_average") for split in ((2, 8), (4, 8), (4, 7), (2, 5))), (4, 7, "gradient")],
)
def test_the_codebook_follows_the_global_batch(replicas, rows, learning, strategy_of, difference):
    # Unequal rows tell a mean over vectors from a mean over replicas.
    x = np.random.default_rng(10).normal(size=(rows, 2, 2, 3)) + np.arange(rows)[:, None, None, None] / 4
    expected = quantizer_step(strategy_of(1), x, learning)
    assert 0 < expected[-1].sum() < 3 * 6  # some codes were revived
    assert difference(quantizer_step(strategy_of(replicas), x, learning), expected) < 1e-12


def test_a_network_with_a_quantizer_has_integer_indices():
    inputs = keras.Input((4, 4, 3))
    network = keras.Model(inputs, Quantizer(5)(inputs))
    quantized, indices = network.output
    assert (quantized.shape, indices.shape) == ((None, 4, 4, 3), (None, 4, 4))
    assert (quantized.dtype, indices.dtype) == ("float32", "int32")
    found = network(np.zeros((2, 4, 4, 3), np.float32))
    assert [output.shape for output in found] == [(2, 4, 4, 3), (2, 4, 4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codes": 0}, "codes=0: a codebook holds at least 1"),
        ({"codes": 2, "decay": 1.0}, "decay=1.0: choose 0 <= decay < 1"),
        ({"codes": 2, "epsilon": 0.0}, "epsilon=0.0: choose a share > 0"),
        ({"codes": 2, "learning": "adam"}, r"learning='adam': choose from \['gradient', 'moving_average'\]"),
    ],
)
def test_a_quantizer_refuses_what_cannot_work(arguments, message):
    with pytest.raises(ValueError, match=message):
        Quantizer(**arguments)


@pytest.mark.parametrize(
    "layer",
    [
        Dropout(0.3, name="drop"),
        Maxout(4, 5, "he_normal", name="max"),
        SpectralNorm(Conv2D(4, 3, 2, "same", activation="relu", name="convolution")),
        SpectralNorm(keras.layers.Dense(4, use_bias=False, name="inner", dtype="float64"), name="outer"),
        MinibatchStddev(4, 1e-6, name="stddev"),
        MinibatchDiscrimination(3, 2, 4, "he_normal", name="discrimination"),
        Quantizer(5, 0.9, 1e-7, "gradient", name="quantizer"),
        CodeUsage(5, 7, name="usage"),
    ],
    ids=lambda x: x.name,
)
def test_a_config_rebuilds_the_layer(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.name == layer.name
