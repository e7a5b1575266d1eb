"""Which latent makes a given image: gradient descent on the distance of the generator's image to it.

model = load_pretrained("dcgan-fashion-mnist")          # Keras: gradients need TensorFlow
found = project(model, image, restarts=4)
found.images[found.best], found.distances[found.best]
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.sampling.noise import UNIFORM_RANGE
from zoo.applications.generators import NO_NOISE, Generator, Noise, Space
from zoo.metrics.checks import images_in_range

STEPS = 300
WEIGHT = 0.1  # of features: with 1 the descent stayed at images of another class, whose features had no slope
RATE = 0.1  # Adam's, falling to 0 along half a cosine
MEAN_OF = 1_000  # styles whose mean the first restart in "w" begins at
MEMORY, SQUARE_MEMORY, STABILIZER = 0.9, 0.999, 1e-8  # Adam's betas and epsilon (arXiv:1412.6980)

Gradient = Callable[[np.ndarray], tuple[np.ndarray, Any]]


@dataclass(frozen=True)
class Projection:
    """What was found from each start, at its step of the least objective.

    Args:
        codes: (restarts, dimension): latents, or the one style that all layers get.
        images: (restarts, height, width, channels) float32, as the network gives them: in [-1, 1] where it is bounded.
        distances: (restarts,), the mean squared difference of brightness, 0 to 1.
        feature_distances: (restarts,), the squared distance of the features as a share of the target's own square;
            0 where none were asked for.
        history: (steps + 1, restarts), `distances` before each step and after the last.
        feature_history: likewise.
        best: the restart of the least objective.
    """

    codes: np.ndarray
    images: np.ndarray
    distances: np.ndarray
    feature_distances: np.ndarray
    history: np.ndarray
    feature_history: np.ndarray
    best: int


def project(
    model: Any,
    target: np.ndarray,
    space: Space = "z",
    *,
    restarts: int = 4,
    steps: int = STEPS,
    rate: float = RATE,
    classifier: Any = None,
    weight: float = WEIGHT,
    label: int | str | None = None,
    noise: Noise = NO_NOISE,
    seed: int = 0,
) -> Projection:
    """Codes whose images are near an image: the least of pixel distance + weight * feature distance, by Adam.

    Starts are latents of the seed; the first is the code of the image where the model encodes images, and the mean
    style in "w". Uniform latents stay in their range.

    Args:
        model: Keras, with the ability generate, and map and synthesize for "w".
        target: (height, width, channels) float in [-1, 1], of the generator's size.
        space: "z", or "w", one style for all layers.
        restarts: starts, descended from at once.
        steps: of Adam.
        rate: its learning rate at the beginning.
        classifier: a Keras model whose classify gives features, for their distance; none when not given.
        weight: of the features' distance.
        label: class of the image, of a class-conditional generator.
        noise: of a style-based generator, held fixed.
        seed: of the starts.

    Raises:
        ValueError: a target of another size or range, a count below 1, no class of a conditional generator, a model
            without what the space needs, or features that can't be had of such images.
    """
    from zoo.core.latents import measure_distances_to

    images_in_range(target[None], smallest=1)
    if restarts < 1 or steps < 1 or not 0 < rate < np.inf or not 0 <= weight < np.inf:
        raise ValueError(f"restarts={restarts}, steps={steps}, rate={rate}, weight={weight}: give 1 or more, above 0.")
    generator = Generator.of(model)
    if generator.label is not None and label is None:
        raise ValueError(f"{generator.name} is conditional: give the image's class.")
    name = "generate" if space == "z" else "synthesize"
    starts = make_starts(generator, target, space, restarts, label, seed)
    labels = generator.draw_labels(range(restarts), labels=label)
    abilities = model.abilities()
    moved = generator.latent.name if space == "z" else next(iter(abilities[name].network.inputs)).name
    given: dict[str, Any] = {"truncation": 1.0, "label": labels}
    feeds = ("normal", "uniform") if space == "z" else ("style",)

    extractor = None if classifier is None else classifier.abilities().get("classify")
    if classifier is not None and extractor is None:
        raise ValueError(f"{type(classifier).__name__} can't classify: name a classifier for the features.")
    measure = measure_distances_to(target.astype(np.float32), abilities[name], moved, extractor, weight)

    def gradient(codes: np.ndarray) -> tuple[np.ndarray, Any]:
        tiled = codes if space == "z" else np.repeat(codes[:, None], generator.styles_shape[0], axis=1)
        arrays = generator.make_feeds(name, {**given, **dict.fromkeys(feeds, tiled)}, range(restarts), noise)
        found = measure(arrays)
        return found.gradient if space == "z" else found.gradient.sum(axis=1), found

    bounds = None
    if space == "z" and generator.latent.feed == "uniform":
        bounds = generator.latent.range or UNIFORM_RANGE
    return descend(gradient, starts, steps, rate, weight, bounds)


def make_starts(
    generator: Generator, target: np.ndarray, space: Space, restarts: int, label: int | str | None, seed: int
) -> np.ndarray:
    """Where the descent begins, (restarts, dimension); the first where the model or the mean style says."""
    starts = generator.draw(range(restarts), seed, space)
    if space == "w":
        starts = starts.reshape(restarts, *generator.styles_shape)[:, 0]
        mapped = generator.draw(range(MEAN_OF), seed, space)
        starts[0] = mapped.reshape(MEAN_OF, *generator.styles_shape)[:, 0].mean(axis=0)
    elif "encode" in generator.abilities:
        given = {"image": target[None], "label": generator.draw_labels(range(1), labels=label)}
        feeds = generator.make_feeds("encode", given, range(1), NO_NOISE)
        codes = generator.run("encode", feeds)[generator.abilities["encode"].outputs[0].name]
        if codes.shape[1:] == starts.shape[1:]:
            starts[0] = codes[0]
    return starts


def descend(
    gradient: Gradient,
    starts: np.ndarray,
    steps: int,
    rate: float,
    weight: float = WEIGHT,
    bounds: tuple[float, float] | None = None,
) -> Projection:
    """Adam from each start; the rows do not depend on each other.

    Args:
        gradient: codes -> the objective's gradient, and what has `pixels`, `features` and `images` of each row.
        starts: (restarts, dimension).
        steps: how many.
        rate: the learning rate at the beginning.
        weight: of features in the objective.
        bounds: that codes are kept within.
    """
    codes = starts.astype(np.float64)
    first, second = np.zeros_like(codes), np.zeros_like(codes)
    pixels, features = [], []
    least, kept_codes, kept_images = np.full(len(codes), np.inf), codes.copy(), np.empty(0)
    for step in range(steps + 1):
        slope, found = gradient(codes)
        pixels.append(found.pixels)
        features.append(found.features)
        objective = found.pixels + weight * found.features
        kept_images = kept_images if step else found.images.copy()
        better = objective < least
        least[better], kept_codes[better], kept_images[better] = objective[better], codes[better], found.images[better]
        if step == steps:
            break
        first = MEMORY * first + (1 - MEMORY) * slope
        second = SQUARE_MEMORY * second + (1 - SQUARE_MEMORY) * np.square(slope)
        now = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        mean, square = first / (1 - MEMORY ** (step + 1)), second / (1 - SQUARE_MEMORY ** (step + 1))
        codes = codes - now * mean / (np.sqrt(square) + STABILIZER)
        if bounds is not None:
            codes = np.clip(codes, *bounds)
    history, feature_history = np.stack(pixels), np.stack(features)
    rows, chosen = np.arange(len(codes)), np.argmin(history + weight * feature_history, axis=0)
    return Projection(
        kept_codes,
        kept_images,
        history[chosen, rows],
        feature_history[chosen, rows],
        history,
        feature_history,
        int(np.argmin(least)),
    )
