"""A process of a toolchain that runs `python -m` many times, so that TensorFlow and PyTorch are imported once.

A line of JSON in, [module, words, standard input], is answered by one with [exit status, output, errors] (runs on
Python 3.7 and later).
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback
from typing import List, NoReturn, Tuple


def leave(status: int) -> NoReturn:
    """What stands for os._exit, by which a stage ends with its refusal: the process lives on."""
    raise SystemExit(status)


def run(module: str, words: List[str], told: str) -> Tuple[int, str, str]:
    """Run a module as a command, and return its exit status and what it printed."""
    sys.argv, sys.stdin = ["-m", *words], io.StringIO(told)
    status, said, errors = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            status = int(ended.code or 0)
        except Exception:
            traceback.print_exc()
            status = 1
    return status, said.getvalue(), errors.getvalue()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os._exit = leave
    os.dup2(2, 1)  # what libraries print by themselves is no answer
    for line in iter(sys.__stdin__.readline, ""):
        print(json.dumps(run(*json.loads(line))), file=answers, flush=True)
