"""Changes to images: pure functions of images and random numbers, differentiable by the images.

A caller takes the numbers from the step's draws, so that they obey its rules. For a classifier, changes that leave what
an image shows as it is. For a GAN, changes through which D sees images and samples alike, and G gets its gradient
(DiffAugment, arXiv:2006.10738), with a probability that follows D's overfitting (ADA, arXiv:2006.06676).
"""

from collections.abc import Callable
from typing import NamedTuple

from keras import ops

from zoo.core.arguments import choose
from zoo.core.noise import Draws
from zoo.core.precision import full_precision
from zoo.core.types import Tensor


def translate(images: Tensor, uniform: Tensor, share: float, fill: float = -1.0) -> Tensor:
    """Each image moved by whole pixels, up or down and left or right.

    Args:
        images: (batch, height, width, channels).
        uniform: (batch, 2) in [0, 1): how far each moves, down and to the right, from the most negative to the most
            positive.
        share: the largest movement, of the side, 0 <= share < 1.
        fill: what comes in from outside.
    """
    for axis in (1, 2):
        size = images.shape[axis]
        most = round(share * size)
        shift = ops.cast(ops.floor(uniform[:, axis - 1] * (2 * most + 1)), "int32") - most
        source = ops.arange(size, dtype="int32")[None, :] - shift[:, None]  # (batch, size): where each line comes from
        inside = ops.cast((source >= 0) & (source < size), images.dtype)
        lines = (-1, size, 1, 1) if axis == 1 else (-1, 1, size, 1)
        moved = ops.take_along_axis(images, ops.reshape(ops.clip(source, 0, size - 1), lines), axis=axis)
        inside = ops.reshape(inside, lines)
        images = moved * inside + fill * (1.0 - inside)
    return images


def crop(images: Tensor, uniform: Tensor, sides: tuple[int, int]) -> Tensor:
    """A box of each image.

    Args:
        images: (batch, height, width, channels).
        uniform: (batch, 2) in [0, 1): where the box begins, from the top to the bottom and from the left to the right.
        sides: height and width of the box, at most the image's.

    Returns:
        (batch, *sides, channels).
    """
    for axis, side in zip((1, 2), sides, strict=True):
        first = ops.cast(ops.floor(uniform[:, axis - 1] * (images.shape[axis] - side + 1)), "int32")
        source = ops.arange(side, dtype="int32")[None, :] + first[:, None]  # (batch, side): where each line comes from
        lines = (-1, side, 1, 1) if axis == 1 else (-1, 1, side, 1)
        images = ops.take_along_axis(images, ops.reshape(source, lines), axis=axis)
    return images


def flip(images: Tensor, uniform: Tensor) -> Tensor:
    """Every second image, on average, mirrored left to right.

    Args:
        images: (batch, height, width, channels).
        uniform: (batch,) in [0, 1): below one half, an image is mirrored.
    """
    mirrored = ops.reshape(uniform < 0.5, (-1, 1, 1, 1))
    return ops.where(mirrored, ops.flip(images, axis=2), images)


def brightness(images: Tensor, shift: Tensor) -> Tensor:
    """`shift`, (batch,), added to every value of an image; nothing is clipped."""
    return images + per_image(shift, images)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Every pixel's distance from its mean over the channels, times `factor`, (batch,): 0 makes an image gray."""
    return scale_around_mean(images, factor, axes=(3,))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Every value's distance from its image's mean, times `factor`, (batch,)."""
    return scale_around_mean(images, factor, axes=(1, 2, 3))


def scale_around_mean(images: Tensor, factor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """mean + factor (images - mean), the mean over `axes`; the images themselves where those have one value."""
    mean = ops.mean(images, axis=axes, keepdims=True)
    return mean + per_image(factor, images) * (images - mean)


def per_image(numbers: Tensor, images: Tensor) -> Tensor:
    """One number an image, (batch,) -> (batch, 1, 1, 1), of the images' type."""
    return ops.reshape(ops.cast(numbers, images.dtype), (-1, 1, 1, 1))


