"""What tf2onnx lacks is given by texts, rewriters and kernels, and each is proven against TensorFlow like all else."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, copy_tree, made, run

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

[custom_ops.LowerBound]
about = "the place in a sorted row at which a value would stand"
domain = "bellfoundry.ops"
inputs = ["float32", "float32"]
outputs = ["int32"]

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
SMALLER = "".join(f'[variants.{name}]\nmethod = "{method}"\nabout = "smaller"\n{more}' for name, method, more in (
    ("fp16", "half-weights", ""), ("int8", "static-qdq", ""), ("bytes", "byte-weights", ""),
    ("columns", "dynamic-columns", ""), ("blocks", "dynamic-blocks", 'domain = "com.microsoft"\n')))
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
    "rewrites": '''
def magnitude(graph, nodes):
    """The magnitude of complex numbers, which ONNX doesn't have, from their parts."""
    for node in nodes:
        if node.type == "ComplexAbs" and node.inputs[0].type == "Complex":
            def made(op, *inputs):
                return graph.make_node(op, list(inputs), shapes=[graph.get_shape(node.output[0])],
                                       dtypes=[graph.get_dtype(node.output[0])], skip_conversion=True).output[0]
            squares = [made("Mul", part, part) for part in node.inputs[0].input]
            graph.replace_all_inputs(node.output[0], made("Sqrt", made("Add", *squares)))
    return graph.get_nodes()

REWRITERS = [magnitude]

def quarter(graph, node, name, args):
    node.type = "Mul"
    node.input.append(graph.make_const(name + "_quarter", __import__("numpy").float32(0.25)).output[0])

HANDLERS = {}
''',
    "kernels": '''
import numpy as np

def LowerBound(rows, values):
    """int32 [rows, values]: how many numbers of the sorted row are less than each value."""
    return np.stack([np.searchsorted(row, value) for row, value in zip(rows, values)]).astype(np.int32)
''',
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
        tf.identity(tf.matmul(mixed, tf.constant(second)), "scores")
        ports = [[port["name"] for port in recipe["components"]["scorer"][kind]] for kind in ("inputs", "outputs")]
        model = freeze(session, *ports, recipe["opset"], recipe, rewriters=rewrites.REWRITERS,
                       handlers=rewrites.HANDLERS)
        onnx.save(model, str(out / "scorer.onnx"))
        arrays = {}
        for rows in (1, 40):
            fed = np.where(np.arange(8) == 3, np.float32(0), seeded_uniform("fixture/reference", (rows, 8)))
            answers = session.run(["scores:0", "places:0"], {"x:0": fed})
            for port, array in zip(("x", "scores", "places"), (fed, *answers)):
                arrays["scorer/{}/{}".format(rows, port)] = array
    np.savez(str(out / "reference.npz"), **arrays)
""",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree with the fixture model in it, cast in every variant."""
    tree = copy_tree(tmp_path_factory.mktemp("rewrites") / "tree")
    folder = tree / "models/fixture"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE + SMALLER)
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    made("checksums", "MODELS=fixture", cwd=tree) if False else None
    return tree


def test_all(tree):
    done = run("make", "--no-print-directory", "fixture", cwd=tree)
    print(done.stdout, done.stderr)
    for path in (tree / "build/seeded/fixture").glob("*.log"):
        print(path.name, path.read_text()[-3000:])
    assert 0
