"""Writes into a folder what tests of `make inspect` look at, by TensorFlow itself (Python 3.7)."""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

v1 = tf.compat.v1


class Softener(tf.keras.layers.Layer):
    """A layer that isn't Keras' own."""

    def build(self, shape):
        self.scale = self.add_weight("scale", shape[-1:], initializer="ones")

    def call(self, inputs):
        return tf.tanh(inputs * self.scale)

    def get_config(self):
        return super().get_config()


def tf1_saved_model(folder: Path) -> None:
    """Two layers with variables of TensorFlow 1, and a signature with a dynamic batch."""
    with tf.Graph().as_default(), v1.Session() as session:
        heard = v1.placeholder(tf.float32, [None, 4], "heard")
        with v1.variable_scope("dense", use_resource=False):
            hidden = tf.nn.relu(tf.matmul(heard, v1.get_variable("kernel", [4, 3])))
        with v1.variable_scope("output", use_resource=True):
            said = tf.identity(tf.matmul(hidden, v1.get_variable("kernel", [3, 2])), "said")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder), {"heard": heard}, {"said": said})


def keras_models(folder: Path) -> None:
    """An LSTM with a layer of the user's own, as H5 and SavedModel; an embedding; a Lambda layer that writes a file."""
    heard = tf.keras.Input([None, 5], name="notes")
    told = Softener(name="soft")(tf.keras.layers.LSTM(3, name="lstm")(heard))
    model = tf.keras.Model(heard, tf.keras.layers.Dense(2, name="chords")(told))
    model.save(str(folder / "keras.h5"))
    model.save(str(folder / "keras"))
    model.save_weights(str(folder / "weights.h5"))
    words = tf.keras.Input([None], dtype=tf.int32)
    tf.keras.Model(words, tf.keras.layers.Embedding(9, 4)(words)).save(str(folder / "embedding"))
    marker = str(folder / "ran")
    harmful = tf.keras.layers.Lambda(lambda x: (open(marker, "w").close(), x)[1], name="harmful")
    model = tf.keras.Sequential([tf.keras.Input([2]), harmful])
    model.save(str(folder / "lambda.h5"))
    (folder / "ran").unlink()


def looked_up(folder: Path) -> None:
    """An embedding behind a lookup table."""
    class Model(tf.Module):
        def __init__(self):
            self.rows = tf.Variable(np.ones((4, 3), np.float32))
            keys, values = tf.constant([36, 38, 42], tf.int64), tf.constant([1, 2, 3], tf.int64)
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "pitches")])
        def __call__(self, pitches):
            return {"vectors": tf.gather(self.rows, self.table.lookup(pitches))}

    model = Model()
    tf.saved_model.save(model, str(folder), signatures=model.__call__)


def frozen_graphs(folder: Path) -> None:
    """Ops that tf2onnx has no handler for; ops that would run something; loops of both kinds."""
    def write(name, build):
        with tf.Graph().as_default() as graph:
            build()
        pruned = v1.graph_util.extract_sub_graph(graph.as_graph_def(), ["y"])
        (folder / name).write_bytes(pruned.SerializeToString())

    def unsupported():
        x = v1.placeholder(tf.float32, [None, 3], "x")
        with tf.name_scope("loss"):
            y = tf.math.xlogy(x, tf.constant(2.0))
        tf.identity(tf.math.igamma(tf.math.zeta(y, x), x) + tf.nn.relu(x), "y")

    def harmful():
        x = v1.placeholder(tf.float32, [2], "x")
        written = v1.py_func(lambda x: x, [x], tf.float32, name="python")
        tf.reshape(written, [tf.strings.to_number(tf.io.read_file(str(folder / "pipe")), tf.int32)], name="y")

    def constant():
        x = v1.placeholder(tf.float32, [None, 3], "x")
        tf.identity(x * tf.math.zeta(tf.constant([2.0, 3.0, 4.0]), tf.constant(1.5)), "y")

    def loop_v1():
        v1.disable_control_flow_v2()
        x = v1.placeholder(tf.float32, [None, 3], "x")
        tf.identity(tf.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, tf.tanh(y)), [0, x])[1], "y")

    write("unsupported.pb", unsupported)
    write("harmful.pb", harmful)
    write("constant.pb", constant)
    write("loop_v1.pb", loop_v1)
    v1.enable_control_flow_v2()
    write("loop_v2.pb", lambda: tf.identity(tf.while_loop(
        lambda i, y: i < 4, lambda i, y: (i + 1, tf.tanh(y)), [0, v1.placeholder(tf.float32, [None, 3], "x")])[1], "y"))


