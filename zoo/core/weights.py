"""model.weights.h5: plain arrays by path, float16 where the variable is floating; nothing in it is code.

Rounding to float16 happens here, once. A file that does not hold exactly the model's arrays, all finite, is refused,
and so is one that holds anything else. HDF5 can take an array from any other file that the user may read, and declare
terabytes in a few bytes: the structure is compared before a number is read.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from serving.card import QUOTE_LIMIT, to_line

NUMBERS = "fiub"  # kinds of NumPy's dtypes: float, signed, unsigned, bool
KINDS = {"f": "f", "i": "iu", "u": "iu", "b": "b"}  # of a variable -> of the array that it may come from
SHOWN = 5  # names of a longer list that a message has


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
        WeightsError: the file can't be read, or an array is missing, extra, of another shape or kind, not finite, or
            stored in another way than as plain numbers in this file.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for whoever writes to it
            raise WeightsError(f"{path} is not a regular file.")
        with h5py.File(path, "r") as file:
            found = arrays_that_fit(path, file, variables)
    except WeightsError:
        raise
    except Exception as error:  # HDF5's, of many kinds, for a damaged file
        raise WeightsError(f"{path} is not a readable HDF5 file: {to_line(str(error), QUOTE_LIMIT)}") from None
    for name, variable in variables.items():
        variable.assign(found[name])


def arrays_that_fit(path: Path, file: h5py.File, variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Every array by name, in its variable's dtype; the whole structure is compared before anything is read.

    Raises:
        WeightsError: an array is missing, extra, of another shape or kind, not finite, or not stored plainly.
    """
    stored = find_arrays(path, file, variables)
    for name, variable in variables.items():
        require_fitting(path, name, stored[name], variable)
    declared, size = sum(array.nbytes for array in stored.values()), path.stat().st_size
    if file.userblock_size or declared > size:
        raise WeightsError(f"{path}: declares {declared} bytes of numbers in a file of {size}, or more than numbers.")
    return {name: read_array(path, name, stored[name], variable) for name, variable in variables.items()}


def find_arrays(path: Path, file: h5py.File, names: Collection[str]) -> dict[str, h5py.Dataset]:
    """The arrays of these names; only groups that lead to one of them are opened.

    Raises:
        WeightsError: an array is missing or extra, or a name is a link to somewhere else.
    """
    groups = {name[:end] for name in names for end in range(len(name)) if name[end] == "/"}
    found: dict[str, h5py.Dataset] = {}
    extra, waiting = [], [("", file["/"])]
    while waiting:
        prefix, group = waiting.pop()
        if len(group.attrs):
            raise WeightsError(f"{path}: {prefix or '/'} has attributes, which no weights file needs.")
        for key in group:
            name = f"{prefix}{key}"
            if name not in groups and name not in names:
                extra.append(name)
            elif not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsError(f"{path}: {name} is a link to somewhere else, not an array of this file.")
            elif name in groups and group.get(key, getclass=True) is h5py.Group:
                waiting.append((f"{name}/", group[key]))
            elif name in names and group.get(key, getclass=True) is h5py.Dataset:
                found[name] = group[key]
            else:
                extra.append(name)
    missing = [name for name in names if name not in found]
    if missing or extra:
        raise WeightsError(f"{path} does not fit the model: missing {list_some(missing)}, extra {list_some(extra)}.")
    return found


def list_some(names: Sequence[str]) -> str:
    """The first of these names, for a message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{sorted(names)[:SHOWN]}{more}" if names else "nothing"


def require_fitting(path: Path, name: str, array: h5py.Dataset, variable: keras.Variable) -> None:
    """Refuse an array of another shape or kind than its variable's, or whose numbers do not simply lie in the file.

    Raises:
        WeightsError: naming the array.
    """
    if array.shape != tuple(variable.shape):
        raise WeightsError(f"{path}: {name} has shape {array.shape}, the model's is {tuple(variable.shape)}.")
    if array.dtype.kind not in NUMBERS:
        raise WeightsError(f"{path}: {name} holds {array.dtype}, not numbers.")
    if array.dtype.kind not in KINDS[np.dtype(variable.dtype).kind]:
        raise WeightsError(f"{path}: {name} holds {array.dtype}, the model's are {variable.dtype}.")
    creation = array.id.get_create_plist()
    plain = creation.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) and not creation.get_nfilters()
    # What lies in another file counts as stored, what is compressed or was never written as less.
    if not plain or creation.get_external_count() or array.id.get_storage_size() < array.nbytes or len(array.attrs):
        raise WeightsError(
            f"{path}: {name} is stored in another way than as plain numbers in this file (in another file, virtual, "
            "compressed, never written, or with attributes): write it with h5py's defaults."
        )


def read_array(path: Path, name: str, array: h5py.Dataset, variable: keras.Variable) -> np.ndarray:
    """The array's numbers, in the variable's dtype.

    Raises:
        WeightsError: one that is not finite, or a whole number that the dtype lacks.
    """
    numbers = array[()]
    with np.errstate(over="ignore"):
        found = numbers.astype(variable.dtype)
    if not np.isfinite(found).all():
        raise WeightsError(f"{path}: {name} holds values that are NaN or infinite.")
    if found.dtype.kind != "f" and (found != numbers).any():
        raise WeightsError(f"{path}: {name} holds whole numbers beyond {variable.dtype}.")
    return found
