"""`Recipe`: everything one training run is made of, as frozen data with a command line.

A recipe names a preset and adds data, batch size, optimizers and steps. Importing it needs no TensorFlow.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import tyro

from zoo.export.model_card import check_name
from zoo.presets.preset import Preset
from zoo.presets.table import find_preset
from zoo.training.model_options import check_names
from zoo.training.optimizers import SGD, Adam, RMSprop

Policy = Literal["float32", "mixed_bfloat16", "mixed_float16"]  # of Keras
AUTO: Final = "auto"  # in place of a policy, which is found when a run begins
SMOKE_STEPS = 4
SMOKE_BATCH_SIZE = 16
INTERVALS = ("log_every", "sample_every", "checkpoint_every", "score_every")
COUNTS = ("steps", "batch_size", *INTERVALS, "keep", "steps_per_execution", "devices", "threads", "image_size")
LARGEST = 2**31 - 1  # of COUNTS

# May differ between a run and its resumption: nothing here reaches the weights.
FREE_TO_CHANGE = frozenset(
    {"steps", "devices", "threads", "run_dir", "resume", "dry_run", "log_every", "sample_every", "checkpoint_every"}
    | {"keep", "deterministic", "steps_per_execution", "score_every", "export", "name", "data_license", "weights"}
    | {"data"}  # compared by their content's hash instead
)


@dataclass(frozen=True)
class Recipe:
    """One training run. Every field is an option of the command line.

    Raises:
        ValueError: see `__post_init__`.
    """

    preset: Annotated[str, tyro.conf.Suppress]
    """Preset to train, see `zoo list`."""
    data: str = "embedded"
    """What to train on: "embedded" (10,000 Fashion-MNIST test images that come with the package), the name of an
    image data set of TensorFlow Datasets, or the path of a folder or zip of images."""
    steps: int = 10_000
    """Train steps in all; a resumed run may ask for more."""
    batch_size: int = 64
    """Images per step, over all devices together."""
    optimizers: Mapping[str, Adam | RMSprop | SGD] = field(default_factory=dict)
    """One optimizer per player."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments of the model that differ from the preset's; by name, each an option of its own."""
    image_size: int | None = None
    """Side of the images in pixels; by default the preset's."""
    channels: Literal[1, 3] | None = None
    """1 for gray, 3 for color; by default the preset's."""
    fit: Literal["crop", "squash", "pad"] = "crop"
    """How an image becomes square: scale and crop the center, scale without keeping the aspect, or pad with black."""
    skip_broken: bool = False
    """Leave out images that can't be read instead of stopping."""
    name: str | None = None
    """What the exported model is called, on its card and by a server; by default after the preset and the run's folder.
    The preset's own name says that these are to be the preset's weights."""
    data_license: str | None = None
    """License of the images, for the card; by default what their data set says, or "not stated"."""
    weights: Literal["float16", "float32"] = "float16"
    """How exported ONNX graphs store their weights: in half the size, or for tools that quantize or convert them."""
    seed: int = 0
    """Of the weights' start, the order of the images and all training noise."""
    devices: int | None = None
    """Devices to train on: the first N GPUs, or N logical CPU devices where there is no GPU; by default every GPU."""
    threads: int | None = None
    """CPU threads an operation may use; by default all."""
    run_dir: Path | None = None
    """Where the run is kept; by default a new folder under ZOO_RUNS or the user's data directory."""
    resume: bool = False
    """Go on with the run in --run-dir, or with this recipe's latest."""
    smoke: bool = False
    """A few steps with the preset's tiny twin: does everything work?"""
    dry_run: bool = False
    """Build the model, say what would be done, and stop."""
    log_every: int = 100
    """Steps between two rows of log.csv."""
    sample_every: int = 500
    """Steps between two sample grids."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    keep: int = 3
    """Checkpoints kept."""
    score_every: int | None = None
    """Steps between two scores of 1,000 samples against training images; the best one's checkpoint is kept in best/:
    by the Frechet distance with the data set's classifier where there is one, else by one of the pixels."""
    export: Literal["last", "best"] = "last"
    """What is exported: the last step, or the one with the best score."""
    precision: Literal["auto", Policy] = "auto"
    """What the networks compute in; weights, losses and exports are float32. "auto": mixed_bfloat16 where the CPU or
    the GPUs compute faster in it, else float32; a resumed run goes on in what it was begun in."""
    xla: bool = False
    """Let XLA compile the step, on one device: up to rounding the same numbers, often sooner."""
    steps_per_execution: int = 1
    """Train steps per call of the compiled function; --steps and every --...-every must be multiples of it."""
    deterministic: bool = True
    """Deterministic operations: a run that is killed and resumed ends with the same bits."""

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            ValueError: a count that is not positive or above LARGEST, a seed out of range, an interval that
                steps_per_execution does not divide, the best export of a run that takes no scores, a name that no
                export can have.
        """
        for name in COUNTS:
            count = getattr(self, name)
            if count is not None and not 1 <= count <= LARGEST:
                raise ValueError(f"{name}={count}: choose {'at least 1' if count < 1 else f'at most {LARGEST}'}.")
        if self.name is not None:
            check_name(self.name, self.preset)
        if self.export == "best" and self.score_every is None:
            raise ValueError('export="best": it takes scores: choose score_every, such as 1000.')
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}: choose 0 <= seed < 2**32.")
        uneven = [name for name in ("steps", *INTERVALS) if (getattr(self, name) or 0) % self.steps_per_execution]
        if uneven:
            named = ", ".join(f"{name}={getattr(self, name)}" for name in uneven)
            raise ValueError(f"steps_per_execution={self.steps_per_execution}: choose multiples of it for {named}.")

    def to_preset(self) -> Preset:
        """The preset, or its tiny twin for a smoke run, with this recipe's image size and model arguments.

        Raises:
            UnknownPresetError: there is no such preset.
            ValueError: the model's constructor takes no argument of such a name.
        """
        preset = find_preset(self.preset)
        check_names(preset.model, self.model)
        if self.smoke:
            arguments = preset.twin().arguments  # its own image size is part of being tiny
        else:
            height, width, channels = preset.arguments["image_shape"]
            shape = (self.image_size or height, self.image_size or width, self.channels or channels)
            arguments = {**preset.arguments, "image_shape": shape}
        return dataclasses.replace(preset, arguments={**arguments, **self.model})

    def shrink(self) -> "Recipe":
        """The smoke run of this recipe: every part of the real one, a few steps of its preset's tiny twin."""
        steps = min(self.steps, SMOKE_STEPS)
        return dataclasses.replace(
            self,
            smoke=True,
            steps=steps,
            batch_size=min(self.batch_size, SMOKE_BATCH_SIZE),
            steps_per_execution=math.gcd(self.steps_per_execution, steps),  # divides every interval as before
            score_every=steps if self.score_every else None,
        )
