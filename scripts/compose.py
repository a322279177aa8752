"""Stage compose: the finished artifacts, <model>-<component>-<variant>.onnx.

The model's compose.py writes the loops around each variant of its steps; steps and
loops then get the metadata by which an artifact can be told apart from any other.
"""

import hashlib
import json
from pathlib import Path

import onnx

from scripts import graphs, job


def compose(task: job.Job) -> None:
    source = source_hash(task.inputs["fetch"])
    for variant in task.recipe["variants"]:
        finished = {name: onnx.load(task.inputs["quantize"] / f"{name}-{variant}.onnx")
                    for name in task.components("export")}
        if composed := task.components("compose"):
            job.progress(f"composing {', '.join(composed)} around {variant}")
            finished |= task.module("compose").compose(finished)
        for component, model in finished.items():
            model.graph.name = f"{task.model}-{component}-{variant}"
            told = graphs.identity(task, component, variant) | {"source_sha256": source}
            onnx.helper.set_model_props(model, dict(sorted(told.items())))
            onnx.save(model, task.out / f"{model.graph.name}.onnx")


def source_hash(folder: Path) -> str:
    """One SHA-256 for a source: over the names and hashes in the manifest of its fetch stage."""
    outputs = json.loads((folder / "manifest.json").read_text())["outputs"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    job.run(compose)
