"""Stage compose: the finished artifacts, <model>-<component>-<variant>.onnx.

The model's compose.py writes the loops around each variant of its steps; components then
get the metadata by which an artifact can be told apart from any other. The artifacts for
TensorFlow Lite have theirs, and are put beside them as they are.
"""

import shutil

import onnx

from scripts import identity, job


def compose(task: job.Job) -> None:
    source = identity.source_hash(task.inputs["fetch"])
    for variant in task.recipe["variants"]:
        finished = {name: onnx.load(task.inputs["quantize"] / f"{name}-{variant}.onnx")
                    for name in task.exported() if variant in task.variants(name)}
        if composed := task.components("compose"):
            job.progress(f"composing {', '.join(composed)} around {variant}")
            finished |= task.module("compose").compose(finished)
        for component in task.recipe["components"]:
            if variant not in task.variants(component):
                continue
            model = finished[component]
            model.graph.name = f"{task.model}-{component}-{variant}"
            told = identity.identity(task, component, variant) | {"source_sha256": source}
            onnx.helper.set_model_props(model, dict(sorted(told.items())))
            onnx.save(model, task.out / f"{model.graph.name}.onnx")
    for path in sorted(task.inputs["lite"].glob("*.tflite")) if "lite" in task.inputs else []:
        shutil.copyfile(path, task.out / f"{task.model}-{path.name}")


if __name__ == "__main__":
    job.run(compose)
