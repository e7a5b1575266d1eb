"""model.weights.h5: what is written comes back, and a file that does not fit changes nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from zoo.core.weights import WeightsError, read_weights, write_weights

KERNEL = np.array([[1.0, -2.0, 0.1], [65504.0, 6e-8, 1 / 3]], np.float32)  # 65504: the largest float16

Variables = Mapping[str, keras.Variable]


def variables(kernel: np.ndarray = KERNEL) -> dict[str, keras.Variable]:
    return {
        "generator/dense/kernel": keras.Variable(kernel, name="kernel"),
        "generator/dense/bias": keras.Variable(np.arange(3.0), dtype="float32", name="bias"),
        "codebook/count": keras.Variable(np.array(70_000), dtype="int64", name="count"),
    }


def zeros() -> dict[str, keras.Variable]:
    return {name: keras.Variable(np.zeros(v.shape), dtype=v.dtype) for name, v in variables().items()}


def values(held: Variables) -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in held.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_weights(tmp_path / "model.weights.h5", variables())
    return tmp_path / "model.weights.h5"


def assert_refused(path: Path, reason: str) -> None:
    held = zeros()
    with pytest.raises(WeightsError, match=reason):
        read_weights(path, held)
    assert not any(value.any() for value in values(held).values())


def test_round_trip_rounds_to_float16_once(path: Path) -> None:
    held = zeros()
    read_weights(path, held)
    found = values(held)
    np.testing.assert_array_equal(found["generator/dense/kernel"], KERNEL.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(found["generator/dense/bias"], [0.0, 1.0, 2.0])
    assert found["codebook/count"] == 70_000  # past float16 and past its integers
    write_weights(path.with_name("again.h5"), held)
    assert path.with_name("again.h5").read_bytes() == path.read_bytes()


def test_only_floats_become_float16(path: Path) -> None:
    with h5py.File(path) as file:
        assert {name: file[name].dtype for name in variables()} == {
            "generator/dense/kernel": np.float16,
            "generator/dense/bias": np.float16,
            "codebook/count": np.int64,
        }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520.0])
def test_no_such_value_is_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(WeightsError, match="generator/dense/kernel"):
        write_weights(tmp_path / "model.weights.h5", variables(np.array([1.0, value], np.float32)))


def put(name: str, value: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda file: file.pop("codebook/count"), r"missing \['codebook/count'\], extra nothing"),
        (put("generator/dense/scale", np.ones(3)), r"missing nothing, extra \['generator/dense/scale'\]"),
        (put("generator/dense/bias", np.ones(4)), r"bias has shape \(4,\), the model's is \(3,\)"),
        (put("generator/dense/bias", np.ones((3, 1))), r"bias has shape \(3, 1\), the model's is \(3,\)"),
        (put("generator/dense/bias", np.array([0, np.nan, 0])), "bias holds values that are NaN or infinite"),
        (put("generator/dense/bias", np.array([0, 0, -np.inf])), "bias holds values that are NaN or infinite"),
        (put("generator/dense/bias", np.array([0, 0, 1e39])), "bias holds values that are NaN or infinite"),
        (put("generator/dense/bias", ["a", "b", "c"]), "bias holds object, not numbers"),
        (put("generator/dense/bias", np.ones(3, complex)), "bias holds complex128, not numbers"),
    ],
    ids=["missing", "extra", "longer", "another rank", "NaN", "infinite", "beyond float32", "text", "complex"],
)
def test_array_that_does_not_fit(path: Path, edit: Callable[[h5py.File], None], reason: str) -> None:
    with h5py.File(path, "r+") as file:
        edit(file)
    assert_refused(path, reason)


def test_a_huge_array_is_not_read(path: Path) -> None:
    """HDF5 stores 8 TB of one value in a few bytes; the shape tells before any of it is read."""
    with h5py.File(path, "r+") as file:
        del file["generator/dense/bias"]
        file.create_dataset("generator/dense/bias", shape=(10**12,), dtype="f8", fillvalue=1.0)
    assert_refused(path, r"bias has shape \(1000000000000,\)")


def test_file_cut_anywhere(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:length])
        assert_refused(path, "not a readable HDF5 file")


def test_one_byte_changed(path: Path) -> None:
    """It may be read or refused, since no checksum is in the file, but nothing other than WeightsError comes out."""
    whole, outcomes = path.read_bytes(), {"read": 0, "refused": 0}
    random, held = np.random.default_rng(0), zeros()
    for position in random.integers(len(whole), size=300):
        damaged = bytearray(whole)
        damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_weights(path, held)
            outcomes["read"] += 1
        except WeightsError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("content", [b"<html>Not found</html>", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_not_hdf5(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_refused(path, "not a readable HDF5 file")


def test_no_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.h5", r"none\.h5 is not a readable HDF5 file")
