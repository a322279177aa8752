"""One side of a bench (Python 3.7 and later): python -m scripts.contestant SIDE MODEL LIKE FOLDER THREADS

SIDE is `original`, the model's bench.py in its own toolchain with the artifacts for TensorFlow
Lite beside it, or `onnx`, the artifacts of a build in ONNX Runtime, with the model's
bench_torch.py beside them if it has one. A module that MODEL doesn't have is that of the model LIKE. Prints the
names `<work>/<contestant>` that it can run as JSON; then, for each name read from standard input,
runs it a few times and prints the milliseconds of a call, and the most memory that the process has
taken until then, in MB. A work is named for its component, and what comes after a comma; those in the TRAINED of the
model's inputs.py are for weights that were trained.
"""

import importlib
import importlib.util
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict

from scripts.job import module_name

Feeds = Dict[str, Dict[str, Any]]  # what each work takes, by its ports


def artifacts(model: str, feeds: Feeds, folder: Path, threads: int) -> Dict[str, Callable[[], Any]]:
    """A call for each component's bare export and each finished artifact, by name.

    What is called is loaded then, and held until another component's turn: large models don't fit side by side.
    """
    from scripts import kernels, recipe  # only this side's toolchain has ONNX Runtime

    told = recipe.read(Path(), model)
    held = {}  # sessions by component and path

    def call(path: Path, work: str) -> Callable[[], Any]:
        place = work.split(",")[0], path

        def run() -> Any:
            if place not in held:
                for other in [other for other in held if other[0] != place[0]]:
                    del held[other]
                options = kernels.exact_options()
                options.intra_op_num_threads = threads
                options.add_session_config_entry("session.force_spinning_stop", "1")  # don't steal the next one's cores
                held[place] = kernels.session(path, model, told, options)
            return held[place].run(None, feeds[work])
        return run

    calls = {}
    if not (folder / "ask").is_dir():  # where the graphs were built for their purpose, there is no naive export
        calls = {"{}/naive export".format(path.stem): call(path, path.stem)
                 for path in sorted((folder / "export").glob("*.onnx")) if path.stem in feeds}
    for path in sorted((folder / "compose").glob("*.onnx")):
        component, variant = path.stem.split("-", 1)[1].rsplit("-", 1)
        for work in feeds:
            if work.split(",")[0] == component:
                calls["{}/{}".format(work, variant)] = call(path, work)
    return calls


def lite_artifacts(feeds: Feeds, folder: Path, threads: int) -> Dict[str, Callable[[], Any]]:
    """A call for each artifact for TensorFlow Lite, by name; its interpreter is in the original's toolchain."""
    paths = sorted((folder / "compose").glob("*.tflite"))
    if not paths:
        return {}
    from scripts import lite  # only where TensorFlow is

    names = {path: path.stem.split("-") for path in paths}
    return {"{}/{} tflite".format(component, variant): lite.interpreter(path, feeds[component], threads)
            for path, (_, component, variant) in names.items()}


def milliseconds(call: Callable[[], Any]) -> float:
    """The median of three calls, after one that warms the caches up again; of one that takes seconds, its own."""
    def timed() -> float:
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e3

    first = timed()
    return first if first > 1000 else statistics.median(timed() for _ in range(3))


def main() -> None:
    side, model, like, folder, threads = *sys.argv[1:4], Path(sys.argv[4]), int(sys.argv[5])
    modules = {name: module_name(model, {"like": like}, name) for name in ("inputs", "bench", "bench_torch")}
    inputs = importlib.import_module(modules["inputs"])
    feeds = inputs.bench()
    if side == "original":
        calls = importlib.import_module(modules["bench"]).original(folder / "fetch", threads)
        calls.update(lite_artifacts(feeds, folder, threads))
    else:
        calls = artifacts(model, feeds, folder, threads)
        if importlib.util.find_spec(modules["bench_torch"]):
            calls.update(importlib.import_module(modules["bench_torch"]).rivals(folder / "fetch", threads))
    left_out = getattr(inputs, "TRAINED", ()) if folder.parent.name in ("seeded", "tiny") else ()
    print(json.dumps([name for name in calls if name.split("/")[0] not in left_out]), flush=True)
    for line in sys.stdin:
        took = milliseconds(calls[line.strip()])
        print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, flush=True)


if __name__ == "__main__":
    main()
