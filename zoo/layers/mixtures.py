"""Mixtures: what their components are, what an E-step expects of images, and what an M-step makes of that.

K = components, D = pixels with channels, r = factors. A mixture gives the log joint log p(x, k) = log w_k + log p(x|k),
(batch, K): its softmax over k is the responsibilities, its logsumexp log p(x).
"""

import math
from typing import Any

import keras
from keras import ops

from zoo.core.replicas import gather_rows, global_mean
from zoo.core.types import Tensor

LOG_TWO_PI = math.log(2.0 * math.pi)
STARTED = 0.75  # what an image counts where a component begins at it; the rest is drawn, so no two begin alike


def whiten(images: Tensor, dtype: str) -> Tensor:
    """Black and white pixels of images in [-1, 1], 0 and 1: those above the middle gray are white; shape kept."""
    return ops.cast(ops.greater(images, 0.0), dtype)


def choose_category(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """One of K, one-hot: k where c_(k-1) <= u < c_k, c the cumulative probabilities.

    Args:
        probabilities: (K,), or (batch, K).
        uniform: u in [0, 1), (batch,).

    Returns:
        (batch, K).
    """
    last = probabilities.shape[-1] - 1
    passed = ops.less_equal(ops.cumsum(probabilities, axis=-1), uniform[:, None])
    index = ops.minimum(ops.sum(ops.cast(passed, "int32"), axis=1), last)  # the last sum may round to less than 1
    return ops.cast(ops.equal(ops.arange(last + 1, dtype="int32")[None], index[:, None]), probabilities.dtype)


def choose_rows(uniform: Tensor, rows: Tensor, components: int) -> Tensor:
    """A row of the global batch for each component to start at, drawn without replacement while there are rows.

    Args:
        uniform: (batch,), which order the rows of the global batch.
        rows: (batch,) int64, the rows' numbers in the global batch.
        components: K.

    Returns:
        (batch, K): the responsibilities of a start, whose mean over the global batch is 1 / K for each component.
    """
    order = ops.argsort(gather_rows(uniform))
    count = ops.shape(order)[0]
    chosen = ops.take(order, ops.arange(components, dtype="int32") % count)
    starts = ops.equal(ops.cast(rows, "int32")[:, None], ops.cast(chosen, "int32")[None])
    return ops.cast(starts, uniform.dtype) * (ops.cast(count, uniform.dtype) / components)


@keras.saving.register_keras_serializable("zoo")
class PartOf(keras.layers.Layer):
    """A method of a layer as a layer of its own, on the same weights.

    Args:
        owner: the layer, built.
        method: its name.
    """

    def __init__(self, owner: keras.layers.Layer, method: str, **kwargs: Any):
        super().__init__(dtype=owner.dtype_policy, **kwargs)
        self.owner = owner
        self.method = method
        self.built = True

    def call(self, *inputs: Tensor) -> Any:
        """What the method gives."""
        return getattr(self.owner, self.method)(*inputs)


@keras.saving.register_keras_serializable("zoo")
class BernoulliComponents(keras.layers.Layer):
    """Black and white pixels, independent given the component: image (batch, ...) in [-1, 1] -> log joint (batch, K).

    The weights are expected statistics, as shares of what all components have alike: count = K E[r_k] and white =
    K E[r_k x]. Parameters are read from them: p_k = (white + a) / (count + 2 a), w_k ~ count + 2 a.

    Args:
        components: K.
        smoothing: a, of Laplace: images all black, and as many all white, that each component has seen besides, as a
            share of the images that it has on average.
    """

    def __init__(self, components: int, smoothing: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.components = components
        self.smoothing = smoothing

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the statistics."""
        self.image_shape = tuple(input_shape[1:])
        self.count = self.add_weight(shape=(self.components,), initializer="ones", name="count")
        shape = (self.components, math.prod(self.image_shape))
        first = keras.initializers.RandomUniform(0.25, 0.75)
        self.white = self.add_weight(shape=shape, initializer=first, name="white")

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """w (K,) and p (K, D), within (0, 1) whatever the weights are."""
        count = ops.maximum(self.count, 0.0)
        white = ops.clip(self.white, 0.0, count[:, None])
        total = count + 2.0 * self.smoothing
        return total / ops.sum(total), (white + self.smoothing) / total[:, None]

    def call(self, images: Tensor) -> Tensor:
        """log w_k + sum_d x_d log p_kd + (1 - x_d) log (1 - p_kd)."""
        shares, white = self.probabilities()
        black = ops.log1p(-white)
        logits = ops.log(white) - black
        return ops.log(shares) + ops.sum(black, axis=1) + ops.matmul(self.observe(images), ops.transpose(logits))

    def observe(self, images: Tensor) -> Tensor:
        """x, (batch, D), 0 and 1."""
        return ops.reshape(whiten(images, self.variable_dtype), (-1, math.prod(self.image_shape)))

    def maximize(self, images: Tensor, responsibilities: Tensor) -> list[Tensor]:
        """New values of count and white, of the global batch alone.

        Args:
            images: (batch, ...) in [-1, 1].
            responsibilities: r, (batch, K).
        """
        chosen = ops.cast(responsibilities, self.variable_dtype)
        whites = ops.matmul(ops.transpose(chosen), self.observe(images))
        return [self.components * mean for mean in global_mean([ops.sum(chosen, axis=0), whites], images)]

    def start(self, images: Tensor, responsibilities: Tensor) -> list[Tensor]:
        """`maximize`, of `choose_rows`: each component is at its image."""
        return self.maximize(images, responsibilities)

    def choose(self, uniform: Tensor) -> Tensor:
        """A component by a number in [0, 1): (batch,) -> one-hot (batch, K)."""
        return choose_category(self.probabilities()[0], uniform)

    def draw(self, chosen: Tensor, uniform: Tensor) -> Tensor:
        """A sample, -1 and 1: white where u < p; one-hot (batch, K), u (batch, ...) in [0, 1) -> (batch, ...)."""
        white = ops.reshape(ops.matmul(chosen, self.probabilities()[1]), (-1, *self.image_shape))
        return 2.0 * ops.cast(ops.less(uniform, white), white.dtype) - 1.0

    def mean(self, responsibilities: Tensor) -> Tensor:
        """sum_k r_k E[x|k] in [-1, 1], (batch, ...)."""
        white = ops.matmul(responsibilities, self.probabilities()[1])
        return ops.reshape(2.0 * white - 1.0, (-1, *self.image_shape))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "components": self.components, "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("zoo")
class GaussianComponents(keras.layers.Layer):
    """Normal components of diagonal covariance Psi, or factor analyzers, Lambda Lambda' + Psi: image -> log joint.

    mean = mu, of images counted from black, x + 1: pixels that are black in all images then cost no digits.
    log_deviation = log sqrt Psi, factors = Lambda (K, D, r), count = K E[r_k]. Densities are of images in [-1, 1].

    Args:
        components: K.
        factors: r; 0 for a diagonal covariance.
        smoothing: images, as a share of those that a component has on average, that each has seen besides: at its mean,
            with the variances of all images.
        least_deviation: of a pixel given component and factors, in units of images in [-1, 1].
    """

    def __init__(self, components: int, factors: int, smoothing: float, least_deviation: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.components = components
        self.rank = factors
        self.smoothing = smoothing
        self.least_deviation = least_deviation

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the parameters."""
        self.image_shape = tuple(input_shape[1:])
        self.dimension = math.prod(self.image_shape)
        shape = (self.components, self.dimension)
        self.count = self.add_weight(shape=(self.components,), initializer="ones", name="count")
        self.mean = self.add_weight(shape=shape, initializer=keras.initializers.RandomUniform(0.0, 1.0), name="mean")
        self.log_deviation = self.add_weight(shape=shape, initializer="zeros", name="log_deviation")
        if self.rank:
            first = keras.initializers.RandomNormal(stddev=0.1)
            self.factors = self.add_weight(shape=(*shape, self.rank), initializer=first, name="factors")

    def shares(self) -> Tensor:
        """w, (K,)."""
        total = ops.maximum(self.count, 0.0) + self.smoothing
        return total / ops.sum(total)

    def deviation(self) -> Tensor:
        """sqrt Psi, (K, D)."""
        return ops.exp(ops.maximum(self.log_deviation, math.log(self.least_deviation)))

    def observe(self, images: Tensor) -> Tensor:
        """x + 1, (batch, D)."""
        return ops.reshape(ops.cast(images, self.variable_dtype) + 1.0, (-1, self.dimension))

    def whitening(self) -> tuple[Tensor, Tensor]:
        """A = Psi^-1 Lambda L^-T, (K, D, r), and L^-1, (K, r, r), where L L' = I + Lambda' Psi^-1 Lambda.

        Then (Lambda Lambda' + Psi)^-1 = Psi^-1 - A A', by Woodbury's identity.
        """
        scaled = self.factors / ops.square(self.deviation())[..., None]
        matrix = ops.eye(self.rank, dtype=scaled.dtype) + ops.matmul(transpose(self.factors), scaled)
        inverse = invert_cholesky(matrix)
        return ops.matmul(scaled, transpose(inverse)), inverse

    def whitened(self, observed: Tensor, directions: Tensor) -> Tensor:
        """y = A' (x - mu), (batch, K, r)."""
        flat = ops.reshape(ops.transpose(directions, (1, 0, 2)), (self.dimension, -1))
        centers = ops.sum(self.mean[..., None] * directions, axis=1)
        return ops.reshape(ops.matmul(observed, flat), (-1, self.components, self.rank)) - centers

    def call(self, images: Tensor) -> Tensor:
        """log w_k + log N(x; mu_k, Lambda_k Lambda_k' + Psi_k)."""
        observed, deviation, mean = self.observe(images), self.deviation(), ops.convert_to_tensor(self.mean)
        precision = 1.0 / ops.square(deviation)
        distance = (
            ops.matmul(ops.square(observed), ops.transpose(precision))
            - 2.0 * ops.matmul(observed, ops.transpose(mean * precision))
            + ops.sum(ops.square(mean) * precision, axis=1)
        )
        log_determinant = 2.0 * ops.sum(ops.log(deviation), axis=1)
        if self.rank:
            directions, inverse = self.whitening()
            # A product, not a sum: OpenVINO 2026.4 errs where it fuses a sum with the subtraction that follows.
            squares, ones = ops.square(self.whitened(observed, directions)), ops.ones((self.rank, 1), observed.dtype)
            distance -= ops.squeeze(ops.matmul(squares, ones), axis=-1)
            log_determinant -= 2.0 * ops.sum(ops.log(ops.diagonal(inverse, axis1=1, axis2=2)), axis=1)
        return ops.log(self.shares()) - 0.5 * (self.dimension * LOG_TWO_PI + log_determinant + distance)

    def start(self, images: Tensor, responsibilities: Tensor) -> list[Tensor]:
        """Means at `choose_rows`, every deviation that of all images; the factors stay as they were drawn."""
        observed, chosen = self.observe(images), ops.cast(responsibilities, self.variable_dtype)
        mean, *moments = global_mean(
            [ops.matmul(ops.transpose(chosen), observed), ops.sum(observed, 0), ops.sum(ops.square(observed), 0)],
            images,
        )
        variance = ops.maximum(moments[1] - ops.square(moments[0]), self.least_deviation**2)
        log_deviation = ops.broadcast_to(0.5 * ops.log(variance), self.log_deviation.shape)
        factors = [ops.convert_to_tensor(self.factors)] if self.rank else []
        return [ops.ones_like(self.count), self.components * mean, log_deviation, *factors]

    def maximize(self, images: Tensor, responsibilities: Tensor) -> list[Tensor]:
        """New values of the weights, in their order, of the global batch alone.

        Counts and means by the responsibilities; then, about the new means, Psi, and one EM step of each component's
        factors  (Ghahramani and Hinton 1996, in two cycles, as AECM of Meng and van Dyk 1997: neither lowers log p(x)).

        Args:
            images: (batch, ...) in [-1, 1].
            responsibilities: r, (batch, K).
        """
        observed, chosen = self.observe(images), ops.cast(responsibilities, self.variable_dtype)
        by_component = ops.transpose(chosen)
        sums = [
            ops.sum(chosen, axis=0),
            ops.matmul(by_component, observed),
            ops.matmul(by_component, ops.square(observed)),
            ops.sum(observed, axis=0),
            ops.sum(ops.square(observed), axis=0),
        ]
        if self.rank:
            directions, inverse = self.whitening()
            weighed = chosen[..., None] * self.whitened(observed, directions)  # r y, (batch, K, r)
            products = ops.matmul(ops.transpose(observed), ops.reshape(weighed, (-1, self.components * self.rank)))
            sums += [ops.sum(weighed, axis=0), products]
        share, first, second, overall, overall_square, *more = global_mean(sums, images)
        count, first, second = self.components * share, self.components * first, self.components * second
        total = count + self.smoothing
        mean = (first + self.smoothing * self.mean) / total[:, None]
        spread = self.smoothing * (overall_square - ops.square(overall))  # of the images that smooth
        scatter = second - 2.0 * mean * first + count[:, None] * ops.square(mean)
        variance = (scatter + spread) / total[:, None]  # the diagonal of S, the covariance about the new mean
        if not self.rank:
            return [count, mean, self.log_of(variance)]
        products = ops.transpose(ops.reshape(more[1], (self.dimension, self.components, self.rank)), (1, 0, 2))
        moved = ops.matmul((self.mean - mean)[:, None], directions)[:, 0]  # what y gains by the new mean, (K, r)
        whitened = self.components * more[0] + count[:, None] * moved
        covariance = (  # S A, (K, D, r)
            self.components * products + first[..., None] * moved[:, None] - mean[..., None] * whitened[:, None]
        )
        covariance = (covariance + spread[:, None] * directions) / total[:, None, None]
        with_factors = ops.matmul(covariance, inverse)  # S beta', beta = L^-T A'
        second_moment = ops.matmul(transpose(inverse), inverse) + ops.matmul(
            transpose(ops.matmul(directions, inverse)), with_factors
        )
        half = invert_cholesky(second_moment)
        factors = ops.matmul(ops.matmul(with_factors, transpose(half)), half)  # S beta' E[z z']^-1
        return [count, mean, self.log_of(variance - ops.sum(factors * with_factors, axis=2)), factors]

    def log_of(self, variance: Tensor) -> Tensor:
        """log sqrt of a variance, no less than the least."""
        return 0.5 * ops.log(ops.maximum(variance, self.least_deviation**2))

    def choose(self, uniform: Tensor) -> Tensor:
        """A component by a number in [0, 1): (batch,) -> one-hot (batch, K)."""
        return choose_category(self.shares(), uniform)

    def draw(self, chosen: Tensor, noise: Tensor) -> Tensor:
        """An image, (batch, ...) in [-1, 1].

        Args:
            chosen: the component, one-hot (batch, K).
            noise: standard normal: the factors' z, (batch, r), the image then the mean given component and factors; or
                the pixels', (batch, ...), of a diagonal covariance.
        """
        if self.rank:
            flat = ops.reshape(self.factors, (self.components, -1))
            loading = ops.reshape(ops.matmul(chosen, flat), (-1, self.dimension, self.rank))
            offset = ops.sum(loading * noise[:, None], axis=2)
        else:
            offset = ops.matmul(chosen, self.deviation()) * ops.reshape(noise, (-1, self.dimension))
        return self.show(ops.matmul(chosen, ops.convert_to_tensor(self.mean)) + offset)

    def reconstruct(self, images: Tensor, responsibilities: Tensor) -> Tensor:
        """sum_k r_k (mu_k + Lambda_k E[z|x, k]), (batch, ...) in [-1, 1]."""
        means = ops.matmul(responsibilities, ops.convert_to_tensor(self.mean))
        if self.rank:
            directions, inverse = self.whitening()
            weighed = responsibilities[..., None] * self.whitened(self.observe(images), directions)
            loadings = transpose(ops.matmul(self.factors, transpose(inverse)))  # (K, r, D)
            flat = ops.reshape(loadings, (-1, self.dimension))
            means += ops.matmul(ops.reshape(weighed, (-1, self.components * self.rank)), flat)
        return self.show(means)

    def show(self, pixels: Tensor) -> Tensor:
        """(batch, D), counted from black -> images, clipped to [-1, 1]."""
        return ops.clip(ops.reshape(pixels - 1.0, (-1, *self.image_shape)), -1.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        arguments = {"components": self.components, "factors": self.rank, "smoothing": self.smoothing}
        return {**super().get_config(), **arguments, "least_deviation": self.least_deviation}


def transpose(matrices: Tensor) -> Tensor:
    """Of each matrix, (K, a, b) -> (K, b, a)."""
    return ops.transpose(matrices, (0, 2, 1))


def invert_cholesky(matrices: Tensor) -> Tensor:
    """L^-1 of M = L L', both (K, r, r), by r rounds of plain operations: ONNX has neither factor nor inverse."""
    size, rows = matrices.shape[-1], []
    rest, sides = matrices, ops.eye(size, dtype=matrices.dtype)[None]
    for place in range(size):
        scale = ops.rsqrt(rest[:, place : place + 1, place : place + 1])
        column = rest[:, :, place : place + 1] * scale  # of L
        rows.append(sides[:, place : place + 1] * scale)
        rest = rest - ops.matmul(column, transpose(column))
        sides = sides - ops.matmul(column, rows[-1])
    return ops.concatenate(rows, axis=1)
