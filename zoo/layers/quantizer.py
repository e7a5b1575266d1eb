"""Vector quantization: a codebook of moving averages or one that learns by gradient, and the use of its codes."""

from typing import Any, Literal

import keras
from keras import ops

from zoo.core.arguments import choose
from zoo.core.replicas import ONLY_FIRST_REPLICA, gather_rows, sum_over_replicas
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class Quantizer(keras.layers.Layer):
    """The nearest vector of a codebook, which moving averages follow (VQ-VAE, arXiv:1711.00937, appendix A.1).

    codes = K, dimension of the inputs' last axis = D, decay = gamma, shares = N, sums = m, codebook = e.

    Each call with training=True moves the averages, and by them the codebook, once, by the vectors of the *global*
    batch, after this call's codes have been looked up. A codebook that learns by gradient (eq. 3, second term) is moved
    by its player alone; of the averages it has the shares. Paper: N and m are counts and sums of a batch. Here both are
    divided by the batch's number of vectors, which e = m / N does not notice: they stay small enough for float16 files.
    They start as if every code had been used alike so far, N = 1 / K and m = e / K, so that a first batch does not
    throw codes about.

    Args:
        codes: number of vectors in the codebook.
        decay: of the moving averages a training call, 0 <= decay < 1.
        epsilon: added to every code's share before the division (Laplace smoothing), so that a code without inputs
            divides by no zero; it fades towards the origin once its share has fallen below.
        learning: "moving_average", or "gradient", where the codebook is a trainable weight.
    """

    def __init__(
        self,
        codes: int,
        decay: float = 0.99,
        epsilon: float = 1e-8,
        learning: Literal["moving_average", "gradient"] = "moving_average",
        **kwargs: Any,
    ):
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
        self.learning = choose("learning", learning, {name: name for name in ("moving_average", "gradient")})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the codebook and its averages; none of them is trained by a gradient, unless the codebook is to be."""
        shape = (self.codes, input_shape[-1])

        def state(name: str, shape: tuple[int | None, ...], initializer: Any) -> keras.Variable:
            return self.add_weight(
                shape=shape,
                initializer=initializer,
                trainable=False,
                autocast=False,
                aggregation=ONLY_FIRST_REPLICA,
                name=name,
            )

        # Uniform, each vector of expected squared length 1.
        uniform = keras.initializers.VarianceScaling(1.0, "fan_out", "uniform")
        if self.learning == "gradient":
            self.codebook = self.add_weight(shape=shape, initializer=uniform, autocast=False, name="codebook")
        else:
            self.codebook = state("codebook", shape, uniform)
        self.shares = state("shares", (self.codes,), keras.initializers.Constant(1 / self.codes))
        self.sums = None
        if self.learning == "moving_average":
            # An initializer gives the same numbers at each call: the codebook, which may not be there yet, is not read.
            self.sums = state("sums", shape, lambda shape, dtype=None: uniform(shape, dtype) / self.codes)

    def call(self, inputs: Tensor, training: bool | None = None) -> tuple[Tensor, Tensor]:
        """(batch, ..., dimension) -> the nearest codes, likewise, and their indices, (batch, ...) int32.

        The gradient by the codes is handed to the inputs as it is (straight through, section 3.2).
        """
        vectors = ops.stop_gradient(ops.reshape(ops.cast(inputs, self.variable_dtype), (-1, inputs.shape[-1])))
        nearest = self.nearest(vectors)
        indices = ops.reshape(nearest, ops.shape(inputs)[:-1])
        quantized = ops.cast(self.look_up(indices), inputs.dtype)
        if training:
            self.update_codebook(vectors, nearest)
        return inputs + ops.stop_gradient(quantized - inputs), indices

    def nearest(self, vectors: Tensor) -> Tensor:
        """argmin_k ||z - e_k||^2, (count, dimension) -> (count,) int32; the first one of equals."""
        codebook = ops.convert_to_tensor(self.codebook)
        # ||z||^2 is the same for every k.
        distances = ops.sum(ops.square(codebook), axis=1) - 2.0 * ops.matmul(vectors, ops.transpose(codebook))
        # Not argmin, in which Keras tells -0 from 0 by operations that ONNX does not have.
        return ops.cast(ops.top_k(-distances, 1)[1][:, 0], "int32")

    def look_up(self, indices: Tensor) -> Tensor:
        """(...) integers in [0, codes) -> their vectors, (..., dimension)."""
        return ops.take(ops.convert_to_tensor(self.codebook), indices, axis=0)

    def update_codebook(self, vectors: Tensor, nearest: Tensor) -> None:
        """Move the averages and the codebook by this replica's vectors and all others'."""
        chosen = ops.one_hot(nearest, self.codes, dtype=vectors.dtype)  # (count, K)
        if self.sums is None:
            counts = sum_over_replicas(ops.sum(chosen, axis=0))
            self.shares.assign(self.follow(self.shares, counts / ops.sum(counts)))
            return
        counts, sums = sum_over_replicas([ops.sum(chosen, axis=0), ops.matmul(ops.transpose(chosen), vectors)])
        count = ops.sum(counts)
        shares, sums = self.follow(self.shares, counts / count), self.follow(self.sums, sums / count)
        # The smoothed shares keep the sum of the shares: 1, and more for a while after codes were revived.
        total = ops.sum(shares)
        smoothed = (shares + self.epsilon) * (total / (total + self.codes * self.epsilon))
        self.shares.assign(shares)
        self.sums.assign(sums)
        self.codebook.assign(sums / smoothed[:, None])

    def follow(self, average: keras.Variable, value: Tensor) -> Tensor:
        """A moving average after one more value."""
        return self.decay * average + (1.0 - self.decay) * value

    def revive(self, inputs: Tensor, numbers: Tensor, least: float) -> Tensor:
        """Put vectors of the global batch, drawn at random, in the place of codes that are hardly used.

        A revived code begins anew as all did: its share is 1 / K, its sum the vector's share of it. To be called after
        the codebook has been moved, by whatever moves it, with the same inputs.

        Args:
            inputs: what the layer was called with on this replica, (batch, ..., dimension).
            numbers: uniform in [0, 1), (K,), the same on every replica: which vector a code would take.
            least: of a code's share, as a part of 1 / K; below it the code is revived.

        Returns:
            Which codes were revived, (K,) bool.
        """
        everything = gather_rows(ops.stop_gradient(ops.cast(inputs, self.variable_dtype)))
        vectors = ops.reshape(everything, (-1, everything.shape[-1]))
        count = ops.shape(vectors)[0]
        places = ops.cast(numbers * ops.cast(count, numbers.dtype), "int32")
        drawn = ops.take(vectors, ops.minimum(places, count - 1), axis=0)
        dead = self.shares < least / self.codes
        self.shares.assign(ops.where(dead, 1.0 / self.codes, self.shares))
        self.codebook.assign(ops.where(dead[:, None], drawn, self.codebook))
        if self.sums is not None:
            self.sums.assign(ops.where(dead[:, None], drawn / self.codes, self.sums))
        return dead

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        arguments = {"codes": self.codes, "decay": self.decay, "epsilon": self.epsilon, "learning": self.learning}
        return {**super().get_config(), **arguments}


@keras.saving.register_keras_serializable("zoo")
class LookUp(keras.layers.Layer):
    """Codes (batch, ...), integers in [0, K) -> their vectors in a quantizer's codebook, (batch, ..., dimension).

    Args:
        quantizer: already built.
    """

    def __init__(self, quantizer: Quantizer, **kwargs: Any):
        super().__init__(**kwargs)
        self.quantizer = quantizer
        self.built = True

    def call(self, indices: Tensor) -> Tensor:
        """See the class."""
        return self.quantizer.look_up(indices)


@keras.saving.register_keras_serializable("zoo")
class CodeUsage(keras.layers.Layer):
    """How many codes were used in the last steps, and how evenly in this one.

    Args:
        codes: K.
        window: steps that are looked back on, this one included.
    """

    def __init__(self, codes: int, window: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.codes = codes
        self.window = window
        kept = {"trainable": False, "autocast": False, "aggregation": ONLY_FIRST_REPLICA}
        # The number of steps that were done when a code was last used, itself included: 0 for never.
        self.last_used = self.add_weight(shape=(codes,), initializer="zeros", dtype="int32", name="last_used", **kept)
        self.built = True

    def observe(self, indices: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The perplexity of the global batch's codes, and the number of codes used within the window; both scalars.

        Args:
            indices: of this replica's vectors, (batch, ...) integers in [0, K).
            step: integer scalar, the number of steps done before this one.
        """
        flat = ops.reshape(indices, (-1,))
        counts = sum_over_replicas(ops.segment_sum(ops.ones_like(flat, "float32"), flat, self.codes))
        now = ops.cast(step, "int32") + 1
        last_used = ops.where(counts > 0.0, now, self.last_used)
        self.last_used.assign(last_used)
        within = ops.logical_and(last_used > 0, last_used > now - self.window)
        return perplexity_of(counts / ops.sum(counts)), ops.sum(ops.cast(within, "float32"))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "codes": self.codes, "window": self.window}


def perplexity_of(shares: Tensor) -> Tensor:
    """e^H, H the entropy of shares p in nats, (K,) -> (): K where all codes are used alike, 1 where one is."""
    return ops.exp(-ops.sum(shares * ops.log(ops.where(shares > 0.0, shares, 1.0))))
