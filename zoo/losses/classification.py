"""Cross-entropy and accuracy, one value per row."""

from keras import ops

from zoo.core.types import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """-sum_k q_k log p_k, p = softmax(logits), q = (1 - smoothing) [k = label] + smoothing / K: (batch,).

    Args:
        logits: (batch, K).
        labels: (batch,) integers in [0, K).
        smoothing: what the label gives to all K classes alike (arXiv:1512.00567, section 7).
    """
    log_probabilities = ops.log_softmax(logits, axis=-1)
    chosen = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -ops.sum(((1.0 - smoothing) * chosen + smoothing / logits.shape[-1]) * log_probabilities, axis=-1)


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the likeliest class is the right one, else 0: (batch, K) and (batch,) integers -> (batch,) float."""
    return ops.cast(ops.equal(ops.argmax(logits, axis=1), ops.cast(labels, "int32")), logits.dtype)
