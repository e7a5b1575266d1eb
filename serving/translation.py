"""Images in, images out: arrays and Pillow images of any size and mode, through an ability that translates or enlarges.

A network takes images of one number of channels, as floats, in batches of one size, and as much memory as they are
large. Here they are brought into that form, cut into tiles where they are large, and given back as what they came as.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from serving.card import Ability, Input, Output
from serving.images import to_eight_bits, to_uint8, turn_upright
from serving.sampling.sampler import Run
from serving.session import InputError, ModelFileError

Task = Literal["translate", "upscale"]
Images = np.ndarray | Image.Image | Sequence[np.ndarray | Image.Image]
Progress = Callable[[int, int], None]

TILE = 512  # pixels a side
ALIGNMENT = 64  # tiles begin at multiples: a network that halves its maps sees them as it sees the whole
WHITE = (255, 255, 255)
TAKEN = "uint8 of shape (height, width), (height, width, 1 to 4) or (count, height, width, 1 to 4)"


def find_task(ability: str) -> Task | None:
    """What an ability of that name does: translate_a_to_b and translate_b_to_a translate; None for another task."""
    if ability == "translate" or ability.startswith("translate_"):
        return "translate"
    return "upscale" if ability == "upscale" else None


def find_abilities(abilities: Iterable[str], task: Task) -> list[str]:
    """The names of those that do a task."""
    return [name for name in abilities if find_task(name) == task]


def transform(
    task: Task,
    ability: Ability,
    run: Run,
    images: Images,
    *,
    tile: int | None = TILE,
    overlap: int | None = None,
    background: tuple[int, int, int] = WHITE,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Any:
    """Translate or enlarge images of any size.

    An image of more than `tile` x `tile` pixels is cut into tiles of at most that side, which overlap. Where two do,
    three eighths of the overlap at each tile's end are thrown away, and the quarter between blended linearly. What a
    network makes of a pixel that looks no further than these three eighths is, up to rounding, the same as of the whole
    image. A network that normalizes by statistics of the whole image gives each tile those of its own: colors and
    contrasts differ from those of the whole, smoothly from tile to tile. Where memory allows, give `tile=None` for it.

    Args:
        task: upscale gives gray images as gray and color ones as color, whatever the network takes (a gray network gets
            red, green and blue one by one); translate gives the network's channels.
        ability: its card: one image of free height and width in, one out.
        run: arrays by input name -> arrays by output name.
        images: an array, uint8 (height, width), (height, width, channels) or (count, height, width, channels), where
            channels are 1 (gray), 2 (gray, alpha), 3 (color) or 4 (color, alpha); a Pillow image of any mode; or a list
            of arrays of one image and Pillow images, of any sizes. Pillow images are turned as their EXIF data say.
        tile: side in pixels, from 1; None for every image in one piece.
        overlap: pixels that tiles share, at most half of `tile`; a quarter when not given. Tiles begin at multiples of
            a power of two, up to 64, so that they may share more.
        background: red, green and blue, 0 to 255, that transparent images are laid on for the network.
        batch_size: the most images of one size in one run, which has no more pixels than `tile` x `tile` besides.
        progress: called after each run of the network with the pixels done and those of all images.

    Returns:
        What `images` are: an array, a Pillow image or a list; as often as high and wide as the ability's scale says.
        Alpha is that of the image, enlarged (Lanczos) where the image is.

    Raises:
        InputError: the images or options are not of this kind.
        ModelFileError: the network gives another shape than its card says.
        ValueError: it gives NaN.
    """
    network = Network.of(ability, run)
    settings = _check_settings(tile, overlap, background, batch_size)
    many = isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.ndim == 4)
    given = list(images) if many else [images]  # type: ignore[arg-type]
    if not given:
        raise InputError(f"no images: give at least one: {TAKEN}, a Pillow image, or a list of them")
    sources = [
        Source.of(image, f"image {number}" if many else "the image", settings.background)
        for number, image in enumerate(given)
    ]
    planes = [_split(source.color, network.channels, task) for source in sources]
    made = _run_all(network, [plane for image in planes for plane in image], settings, progress)
    results = []
    for source, image in zip(sources, planes, strict=True):
        color = np.concatenate([next(made) for _ in image], axis=2)
        if task == "upscale" and source.color.shape[2] == 1 and color.shape[2] == 3:
            color = _to_gray(color)
        results.append(source.give_back(color))
    if isinstance(images, np.ndarray) and many:
        return np.stack([np.asarray(result) for result in results])
    return results if many else results[0]


@dataclass(frozen=True)
class Network:
    """An ability that makes one image of one image."""

    image: Input
    made: Output
    scale: int
    run: Run

    @classmethod
    def of(cls, ability: Ability, run: Run) -> "Network":
        """Refuse an ability of another kind."""
        inputs, outputs = ability.inputs, ability.outputs
        pair = len(inputs) == 1 and inputs[0].feed == "image" and [spec.kind for spec in outputs] == ["image"]
        free = pair and len(inputs[0].shape) == 4 and inputs[0].shape[1:3] == ("height", "width")
        if not free or inputs[0].shape[3] not in (1, 3) or outputs[0].shape[3] not in (1, 3):
            found = [[spec.name, list(spec.shape)] for spec in (*inputs, *outputs)]
            raise InputError(
                f"this ability is of {found}: images are translated and enlarged by one that takes one image of free "
                "height and width, gray or color, and gives one"
            )
        return cls(inputs[0], outputs[0], ability.scale, run)

    @property
    def channels(self) -> int:
        """Of the image that it takes."""
        return int(self.image.shape[3])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (count, height, width, channels) -> floats in the output's range, likewise, `scale` times the sides."""
        low, high = self.image.range or (-1.0, 1.0)
        values = images.astype(np.float32) / np.float32(255 / (high - low)) + np.float32(low)
        found = self.run({self.image.name: values.astype(self.image.dtype)})[self.made.name]
        count, height, width, _ = images.shape
        expected = (count, self.scale * height, self.scale * width, int(self.made.shape[3]))
        if found.shape != expected:
            raise ModelFileError(f"{self.made.name!r} is {expected} on the card, and {found.shape} in a run")
        return found

    def to_uint8(self, values: np.ndarray) -> np.ndarray:
        """Gray levels of what it gives."""
        assert self.made.range is not None  # an image has one
        return to_uint8(values, self.made.range)


