"""TensorFlow to ONNX, in its own toolchain: what tf2onnx would do in silence is refused or made the same each time."""

from tests.conftest import run

HEAD = """
import numpy as np, sys
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
from scripts.freeze import freeze
from scripts.job import Refusal
x = tf.placeholder(tf.float32, [None, 3], "x")
y = tf.placeholder(tf.float32, [None, 3], "y")
"""


def legacy(code: str, **environment: str) -> str:
    done = run("scripts/in", "legacy", "python", "-c", HEAD + code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_an_op_without_an_equivalent_is_named():
    said = legacy("""
tf.identity(tf.math.zeta(x, y), "z")
with tf.Session() as session:
    try:
        freeze(session, ["x", "y"], ["z"], 17)
    except Refusal as refusal:
        print(refusal)
""")
    assert "no ONNX opset 17 equivalent for TensorFlow op Zeta" in said
    assert "a text under [rewrites] in the recipe, or a kernel under [custom_ops.Zeta]" in said


def test_ports_keep_their_order_and_names():
    said = legacy("""
tf.identity(x - y, "first"); tf.identity(x + y, "second")
with tf.Session() as session:
    for inputs, outputs in ((["x", "y"], ["first", "second"]), (["y", "x"], ["second", "first"])):
        graph = freeze(session, inputs, outputs, 17).graph
        assert [p.name for p in graph.input] == inputs and [p.name for p in graph.output] == outputs
print("kept")
""")
    assert said == "kept"


def test_a_batch_norm_is_folded_in_exact_arithmetic():
    """TensorFlow's own rsqrt is an approximation that differs between CPUs."""
    said = legacy("""
variance = (np.random.RandomState(0).rand(3000) + 0.5).astype(np.float32)
x = tf.placeholder(tf.float32, [None, 3000], "wide")
tf.identity(x * tf.rsqrt(tf.constant(variance) + 1e-3), "z")
with tf.Session() as session:
    model = freeze(session, ["wide"], ["z"], 17)
    approximate = session.run(tf.rsqrt(tf.constant(variance) + 1e-3))
import onnx
(folded,) = [onnx.numpy_helper.to_array(t).ravel() for t in model.graph.initializer if np.prod(t.dims) == 3000]
exact = (1 / np.sqrt((variance + np.float32(1e-3)).astype(np.float64))).astype(np.float32)
print((folded == exact).all(), (approximate == exact).all())
""")
    assert said == "True False"


def test_an_lstm_of_keras_in_a_function_is_one_and_its_ports_are_those_described():
    code = """
import tensorflow as tf
from scripts.freeze import freeze, function_graph
from scripts.job import Refusal
layer = tf.keras.layers.LSTM(5, return_sequences=True)
function = tf.function(lambda x, last: {"y": layer(x), "count": last + 1}).get_concrete_function(
    tf.TensorSpec([None, None, 3], tf.float32), tf.TensorSpec([], tf.int32))
ports = {"inputs": [{"name": "last", "dtype": "int64"}, {"name": "x", "dtype": "float32"}],
         "outputs": [{"name": "y", "dtype": "float32"}, {"name": "count", "dtype": "int64"}]}
with function_graph(function, ports).as_default(), tf.compat.v1.Session() as session:
    graph = freeze(session, ["last", "x"], ["y", "count"], 17).graph
print([node.op_type for node in graph.node].count("LSTM"),
      [(p.name, p.type.tensor_type.elem_type) for p in (*graph.input, *graph.output)])
try:
    function_graph(function, dict(ports, outputs=[{"name": "z", "dtype": "float32"}]))
except Refusal as refusal:
    print(refusal)
"""
    done = run("scripts/in", "legacy", "python", "-c", code)
    assert done.returncode == 0, done.stderr
    *_, converted, refused = done.stdout.strip().splitlines()
    assert converted == "1 [('last', 7), ('x', 1), ('y', 1), ('count', 7)]"
    assert "expected the ports ['last', 'x'] -> ['z'] of the recipe, found ['last', 'x'] -> ['count', 'y']" in refused
