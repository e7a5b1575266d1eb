"""What this machine can do at most: products of large square matrices, by TensorFlow's oneDNN.

`benchmarks.harness` lets them take turns with the contenders. Convolutions and dense layers are products of matrices:
their FLOPs divided by this rate are the least time that they can take.
"""

from functools import partial

from benchmarks import harness
from benchmarks.harness import Contender

Options = harness.Options


def product(options: harness.Options, dtype: str) -> Contender:
    """Products of two matrices of `dtype`, one a call; what else is a batch size is their number of rows here."""
    import tensorflow as tf

    factors: dict[int, tf.Tensor] = {}

    def run(side: int, calls: int) -> int:
        if side not in factors:
            factors[side] = tf.cast(tf.random.stateless_uniform((side, side), (0, 0)), dtype)
        for _ in range(calls):
            tf.linalg.matmul(factors[side], factors[side])
        return calls

    return Contender(run, precision=dtype)


CONTENDERS = {dtype: partial(product, dtype=dtype) for dtype in ("float32", "bfloat16")}
