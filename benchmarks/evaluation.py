"""How long `zoo evaluate` takes, and what memory, for different numbers of generated images.

    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --counts 10000 100000 --preset dcgan-fashion-mnist

Each count is one process: one sampling seed, every score that is made of features, first with an empty cache, so that
the real images' features and the floor are made as well, then with a full one. Nothing is asserted.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.harness import RSS_PER_MIB
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.options import EvaluationOptions
from zoo.evaluation.scores import METRICS

OF_FEATURES = tuple(name for name, metric in METRICS.items() if metric.title)


@dataclass(frozen=True)
class Options:
    """What is measured."""

    preset: str = "dcgan-fashion-mnist"
    """Whose images."""
    counts: tuple[int, ...] = (10_000, 50_000)
    """Generated images."""


def measure(preset: str, count: int) -> dict[str, float]:
    """Seconds and peak MiB of one evaluation, in this process."""
    began = time.perf_counter()
    records = evaluate(preset, EvaluationOptions(metrics=OF_FEATURES, count=count, seeds=(0,)))
    seconds = time.perf_counter() - began
    assert {record.name for record in records} == set(OF_FEATURES)
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RSS_PER_MIB}


def main(options: Options) -> None:
    """Measure every count in processes of their own, print a table."""
    table = Table("images", "cache", "seconds", "peak MiB", title=f"{options.preset}: {len(OF_FEATURES)} scores")
    with tempfile.TemporaryDirectory() as home:
        for count in options.counts:
            for cache in ("empty", "full") if count == options.counts[0] else ("full",):
                code = f"from benchmarks.evaluation import *; print(json.dumps(measure({options.preset!r}, {count})))"
                command = ["env", f"ZOO_HOME={home}", sys.executable, "-c", code]
                found = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
                table.add_row(f"{count:,}", cache, f"{found['seconds']:.0f}", f"{found['peak_mib']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
