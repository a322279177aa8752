"""What tf2onnx lacks is given by texts, rewriters and kernels, and each is proven against TensorFlow like all else."""

import json
import math
import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import build, compose, job, manifest, optimize, quantize, recipe, verify
from tests.conftest import ROOT, copy_tree, run

GUIDE = (ROOT / "docs/rewrites.md").read_text()
SHOWN = {language: re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) for language in ("toml", "python")}
READY = sorted(path.stem for path in (ROOT / "scripts/rewrites").glob("*.txt"))
EDGES = [0, -0.0, 0.5, -0.5, 1, -1, 2, -2, 3, -3, 1e-30, -1e-30, 1e-8, -1e-8, 1e8, -1e8, 1e30, -1e30, 3.4e38,
         np.inf, -np.inf, np.nan]
SMALLEST = slice(10, 14)  # which TensorFlow's erfinv loses even in float64, on its way over (1 + x) / 2
TINY = np.finfo(np.float32).tiny
WITHIN = 3e-7  # of TensorFlow in float64
PROOF = """
import sys
from pathlib import Path
import numpy as np, onnx
import tensorflow.compat.v1 as tf
import tf2onnx.tfonnx
from tf2onnx.handler import tf_op
from scripts.freeze import freeze
folder = Path(sys.argv[1])
fed = np.load(str(folder / "fed.npz"))
for op in sys.argv[2:]:
    function = getattr(tf.raw_ops, op)
    assert op not in tf_op.create_mapping(17, None), "tf2onnx has a handler for it"
    arrays = {key.split("/")[1]: fed[key] for key in fed if key.startswith(op + "/")}
    with tf.Graph().as_default(), tf.Session() as session:
        narrow = {port: tf.placeholder(tf.float32, [None], port) for port in arrays}
        wide = {port: tf.placeholder(tf.float64, [None]) for port in arrays}
        tf.identity(function(**narrow), "answer")
        onnx.save(freeze(session, list(arrays), ["answer"], 17), str(folder / (op + ".onnx")))
        np.savez(str(folder / (op + ".npz")),
                 narrow=session.run("answer:0", {narrow[port]: array for port, array in arrays.items()}),
                 wide=session.run(function(**wide), {wide[port]: array for port, array in arrays.items()}))
"""
CONVERSION = """
import json, sys
import onnx
import tensorflow.compat.v1 as tf
from scripts.freeze import freeze
from scripts.job import Refusal
tf.disable_v2_behavior()
x, y = (tf.placeholder(tf.float32, [None, 3], name) for name in "xy")
tf.identity(tf.math.xlogy(x, y), "logarithm")
tf.identity(tf.math.zeta(x, y), "hurwitz")
tf.identity(tf.raw_ops.ApproximateEqual(x=x, y=y, tolerance=0.25), "equal")
tf.identity(tf.searchsorted(x, y), "places")
def broken(graph, nodes):
    raise ValueError("a flaw")
told = []
with tf.Session() as session:
    for port, written, opset in json.loads(sys.argv[1]):
        rewriters = [broken] if written == "broken" else []
        try:
            model = freeze(session, ["x", "y"], [port], opset, {} if rewriters else written, rewriters)
            onnx.save(model, sys.argv[2])
            told.append("")
        except Refusal as refusal:
            told.append(str(refusal))
print("\\n" + json.dumps(told))
"""
RECIPE = '''title = "A fixture"
task = "Holds what tf2onnx lacks"
version = 1
upstream = "none"
code_licence = "MIT"
weights_licence = "MIT"
attribution = "none"
toolchain = "legacy"
opset = 17
[sources.seeded]
[sources.tiny]
[sources.custom]
files = ["weights.npy"]

[rewrites]
Xlogy = """
(x, y) => (z) {
    none = Constant <value_float = 0.0> ()
    of_zero = Equal (x, none)
    logarithm = Log (y)
    product = Mul (x, logarithm)
    z = Where (of_zero, none, product)
}
"""

''' + SHOWN["toml"][1] + '''
[custom_ops.ApproximateEqual]
about = "whether two numbers are closer than a tolerance"
domain = "bellfoundry.ops"
inputs = ["float32", "float32"]
outputs = ["bool"]
attributes = { tolerance = "float32" }

[components.scorer]
about = "scores"
stage = "export"
[[components.scorer.inputs]]
name = "x"
dtype = "float32"
shape = ["batch", 8]
about = "any numbers"
[[components.scorer.outputs]]
name = "scores"
dtype = "float32"
shape = ["batch", 8]
about = "of all that tf2onnx lacks"
[[components.scorer.outputs]]
name = "places"
dtype = "int64"
shape = ["batch", 8]
about = "in the table"

[[gates]]
component = "scorer"
variant = "fp32"
port = "scores"
metric = "max_error"
at_most = 1e-5
[[gates]]
component = "scorer"
port = "scores"
metric = "snr_db"
at_least = 20
[[gates]]
component = "scorer"
variant = "fp32"
port = "places"
metric = "max_error"
at_most = 0

[variants.fp32]
method = "none"
about = "the reference"
'''
METHODS = {"fp16": "half-weights", "int8": "static-qdq", "bytes": "byte-weights", "columns": "dynamic-columns",
           "blocks": "dynamic-blocks"}
