"""`zoo doctor`: what is installed, which devices are really used, what conflicts."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.extras import start_tensorflow

EXTRAS = {
    "base": ("numpy", "pillow", "rich", "tyro", "pooch", "msgspec"),
    "server": ("starlette", "uvicorn"),
    "train": ("tensorflow", "keras", "tensorflow-datasets", "tensorflow-probability", "tf-keras", "onnx", "tf2onnx"),
    "hub": ("huggingface_hub",),
}
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
COLORS = {"ok": "green", "failed": "red", "skipped": "yellow"}


def examine() -> dict[str, Any]:
    """The report, as plain data: versions, devices, directories, conflicts."""
    packages = {extra: {name: find_version(name) for name in names} for extra, names in EXTRAS.items()}
    runtimes = {name: find_version(name) for name in RUNTIMES if find_version(name)}
    tensorflow = examine_tensorflow() if find_spec("tensorflow") else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "onnxruntime": {"installed": runtimes, **(examine_onnx_runtime() if runtimes else {})},
        "tensorflow": tensorflow,
        "directories": list_directories(),
        "conflicts": find_conflicts(runtimes, packages, tensorflow),
    }


def find_version(name: str) -> str | None:
    """Version of a distribution, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def examine_onnx_runtime() -> dict[str, Any]:
    """What ONNX Runtime was built with, and what a session of a shipped preset really runs on."""
    import onnxruntime

    from serving.pipeline import Pipeline
    from zoo.pretrained import list_models, shipped_directory

    shipped = next(iter(list_models(pretrained=True)), None)
    directory = shipped_directory(shipped) if shipped else None
    used = Pipeline.from_directory(directory).session.providers if directory else ()
    return {"built_with": onnxruntime.get_available_providers(), "used": list(used)}


def examine_tensorflow() -> dict[str, Any]:
    """TensorFlow's devices, the CUDA it was built for, and what `--precision auto` would choose."""
    try:
        start_tensorflow()
        import tensorflow as tf

        from zoo.training.precision import choose_precision, list_capabilities
    except ImportError as error:
        return {"error": str(error)}
    build = tf.sysconfig.get_build_info()
    precision = choose_precision(list_capabilities())
    return {
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "cuda": build.get("cuda_version"),
        "precision": {"auto": precision.policy, "reason": precision.reason},
        "keras": examine_keras(),
    }


def examine_keras() -> dict[str, str]:
    """What a program or ~/.keras/keras.json has set in Keras; models follow the backend alone."""
    import keras

    return {
        "backend": keras.config.backend(),
        "image_data_format": keras.config.image_data_format(),
        "floatx": keras.config.floatx(),
        "dtype_policy": keras.config.dtype_policy().name,
    }


def list_directories() -> dict[str, str | None]:
    """Where things are kept, and what is free there."""
    from zoo.pretrained import cache_root

    free = shutil.disk_usage(Path.home()).free / 2**30
    return {
        "ZOO_HOME": str(cache_root()),
        "ZOO_RUNS": os.environ.get("ZOO_RUNS"),
        "TFDS_DATA_DIR": os.environ.get("TFDS_DATA_DIR"),
        "free": f"{free:.1f} GiB",
    }


def find_conflicts(
    runtimes: dict[str, Any], packages: dict[str, dict[str, Any]], tensorflow: dict[str, Any] | None
) -> list[str]:
    """One sentence for each thing that is wrong, with the command that mends it."""
    found = []
    if len(runtimes) == 2:
        found.append(
            "onnxruntime and onnxruntime-gpu overwrite each other's files: pip uninstall -y onnxruntime "
            "onnxruntime-gpu, then install the one you want again."
        )
    if not runtimes:
        found.append("no ONNX Runtime: pip install generative-zoo.")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        found.append(f"Python {platform.python_version()} is not supported: take 3.11, 3.12 or 3.13.")
    train = packages["train"]
    if train["tensorflow-probability"] and not train["tf-keras"]:
        found.append('tensorflow-probability needs tf-keras: pip install "generative-zoo[train]".')
    if tensorflow and "error" in tensorflow:
        found.append(f"TensorFlow is installed and can't be imported: {tensorflow['error'].rstrip('.')}.")
    minor = tuple(int(part) for part in (runtimes.get("onnxruntime-gpu") or "0.0").split(".")[:2])
    if tensorflow and (tensorflow.get("gpus") or has_cuda_wheels()) and minor >= (1, 27):
        found.append(
            "TensorFlow brings CUDA 12, onnxruntime-gpu >= 1.27 wants CUDA 13, and their cuDNN wheels overwrite each "
            'other: pip install "generative-zoo[train,gpu]", or serve from an environment of its own ([serving-gpu]).'
        )
    return found


def has_cuda_wheels() -> bool:
    """Whether NVIDIA's CUDA 12 runtime came with pip."""
    try:
        distribution("nvidia-cuda-runtime-cu12")
    except PackageNotFoundError:
        return False
    return True


def is_healthy(report: dict[str, Any]) -> bool:
    """Whether nothing conflicts and, after a self-test, no check failed and some could be done."""
    statuses = [record["status"] for record in report.get("selftest", ())]
    return not report["conflicts"] and "failed" not in statuses and (not statuses or "ok" in statuses)


def show_report(report: dict[str, Any]) -> None:
    """The report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"Python {report['python']} on {report['platform']}", highlight=False)
    table = Table("extra", "package", "version")
    for extra, packages in report["packages"].items():
        for package, found in packages.items():
            table.add_row(extra, package, found or "[dim]not installed[/dim]")
    for package, found in report["onnxruntime"]["installed"].items():
        table.add_row("base", package, found)
    console.print(table)
    console.print(
        f"ONNX Runtime runs on: {', '.join(report['onnxruntime'].get('used') or ['nothing'])}", highlight=False
    )
    devices = report["tensorflow"]
    console.print(f"TensorFlow sees: {', '.join(devices.get('devices', [])) if devices else 'not installed'}")
    if devices and "precision" in devices:
        found = devices["precision"]
        console.print(f"--precision auto: {found['auto']}, {found['reason']}", highlight=False, soft_wrap=True)
        settings = ", ".join(f"{name} {value}" for name, value in devices["keras"].items())
        console.print(f"Keras is set to: {settings} (models follow the backend alone)", highlight=False, soft_wrap=True)
    for name, value in report["directories"].items():
        console.print(f"{name}: {value or 'not set'}", highlight=False, soft_wrap=True)
    for conflict in report["conflicts"]:
        console.print(f"[red]conflict:[/red] {conflict}", highlight=False, soft_wrap=True)
    if not report["conflicts"]:
        console.print("[green]no conflicts[/green]")
    if "selftest" in report:
        console.print(make_selftest_table(report["selftest"]))


def make_selftest_table(records: list[dict[str, Any]]) -> Any:
    """The checks of `zoo.cli.selftest`, a row each."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "status", "detail", "seconds")
    for record in records:
        status = f"[{COLORS[record['status']]}]{record['status']}[/]"
        table.add_row(record["name"], status, escape(record["detail"]), f"{record['seconds']:.0f}")
    return table
