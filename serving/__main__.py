"""python -m serving --models exported --port 8000: the HTTP server, from the command line."""

import argparse
import sys
from collections.abc import Sequence

from serving.card import CardError
from serving.session import ModelFileError, ProviderError

SERVER_EXTRA = ("starlette", "uvicorn", "anyio")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; 2 with one line on standard error if it cannot start."""
    parser = argparse.ArgumentParser("python -m serving", description="Serve exported models over HTTP (protocol v2).")
    parser.add_argument("--models", default="exported", help="directory with one subdirectory for each model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=_parse_port, default=8000, help="TCP port, 0 for any free one (default: 8000)")
    parser.add_argument("--threads", type=_parse_threads, help="CPU threads of one model's run")
    options = parser.parse_args(arguments)
    try:
        from serving.server.run import serve
    except ModuleNotFoundError as error:
        if error.name not in SERVER_EXTRA:
            raise
        print(f'serving: {error.name} is missing: pip install "generative-zoo[server]"', file=sys.stderr)
        return 2
    try:
        serve(**vars(options))
    except (CardError, ModelFileError, ProviderError, OSError) as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    return 0


def _parse_port(text: str) -> int:
    return _parse_integer(text, 0, 65535)


def _parse_threads(text: str) -> int:
    return _parse_integer(text, 1, 1024)


def _parse_integer(text: str, low: int, high: int) -> int:
    if not (text.isdecimal() and low <= int(text) <= high):
        raise argparse.ArgumentTypeError(f"{text!r}: give an integer from {low} to {high}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
