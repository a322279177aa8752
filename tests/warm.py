"""Processes of a toolchain that are forked from one which has imported what is slow: each starts in 10 ms.

They are processes like any other, with a working directory, an environment and output of their own, and can be killed.
"""

import json
import os
import select
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

# In the toolchain: forks once a connection, tells it the process's id and then how that ended.
FORKING = """
import json, os, select, signal, socket, sys
import {imports}

def told():
    "In a forked process, what it is to do; the first one stays here, until its input is closed."
    listener = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while listener in select.select([listener, 0], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        asked, [output], _, _ = socket.recv_fds(connection, 1 << 20, 1)
        process = os.fork()
        if process == 0:
            connection.close()
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return json.loads(asked)
        os.close(output)
        connection.sendall(b"%d " % process)
        connection.sendall(b"%d " % os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        os._exit(0)
    sys.exit()

asked = told()
os.chdir(asked["folder"])
os.environ.clear()
os.environ.update(asked["environment"])
sys.argv = ["-c", *asked["words"]]
exec(asked["code"], {{"__name__": "__main__"}})
"""


class Process:
    """What of subprocess.Popen's is needed. Its output is text, errors with it."""

    def __init__(self, connection: socket.socket, asked: dict[str, Any]):
        self.connection, self.lock, self.returncode = connection, threading.RLock(), None
        self.output, theirs = os.pipe()
        socket.send_fds(connection, [json.dumps(asked).encode()], [theirs])
        os.close(theirs)
        self.pid = self.number()

    def number(self) -> int:
        """The next number that comes."""
        digits = b""
        while not digits.endswith(b" "):
            digits += self.connection.recv(1)
        return int(digits)

    def wait(self) -> int:
        with self.lock:
            if self.returncode is None:
                self.returncode = self.number()
            return self.returncode

    def poll(self) -> int | None:
        with self.lock:
            ended = self.returncode is not None or select.select([self.connection], [], [], 0)[0]
            return self.wait() if ended else None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, None]:
        """All that it prints until it ends. Raises TimeoutError after so many seconds."""
        said, end = b"", time.monotonic() + timeout
        while select.select([self.output], [], [], max(0, end - time.monotonic()))[0]:
            if not (part := os.read(self.output, 1 << 16)):
                os.close(self.output)
                self.wait()
                self.connection.close()
                return said.decode(), None
            said += part
        self.send_signal(9)
        raise TimeoutError(said.decode())


class Warm:
    """A toolchain's process to fork from."""

    def __init__(self, python: str, imports: str, folder: Path):
        self.place = str(folder / "warm")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.place)
            listener.listen(64)
            self.process = subprocess.Popen(
                [python, "-c", FORKING.format(imports=imports), str(listener.fileno())], pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def start(self, code: str, *words: str, folder: Path, environment: dict[str, str]) -> Process:
        """A process that runs Python code in a folder."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.place)
        return Process(connection, {"code": code, "words": words, "folder": str(folder), "environment": environment})
