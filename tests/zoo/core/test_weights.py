"""model.weights.h5: what is written comes back, and a file that does not fit changes nothing."""

import os
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


BIAS = "generator/dense/bias"
NUMBERS = np.arange(3, dtype=np.float32)


def outside(file: h5py.File) -> Path:
    """A file of other numbers, 12 bytes of them, that the weights file could name."""
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(np.ones(3, np.float32).tobytes())
    return secret


def store_elsewhere(file: h5py.File) -> None:
    file.create_dataset(BIAS, shape=(3,), dtype="f4", external=[(str(outside(file)), 0, 12)])


def store_virtually(file: h5py.File) -> None:
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as held:
        held["secret"] = NUMBERS + 1
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "secret", (3,))
    file.create_virtual_dataset(BIAS, layout)


def link_outside(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as held:
        held["secret"] = NUMBERS + 1
    file[BIAS] = h5py.ExternalLink("other.h5", "secret")


def link_a_group_outside(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as held:
        held["dense/bias"], held["dense/kernel"] = NUMBERS + 1, KERNEL
    del file["generator"]
    file["generator"] = h5py.ExternalLink("other.h5", "/")


def point_at(file: h5py.File) -> None:
    file.create_dataset(BIAS, (3,), dtype=h5py.ref_dtype)[:] = [file["generator"].ref] * 3


def nest(file: h5py.File) -> None:
    group = file
    for _ in range(5000):
        group = group.create_group("g")


def give_attributes(file: h5py.File) -> None:
    file[BIAS] = NUMBERS
    file[BIAS].attrs["note"] = np.zeros(1000)


def give_a_group_attributes(file: h5py.File) -> None:
    file[BIAS] = NUMBERS
    file["generator"].attrs["note"] = 1


UNPLAIN = "bias is stored in another way than as plain numbers in this file"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (store_elsewhere, UNPLAIN),
        (store_virtually, UNPLAIN),
        (lambda file: file.create_dataset(BIAS, data=NUMBERS, chunks=(2,), compression="gzip"), UNPLAIN),
        (lambda file: file.create_dataset(BIAS, data=NUMBERS, chunks=(2,), shuffle=True), UNPLAIN),
        (lambda file: file.create_dataset(BIAS, (3,), "f4", fillvalue=1.0), UNPLAIN),
        (lambda file: file.create_dataset(BIAS, (3,), "f4", chunks=(1,), fillvalue=1.0), UNPLAIN),
        (give_attributes, UNPLAIN),
        (give_a_group_attributes, "generator/ has attributes"),
        (link_outside, "bias is a link to somewhere else"),
        (link_a_group_outside, "generator is a link to somewhere else"),
        (lambda file: file.__setitem__(BIAS, h5py.SoftLink("/codebook/count")), "bias is a link to somewhere else"),
        (lambda file: file.__setitem__(BIAS, h5py.SoftLink("/nowhere")), "bias is a link to somewhere else"),
        (nest, r"missing \['generator/dense/bias'\], extra \['g'\]"),
        (lambda file: file.__setitem__("generator/dense/loop", file["generator"]), r"extra \['generator/dense/loop'\]"),
        (lambda file: file.create_group(BIAS), r"missing \['generator/dense/bias'\], extra \['generator/dense/bias'\]"),
        (lambda file: file.__setitem__(BIAS, np.dtype("f4")), r"extra \['generator/dense/bias'\]"),
        (lambda file: [file.create_group(f"{n:03}") for n in range(200)], "'003', '004'] and 195 more"),
        (point_at, "bias holds object, not numbers"),
        (lambda file: file.__setitem__(BIAS, np.zeros(3, [("real", "f4"), ("more", "f4", 9)])), "not numbers"),
        (lambda file: file.__setitem__(BIAS, np.arange(3)), "bias holds int64, the model's are float32"),
        (lambda file: file.__setitem__(BIAS, h5py.Empty("f4")), "bias has shape None"),
    ],
    ids=[
        *("external storage", "virtual", "compressed", "shuffled", "never written", "chunks never written"),
        *("attributes", "attributes of a group", "external link", "group elsewhere", "soft link", "dangling link"),
        *("nested groups", "loop", "group for an array", "type for an array", "many groups", "references"),
        *("compound", "whole numbers", "empty"),
    ],
)
def test_what_is_no_plain_array_of_this_file(path: Path, edit: Callable[[h5py.File], None], reason: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[BIAS]
        edit(file)
    assert_refused(path, reason)


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (np.array(70_000.5), "holds float64, the model's are int64"),
        (np.array(True), "holds bool, the model's are int64"),
        (np.array(2**63, np.uint64), "holds whole numbers beyond int64"),
    ],
)
def test_a_whole_number_is_not_made_of_something_else(path: Path, count: np.ndarray, reason: str) -> None:
    with h5py.File(path, "r+") as file:
        del file["codebook/count"]
        file["codebook/count"] = count
    assert_refused(path, f"codebook/count {reason}")


def test_arrays_in_chunks_are_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file[BIAS]
        file.create_dataset(BIAS, data=NUMBERS + 1, chunks=(2,))
    held = zeros()
    read_weights(path, held)
    np.testing.assert_array_equal(values(held)[BIAS], NUMBERS + 1)


def test_bytes_before_the_file(path: Path) -> None:
    with h5py.File(path.with_name("block.h5"), "w", userblock_size=512) as file, h5py.File(path) as plain:
        for name in variables():
            file[name] = plain[name][()]
    assert_refused(path.with_name("block.h5"), "or more than numbers")


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "special.h5"
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "directory":
        path.mkdir()
    assert_refused(path, f"{path} is not a regular file")


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
