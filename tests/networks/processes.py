"""What stands for subprocess in the driver and in make new here: their commands, each in one process a toolchain."""

import io
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
_workers: dict[str, subprocess.Popen[str]] = {}


def run(words: Iterable[str | Path], **named: Any) -> subprocess.CompletedProcess[str]:
    """Run scripts/in TOOLCHAIN python -m MODULE WORDS…, as subprocess.run does it."""
    status, said, errors = asked(list(map(str, words)), "")
    return subprocess.CompletedProcess(list(words), status, said, errors)


def asked(words: list[str], told: str) -> tuple[int, str, str]:
    """The exit status, output and errors of a command. A process that dies of one is replaced for the next."""
    _, toolchain, _, _, module, *rest = words
    if toolchain not in _workers:
        _workers[toolchain] = subprocess.Popen(
            ["scripts/in", toolchain, "python", "-m", "tests.networks.worker"], stdin=PIPE, stdout=PIPE, text=True)
    worker = _workers[toolchain]
    worker.stdin.write(json.dumps([module, rest, told]) + "\n")
    worker.stdin.flush()
    if line := worker.stdout.readline():
        return tuple(json.loads(line))
    return _workers.pop(toolchain).wait(), "", ""


def close() -> None:
    """End the processes."""
    while _workers:
        _, worker = _workers.popitem()
        worker.stdin.close()
        worker.wait()


class Popen:
    """A command that runs when its standard input is closed; what of subprocess.Popen the driver needs."""

    def __init__(self, words: Iterable[str | Path], stderr: TextIO, **named: Any):
        self.words, self.errors, self.returncode = list(map(str, words)), stderr, 0
        self.stdin, self.stdout = Told(self), io.StringIO()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.stdin = None

    def terminate(self) -> None:
        """It ended when its input was read."""


class Told(io.StringIO):
    """The standard input of a command."""

    def __init__(self, process: Popen):
        super().__init__()
        self.process = process

    def close(self) -> None:
        if not self.closed:
            self.process.returncode, said, errors = asked(self.process.words, self.getvalue())
            self.process.stdout = io.StringIO(said)
            self.process.errors.write(errors)
            self.process.errors.flush()
        super().close()
