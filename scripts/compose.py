"""Stage compose: the finished artifacts, <model>-<component>-<variant>.onnx.

The model's compose.py writes the loops around each variant of its steps; components then
get the metadata by which an artifact can be told apart from any other; of weights that lie beside
it, the SHA-256 too, so that its own hash stands for all. The artifacts for TensorFlow Lite have
theirs, and are put beside them as they are.
"""

import shutil

import onnx

from scripts import graphs, identity, job
from scripts.manifest import sha256


def compose(task: job.Job) -> None:
    source = identity.source_hash(task.inputs["fetch"])
    for variant in task.recipe["variants"]:
        finished = {name: graphs.load(task.inputs["quantize"] / f"{name}-{variant}.onnx", weights=False)
                    for name in task.exported() if variant in task.variants(name)}
        if composed := task.components("compose"):
            job.progress(f"composing {', '.join(composed)} around {variant}")
            finished |= task.module("compose").compose(finished)
        for component, described in task.recipe["components"].items():
            if variant not in task.variants(component):
                continue
            model = finished[component]
            model.graph.name = f"{task.model}-{component}-{variant}"
            graphs.name_ports(model.graph, described)
            told = identity.identity(task, component, variant) | {"source_sha256": source}
            told |= identity.operators(task, model.opset_import)
            if beside := graphs.beside(model):
                weights = task.out / f"{task.model}-{beside}"
                if not weights.exists():  # the components that share a step share its weights
                    shutil.copyfile(task.inputs["quantize"] / beside, weights)
                graphs.beside(model, renamed=weights.name)
                told |= {"weights_file": weights.name, "weights_sha256": sha256(weights)}
            onnx.helper.set_model_props(model, dict(sorted(told.items())))
            onnx.save(model, task.out / f"{model.graph.name}.onnx")
    for path in sorted(task.inputs["lite"].glob("*.tflite")) if "lite" in task.inputs else []:
        shutil.copyfile(path, task.out / f"{task.model}-{path.name}")


if __name__ == "__main__":
    job.run(compose)
