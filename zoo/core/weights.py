"""model.weights.h5: plain arrays by path, float16 where the variable is floating; nothing in it is code.

Rounding to float16 happens here, once. A file that does not hold exactly the model's arrays, all finite, is refused.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import keras
import numpy as np

NUMBERS = "fiub"  # kinds of NumPy's dtypes: float, signed, unsigned, bool


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
            found = arrays_that_fit(path, file, variables)
    except WeightsError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:  # h5py's, for a damaged file
        raise WeightsError(f"{path} is not a readable HDF5 file: {error}") from None
    for name, variable in variables.items():
        variable.assign(found[name])


def arrays_that_fit(path: Path, file: h5py.File, variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Every array by name, in its variable's dtype; shapes are compared before anything is read.

    Raises:
        WeightsError: an array is missing, extra, of another shape, or not finite.
    """
    stored: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: stored.__setitem__(name, item) if isinstance(item, h5py.Dataset) else None)
    missing, extra = sorted(set(variables) - set(stored)), sorted(set(stored) - set(variables))
    if missing or extra:
        raise WeightsError(
            f"{path} does not fit the model: missing {missing or 'nothing'}, extra {extra or 'nothing'}."
        )
    found = {}
    for name, variable in variables.items():
        if stored[name].shape != tuple(variable.shape):
            raise WeightsError(
                f"{path}: {name} has shape {stored[name].shape}, the model's is {tuple(variable.shape)}."
            )
        if stored[name].dtype.kind not in NUMBERS:
            raise WeightsError(f"{path}: {name} holds {stored[name].dtype}, not numbers.")
        with np.errstate(over="ignore"):
            found[name] = stored[name][()].astype(variable.dtype)
        if not np.isfinite(found[name]).all():
            raise WeightsError(f"{path}: {name} holds values that are NaN or infinite.")
    return found
