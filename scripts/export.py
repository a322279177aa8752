"""Stage export, in the model's own toolchain: the upstream's code becomes ONNX and a reference.

The model's export.py fills the folder with <component>.onnx for each component that
the recipe says this stage makes and for each step, and, unless the stage ask did, with reference.npz:
what was fed to the original and what it returned, as `<component>/<case>/<port>`, for composed ones too. What the
artifacts are to say of the source, besides what the recipe has, it may write as metadata.json, texts by key.
"""

from scripts import job


def export(task: job.Job) -> None:
    task.module("export").export(task.inputs["fetch"], task.out, task.recipe)
    expected = ["{}.onnx".format(name) for name in task.exported()]
    expected += [] if "ask" in task.inputs else ["reference.npz"]
    missing = [name for name in expected if not (task.out / name).is_file()]
    if missing:
        raise job.Refusal("models/{}/export.py must write {}; missing: {}".format(
            task.model, ", ".join(expected), ", ".join(missing)))


if __name__ == "__main__":
    job.run(export)
