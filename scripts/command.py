"""What every command has in common: mistakes are one line and exit status 2, Ctrl-C is no traceback."""

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from scripts.job import REFUSED, Refusal

INTERRUPTED = 130  # as shells count it


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, in the words of make's variables."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(message.removeprefix("argument ").lstrip("-"))


def run(command: Callable[[], int]) -> int:
    """The exit status of a command; what it raises is said in a line."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return command()
    except (Refusal, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept", file=sys.stderr)
        return INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