def tfjs(folder: Path) -> None:
    """A graph model as tensorflowjs writes it: here of the same GraphDef's JSON, with one shard."""
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        tf.identity(tf.nn.softmax(tf.matmul(x, tf.ones([4, 2], name="kernel"))), "y")
    arrays = {n.name: tf.make_ndarray(n.attr["value"].tensor) for n in graph.as_graph_def().node if n.op == "Const"}
    definition = graph.as_graph_def()
    for node in definition.node:
        if node.op == "Const":
            node.attr["value"].tensor.Clear()
    folder.mkdir()
    (folder / "group1-shard1of1.bin").write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values()))
    (folder / "model.json").write_text(json.dumps({
        "format": "graph-model", "modelTopology": MessageToDict(definition),
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": [
            {"name": name, "shape": list(a.shape), "dtype": a.dtype.name} for name, a in arrays.items()]}]}))


def hostile(folder: Path) -> None:
    """Files of every kind that aren't what they were given as, or ask for what they shouldn't: one folder a kind."""
    for kind in ("frozen", "saved_model", "h5", "tfjs"):
        (folder / kind).mkdir(parents=True)

    def graph(name, *nodes):
        (folder / "frozen" / name).write_bytes(v1.GraphDef(node=nodes).SerializeToString())

    def constant(*shape):
        node = v1.NodeDef(name="c", op="Const")
        node.attr["dtype"].type = node.attr["value"].tensor.dtype = 1
        node.attr["value"].tensor.float_val.append(1)
        for size in shape:
            node.attr["value"].tensor.tensor_shape.dim.add(size=size)
        return node

    def relu(name, source):
        node = v1.NodeDef(name=name, op="Relu", input=[source])
        node.attr["T"].type = 1
        return node

    graph("circle.pb", relu("a", "b"), relu("b", "a"), relu("y", "a"))
    graph("lacking.pb", relu("y", "nowhere"))
    graph("huge.pb", constant(2**20, 2**20), relu("y", "c"))
    foreign = v1.NodeDef(name="scope/own", op="SomebodysOwnOp", input=["c"])
    graph("foreign.pb", constant(2), foreign, relu("y", "scope/own:1"))
    whole = (folder.parent / "unsupported.pb").read_bytes()
    (folder / "frozen/cut.pb").write_bytes(whole[:len(whole) // 2])

    saved = (folder.parent / "keras/saved_model.pb").read_bytes()
    for name, content in (("cut", saved[:len(saved) // 2]), ("empty", b""), ("encrypted", b"Salted__" + saved)):
        (folder / "saved_model" / name).mkdir()
        (folder / "saved_model" / name / "saved_model.pb").write_bytes(content)
    model = SavedModel.FromString(saved)
    for function in model.meta_graphs[0].graph_def.library.function:  # which call themselves
        for node in function.node_def:
            if node.op.endswith("PartitionedCall"):
                node.attr["f"].func.name = function.signature.name
    (folder / "saved_model/endless").mkdir()
    (folder / "saved_model/endless/saved_model.pb").write_bytes(model.SerializeToString())

    whole = (folder.parent / "keras.h5").read_bytes()
    (folder / "h5/cut.h5").write_bytes(whole[:len(whole) // 2])
    (folder / "h5/foreign.h5").write_bytes(b"PK\3\4 a zip")
    with h5py.File(str(folder / "h5/link.h5"), "w") as file:
        file["outside"] = h5py.ExternalLink(str(folder.parent / "keras.h5"), "/model_weights")
    with h5py.File(str(folder / "h5/stored.h5"), "w") as file:
        file.create_dataset("passwd", (8,), "u1", external=[("/etc/passwd", 0, 8)])
    for name, text in (("nested.h5", "[" * 60_000), ("words.h5", "no JSON")):
        with h5py.File(str(folder / "h5" / name), "w") as file:
            file.attrs.create("model_config", np.string_(text))

    told = json.loads((folder.parent / "tfjs/model.json").read_text())
    for name, change in (("outside", {"paths": ["../../tfjs/group1-shard1of1.bin"]}),
                         ("absolute", {"paths": ["/etc/passwd"]}),
                         ("short", {"weights": [{"name": "kernel", "shape": [4, 3], "dtype": "float32"}]})):
        (folder / "tfjs" / name).mkdir()
        (folder / "tfjs" / name / "group1-shard1of1.bin").write_bytes(bytes(32))
        (folder / "tfjs" / name / "model.json").write_text(json.dumps(
            dict(told, weightsManifest=[dict(told["weightsManifest"][0], **change)])))
    for name, text in (("nested", "[" * 100_000), ("words", "no JSON"), ("list", "[1]")):
        (folder / "tfjs" / name).mkdir()
        (folder / "tfjs" / name / "model.json").write_text(text)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    tf1_saved_model(out / "tf1")
    keras_models(out)
    looked_up(out / "looked_up")
    frozen_graphs(out)
    tfjs(out / "tfjs")
    hostile(out / "hostile")
