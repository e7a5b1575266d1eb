"""Exported graphs in other programs than ONNX Runtime: OpenVINO, and onnxruntime-web in Node.js.

The latter is installed by `npm install onnxruntime-web`, in the checkout or in a folder that the environment variable
ONNXRUNTIME_WEB names.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import openvino
import pytest

from serving.card import read_card
from serving.session import Session
from zoo.export.agreement import make_example

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("run_in_web.mjs")
TOLERANCE = 1e-4  # of the output's range: the promise of an export
ROWS = 2
SHIPPED = sorted(path.parent.name for path in (ROOT / "exported").glob("*/card.json"))


def graphs_of(directory):
    """(ability's name, ONNX file, feeds, what ONNX Runtime gives) of each graph in a model's directory."""
    found = []
    for name, ability in read_card(directory).abilities.items():
        assert ability.file is not None
        path = directory / ability.file
        feeds = {spec.name: make_example(spec, ROWS) for spec in ability.inputs}
        found.append((name, path, feeds, Session(path).run(feeds)))
    assert found
    return found


def assert_close(found, expected, what):
    assert set(found) == set(expected), what
    for name, values in expected.items():
        worst = np.abs(found[name] - values).max()
        assert worst <= TOLERANCE * max(np.ptp(values), 1e-3), f"{what}, {name}: {worst}"


@pytest.mark.parametrize("preset", SHIPPED)
def test_openvino_gives_the_same_for_every_shipped_graph(preset):
    core = openvino.Core()
    for ability, path, feeds, expected in graphs_of(ROOT / "exported" / preset):
        compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outputs = compiled(feeds)
        assert_close({name: outputs[name] for name in expected}, expected, f"{preset}'s {ability}")


def has_web():
    folder = Path(os.environ.get("ONNXRUNTIME_WEB", ROOT))
    return shutil.which("node") is not None and (folder / "node_modules" / "onnxruntime-web").is_dir()


@pytest.mark.skipif(not has_web(), reason="no Node.js with onnxruntime-web: npm install onnxruntime-web")
def test_onnxruntime_web_gives_the_same_for_every_shipped_graph(tmp_path):
    graphs = [(preset, *graph) for preset in SHIPPED for graph in graphs_of(ROOT / "exported" / preset)]
    files = []
    for number, (_, _, path, feeds, _) in enumerate(graphs):
        inputs = {
            name: {"dtype": values.dtype.name, "shape": values.shape, "values": values.ravel().tolist()}
            for name, values in feeds.items()
        }
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps({"model": str(path), "inputs": inputs}))
    done = subprocess.run(["node", SCRIPT, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    for (preset, ability, _, _, expected), line in zip(graphs, lines, strict=True):
        found = {name: np.array(each["values"]).reshape(each["shape"]) for name, each in json.loads(line).items()}
        assert_close(found, expected, f"{preset}'s {ability}")
