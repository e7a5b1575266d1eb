# /// script
# requires-python = ">=3.11"
# dependencies = ["schemathesis==4.32.5"]
# ///
"""schemathesis, which makes requests of an OpenAPI file and holds the answers against it. Argument: the port.

    uv run tests/serving/clients/open_inference.py 8000

The server serves tanh-model and mirror-model of tests/serving/conftest.py.
"""

import subprocess
import sys
from pathlib import Path

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("negative_data_rejection", "unsupported_method"),
)


def check(port):
    command = Path(sys.executable).with_name("schemathesis")
    file = Path(__file__).with_name("open_inference.yaml")
    options = ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", "20"]
    subprocess.run([command, "run", file, "--url", f"http://127.0.0.1:{port}", "--seed", "1", *options], check=True)


if __name__ == "__main__":
    check(sys.argv[1])
    print("good")
