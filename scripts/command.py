"""What every command has in common: mistakes are one line and exit status 2, Ctrl-C is no traceback."""

import argparse
import fcntl
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

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


def alone(folder: Path) -> TextIO:
    """Wait until no other command works in this folder; it is free again when what this returns is closed."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another command in {folder.name}", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def table(rows: list[tuple[str, ...]], numbers: Iterable[int] = ()) -> None:
    """Print rows of cells under the first of them; the columns in `numbers` are set flush right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in [rows[0], tuple("─" * width for width in widths), *rows[1:]]:
        print("  ".join(f"{cell:>{width}}" if column in numbers else f"{cell:<{width}}"
                        for column, (cell, width) in enumerate(zip(row, widths))).rstrip())


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