SMALLER = "".join(f'[variants.{name}]\nmethod = "{method}"\nabout = "smaller"\n' for name, method in METHODS.items())
SMALLER += 'domain = "com.microsoft"\n'
MODULES = {
    "seeded": """
import numpy as np
from scripts.seeded import seeded_uniform

def write(folder, told):
    np.save(str(folder / "weights.npy"), seeded_uniform("fixture", (2, 8, 8)))
""",
    "inputs": """
from scripts.seeded import seeded_uniform

def calibration(component):
    yield {"x": seeded_uniform("fixture/calibration", (32, 8))}
""",
    "rewrites": SHOWN["python"][0] + """
def norm(graph, node, name, args):
    axes = [int(axis) for axis in node.inputs[1].get_tensor_value()]
    told = {"axes": axes, "keepdims": node.get_attr_value("keep_dims")}
    shapes, dtypes = [graph.get_shape(node.output[0])], [graph.get_dtype(node.output[0])]
    graph.remove_node(name)
    graph.make_node("ReduceL2", node.input[:1], attr=told, name=name, outputs=node.output, shapes=shapes, dtypes=dtypes)

HANDLERS["EuclideanNorm"] = norm
""",
    "kernels": "import numpy as np\n" + SHOWN["python"][1] + """
def ApproximateEqual(x, y, tolerance):
    return np.abs(x - y) < tolerance
""",
    "export": """
import numpy as np, onnx
import tensorflow.compat.v1 as tf
from models.fixture import rewrites
from scripts.freeze import freeze
from scripts.seeded import seeded_uniform

def export(source, out, recipe):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 8], "x")
        first, second = np.load(str(source / "weights.npy"))
        hidden = tf.tanh(tf.matmul(x, tf.constant(first)))
        table = tf.tile(tf.constant([[-0.5, -0.1, 0.2, 0.7]]), [tf.shape(x)[0], 1])
        places = tf.searchsorted(table, x)
        tf.identity(tf.cast(places, tf.int64), "places")
        mixed = tf.math.xlogy(tf.nn.relu(x), tf.abs(x)) + tf.math.erfinv(hidden * 0.9)
        mixed += tf.abs(tf.complex(x, hidden)) + tf.cast(places, tf.float32) / 8
        mixed += tf.cast(tf.raw_ops.ApproximateEqual(x=x, y=hidden, tolerance=0.25), tf.float32) / 8
        mixed /= tf.raw_ops.EuclideanNorm(input=hidden, axis=[1], keep_dims=True)
        tf.identity(tf.matmul(mixed, tf.constant(second)), "scores")
        ports = [[port["name"] for port in recipe["components"]["scorer"][kind]] for kind in ("inputs", "outputs")]
        onnx.save(freeze(session, *ports, opset=recipe["opset"], recipe=recipe, rewriters=rewrites.REWRITERS,
                         handlers=rewrites.HANDLERS), str(out / "scorer.onnx"))
        arrays = {}
        for rows in (1, 40):
            fed = np.where(np.arange(8) == 3, np.float32(0), seeded_uniform("fixture/reference", (rows, 8)))
            answers = session.run(["scores:0", "places:0"], {"x:0": fed})
            for port, array in zip(("x", "scores", "places"), (fed, *answers)):
                arrays["scorer/{}/{}".format(rows, port)] = array
    np.savez(str(out / "reference.npz"), **arrays)
""",
}


