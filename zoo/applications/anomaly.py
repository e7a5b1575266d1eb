"""Anomaly scores of images, and how well they separate anomalous images from normal ones.

A score is one number per image, higher for more anomalous ones. images: (count, height, width, channels) float32 in
[-1, 1].

    pipeline = load_pretrained("vae-fashion-mnist", format="onnx", ability="log_prob")
    area_under_curve(complexity_corrected(pipeline, test), complexity_corrected(pipeline, others))

A likelihood alone may be higher for simple images than for those that the model was trained on (arXiv:1810.09136): the
area is then below 1/2. `complexity_corrected` and `likelihood_ratio` correct for that.
"""

import io
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.metrics import roc_auc_score

from serving.images import to_pil, to_uint8
from serving.likelihood import Bound
from serving.pipeline import Pipeline
from zoo.evaluation.extractors import BATCH_SIZE
from zoo.metrics.checks import images_in_range


class Likelihood(Protocol):
    """A `Pipeline` with the ability log_prob, or a Keras model that has it."""

    def log_prob(self, images: np.ndarray, **options: Any) -> Bound:
        """A lower bound of log p(x) of each image, nats."""


@dataclass(frozen=True)
class Area:
    """The area under the ROC curve.

    Args:
        value: the share of pairs, one normal and one anomalous image, in which the anomalous one has the higher score;
            a tie counts half. 1/2 is chance; below it the score ranks the sets the wrong way round.
        standard_error: DeLong's. 0 where the scores do not overlap, and then meaningless.
        normal: number of images.
        anomalous: likewise.
    """

    value: float
    standard_error: float
    normal: int
    anomalous: int


def area_under_curve(normal: np.ndarray, anomalous: np.ndarray) -> Area:
    """AUROC of a score, with the standard error of DeLong, DeLong and Clarke-Pearson (Biometrics 1988).

    Args:
        normal: scores of normal images, (count,), at least 2.
        anomalous: of anomalous ones, likewise.

    Raises:
        ValueError: scores of another shape, too few of them, or some that are not finite.
    """
    for name, scores in (("normal", normal), ("anomalous", anomalous)):
        bad = scores.size - np.count_nonzero(np.isfinite(scores))
        if scores.ndim != 1 or len(scores) < 2 or bad:
            raise ValueError(f"{name} scores {scores.shape}, {bad} not finite: give (count,), at least 2, all finite.")
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    above_normal = count_shares_below(normal, anomalous)
    below_anomalous = count_shares_below(anomalous, normal)
    variance = above_normal.var(ddof=1) / len(anomalous) + below_anomalous.var(ddof=1) / len(normal)
    value = float(roc_auc_score(labels, np.concatenate([normal, anomalous])))
    return Area(value, math.sqrt(variance), len(normal), len(anomalous))


def count_shares_below(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(count,): the share of `scores` that is below each of `values`; equal ones count half."""
    ordered = np.sort(scores)
    found = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return found / (2 * len(scores))


def reconstruct(pipeline: Pipeline, images: np.ndarray) -> np.ndarray:
    """Reconstructions of images, of their shape.

    Raises:
        ValueError: the pipeline has another ability, or one that takes more than an image; values out of range; NaN.
    """
    takes = [spec.name for spec in pipeline.ability.inputs]
    gives = [output.name for output in pipeline.ability.outputs if output.kind == "reconstruction"]
    if len(takes) != 1 or not gives:
        raise ValueError(
            f"{pipeline.card.name} takes {takes}, and gives {[output.name for output in pipeline.ability.outputs]}: "
            'load it with ability="reconstruct", of a model that takes an image and nothing else.'
        )
    images_in_range(images, smallest=1)
    return pipeline.run({takes[0]: images.astype(np.float32)}, batch_size=BATCH_SIZE)[gives[0]]


def reconstruction_error(images: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """The mean over pixels and channels of the squared difference, brightness from 0 to 1; (count,) float64.

    Args:
        images: x.
        reconstructed: their reconstructions by an autoencoder or a VAE.

    Raises:
        ValueError: the shapes differ; values out of range; NaN.
    """
    if images.shape != reconstructed.shape:
        raise ValueError(f"images {images.shape}, reconstructed {reconstructed.shape}: give both of one shape.")
    one, other = (images_in_range(side, smallest=1).astype(np.float64) for side in (images, reconstructed))
    return np.square((one - other) / 2).mean(axis=(1, 2, 3))


def negative_log_likelihood(model: Likelihood, images: np.ndarray, **options: Any) -> np.ndarray:
    """An upper bound of -log p(x), nats; (count,) float64.

    Args:
        model: a VAE.
        images: x.
        **options: bound ("elbo" or "importance_weighted"), samples, seed: see `serving.likelihood.log_prob`.

    Raises:
        ValueError: the model has no log_prob, or no such bound; values out of range; NaN.
    """
    images_in_range(images, smallest=1)
    return -model.log_prob(images.astype(np.float32), **options).values


def likelihood_ratio(model: Likelihood, background: Likelihood, images: np.ndarray, **options: Any) -> np.ndarray:
    """log p_background(x) - log p(x), nats (arXiv:1906.02845, section 3, with the other sign); (count,) float64.

    What both models have learned, such as that neighboring pixels are alike, cancels; what remains is specific to the
    normal images.

    Args:
        model: trained on normal images.
        background: of the same kind, trained on the same images after `perturb`.
        images: x.
        **options: of `negative_log_likelihood`.

    Raises:
        ValueError: as in `negative_log_likelihood`.
    """
    return negative_log_likelihood(model, images, **options) - negative_log_likelihood(background, images, **options)


def complexity_corrected(model: Likelihood, images: np.ndarray, **options: Any) -> np.ndarray:
    """-log2 p(x) less the image's `complexity`, bits (arXiv:1909.11480, section 3); (count,) float64.

    A likelihood ratio, too: the compressor is a model of images of any kind. The model needs a probability of gray
    levels, such as the discretized logistic's: a density's logarithm is shifted against bits, which leaves the area as
    it is, but a likelihood of black and white says nothing about gray levels.

    Raises:
        ValueError: as in `negative_log_likelihood`; images of 2 channels or more than 3.
    """
    return negative_log_likelihood(model, images, **options) / math.log(2) - complexity(images)


def complexity(images: np.ndarray) -> np.ndarray:
    """Bits of each image's PNG file, its header included; (count,) float64.

    Args:
        images: of 1 or 3 channels.

    Raises:
        ValueError: another number of channels; values out of range; NaN.
    """
    images_in_range(images, smallest=1)
    sizes = []
    for image in to_pil(to_uint8(images, (-1.0, 1.0))):
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        sizes.append(8 * file.tell())
    return np.array(sizes, np.float64)


def perturb(images: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Each value replaced with probability `rate`, all 256 values equally likely (arXiv:1906.02845, section 3).

    Args:
        images: uint8.
        rate: mu, 0 to 1.
        seed: of both draws.

    Raises:
        ValueError: images of another type; a rate out of its range.
    """
    if images.dtype != np.uint8 or not 0.0 <= rate <= 1.0:
        raise ValueError(f"images of {images.dtype}, rate={rate}: give uint8, and a rate from 0 to 1.")
    random = np.random.default_rng(seed)
    chosen = random.random(images.shape, np.float32) < rate
    return np.where(chosen, random.integers(256, size=images.shape, dtype=np.uint8), images)
