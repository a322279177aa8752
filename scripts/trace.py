"""What a model's original computes inside, in its own toolchain (Python 3.7 and later), for `make bisect`.

The model's trace.py has a function trace(source, recipe, question) → arrays by tensor: of the tensors that an ONNX graph
has, those that the original has too, in whatever order of axes. Told as stages are; inputs are `fetch` and `asked`, a
folder with question.json and feed.npz; answers go to answers.npz, which numbers the tensors as the question does.
"""

import json
from typing import Dict, List, NamedTuple

import numpy as np

from scripts import job


class Question(NamedTuple):
    component: str
    case: str  # of the reference, or made up
    feed: Dict[str, np.ndarray]  # by input
    tensors: Dict[str, List[str]]  # what is asked for, and the weights that each one's node reads


def trace(task: job.Job) -> None:
    told = json.loads((task.inputs["asked"] / "question.json").read_text(encoding="utf-8"))
    with np.load(str(task.inputs["asked"] / "feed.npz")) as arrays:
        feed = {name: arrays[str(number)] for number, name in enumerate(told.pop("inputs"))}
    question = Question(feed=feed, **told)
    found = task.module("trace").trace(task.inputs["fetch"], task.recipe, question)
    np.savez(str(task.out / "answers.npz"), **{
        str(number): found[name] for number, name in enumerate(question.tensors) if name in found})


if __name__ == "__main__":
    job.run(trace)