def numbers(op: str) -> dict[str, np.ndarray]:
    """What an op is asked: a fine grid where it changes most, and edges. No subnormals: TensorFlow takes them for 0."""
    wide = np.geomspace(1e-30, 1e30, 400)
    line = np.concatenate([np.linspace(-20, 20, 8003), wide, -wide])
    unit = np.concatenate([np.linspace(0, 1, 4001), np.geomspace(1e-7, 1, 400), 1 - 2.0**-np.arange(1, 25)])
    pairs = np.meshgrid(np.concatenate([EDGES, np.linspace(-5, 5, 41)]), np.concatenate([EDGES, np.linspace(0, 5, 31)]))
    asked = {"Erfinv": {"x": np.concatenate([unit, -unit, np.delete(EDGES, SMALLEST)])},
             "Ndtri": {"x": np.concatenate([unit, np.geomspace(1e-30, 1, 400), EDGES])}, "L2Loss": {"t": line[:8003]}}
    for pair in ("Xlogy", "Xlog1py", "Xdivy", "MulNoNan", "TruncateMod"):
        asked[pair] = {"x": pairs[0].ravel(), "y": pairs[1].ravel()}
    with np.errstate(over="ignore"):
        return {port: array.astype(np.float32)
                for port, array in asked.get(op, {"x": np.concatenate([line, EDGES])}).items()}


@pytest.fixture(scope="module")
def proofs(tmp_path_factory) -> Path:
    """A folder with each ready text's op as ONNX, what it was asked, and what TensorFlow answers."""
    folder = tmp_path_factory.mktemp("proofs")
    np.savez(folder / "fed.npz", **{f"{op}/{port}": array for op in READY for port, array in numbers(op).items()})
    done = run("scripts/in", "legacy", "python", "-c", PROOF, folder, *READY)
    assert done.returncode == 0, done.stderr
    return folder


def answer(proofs: Path, op: str, **feed: np.ndarray) -> np.ndarray:
    [found] = onnxruntime.InferenceSession(proofs / f"{op}.onnx").run(None, feed)
    return found


def far(found: np.ndarray, wide: np.ndarray, narrow: np.ndarray, least: float) -> np.ndarray:
    """Where an answer is neither within WITHIN of TensorFlow's in float64, nor as near to it as TensorFlow's own in
    float32 is, nor within `least`; at infinities and what isn't a number, where it is another."""
    with np.errstate(all="ignore"):
        rounded = wide.astype(np.float32)
        off, allowed = np.abs(found - wide), np.maximum(WITHIN * np.abs(wide), np.abs(narrow - wide))
        same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
        return ~(same | (off <= allowed + least))


@pytest.mark.parametrize("op", READY)
def test_a_ready_text_answers_as_tensorflow(proofs, op):
    told = np.load(proofs / f"{op}.npz")
    found = answer(proofs, op, **numbers(op))
    assert found.dtype == np.float32 and found.shape == told["wide"].shape
    least = 1e-15 if op == "Lgamma" else TINY  # its zeros are where two large numbers meet
    assert not far(found, told["wide"], told["narrow"], least).any()


def test_the_guide_names_the_ready_texts():
    assert ", ".join(READY) in " ".join(GUIDE.split())


def test_a_text_that_is_off_by_a_millionth_is_seen(proofs):
    told = np.load(proofs / "Erfinv.npz")
    found = answer(proofs, "Erfinv", **numbers("Erfinv"))
    assert far(found * np.float32(1 + 1e-6), told["wide"], told["narrow"], TINY).any()


def test_zero_times_anything_is_zero(proofs):
    y = np.array(EDGES, np.float32)
    for op in ("Xlogy", "Xlog1py", "Xdivy"):
        assert (answer(proofs, op, x=np.zeros_like(y), y=y) == 0).all()


@given(st.lists(st.floats(-0.9375, 2.0**20, width=32), min_size=1, max_size=50))
def test_small_and_large_logarithms_and_exponentials_keep_their_digits(proofs, values):
    x = np.array(values, np.float32)
    x[np.abs(x) < TINY] = 0
    wide = x.astype(np.float64)
    assert np.allclose(answer(proofs, "Log1p", x=x), np.log1p(wide), rtol=WITHIN, atol=0)
    wide = -np.minimum(wide, 80)
    assert np.allclose(answer(proofs, "Expm1", x=wide.astype(np.float32)), np.expm1(wide), rtol=WITHIN, atol=0)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=50))
