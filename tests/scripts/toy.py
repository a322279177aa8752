"""A tree whose only model, toy, is made by stages of plain Python, for tests of the driver: a stage takes 50 ms.

The driver, the locks, the keys, the manifests, the checksums and the engines' script are the real ones. What a stage
computes isn't: each writes a few lines of text. The toolchain is a virtual environment of one small package.
"""

import shutil
from pathlib import Path

from tests.conftest import ROOT, copy_tree

RECIPE = '''title = "A toy"
task = "Is built by stages of plain Python"
version = 1
upstream = "none"
code_licence = "Apache-2.0"
weights_licence = "Apache-2.0"
attribution = "none"
toolchain = "torch"
opset = 17

[sources.seeded]
layers = 3

[sources.tiny]
layers = 1

[sources.custom]
files = ["weights.txt"]

[components.line]
about = "A line of text"
stage = "compose"

[[components.line.inputs]]
name = "x"
dtype = "float32"
shape = ["batch"]
about = "a number"

[[components.line.outputs]]
name = "y"
dtype = "float32"
shape = ["batch"]
about = "a number"

[variants.fp32]
method = "none"
about = "the reference"

[variants.int8]
method = "byte-weights"
about = "half of it"

[[gates]]
component = "line"
variant = "int8"
port = "y"
metric = "snr_db"
at_least = 30
'''
LIKE = '''like = "toy"
title = "Another toy"

[metadata]
configuration = "another"
'''
STAGES = {
    "fetch": """
def fetch(task):
    if task.checkpoint:
        source.copy(task.checkpoint, task.recipe["sources"]["custom"], task.out)
    else:
        (task.out / "weights.txt").write_text(f"{task.weights} weights of {task.recipe['sources'][task.weights]}\\n")
""",
    "export": """
def export(task):
    text = (task.inputs["fetch"] / "weights.txt").read_text()
    if "weights" not in text:
        raise job.Refusal("weights.txt: expected weights, found none: take a sound file")
    (task.out / "line.onnx").write_text(text)
    (task.out / "reference.npz").write_text(text)
""",
    "optimize": """
def optimize(task):
    (task.out / "line.onnx").write_bytes((task.inputs["export"] / "line.onnx").read_bytes())
""",
    "quantize": """
def quantize(task):
    whole = (task.inputs["optimize"] / "line.onnx").read_bytes()
    for number in range(1, 4):
        job.progress(f"calibrated {number} of 3")
        time.sleep(float(os.environ.get("PACE", 0)))
    for variant, data in (("fp32", whole * 4), ("int8", whole)):
        with (task.out / f"line-{variant}.onnx").open("wb") as file:
            file.write(data + bytes(int(os.environ.get("BYTES", 0))))
""",
    "compose": """
def compose(task):
    for path in sorted(task.inputs["quantize"].glob("*.onnx")):
        (task.out / f"{task.model}-{path.name}").write_bytes(task.module("compose").composed(path.read_bytes()))
""",
    "verify": """
def verify(task):
    told = {"artifacts": []}
    for path in sorted(task.inputs["compose"].glob("*.onnx")):
        variant = path.stem.split("-")[-1]
        gates = [{**gate, "measured": 40.0} for gate in task.recipe["gates"] if gate["variant"] == variant]
        told["artifacts"].append({"file": path.name, "beside": [], "component": "line", "variant": variant,
                                  "bytes": path.stat().st_size, "measured": [], "gates": gates})
    (task.out / "report.json").write_text(json.dumps(told))
    (task.out / "report.md").write_text("# What was measured\\n")
""",
}
HEAD = "import json\nimport os\nimport time\nfrom scripts import job, source\n"
SAMPLE = "def composed(data):\n    return b'composed\\n' + data\n"


def plant(tree: Path, toolchain: str = "torch") -> Path:
    """Put the toy into a copy of the repository, in the place of all models; a toolchain of that name makes it."""
    copy_tree(tree)
    shutil.rmtree(tree / "models")
    for kind in ("bundled", "seeded", "tiny"):
        shutil.rmtree(tree / "checksums" / kind)
    build = tree / "scripts/build.py"
    build.write_text(build.read_text().replace('"torch"', f'"{toolchain}"'))
    for name, text in STAGES.items():
        (tree / f"scripts/{name}.py").write_text(
            f'"""A stage of the toy."""\n{HEAD}{text}\n\nif __name__ == "__main__":\n    job.run({name})\n')
    for name, files in {"toy": {"recipe.toml": RECIPE, "compose.py": SAMPLE}, "echo": {"recipe.toml": LIKE}}.items():
        for file, text in files.items():
            (tree / "models" / name).mkdir(parents=True, exist_ok=True)
            (tree / "models" / name / file).write_text(text.replace('"torch"', f'"{toolchain}"'))
    lock = (ROOT / "images/torch/requirements.lock").read_text()
    start = lock.index("mpmath==")
    folder = tree / "images" / toolchain
    folder.mkdir(exist_ok=True)
    (folder / "python-version").write_text("3.11\n")
    (folder / "requirements.lock").write_text(lock[start:lock.index("    # via", start)])
    return tree
