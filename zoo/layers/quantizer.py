"""Vector quantization with a codebook of moving averages."""

from typing import Any

import keras
from keras import ops

from zoo.core.replicas import ONLY_FIRST_REPLICA, sum_over_replicas
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
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
                aggregation=ONLY_FIRST_REPLICA,
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
            self.update_codebook(vectors, nearest)
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

    def update_codebook(self, vectors: Tensor, nearest: Tensor) -> None:
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
