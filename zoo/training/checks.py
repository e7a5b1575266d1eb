"""What can be refused of a recipe before TensorFlow is imported, which takes seconds; importing this needs none."""

import os
from importlib.util import find_spec
from pathlib import Path

from zoo.data.load import require_source
from zoo.data.tfds import find_name, require_known
from zoo.training.claim import find_live_holder, make_refusal
from zoo.training.recipe import Recipe
from zoo.training.run_directory import RunError, choose_directory


def check_recipe(recipe: Recipe) -> None:
    """Refuse what is wrong whatever the devices and the images are.

    Raises:
        RunError: devices that the batch can't be shared by, a run directory that can't be used as asked.
        ValueError, LookupError, OSError: an argument that the model does not take, a preset, data set or file that
            there is not.
    """
    recipe = recipe.shrink() if recipe.smoke else recipe
    recipe.to_preset()
    check_source(recipe.data)
    if os.environ.get("TF_CONFIG"):  # workers meet first: the others would wait for one that ends here
        return
    if recipe.devices is not None:
        check_devices(recipe, recipe.devices)
    directory = choose_directory(recipe)
    if not recipe.dry_run and (holder := find_live_holder(directory)):
        raise make_refusal(directory, holder)


def check_devices(recipe: Recipe, replicas: int) -> None:
    """Refuse a batch that the devices can't share, and XLA on several.

    Raises:
        RunError: naming what to choose.
    """
    if recipe.batch_size < replicas:
        raise RunError(f"a batch of {recipe.batch_size} can't be shared by {replicas} devices: every one needs a row.")
    if recipe.batch_size % replicas:
        raise RunError(f"a batch of {recipe.batch_size} on {replicas} devices: choose a multiple of {replicas}.")
    if recipe.xla and replicas > 1:
        raise RunError(f"--xla on {replicas} devices: it takes one, since XLA compiles no exchange between devices.")


def check_source(source: str) -> None:
    """Refuse the path of nothing, and a name that is none of TensorFlow Datasets.

    Args:
        source: as `zoo.data.load.load_images` takes it.

    Raises:
        FileNotFoundError: it looks like a path and is not there.
        ValueError: it is empty, or there is no data set of that name.
    """
    path = require_source(source, "name yours with --data")
    if source == "embedded" or path.exists():
        return
    if not (find_spec("tensorflow") and find_spec("tensorflow_datasets")):
        return  # the run says what to install
    prepared = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if not (prepared / find_name(source)).exists():
        require_known(source)
