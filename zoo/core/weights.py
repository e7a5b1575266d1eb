"""model.weights.h5: plain arrays by path, float16 where the variable is floating; nothing in it is code.

Rounding to float16 happens here, once. A file that does not hold exactly the model's arrays, all finite, is refused.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import keras
import numpy as np


class WeightsError(ValueError):
    """A weights file that does not fit the model, or weights that can't be written."""


def write_weights(path: Path, variables: Mapping[str, keras.Variable]) -> None:
    """Write every variable, floating ones as float16.

    Raises:
        WeightsError: a value is not finite, or too large for float16 (|value| > 65504).
    """
    with h5py.File(path, "w") as file:
        for name, variable in variables.items():
            array = keras.ops.convert_to_numpy(variable)
            if np.issubdtype(array.dtype, np.floating):
                with np.errstate(over="ignore"):
                    array = array.astype(np.float16)
            if not np.isfinite(array).all():
                raise WeightsError(f"{name} holds values that are NaN, infinite or beyond float16: nothing to export.")
            file.create_dataset(name, data=array)


def read_weights(path: Path, variables: Mapping[str, keras.Variable]) -> None:
    """Assign every variable from the file; nothing is assigned unless all fit.

    Raises:
        WeightsError: the file can't be read, or an array is missing, extra, of another shape, or not finite.
    """
    try:
        with h5py.File(path, "r") as file:
            found: dict[str, np.ndarray] = {}
            file.visititems(
                lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
            )
    except OSError as error:
        raise WeightsError(f"{path} is not a readable HDF5 file: {error}") from None
    missing, extra = sorted(set(variables) - set(found)), sorted(set(found) - set(variables))
    if missing or extra:
        raise WeightsError(
            f"{path} does not fit the model: missing {missing or 'nothing'}, extra {extra or 'nothing'}."
        )
    for name, variable in variables.items():
        if tuple(found[name].shape) != tuple(variable.shape):
            raise WeightsError(f"{path}: {name} has shape {found[name].shape}, the model's is {tuple(variable.shape)}.")
        if not np.isfinite(found[name]).all():
            raise WeightsError(f"{path}: {name} holds values that are NaN or infinite.")
    for name, variable in variables.items():
        variable.assign(found[name].astype(variable.dtype))
