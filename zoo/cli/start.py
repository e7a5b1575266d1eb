"""Where the installed command `zoo` begins: Ctrl-C while it is still imported is one line, as it is later on."""

import signal
import sys


def main() -> None:
    """`zoo.cli.main.main`, imported where an interrupt can be told."""
    try:
        from zoo.cli.main import main as run
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    run()
