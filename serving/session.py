"""An ONNX Runtime session that says where it runs and what is wrong with its input.

ONNX Runtime falls back from CUDA to the CPU in silence, and its GPU wheel lists CUDA on machines without a GPU.
Here the device is looked for first, and what was asked for is compared with what was loaded.

What concerns NVIDIA's devices has been written for CUDA and TensorRT, and run on machines without one alone.
"""

import contextlib
import ctypes
import hashlib
import io
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from serving.card import CardError, DType, TensorSpec, check_size, read_file, split_size, to_line
from serving.graph import SIZE_LIMIT, check_graph

logger = logging.getLogger("serving")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
NVIDIA_PROVIDERS = (CUDA, TENSORRT, "NvTensorRTRTXExecutionProvider")
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
ONNX_DTYPES: dict[str, DType] = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class InputError(ValueError):
    """What was handed in does not fit the model; the message says what would."""


class ModelFileError(ValueError):
    """An ONNX file is missing, truncated, corrupt, or of a kind that cannot run here; or its graph fails in a run."""


class ProviderError(RuntimeError):
    """A device that was asked for cannot be used."""


class Session:
    """One ONNX graph, ready to run; safe to share between threads.

    Attributes: providers, the ONNX Runtime providers really loaded, in order of preference, and provider, the first of
    them; inputs and outputs, TensorSpecs as the graph declares them.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        strict: bool = False,
        require_gpu: bool = False,
        spinning: bool = True,
        sha256: str | None = None,
    ) -> None:
        """Open the graph.

        Args:
            path: the ONNX file.
            providers: ONNX Runtime provider names; CUDA where it can be used, else the CPU, when not given.
            threads: CPU threads within one run; ONNX Runtime's choice when not given.
            strict: raise, rather than warn, when an NVIDIA device is there but CUDA does not load.
            require_gpu: raise where the graph would run on the CPU.
            spinning: whether threads without work wait busily for more: a run is then some microseconds shorter where
                the cores are its own, and up to twice as long where others want them.
            sha256: of the file, as hex digits: another one is refused, even if it came since it was compared.

        Raises:
            ModelFileError: the file is missing, truncated, corrupt, changed or unsupported, or refers to other files.
            ProviderError: a provider asked for (or with `strict` or `require_gpu` the one chosen) did not load.
        """
        self._path = path = Path(path)
        graph = _read_graph(path)
        found = hashlib.sha256(graph).hexdigest()
        if sha256 not in (None, found):
            raise ModelFileError(f"{path}: changed while it was opened: expected sha256 {sha256}, found {found}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads}: give 1 or more, or None for ONNX Runtime's choice")
        wanted = default_providers() if providers is None else _checked_providers(providers)
        if require_gpu and not set(wanted) & set(NVIDIA_PROVIDERS):
            raise ProviderError(f"{path}: a GPU is required, and this would run on {', '.join(wanted)}: {_lack()}")
        self._session = _open(path, graph, wanted, _session_options(threads, spinning), found)
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        self.provider = self.providers[0]
        if missing := [name for name in wanted if name not in self.providers]:
            message = (
                f"{', '.join(missing)} did not load (ONNX Runtime's own message is on standard error); running on "
                f"{', '.join(self.providers)}. {_load_cuda_libraries() or 'Check the versions of CUDA and cuDNN.'}"
            )
            if strict or require_gpu or providers is not None:
                raise ProviderError(f"{path}: {message}")
            _warn_once(message)
        self.inputs = tuple(_spec(path, node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(path, node) for node in self._session.get_outputs())

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output by name, for one array for each input.

        Raises:
            InputError: an array does not fit.
            ModelFileError: the graph fails, or gives other shapes than it declares.
        """
        check_feeds(self.inputs, feeds)
        names = [spec.name for spec in self.outputs]
        try:
            device = "cuda" if self.provider in NVIDIA_PROVIDERS else None
            arrays = self._run_bound(names, feeds, device) if device else self._session.run(names, dict(feeds))
            found = dict(zip(names, arrays, strict=True))
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            given = {name: array.shape for name, array in feeds.items()}
            raise ModelFileError(f"{self._path}: the graph fails on {given}: {to_line(str(error))}") from error
        try:
            check_shapes(self.inputs, self.outputs, feeds, found)
        except ValueError as error:
            raise ModelFileError(f"{self._path}: {error}") from None
        return found

    def _run_bound(self, names: Sequence[str], feeds: Mapping[str, np.ndarray], device: str) -> list[np.ndarray]:
        """Outputs stay on the device until the run is over, and are copied once."""
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in names:
            binding.bind_output(name, device)
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    def warm_up(self, **sizes: int) -> None:
        """Run once on zeros, so that the first request does not pay for set-up; free dimensions: batch 1, others 64.

        Raises:
            ModelFileError: the graph fails, or has so many free dimensions that its inputs would not fit any memory.
        """
        free = {"batch": 1, **sizes}
        feeds = {}
        for spec in self.inputs:
            shape = tuple(free.get(size, 64) if isinstance(size, str) else size for size in spec.shape)
            _check_size(self._path, TensorSpec(spec.name, spec.dtype, shape))
            feeds[spec.name] = np.zeros(shape, spec.dtype)
        self.run(feeds)


