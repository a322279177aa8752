"""What a model's original computes inside, in its own toolchain (Python 3.7 and later), for `make bisect`.

The model's trace.py has a function trace(source, recipe, question) → arrays by tensor: of the tensors that an ONNX
graph has, those that the original has too, in whatever order of axes. Told as stages are, with the inputs `fetch` and
`asked`: a folder with <component>.json and <component>.npz, what is asked and fed. Writes <component>.npz for each,
which numbers the tensors as they were asked for.
"""

import json
from pathlib import Path
from typing import Dict, List, NamedTuple

import numpy as np

from scripts import job


class Question(NamedTuple):
    component: str
    case: str  # of the reference, or made up
    feed: Dict[str, np.ndarray]  # by input
    tensors: Dict[str, List[str]]  # what is asked for, and the weights that each one's node reads


def read(path: Path) -> Question:
    told = json.loads(path.read_text(encoding="utf-8"))
    with np.load(str(path.with_suffix(".npz"))) as arrays:
        feed = {name: arrays[str(number)] for number, name in enumerate(told.pop("inputs"))}
    return Question(feed=feed, **told)


def trace(task: job.Job) -> None:
    for path in sorted(task.inputs["asked"].glob("*.json")):
        question = read(path)
        found = task.module("trace").trace(task.inputs["fetch"], task.recipe, question)
        np.savez(str(task.out / (path.stem + ".npz")), **{
            str(number): found[name] for number, name in enumerate(question.tensors) if name in found})


if __name__ == "__main__":
    job.run(trace)