@dataclass(frozen=True)
class Settings:
    """The options, checked."""

    tile: int | None
    overlap: int
    background: tuple[int, int, int]
    batch_size: int

    @property
    def pixels(self) -> int:
        """The most of one run, unless one image that is not to be cut has more."""
        return (self.tile or TILE) ** 2


def _check_settings(tile: Any, overlap: Any, background: Any, batch_size: Any) -> Settings:
    if tile is not None and not _is_integer(tile, 1):
        raise InputError(f"tile={tile!r}: give the side of a tile in pixels, from 1, or None for whole images")
    if overlap is not None and not (_is_integer(overlap, 0) and (tile is None or overlap <= tile // 2)):
        most = "" if tile is None else f" to {tile // 2}, half of tile={tile}"
        raise InputError(f"overlap={overlap!r}: give the pixels that tiles share, from 0{most}")
    if not _is_integer(batch_size, 1):
        raise InputError(f"batch_size={batch_size!r}: give 1 or more")
    colors = tuple(background) if isinstance(background, (tuple, list)) else ()
    if len(colors) != 3 or not all(_is_integer(value, 0) and value <= 255 for value in colors):
        raise InputError(f"background={background!r}: give red, green and blue, 0 to 255, such as (255, 255, 255)")
    shared = (tile or TILE) // 4 if overlap is None else overlap
    return Settings(tile, int(shared), colors, batch_size)


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


@dataclass(frozen=True)
class Source:
    """One image, and as what it came.

    Args:
        color: uint8 (height, width, 1 or 3), laid on the background.
        alpha: uint8 (height, width), None where there is none.
        axes: 2 or 3 of an array, None of a Pillow image.
    """

    color: np.ndarray
    alpha: np.ndarray | None
    axes: int | None

    @classmethod
    def of(cls, image: Any, what: str, background: tuple[int, int, int]) -> "Source":
        """Refuse what is no image; `what` it is called."""
        if isinstance(image, Image.Image):
            axes, pixels = None, _read_pillow(image, what)
        elif isinstance(image, np.ndarray):
            axes, pixels = image.ndim, _read_array(image, what)
        else:
            raise InputError(f"{what} is a {type(image).__name__}: give {TAKEN}, a Pillow image, or a list of them")
        if pixels.shape[2] in (1, 3):
            return cls(pixels, None, axes)
        color, alpha = pixels[:, :, :-1], pixels[:, :, -1]
        ground = np.array(background, np.uint8)
        ground = _to_gray(ground[None, None])[0, 0] if color.shape[2] == 1 else ground
        share = alpha[:, :, None].astype(np.uint16)
        return cls(((color * share + ground * (255 - share) + 127) // 255).astype(np.uint8), alpha, axes)

    def give_back(self, color: np.ndarray) -> np.ndarray | Image.Image:
        """Of uint8 (height, width, 1 or 3), with the alpha of this image, what this image came as."""
        height, width, _ = color.shape
        if self.alpha is not None:
            alpha = Image.fromarray(self.alpha)
            if alpha.size != (width, height):
                alpha = alpha.resize((width, height), Image.Resampling.LANCZOS)
            color = np.concatenate([color, np.asarray(alpha)[:, :, None]], axis=2)
        flat = color[:, :, 0] if color.shape[2] == 1 else color
        if self.axes is None:
            return Image.fromarray(flat)
        return flat if self.axes == 2 else color


def _read_array(image: np.ndarray, what: str) -> np.ndarray:
    """(height, width, 1 to 4)."""
    if image.dtype != np.uint8:
        raise InputError(f"{what} is an array of {image.dtype}: give {TAKEN}, values 0 to 255")
    if image.ndim not in (2, 3) or (image.ndim == 3 and not 1 <= image.shape[2] <= 4):
        raise InputError(f"{what} is an array of shape {image.shape}: give {TAKEN}")
    if not image.size:
        raise InputError(f"{what} has no pixels: its shape is {image.shape}")
    return image[:, :, None] if image.ndim == 2 else image


def _read_pillow(image: Image.Image, what: str) -> np.ndarray:
    """(height, width, 1 to 4)."""
    if not image.width or not image.height:
        raise InputError(f"{what} has no pixels: its size is {image.size}")
    try:
        image = to_eight_bits(turn_upright(image))
        gray = image.mode in ("1", "L", "LA", "La")
        mode = ("L" if gray else "RGB") + ("A" if image.has_transparency_data else "")
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # a file that is damaged raises almost anything when its pixels are read
        raise InputError(f"{what}, of Pillow's mode {image.mode}, can't be read: {error}") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _to_gray(color: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3) -> (height, width, 1), by Pillow's weights."""
    return np.asarray(Image.fromarray(color).convert("L"))[:, :, None]


def _split(color: np.ndarray, channels: int, task: Task) -> list[np.ndarray]:
    """An image as the network takes it, (height, width, channels), or several, one for each of its own channels."""
    if color.shape[2] == channels:
        return [color]
    if channels == 3:
        return [np.repeat(color, 3, axis=2)]
    return [color[:, :, index, None] for index in range(3)] if task == "upscale" else [_to_gray(color)]


def _run_all(
    network: Network, images: Sequence[np.ndarray], settings: Settings, progress: Progress | None
) -> Iterator[np.ndarray]:
    """Of images of the network's channels, uint8, those that it makes, in order."""
    cuts = [[_cut(side, image, settings) for side in image.shape[:2]] for image in images]
    total, done = sum(_length(rows) * _length(columns) for rows, columns in cuts), 0

    def run(batch: Sequence[np.ndarray]) -> np.ndarray:
        nonlocal done
        found = network(np.stack(batch))
        done += sum(image.shape[0] * image.shape[1] for image in batch)
        if progress is not None:
            progress(done, total)
        return found

    made: dict[int, np.ndarray] = {}
    sizes: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(number)
    for numbers in sizes.values():
        rows, columns = cuts[numbers[0]]
        if len(rows) * len(columns) > 1:
            made |= {number: _run_tiles(network, run, images[number], rows, columns) for number in numbers}
            continue
        count = _count_rows(images[numbers[0]], settings)
        for first in range(0, len(numbers), count):
            batch = numbers[first : first + count]
            made |= zip(batch, network.to_uint8(run([images[number] for number in batch])), strict=True)
    return (made[number] for number in range(len(images)))


def _count_rows(image: np.ndarray, settings: Settings) -> int:
    """Images of this size in one run."""
    return max(1, min(settings.batch_size, settings.pixels // (image.shape[0] * image.shape[1])))


def _length(pieces: Sequence[range]) -> int:
    return sum(map(len, pieces))


def _cut(side: int, image: np.ndarray, settings: Settings) -> list[range]:
    """One side of an image in pieces, each beginning within the one before; a whole one where it need not be cut."""
    tile = settings.tile
    if tile is None or image.shape[0] * image.shape[1] <= settings.pixels or side <= tile:
        return [range(side)]
    step = tile - settings.overlap
    alignment = min(ALIGNMENT, 2 ** (step.bit_length() - 1))
    step -= step % alignment
    count = -((tile - side) // step) + 1
    return [range(start, min(start + tile, side)) for start in range(0, count * step, step)]


def _run_tiles(
    network: Network,
    run: Callable[[Sequence[np.ndarray]], np.ndarray],
    image: np.ndarray,
    rows: Sequence[range],
    columns: Sequence[range],
) -> np.ndarray:
    """What the network makes of an image, tile by tile; beside the result only one row of tiles is held as floats."""
    height, width, _ = image.shape
    scale, channels = network.scale, int(network.made.shape[3])
    whole = np.empty((scale * height, scale * width, channels), np.uint8)
    begun = np.zeros((0, scale * width, channels), np.float32)  # rows to which the next tiles add their part
    for number, row in enumerate(rows):
        band = np.zeros((scale * len(row), scale * width, channels), np.float32)
        band[: len(begun)] = begun
        for index, column in enumerate(columns):
            (found,) = run([image[row.start : row.stop, column.start : column.stop]])
            found = found * _weigh(rows, number, scale)[:, None, None] * _weigh(columns, index, scale)[:, None]
            band[:, scale * column.start : scale * column.stop] += found
        stop = rows[number + 1].start if number + 1 < len(rows) else height
        finished = scale * (stop - row.start)
        whole[scale * row.start : scale * stop] = network.to_uint8(band[:finished])
        begun = band[finished:]
    return whole


def _weigh(pieces: Sequence[range], number: int, scale: int) -> np.ndarray:
    """How much each pixel made of one piece counts: those of all pieces add up to 1 everywhere."""
    weights = np.ones(scale * len(pieces[number]), np.float32)
    if number > 0:
        rise = _rise(pieces[number - 1], pieces[number], scale)
        weights[: len(rise)] *= rise
    if number + 1 < len(pieces):
        fall = 1 - _rise(pieces[number], pieces[number + 1], scale)
        weights[len(weights) - len(fall) :] *= fall
    return weights


def _rise(before: range, after: range, scale: int) -> np.ndarray:
    """The share of the later of two pieces in what both have: 0, then a line, then 1."""
    shared = before.stop - after.start
    margin = 3 * shared // 8
    slope = scale * (shared - 2 * margin)
    line = (np.arange(slope, dtype=np.float32) + 0.5) / slope
    return np.concatenate([np.zeros(scale * margin, np.float32), line, np.ones(scale * margin, np.float32)])