def cutout(images: Tensor, uniform: Tensor, share: float) -> Tensor:
    """A box of each image set to 0, the middle of [-1, 1].

    Args:
        images: (batch, height, width, channels).
        uniform: (batch, 2) in [0, 1): where the box's middle is, from top to bottom and from left to right. Part of the
            box may lie outside.
        share: its sides, of the image's, rounded to whole pixels, 0 < share <= 1.
    """
    inside = []
    for axis in (1, 2):
        side = images.shape[axis]
        length = int(share * side + 0.5)
        # An odd box has its middle on a pixel, an even one between two: one place more.
        first = ops.cast(ops.floor(uniform[:, axis - 1] * (side + 1 - length % 2)), "int32") - length // 2
        line = ops.arange(side, dtype="int32")[None, :] - first[:, None]  # (batch, side): counted from the box's first
        inside.append((line >= 0) & (line < length))
    rows, columns = inside
    return ops.where((rows[:, :, None] & columns[:, None, :])[..., None], 0.0, images)


class Change(NamedTuple):
    """What to draw for each image, and the change that it decides."""

    draw: Callable[[Draws], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]


# Ranges as in DiffAugment's code, for images in [-1, 1]; what comes in from outside is 0.
POLICIES: dict[str, tuple[Change, ...]] = {
    "color": (
        Change(lambda draws: draws.uniform(low=-0.5, high=0.5), brightness),
        Change(lambda draws: draws.uniform(low=0.0, high=2.0), saturation),
        Change(lambda draws: draws.uniform(low=0.5, high=1.5), contrast),
    ),
    "translation": (Change(lambda draws: draws.uniform(2), lambda images, at: translate(images, at, 1 / 8, fill=0.0)),),
    "cutout": (Change(lambda draws: draws.uniform(2), lambda images, at: cutout(images, at, 1 / 2)),),
}


def parse_policy(policy: str) -> list[Change]:
    """The changes of a policy, in its order.

    Args:
        policy: keys of `POLICIES` between commas, such as "color,translation,cutout".

    Raises:
        ValueError: another name, or none.
    """
    return [change for name in policy.split(",") for change in choose("policy", name, POLICIES)]


def differentiable_augment(
    images: Tensor, draws: Draws, policy: str, probability: Tensor | float | None = None
) -> Tensor:
    """Each image changed by every change of the policy, by random numbers of its own  (arXiv:2006.10738, section 3).

    Args:
        images: (batch, height, width, channels) in [-1, 1]; nothing is clipped to that range.
        draws: this step's. Images that are augmented in another call get other changes.
        policy: as `parse_policy` takes it.
        probability: p, a scalar in [0, 1]: each image gets each change with probability p and otherwise stays as it
            is, independently (arXiv:2006.06676, section 2.3). None for all changes.
    """
    changes = parse_policy(policy)
    numbers = [change.draw(draws) for change in changes]
    chosen = None if probability is None else draws.uniform(len(changes)) < probability
    for number, change in enumerate(changes):
        changed = change.apply(images, numbers[number])
        images = changed if chosen is None else ops.where(chosen[:, number, None, None, None], changed, images)
    return images


def next_probability(
    p: Tensor, sign_mean: Tensor, target: float = 0.6, *, images: Tensor | int, horizon: int = 500_000
) -> Tensor:
    """The next probability of augmentation, from how far D overfits: r_t = E[sign(D(x))]  (ADA, arXiv:2006.06676).

    p + images / horizon where r_t > target, p - images / horizon where it is less, held in [0, 1] (section 3).

    Args:
        p: a float scalar in [0, 1]; the paper starts at 0.
        sign_mean: r_t, the mean sign of D's logits on images over the global batch, or over several of them.
        target: of r_t.
        images: images that D was shown since p last moved, on all replicas.
        horizon: images in which p can go from 0 to 1.
    """
    return ops.clip(p + ops.sign(sign_mean - target) * (images / horizon), 0.0, 1.0)


def linear_decay(start: float, step: Tensor, steps: int) -> Tensor:
    """start (1 - step / steps), and 0 from `steps` on: such as instance noise's deviation (arXiv:1610.04490).

    Args:
        start: the value at step 0.
        step: a scalar, the number of train steps done.
        steps: after how many it is 0.

    Raises:
        ValueError: steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: choose at least 1.")
    return start * ops.maximum(1.0 - ops.cast(step, full_precision()) / steps, 0.0)