def check_feeds(specs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> None:
    """Check names, dtypes, ranks, fixed sizes, and that one free dimension has one size; InputError otherwise."""
    names = [spec.name for spec in specs]
    if missing := [name for name in names if name not in feeds]:
        raise InputError(f"inputs {missing} are missing: give {names}")
    if unknown := [name for name in feeds if name not in names]:
        raise InputError(f"inputs {unknown} are unknown: give {names}")
    sizes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        array = feeds[spec.name]
        expected = f"expected {spec.dtype} of shape {spec.shape}"
        if not isinstance(array, np.ndarray):
            raise InputError(f"input {spec.name!r} is a {type(array).__name__}: {expected}, as a NumPy array")
        if array.dtype != spec.dtype or not fits_shape(spec.shape, array.shape):
            raise InputError(f"input {spec.name!r}: {expected}, found {array.dtype} of shape {array.shape}")
        for size, found in zip(spec.shape, array.shape, strict=True):
            if isinstance(size, str):
                first, owner = sizes.setdefault(size, (found, spec.name))
                if found != first:
                    raise InputError(f"{size} is {first} in input {owner!r} but {found} in {spec.name!r}")


def check_shapes(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    feeds: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
) -> None:
    """Compare what a graph gives for `feeds`, which fit its inputs, with what its outputs are declared as.

    Raises:
        ValueError: an output has another rank, fixed size, or multiple of an input's free size.
    """
    sizes = {size: given for spec in inputs for size, given in zip(spec.shape, feeds[spec.name].shape, strict=True)}
    for spec in outputs:
        expected = tuple(_multiply(size, sizes) for size in spec.shape)
        if not fits_shape(expected, shape := found[spec.name].shape):
            raise ValueError(f"{spec.name!r} is declared as {expected}, but the graph gives {shape}")


def _multiply(size: int | str, sizes: Mapping[int | str, int]) -> int | str:
    """A size as a number, where `sizes` has the free one that it is or multiplies."""
    factor, name = split_size(size)
    return factor * sizes[name] if isinstance(name, str) and name in sizes else size


def fits_shape(shape: Sequence[int | str], found: Sequence[int]) -> bool:
    """Whether a shape has the rank and the fixed sizes of another, whose free sizes are names."""
    return len(shape) == len(found) and all(
        isinstance(size, str) or size == given for size, given in zip(shape, found, strict=True)
    )


def default_providers() -> tuple[str, ...]:
    """CUDA, then the CPU, where an NVIDIA device and a build of ONNX Runtime for it are both there; else the CPU."""
    if lack := _lack():
        logger.info("running on the CPU: %s", lack)
        return (CPU,)
    return CUDA, CPU


def _lack() -> str:
    """Why CUDA is not the default; empty where it is."""
    import onnxruntime

    if not count_nvidia_devices():
        return "no NVIDIA device"
    return "" if CUDA in onnxruntime.get_available_providers() else "ONNX Runtime is built without CUDA"


@cache
def count_nvidia_devices() -> int:
    """How many NVIDIA devices the driver shows this process (CUDA_VISIBLE_DEVICES counts); 0 without a driver."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return 0
    ready = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if ready else 0


def _checked_providers(providers: Sequence[str]) -> tuple[str, ...]:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    unknown = [name for name in providers if name not in available]
    if isinstance(providers, str) or unknown or not providers:
        raise ProviderError(
            f"providers={providers!r}: give a list from {available}, which this ONNX Runtime was built for"
        )
    if set(providers) & set(NVIDIA_PROVIDERS) and not count_nvidia_devices():
        raise ProviderError(f"providers={list(providers)}: the NVIDIA driver shows no device; {CPU} runs everywhere")
    return tuple(providers)


def _read_graph(path: Path) -> bytes:
    try:
        data = read_file(path, SIZE_LIMIT)
    except OSError as error:
        raise ModelFileError(f"{path}: no graph to read ({error.strerror})") from error
    try:
        check_graph(data)
    except ValueError as error:
        raise ModelFileError(f"{path}: not a graph that can be opened ({len(data)} bytes): {error}") from error
    return data


def _session_options(threads: int | None, spinning: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions, once; the loading of providers has a logger of its own
    options.add_session_config_entry("session.load_model_format", "ONNX")  # no other, by whatever its bytes say
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _open(path: Path, graph: bytes, providers: Sequence[str], options: Any, sha256: str) -> Any:
    import onnxruntime

    if set(providers) & set(NVIDIA_PROVIDERS):
        _load_cuda_libraries()
    pairs = [(name, _provider_options(name, sha256)) for name in providers]
    try:
        # The very bytes that were checked, not the path: what the file becomes meanwhile does not matter.
        return onnxruntime.InferenceSession(graph, options, providers=pairs, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions for a bad file have no base class of their own
        reason = to_line(str(error))
        # What a provider's own start raises. A message that is no text quotes the file.
        if isinstance(error, (RuntimeError, ValueError)) and not isinstance(error, UnicodeDecodeError):
            raise ProviderError(f"{path}: {list(providers)} did not start: {reason}") from error
        raise ModelFileError(f"{path}: not a graph that can be opened ({len(graph)} bytes): {reason}") from error


def _provider_options(name: str, sha256: str) -> dict[str, str]:
    if name == CUDA:  # TensorFloat-32 keeps 10 bits of a factor: too few for images equal to those of other formats
        return {"use_tf32": "0"}
    return tensorrt_options(sha256) if name == TENSORRT else {}


def tensorrt_options(sha256: str) -> dict[str, str]:
    """TensorRT in float32, its engines kept for the next start, as building one takes minutes.

    An engine fits one graph on one kind of device under one set of versions, so each of these has a directory of its
    own, which no other user can write to: an engine is code.

    Args:
        sha256: of the graph.
    """
    parts = {"graph": sha256, **describe_nvidia_device(), "versions": _versions("onnxruntime-gpu", "tensorrt")}
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    home = os.environ.get("ZOO_HOME") or Path.home() / ".cache" / "generative-zoo"
    directory = Path(home) / "tensorrt" / key
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "trt_fp16_enable": "False",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(directory),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(directory),
    }


def describe_nvidia_device() -> dict[str, Any]:
    """Name, compute capability and driver of the first device; empty strings and zeros where there is none."""
    name, values = ctypes.create_string_buffer(256), [ctypes.c_int(0) for _ in range(3)]
    if count_nvidia_devices():
        driver = ctypes.CDLL(_DRIVER)
        driver.cuDeviceGetName(name, len(name), 0)
        for value, attribute in zip(values, (75, 76), strict=False):  # compute capability, major and minor
            driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
        driver.cuDriverGetVersion(ctypes.byref(values[2]))
    major, minor, version = (value.value for value in values)
    return {"device": name.value.decode(errors="replace"), "capability": f"{major}.{minor}", "driver": version}


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def count_cores() -> int:
    """Processors that this process may use, by its affinity and by its control group's quota.

    ONNX Runtime's own choice counts those of the machine, and ties a thread to each.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


@cache
def _load_cuda_libraries() -> str:
    """Load CUDA and cuDNN from NVIDIA's wheels, where installed; returns what ONNX Runtime said went wrong."""
    import onnxruntime

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        onnxruntime.preload_dlls()
    return printed.getvalue().strip()


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def _spec(path: Path, node: Any) -> TensorSpec:
    if node.type not in ONNX_DTYPES:
        raise ModelFileError(f"{path}: {node.name!r} is a {node.type}: only {sorted(ONNX_DTYPES)} are supported")
    # A free dimension without a name gets one of its own: nothing says that two of them are equal.
    shape = tuple(f"{node.name}:{axis}" if size is None else size for axis, size in enumerate(node.shape))
    spec = TensorSpec(node.name, ONNX_DTYPES[node.type], shape)
    _check_size(path, spec)
    return spec


def _check_size(path: Path, spec: TensorSpec) -> None:
    try:
        check_size(spec)
    except CardError as error:
        raise ModelFileError(f"{path}: {error}") from error
