"""python -m serving --models exported --port 8000: the HTTP server, from the command line."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from serving.card import CardError
from serving.server.limits import Limits
from serving.session import ModelFileError, ProviderError

SERVER_EXTRA = (
    *("starlette", "uvicorn", "anyio", "h11"),
    *("grpc", "grpc_health", "grpc_reflection", "google", "google.protobuf", "prometheus_client"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; 2 with one line on standard error if it cannot start."""
    parser = argparse.ArgumentParser("python -m serving", description="Serve exported models over HTTP and gRPC.")
    parser.add_argument("--models", default="exported", help="directory with one subdirectory for each model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--port", type=_integer(0, 65535), default=8000, help="TCP port, 0 for any free one (default: 8000)"
    )
    parser.add_argument("--grpc-port", type=_integer(0, 65535), help="TCP port for gRPC, 0 for any free one")
    parser.add_argument("--threads", type=_integer(1, 1024), help="CPU threads of one model's run")
    parser.add_argument(
        "--token-file",
        dest="token",
        metavar="FILE",
        type=_read_token,
        help="file with the token that clients must send",
    )
    parser.add_argument(
        "--cors-origin", dest="cors_origins", metavar="ORIGIN", action="append", default=[], help="whose pages may ask"
    )
    parser.add_argument("--log-requests", action="store_true", help="a line of JSON on standard error for each request")
    parser.add_argument(
        "--name", dest="names", metavar="NAME", action="append", default=[], help="a model to serve; without it, all"
    )
    parser.add_argument("--watch", action="store_true", help="take up models that are new, changed or gone")
    parser.add_argument(
        "--unload-after",
        metavar="SECONDS",
        type=_number(1, 86400 * 365),
        help="give back the memory of a model that is not asked for so long",
    )
    parser.add_argument("--require-gpu", action="store_true", help="stop where a model can't run on a GPU")
    parser.add_argument(
        "--batch-delay",
        metavar="SECONDS",
        type=_number(0, 1),
        default=0.0,
        help="how long the first request of a batch waits for others (default: 0)",
    )
    parser.add_argument(
        "--batch-rows",
        type=_integer(1, 64),
        default=16,
        help="the most rows of a batch; 1 to run each by itself (default: 16)",
    )
    group = parser.add_argument_group("limits", "sizes in bytes, times in seconds")
    for limit in fields(Limits):
        parse = _integer if limit.type is int else _number
        group.add_argument(
            f"--{limit.name.replace('_', '-')}",
            type=parse(limit.metadata["low"], limit.metadata["high"]),
            default=limit.default,
            metavar="N",
            help=f"{limit.metadata['help']} (default: {limit.default:g})",
        )
    options = vars(parser.parse_args(arguments))
    limits = Limits(**{limit.name: options.pop(limit.name) for limit in fields(Limits)})
    try:
        from serving.server.run import serve

        serve(**options, limits=limits)
    except ModuleNotFoundError as error:
        if error.name not in SERVER_EXTRA:
            raise
        print(f'serving: {error.name} is missing: pip install "generative-zoo[server]"', file=sys.stderr)
        return 2
    except (CardError, ModelFileError, ProviderError, OSError) as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    return 0


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r}: give an integer from {low} to {high}")
        return int(text)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: give a number from {low:g} to {high:g}")
        return value

    return parse


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds other signs than ASCII"
        raise argparse.ArgumentTypeError(f"{path}: no token can be read: {reason}") from None
    if len(token) < 8 or not token.isprintable() or " " in token:
        raise argparse.ArgumentTypeError(f"{path}: a token is one word of at least 8 characters")
    return token


if __name__ == "__main__":
    sys.exit(main())
