"""Layers that Keras lacks, or has in a form that breaks a contract of ours."""

from typing import Any

import keras
from keras import ops

from zoo.core import noise
from zoo.core.step import replicas_in_sync, sum_over_replicas

Tensor = Any

# How to store what every replica has computed alike: all take the first one's copy, so no bit can drift apart.
ALIKE = "only_first_replica"


class Dropout(keras.layers.Layer):
    """Dropout whose mask is a function of seed, step and global row (see `noise`), not of the device.

    Keras' own draws the same mask on every replica.

    Args:
        rate: the probability that a value is set to zero, 0 <= rate < 1; the rest is scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate={rate}: a dropout rate lies in [0, 1).")
        self.rate = rate

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """(batch, ...) -> (batch, ...), the identity unless training."""
        if not training or self.rate == 0.0:
            return inputs
        keep = noise.active().uniform(*inputs.shape[1:]) >= self.rate
        return inputs * ops.cast(keep, inputs.dtype) / (1.0 - self.rate)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate}


class Maxout(keras.layers.Layer):
    """max over `pieces` affine maps, unit by unit (arXiv:1302.4389, eq. 2).

    Args:
        units: width of the output.
        pieces: affine maps a unit.
    """

    def __init__(self, units: int, pieces: int, kernel_initializer: Any = "glorot_uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.pieces = pieces
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel and the bias."""
        width = self.units * self.pieces
        self.kernel = self.add_weight(
            shape=(input_shape[-1], width), initializer=self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, features) -> (batch, units)."""
        affine = ops.matmul(inputs, self.kernel) + self.bias
        return ops.max(ops.reshape(affine, (-1, self.units, self.pieces)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.kernel_initializer)
        own = {"units": self.units, "pieces": self.pieces, "kernel_initializer": initializer}
        return {**super().get_config(), **own}


def unit(vector: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """`vector` at length 1; where it is zero and has no direction, `otherwise`, or zero when not given."""
    length = ops.sqrt(ops.sum(ops.square(vector)))
    direction = vector / ops.where(length > 0, length, 1.0)
    return direction if otherwise is None else ops.where(length > 0, direction, otherwise)


def dense(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    """The linear part of `keras.layers.Dense`."""
    return ops.matmul(inputs, kernel)


def convolution(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    """The linear part of `keras.layers.Conv2D`."""
    return layer.convolution_op(inputs, kernel)


def transposed_convolution(layer: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
    """The linear part of `keras.layers.Conv2DTranspose`."""
    return ops.conv_transpose(
        inputs,
        kernel,
        strides=list(layer.strides),
        padding=layer.padding,
        output_padding=layer.output_padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


# Layer -> its linear part, and the axis of its kernel that counts output channels.
NORMALIZABLE = {
    keras.layers.Dense: (dense, -1),  # (in, out)
    keras.layers.Conv2D: (convolution, -1),  # (height, width, in, out)
    keras.layers.Conv2DTranspose: (transposed_convolution, -2),  # (height, width, out, in)
}


class SpectralNorm(keras.layers.Wrapper):
    """A layer that uses W / sigma(W) in place of its kernel W (arXiv:1802.05957, section 2.1 and Algorithm 1).

    W is the kernel as a matrix, (everything else, output channels); sigma = v^T W u, its largest singular value, with
    u and v from power iteration and held constant, so that the gradient of a loss flows through sigma (eq. 12) and is
    orthogonal to W. `keras.layers.SpectralNormalization` overwrites W and sends no gradient through sigma; here W is
    only read.

    Each call with training=True makes one power iteration and keeps its u: a step that scores real and fake pictures
    in two calls makes two. Inference uses the u there is, as a moving average of the weights does with an averaged u:
    only u's direction counts. Before any training call u is random, and sigma too small.

    The next u, unit(W^T unit(W u)), is a function of W and u, which are the same on every replica, and not of the
    data: the replicas agree on it without a collective.

    Args:
        layer: Dense, Conv2D or Conv2DTranspose, channels last; its bias and activation are left as they are.
        name: the wrapped layer's when not given.

    Raises:
        ValueError: another kind of layer.
    """

    def __init__(self, layer: keras.layers.Layer, name: str | None = None, **kwargs: Any):
        if type(layer) not in NORMALIZABLE or getattr(layer, "data_format", "channels_last") != "channels_last":
            good = sorted(kind.__name__ for kind in NORMALIZABLE)
            raise ValueError(f"layer={layer!r}: choose from {good}, with channels last.")
        kwargs.setdefault("dtype", layer.dtype_policy)
        # Without autocast the kernel is read as it is stored: sigma is no number for float16.
        super().__init__(layer, name=name or layer.name, autocast=False, **kwargs)
        self.linear, self.output_axis = NORMALIZABLE[type(layer)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the layer and create u, of as many values as there are output channels."""
        super().build(input_shape)
        self.u = self.add_weight(
            shape=(self.layer.kernel.shape[self.output_axis],),
            initializer=lambda shape, dtype=None: unit(keras.initializers.RandomNormal()(shape, dtype)),
            trainable=False,
            aggregation=ALIKE,
            name="u",
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """What the wrapped layer takes -> what it gives."""
        kernel = ops.cast(self.normalized_kernel(bool(training)), self.compute_dtype)
        outputs = self.linear(self.layer, ops.cast(inputs, self.compute_dtype), kernel)
        if self.layer.use_bias:
            outputs = outputs + ops.cast(self.layer.bias, self.compute_dtype)
        return self.layer.activation(outputs)

    def normalized_kernel(self, iterate: bool = False) -> Tensor:
        """W / sigma(W), in the kernel's layout; a kernel of zeros as it is.

        Args:
            iterate: first make one power iteration, and keep its u.
        """
        kernel = ops.convert_to_tensor(self.layer.kernel)
        matrix = ops.reshape(ops.moveaxis(kernel, self.output_axis, -1), (-1, self.u.shape[0]))
        constant = ops.stop_gradient(matrix)
        u = unit(ops.convert_to_tensor(self.u))
        v = unit(ops.matmul(constant, u))
        if iterate:
            u = unit(ops.matmul(v, constant), otherwise=u)
            self.u.assign(u)
        sigma = ops.sum(v * ops.matmul(matrix, u))
        return kernel / ops.where(sigma > 0, sigma, 1.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The wrapped layer's."""
        return self.layer.compute_output_shape(input_shape)


class MinibatchStddev(keras.layers.Layer):
    """One channel more: how much the rows of a batch differ (ProGAN, arXiv:1710.10196, section 3).

    The standard deviation of every value over the batch, averaged over all values, repeated as a constant map.

    Args:
        group_size: None for the statistic of the whole *global* batch, summed over the replicas; or the rows of one
            group, each with a statistic of its own: consecutive rows, whole groups on every replica.
        epsilon: added to the variance, so that equal rows have a gradient.
    """

    def __init__(self, group_size: int | None = None, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        if group_size is not None and group_size < 2:
            raise ValueError(f"group_size={group_size}: choose at least 2 rows, or None for the global batch.")
        self.group_size = group_size
        self.epsilon = epsilon

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, height, width, channels + 1).

        Raises:
            ValueError: the batch is not made of whole groups (while it runs, where its size is not known before, the
                backend's error of a reshape).
        """
        rows, *shape = inputs.shape
        if self.group_size and rows is not None and rows % self.group_size:
            raise ValueError(
                f"a batch of {rows} rows on a replica is not made of groups of {self.group_size}: choose "
                "batch = replicas * group_size * a whole number, or group_size=None."
            )
        groups = (-1, self.group_size) if self.group_size else (1, -1)
        values = ops.reshape(ops.cast(inputs, self.variable_dtype), (*groups, *shape))  # (groups, rows, H, W, C)
        total = sum_over_replicas if self.group_size is None else list
        count = ops.sum(ops.ones_like(values[:1, :, 0, 0, 0]))
        # In two passes, the mean first: a mean of squares less a squared mean would cancel.
        sums, count = total([ops.sum(values, axis=1, keepdims=True), count])
        (squares,) = total([ops.sum(ops.square(values - sums / count), axis=1, keepdims=True)])
        deviation = ops.mean(ops.sqrt(squares / count + self.epsilon), axis=(2, 3, 4), keepdims=True)
        channel = ops.reshape(deviation * ops.ones_like(values[..., :1]), (-1, *shape[:-1], 1))
        return ops.concatenate([inputs, ops.cast(channel, inputs.dtype)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "group_size": self.group_size, "epsilon": self.epsilon}


class MinibatchDiscrimination(keras.layers.Layer):
    """`kernels` features more: how close a row is to the others (arXiv:1606.03498, section 3.2).

    A row's features f(x_i) become a matrix M_i = f(x_i) T of `kernels` rows and `dimensions` columns, T learned;
    o(x_i)_b = sum_j exp(-||M_ib - M_jb||_1), between 1, a row's likeness to itself, and the number of rows compared.

    In training and inference alike, and of any number of rows; for a single one, o = 1. Without a group size all rows
    of the batch are compared, on one replica only: a replica does not see the others' rows. With one, `group_size`
    consecutive rows are compared with each other, and so are those that are left over at the end of a batch; as long
    as each replica holds whole groups, any number of replicas gives the same.

    Args:
        kernels: B, number of features that are added.
        dimensions: C, of the space in which rows are compared for one of them.
        group_size: rows that are compared with each other; None for the whole batch.
        kernel_initializer: of T, a matrix of (features, kernels * dimensions).
    """

    def __init__(
        self,
        kernels: int,
        dimensions: int,
        group_size: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if kernels < 1 or dimensions < 1:
            raise ValueError(f"kernels={kernels}, dimensions={dimensions}: choose at least 1 of each.")
        if group_size is not None and group_size < 2:
            raise ValueError(f"group_size={group_size}: choose at least 2 rows, or None for the whole batch.")
        self.kernels = kernels
        self.dimensions = dimensions
        self.group_size = group_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create T.

        Raises:
            ValueError: the inputs are not (batch, features).
        """
        if len(input_shape) != 2:
            raise ValueError(f"inputs of shape {tuple(input_shape)}: give (batch, features), flattened.")
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.kernels * self.dimensions),
            initializer=self.kernel_initializer,
            name="kernel",
        )

    def call(self, inputs: Tensor) -> Tensor:
        """(batch, features) -> (batch, features + kernels).

        Raises:
            ValueError: several replicas and no group size.
        """
        if self.group_size is None and replicas_in_sync() > 1:
            raise ValueError(
                f"group_size=None compares the rows of one replica, and here are {replicas_in_sync()}: choose a "
                "group_size that divides the rows of each."
            )
        matrices = ops.cast(ops.matmul(inputs, self.kernel), self.variable_dtype)
        matrices = ops.reshape(matrices, (-1, self.kernels, self.dimensions))
        distances = ops.sum(ops.abs(matrices[:, None] - matrices[None]), axis=-1)  # (batch, batch, kernels)
        likeness = ops.exp(-distances)
        if self.group_size is not None:
            groups = ops.arange(ops.shape(inputs)[0]) // self.group_size
            likeness = ops.where((groups[:, None] == groups[None])[..., None], likeness, 0.0)
        return ops.concatenate([inputs, ops.cast(ops.sum(likeness, axis=1), inputs.dtype)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.kernel_initializer)
        own = {"kernels": self.kernels, "dimensions": self.dimensions, "group_size": self.group_size}
        return {**super().get_config(), **own, "kernel_initializer": initializer}


class Quantizer(keras.layers.Layer):
    """The nearest vector of a codebook, which moving averages follow (VQ-VAE, arXiv:1711.00937, appendix A.1).

    codes = K, dimension of the inputs' last axis = D, decay = gamma, shares = N, sums = m, codebook = e.

    Each call with training=True moves the codebook once, by the vectors of the *global* batch, after this call's
    codes have been looked up. Paper: N and m are counts and sums of a batch. Here both are divided by the batch's
    number of vectors, which e = m / N does not notice: they stay small enough for float16 files. They start as if
    every code had been used alike so far, N = 1 / K and m = e / K, so that a first batch does not throw codes about.

    Args:
        codes: number of vectors in the codebook.
        decay: of the moving averages a training call, 0 <= decay < 1.
        epsilon: added to every code's share before the division (Laplace smoothing), so that a code without inputs
            divides by no zero; it fades towards the origin once its share has fallen below.
    """

    def __init__(self, codes: int, decay: float = 0.99, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        if codes < 1:
            raise ValueError(f"codes={codes}: a codebook holds at least 1.")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay={decay}: choose 0 <= decay < 1.")
        if epsilon <= 0.0:
            raise ValueError(f"epsilon={epsilon}: choose a share > 0, far below 1 / codes.")
        self.codes = codes
        self.decay = decay
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the codebook and its averages; none of them is trained by a gradient."""
        shape = (self.codes, input_shape[-1])

        def state(name: str, shape: tuple[int | None, ...], initializer: Any) -> keras.Variable:
            return self.add_weight(
                shape=shape,
                initializer=initializer,
                trainable=False,
                autocast=False,
                aggregation=ALIKE,
                name=name,
            )

        # Uniform, each vector of expected squared length 1.
        self.codebook = state("codebook", shape, keras.initializers.VarianceScaling(1.0, "fan_out", "uniform"))
        self.shares = state("shares", (self.codes,), keras.initializers.Constant(1 / self.codes))
        self.sums = state("sums", shape, lambda shape, dtype=None: self.codebook.value / self.codes)

    def call(self, inputs: Tensor, training: bool | None = None) -> tuple[Tensor, Tensor]:
        """(batch, ..., dimension) -> the nearest codes, likewise, and their indices, (batch, ...) int32.

        The gradient by the codes is handed to the inputs as it is (straight through, section 3.2).
        """
        vectors = ops.stop_gradient(ops.reshape(ops.cast(inputs, self.variable_dtype), (-1, inputs.shape[-1])))
        nearest = self.nearest(vectors)
        indices = ops.reshape(nearest, ops.shape(inputs)[:-1])
        quantized = ops.cast(self.look_up(indices), inputs.dtype)
        if training:
            self.follow(vectors, nearest)
        return inputs + ops.stop_gradient(quantized - inputs), indices

    def nearest(self, vectors: Tensor) -> Tensor:
        """argmin_k ||z - e_k||^2, (count, dimension) -> (count,) int32; the first one of equals."""
        codebook = ops.convert_to_tensor(self.codebook)
        # ||z||^2 is the same for every k.
        distances = ops.sum(ops.square(codebook), axis=1) - 2.0 * ops.matmul(vectors, ops.transpose(codebook))
        return ops.cast(ops.argmin(distances, axis=1), "int32")

    def look_up(self, indices: Tensor) -> Tensor:
        """(...) integers in [0, codes) -> their vectors, (..., dimension)."""
        return ops.take(ops.convert_to_tensor(self.codebook), indices, axis=0)

    def follow(self, vectors: Tensor, nearest: Tensor) -> None:
        """Move the averages and the codebook by this replica's vectors and all others'."""
        chosen = ops.one_hot(nearest, self.codes, dtype=vectors.dtype)  # (count, K)
        counts, sums = sum_over_replicas([ops.sum(chosen, axis=0), ops.matmul(ops.transpose(chosen), vectors)])
        count = ops.sum(counts)
        shares = self.decay * self.shares + (1.0 - self.decay) * counts / count
        sums = self.decay * self.sums + (1.0 - self.decay) * sums / count
        # The shares sum to 1, and so do the smoothed ones.
        smoothed = (shares + self.epsilon) / (1.0 + self.codes * self.epsilon)
        self.shares.assign(shares)
        self.sums.assign(sums)
        self.codebook.assign(sums / smoothed[:, None])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "codes": self.codes, "decay": self.decay, "epsilon": self.epsilon}
