"""A graph of TensorFlow 1 once more in float64: of the same weights, and without float32's rounding."""

from tests.conftest import run

HEAD = """
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
from scripts import float64
x = tf.placeholder(tf.float32, [None, 3], "x")
fed = np.random.RandomState(0).rand(5, 3).astype(np.float32)
weights = np.random.RandomState(1).rand(3, 2).astype(np.float32)
def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()
"""


def legacy(code: str) -> str:
    done = run("scripts/in", "legacy", "python", "-c", HEAD + code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_answers_are_those_of_float64_arithmetic_on_the_weights_as_they_are():
    """Through a variable, a constant, a list of types, a loop and integers."""
    said = legacy("""
variable = tf.get_variable("weights", initializer=weights)
parts = tf.identity_n([x @ variable, tf.shape(x)[:1]])
_, total = tf.while_loop(lambda i, v: i < 9, lambda i, v: (i + 1, v * np.float32(0.7) + 1), [0, parts[0]])
tf.exp(total / tf.cast(parts[1], tf.float32), "y")
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    found = float64.answering(session, ["y"])({"x": fed})["y"]
    rounded = session.run("y:0", {"x:0": fed})
expected = fed.astype(np.float64) @ weights
for _ in range(9):
    expected = expected * np.float32(0.7) + 1
expected = np.exp(expected / 5)
print(error(found, expected), error(rounded, expected), found.dtype)
""")
    near, far, dtype = said.split()
    assert float(near) < 1e-14 < 1e-8 < float(far) and dtype == "float64"


def test_functions_inside_the_graph_are_widened_too():
    said = legacy("""
from tensorflow.python.framework import function
@function.Defun(tf.float32)
def halved(value):
    return value * np.float32(1 / 3)
tf.identity(halved(x), "y")
with tf.Session() as session:
    found = float64.answering(session, ["y"])({"x": fed})["y"]
    rounded = session.run("y:0", {"x:0": fed})
expected = fed.astype(np.float64) * np.float32(1 / 3)
print(error(found, expected), error(rounded, expected))
""")
    near, far = said.split()
    assert float(near) < 1e-15 < 1e-9 < float(far)


def test_an_operation_that_has_no_float64_is_named():
    assert "FusedBatchNormV3" in legacy("""
ones = np.ones(3, np.float32)
tf.identity(tf.nn.fused_batch_norm(x[:, None, None], ones, ones, ones, ones, is_training=False)[0], "y")
with tf.Session() as session:
    try:
        float64.answering(session, ["y"])
    except ValueError as error:
        print(str(error).replace("\\n", " "))
""")
