"""`Recipe`: everything one training run is made of, as frozen data with a command line.

A recipe names a preset and adds data, batch size, optimizers and steps. Importing it needs no TensorFlow.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from zoo.presets import Preset, find_preset
from zoo.quiet import start_tensorflow

SMOKE_STEPS = 4
SMOKE_BATCH_SIZE = 16

# May differ between a run and its resumption: nothing here reaches the weights.
FREE_TO_CHANGE = frozenset(
    {"steps", "devices", "threads", "run_dir", "resume", "dry_run", "log_every", "sample_every", "checkpoint_every"}
    | {"keep", "deterministic", "data"}  # data are compared by their content's hash instead
)


@dataclass(frozen=True)
class Adam:
    """keras.optimizers.Adam (arXiv:1412.6980)."""

    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def build(self) -> Any:
        """A fresh Keras optimizer."""
        import keras

        return keras.optimizers.Adam(**dataclasses.asdict(self))


@dataclass(frozen=True)
class Recipe:
    """One training run. Every field is an option of the command line."""

    preset: Annotated[str, tyro.conf.Suppress]
    """Preset to train, see `zoo list`."""
    data: str = "embedded"
    """What to train on: "embedded" (10,000 Fashion-MNIST test pictures that come with the package), the name of an
    image data set of TensorFlow Datasets, or the path of a folder or zip of pictures."""
    steps: int = 10_000
    """Train steps in all; a resumed run may ask for more."""
    batch_size: int = 64
    """Pictures a step, over all devices together."""
    optimizers: Mapping[str, Adam] = field(default_factory=dict)
    """One optimizer a player."""
    image_size: int | None = None
    """Side of the pictures in pixels; by default the preset's."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; by default the preset's."""
    fit: Literal["crop", "squash", "pad"] = "crop"
    """How a picture becomes square: scale and crop the centre, scale without keeping the aspect, or pad with black."""
    skip_broken: bool = False
    """Leave out pictures that can't be read instead of stopping."""
    seed: int = 0
    """Of the weights' start, the order of the pictures and all training noise."""
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
    """Say what would be done, and stop."""
    log_every: int = 100
    """Steps between two rows of log.csv."""
    sample_every: int = 500
    """Steps between two sample grids."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints."""
    keep: int = 3
    """Checkpoints kept."""
    deterministic: bool = True
    """Deterministic operations: a run that is killed and resumed ends with the same bits."""

    def __post_init__(self) -> None:
        """Refuse what can't be meant.

        Raises:
            ValueError: a count that is not positive, or a negative seed.
        """
        for name in ("steps", "batch_size", "log_every", "sample_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: choose at least 1.")
        for name in ("devices", "threads", "image_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: choose at least 1.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}: choose 0 <= seed < 2**32.")

    def to_preset(self) -> Preset:
        """The preset with this recipe's picture size and, for a smoke run, at the size of its tiny twin."""
        preset = find_preset(self.preset)
        if self.smoke:
            return preset.twin()
        height, width, channels = preset.arguments["image_shape"]
        shape = (self.image_size or height, self.image_size or width, self.channels or channels)
        return dataclasses.replace(preset, arguments={**preset.arguments, "image_shape": shape})

    def small(self) -> "Recipe":
        """The smoke run of this recipe: every part of the real one, a few steps of its preset's tiny twin."""
        return dataclasses.replace(
            self, smoke=True, steps=min(self.steps, SMOKE_STEPS), batch_size=min(self.batch_size, SMOKE_BATCH_SIZE)
        )

    def main(
        self, arguments: Sequence[str] | None = None, prog: str | None = None, description: str | None = None
    ) -> None:
        """Read options from the command line, train, and exit with the run's status.

        Args:
            arguments: of the command line; by default the process's own.
            prog: name of the command in its help.
            description: its first paragraph; by default the running script's docstring.
        """
        shown = description or sys.modules["__main__"].__doc__
        recipe = tyro.cli(Recipe, default=self, args=arguments, prog=prog, description=shown)
        try:
            start_tensorflow()
            from recipes.training import run
        except ImportError as error:
            from zoo.pretrained import MissingExtraError

            print(MissingExtraError("training", "train", error), file=sys.stderr)
            sys.exit(1)
        sys.exit(run(recipe))