def test_special_functions_are_those_of_the_c_library(proofs, values):
    x = np.array([value for value in values if value != round(value)] or [0.5], np.float32)
    x[np.abs(x) < 1e-30] = 0.5
    assert np.allclose(answer(proofs, "Lgamma", x=x), [*map(math.lgamma, x)], rtol=WITHIN, atol=1e-30)
    assert np.allclose(answer(proofs, "Erfc", x=x), [*map(math.erfc, x)], rtol=WITHIN, atol=0)


@given(st.floats(-0.75, 0.75, width=32), st.integers(0, 30))
def test_the_inverse_of_the_error_function_is_that(proofs, value, tens):
    x = np.float32([value * 10.0**-tens])
    [found] = answer(proofs, "Erfinv", x=x).astype(float)
    assert math.isclose(math.erf(found), x[0], rel_tol=4e-7, abs_tol=1e-37)


def text(written: str) -> dict[str, dict[str, str]]:
    return {"rewrites": {"Xlogy": written}}


OPERATOR = {"domain": "bellfoundry.ops", "inputs": ["float32", "float32"], "outputs": ["int32"]}
WRONG = {
    ("logarithm", 17, "[rewrites] Xlogy in the recipe: expected ONNX's textual syntax, (x, y) => (z) { … }, found "
                      "in its line 2"): text("(x, y) => (z) {\n z = Neg (Log (y))\n}"),
    ("logarithm", 17, "expected one function, found 2"): text("(x) => (z) { z = Neg (x) } F (x) => (z) { }"),
    ("logarithm", 17, "[rewrites] Xlogy in the recipe: expected 2 inputs and 1 outputs, as TensorFlow's node Xlogy "
                      "has, found 1 and 1"): text("(x) => (z) { z = Neg (x) }"),
    ("logarithm", 17, "expected 2 inputs and 1 outputs"): text("(x, y) => (z, w) { z = Neg (x) w = Neg (y) }"),
    ("logarithm", 17, "expected ops of ONNX opset 17, found Gelu"): text("(x, y) => (z) { z = Gelu (x) }"),
    ("logarithm", 12, "scripts/rewrites/Xlogy.txt: expected ops of ONNX opset 12, found CastLike"): {},
    ("logarithm", 17, "[rewrites] Xlogy in the recipe: onnx.checker refuses it"): text(
        "(x, y) => (z) { z = Neg (q) }"),
    ("logarithm", 17, "onnx.checker refuses"): text("(x, y) => (z) { i = Cast <to = 7> (x) z = Mul (i, y) }"),
    ("logarithm", 17, "[rewrites] Xlogi in the recipe: expected an op of TensorFlow's"): {
        "rewrites": {"Xlogi": ""}},
    ("logarithm", 17, "found side: leave it out"): text("<side> (x, y) => (z) { z = Mul (x, y) }"),
    ("equal", 17, "[rewrites] ApproximateEqual in the recipe: expected every attribute of TensorFlow's op to be "
                  "taken, found tolerance left over: begin the text with <tolerance>"): {
        "rewrites": {"ApproximateEqual": "(x, y) => (z) { z = Less (x, y) }"}},
    ("equal", 17, "[custom_ops.ApproximateEqual] in the recipe: expected every attribute"): {
        "custom_ops": {"ApproximateEqual": dict(OPERATOR, outputs=["bool"])}},
    ("places", 17, "[custom_ops.LowerBound] in the recipe: expected outputs of dtype int64, found int32 at"): {
        "custom_ops": {"LowerBound": dict(OPERATOR, outputs=["int64"])}},
    ("places", 17, "expected 2 inputs and 1 outputs"): {
        "custom_ops": {"LowerBound": dict(OPERATOR, inputs=["float32"])}},
    ("hurwitz", 17, "for TensorFlow op Zeta: give it a text under [rewrites] in the recipe, or a kernel under "
                 "[custom_ops.Zeta], as docs/rewrites.md says"): {},
    ("logarithm", 17, "broken in __main__: expected a rewritten graph, found ValueError: a flaw"): "broken",
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> tuple[list[str], Path]:
    """What each of WRONG ends with, and the model that the guide's text makes."""
    path = tmp_path_factory.mktemp("converted") / "model.onnx"
    asked = [(port, written, opset) for (port, opset, _), written in WRONG.items()]
    asked.append(("equal", tomllib.loads(SHOWN["toml"][0]), 17))
    done = run("scripts/in", "legacy", "python", "-c", CONVERSION, json.dumps(asked), path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), path


def test_what_is_written_wrongly_is_named_by_its_key(converted):
    said, _ = converted
    for (_, _, expected), found in zip(WRONG, said):
        assert expected in found


def test_a_text_takes_attributes_of_tensorflows(converted):
    said, path = converted
    [found] = onnxruntime.InferenceSession(path).run(None, {
        "x": np.float32([[1, 1, 1]]), "y": np.float32([[1.1, 1.25, 0.8]])})
    assert said[-1] == "" and found.tolist() == [[True, False, True]]


def write(tree: Path, told: str) -> Path:
    folder = tree / "models/fixture"
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(told)
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    return tree


def cast(tree: Path) -> subprocess.CompletedProcess[str]:
    return run("make", "--no-print-directory", "fixture", cwd=tree)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the tree with the fixture model in it, cast in every variant."""
    tree = write(copy_tree(tmp_path_factory.mktemp("rewrites") / "tree"), RECIPE + SMALLER)
    done = cast(tree)
    assert "passed" in done.stdout, done.stdout + done.stderr
    return tree


@pytest.fixture
def task(tree) -> job.Job:
    folder = tree / "build/seeded/fixture"
    inputs = {stage: folder / stage for stage in ("compose", "export")}
    return job.Job("fixture", "seeded", recipe.read(tree, "fixture"), inputs, folder / "verify", None)


def artifact(task: job.Job, variant: str) -> Path:
    return task.inputs["compose"] / f"fixture-scorer-{variant}.onnx"


def test_a_model_with_all_of_it_is_cast_and_verified(task):
    report = json.loads((task.out / "report.json").read_text())
    gates = {(one["variant"], gate["metric"], gate["port"]): gate
             for one in report["artifacts"] for gate in one["gates"]}
    assert len(report["artifacts"]) == 1 + len(METHODS) and all(gate["passed"] for gate in gates.values())
    assert gates["fp32", "max_error", "places"]["measured"] == 0
    assert 0 < gates["fp32", "max_error", "scores"]["measured"] < 5e-6


@pytest.mark.parametrize("variant", ["fp32", *METHODS])
def test_texts_are_inlined_and_operators_stay(task, variant):
    model = onnx.load(artifact(task, variant))
    own = {(node.domain, node.op_type) for node in model.graph.node} - {("com.microsoft", "MatMulNBits")}
    assert {op for domain, op in own if domain} == {"LowerBound", "ApproximateEqual"}
    assert not model.functions and {"Xlogy", "Erfinv", "Complex", "EuclideanNorm"}.isdisjoint(op for _, op in own)
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert told["operators"] == "bellfoundry.ops from models/fixture/kernels.py, by onnxruntime-extensions"


@pytest.mark.parametrize(("changed", "said"), [
    ({"LowerBound": "stranger.ops"}, "expected standard ONNX of opset 17 and bellfoundry.ops, found"),
    ({"LowerBound": "stranger.ops"}, "doesn't name (stranger.ops.LowerBound)"),
    ({"Sqrt": "bellfoundry.ops"}, "holds operators that the recipe's custom_ops doesn't name (bellfoundry.ops.Sqrt)"),
])
def test_an_operator_that_the_recipe_does_not_name_is_caught(task, tmp_path, changed, said):
    model = onnx.load(artifact(task, "fp32"))
    for node in model.graph.node:
        node.domain = changed.get(node.op_type, node.domain)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, 1 if domain else 17)
                              for domain in sorted({node.domain for node in model.graph.node}))
    onnx.save(model, tmp_path / "model.onnx")
    assert any(said in flaw for flaw in verify.flaws(tmp_path / "model.onnx", task, "scorer", "fp32"))
    assert not list(verify.flaws(artifact(task, "fp32"), task, "scorer", "fp32"))


def test_an_operator_of_another_version_is_caught(task, tmp_path):
    model = onnx.load(artifact(task, "fp32"))
    next(opset for opset in model.opset_import if opset.domain).version = 2
    onnx.save(model, tmp_path / "model.onnx")
    assert "('bellfoundry.ops', 2)" in next(verify.flaws(tmp_path / "model.onnx", task, "scorer", "fp32"))


def test_an_artifact_that_hides_what_it_needs_is_caught(task, tmp_path):
    model = onnx.load(artifact(task, "fp32"))
    model.metadata_props.remove(next(prop for prop in model.metadata_props if prop.key == "operators"))
    onnx.save(model, tmp_path / "model.onnx")
    assert "'operators': 'bellfoundry.ops from" in next(verify.flaws(tmp_path / "model.onnx", task, "scorer", "fp32"))


def test_what_is_written_is_part_of_the_stages_keys(tree, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tree)

    def changed(name: str) -> list[str]:
        def keys() -> dict[str, str]:
            manifest.file_hash.cache_clear()
            one = build.Build("fixture", "seeded", build.Origin(None, None, None, None), manifest.sha256)
            return {stage.name: one.key(stage) for stage in build.STAGES if one.has(stage.name)}

        before, whole = keys(), (tree / name).read_text()
        (tree / name).write_text(whole + "# a remark\n")
        after = keys()
        (tree / name).write_text(whole)
        return [stage for stage in before if before[stage] != after[stage]]

    assert changed("scripts/rewrites/Erfinv.txt") == ["export"]
    assert changed("models/fixture/rewrites.py") == ["export"]
    assert changed("models/fixture/kernels.py") == ["quantize", "verify"]
    assert changed("models/fixture/recipe.toml") == []


def test_a_release_without_the_kernels_is_not_packed(tree):
    done = run("make", "package", "MODELS=fixture", cwd=tree)
    assert done.returncode and "Traceback" not in done.stderr
    assert "fixture: expected artifacts that any ONNX Runtime runs, found operators of its recipe's own" in done.stderr


def test_a_wrong_text_misses_its_gate(tree, monkeypatch):
    write(tree, RECIPE.replace("Log (y)", "Sqrt (y)"))
    told = recipe.read(tree, "fixture")
    done = run("make", "export", "MODELS=fixture", "WEIGHTS=tiny", cwd=tree)
    write(tree, RECIPE + SMALLER)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(tree))  # where the kernels are
    folders = {stage: tree / "build/tiny/fixture" / stage for stage in build.NAMES if stage not in ("ask", "lite")}
    with pytest.raises(job.Refusal, match=r"fixture-scorer-fp32.onnx: max_error of scores: .*, must be at most 1e-05"):
        for stage in (optimize.optimize, quantize.quantize, compose.compose, verify.verify):
            folders[stage.__name__].mkdir()
            stage(job.Job("fixture", "tiny", told, folders, folders[stage.__name__], None))


@pytest.mark.parametrize(("old", "new", "where", "said"), [
    ("def LowerBound", "def lower_bound", "[custom_ops.LowerBound]",
     "expected a kernel, the function LowerBound of models/fixture/kernels.py, found lower_bound, ApproximateEqual: "
     "write def LowerBound(float32, float32)"),
    ('domain = "bellfoundry.ops"', 'domain = "com.microsoft"', "domain = ", "expected a domain of your own"),
    ('domain = "bellfoundry.ops"', 'domain = "bellfoundry.rewrites"', "domain = ", "expected a domain of your own"),
    ('inputs = ["float32", "float32"]', 'inputs = ["complex64"]', "inputs = ", "unknown dtype 'complex64'"),
    ('tolerance = "float32"', 'tolerance = "float16"', "attributes = { tol", "known are int64, float32, string"),
    ("Xlogy =", "LowerBound =", "[custom_ops.LowerBound]", "has a text under [rewrites] too: leave one of them out"),
    ('about = "the place', 'name = "the place', "name = ", "unknown key 'name' in custom_ops.LowerBound"),
    ('Xlogy = """', 'Xlogy = 1\nXdivy = """', "Xlogy = ", "rewrites.Xlogy must be of type str"),
])
def test_what_is_wrong_in_a_recipe_has_its_line(tmp_path, monkeypatch, old, new, where, said):
    (tmp_path / "models").mkdir()
    (tmp_path / "images/legacy").mkdir(parents=True)
    (tmp_path / "images/legacy/requirements.lock").touch()
    assert old in RECIPE + MODULES["kernels"]
    monkeypatch.setitem(MODULES, "kernels", MODULES["kernels"].replace(old, new))
    text = RECIPE.replace(old, new, 1)
    line = text[:text.index(where)].count("\n") + 1
    write(tmp_path, text)
    with pytest.raises(job.Refusal) as refusal:
        recipe.read(tmp_path, "fixture")
    assert str(refusal.value).startswith(f"models/fixture/recipe.toml:{line}: ") and said in str(refusal.value)
