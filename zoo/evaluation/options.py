"""`EvaluationOptions`: what `evaluate` and `zoo evaluate` both take."""

from collections.abc import Callable
from dataclasses import dataclass

COUNT = 10_000  # generated images per seed
SEEDS = (0, 1, 2)

Progress = Callable[[str], None]
"""What is called with a one-line progress message now and then."""


@dataclass(frozen=True)
class EvaluationOptions:
    """The protocol of an evaluation."""

    against: str | None = None
    """Real images: a data set, folder or zip, as for training; by default the model's own data."""
    split: str | None = None
    """Of the real images; held out when the model was trained. By default "all" of a folder or zip that the model
    was not trained on, and "test" of everything else; "all" is every image, whatever splits there are."""
    trained_on: str | None = None
    """What the model was trained on, where no card says it or the file that its card names lies elsewhere: gives
    baselines, copies, and the refusal of training images."""
    metrics: tuple[str, ...] = ()
    """Names of scores; by default all that can be computed, but for those that train a network."""
    extractors: tuple[str, ...] = ()
    """What gives the features: classifiers, by preset or exported directory, or random-features. By default the data
    set's own classifier, and random-features for a second Frechet distance."""
    inception: str | None = None
    """Path or URL of the 2015 Inception's weights, for FID, KID and IS."""
    inception_sha256: str | None = None
    """What these weights must have."""
    count: int = COUNT
    """Generated images per seed, at least 2."""
    seeds: tuple[int, ...] = SEEDS
    """Of the sampling: at least one, all different."""
    crop: int | None = None
    """Score the center of so many pixels of generated images, and of real ones that are brought to their size as for
    training; by default what is left when the padding that a card speaks of is cut off. What a model is given as input
    is never cut."""
    bound_samples: int | None = None
    """Samples of z for each image's importance-weighted bound: a multiple of what the graph takes at once, which is the
    default."""
