"""Every test sees four logical CPU devices, so that replicas can be compared on any machine."""

import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the suite's tolerances are those of the CPU

if find_spec("tensorflow"):
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
    )


@pytest.fixture(scope="module", autouse=True)
def garbage_of_one_module() -> Iterator[None]:
    """Each module's garbage is collected behind it, and what stays is never looked at again.

    Graphs of TensorFlow are large cycles. Left to itself, the collector walked over those of the whole session again
    and again, and its longest pass took two minutes.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def float64() -> Iterator[None]:
    """Nine digits more than float32, for gradients of a bias that nearly cancel where D begins at 1/2."""
    from zoo.core.precision import computing_in

    with computing_in("float64"):
        yield
