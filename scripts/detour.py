"""From a TensorFlow 1 session to ONNX, straight, or by way of a graph model of TensorFlow.js (Python 3.7).

The detour is `ROUTE=tfjs`: what tensorflowjs' converter makes of a SavedModel, read again by tf2onnx. The straight way
is gone too then, and its graph lies beside the other as <component>.direct.onnx, for the stage verify to compare.
"""

import contextlib
import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np
import onnx
import tensorflow.compat.v1 as tf
import tf2onnx.optimizer
import tf2onnx.tfonnx

from scripts.freeze import checked, constant_graph, freeze
from scripts.job import Refusal, progress

UNSUPPORTED = "Unsupported Ops in the model"  # how the converter's complaint begins


def write(session: tf.Session, described: Dict[str, Any], recipe: Dict[str, Any], path: Path) -> None:
    """Write the graph between the ports that a component's or a step's description names, by the recipe's route.

    Raises Refusal where an op isn't known on the way.
    """
    ports = [[port["name"] for port in described[kind]] for kind in ("inputs", "outputs")]
    direct = freeze(session, *ports, opset=recipe["opset"])
    if "route" in recipe:
        onnx.save(direct, str(path.with_suffix(".direct.onnx")))
        progress("converting it by way of TensorFlow.js, too")
        onnx.save(by_tfjs(session, *ports, opset=recipe["opset"]), str(path))
    else:
        onnx.save(direct, str(path))


def by_tfjs(session: tf.Session, inputs: Sequence[str], outputs: Sequence[str], opset: int) -> onnx.ModelProto:
    """As scripts.freeze.freeze, but through a graph model of TensorFlow.js."""
    # Slow to import, and the straight way needs none of it.
    from tensorflowjs.converters.tf_saved_model_conversion_v2 import convert_tf_saved_model

    with tempfile.TemporaryDirectory() as folder:
        save(constant_graph(session, outputs), inputs, outputs, folder + "/saved")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it tells the folder's name
                convert_tf_saved_model(folder + "/saved", folder + "/tfjs")
        except ValueError as error:
            if not str(error).startswith(UNSUPPORTED):
                raise
            ops = ", ".join(sorted(str(error).splitlines()[-1].split(", ")))
            raise Refusal("TensorFlow.js has no {}: leave out ROUTE, and the graph is converted straight".format(
                ops)) from error
        with tf.Graph().as_default() as empty:
            graph = tf2onnx.tfonnx.process_tf_graph(
                empty, opset=opset, tfjs_path=folder + "/tfjs/model.json",
                input_names=[name + ":0" for name in inputs], output_names=[name + ":0" for name in outputs],
                tensors_to_rename={name + ":0": name for name in [*inputs, *outputs]})
        model = tf2onnx.optimizer.optimize_graph(graph).make_model("tfjs")
    return_biases(model.graph)
    return checked(model, inputs, outputs)


def return_biases(graph: onnx.GraphProto) -> None:
    """Give biases back to their convolutions: bias + (convolution + x), as grappler reorders it, becomes a sum of two.

    Otherwise each such sum would be rounded once more where the graph is quantized.
    """
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    users = Counter(name for node in graph.node for name in node.input)

    def bare(name: str, bias: np.ndarray) -> bool:
        node = producers.get(name)
        return (node is not None and node.op_type == "Conv" and len(node.input) == 2 and users[name] == 1
                and bias.shape == (1, arrays[node.input[1]].shape[0], 1, 1))

    for node in [node for node in graph.node if node.op_type == "Add"]:
        bias, total = sorted(node.input, key=lambda name: name not in arrays)
        inner = producers.get(total)
        if bias not in arrays or inner is None or inner.op_type != "Sum" or users[total] != 1 or len(inner.input) != 2:
            continue
        convolution = next((producers[name] for name in inner.input if bare(name, arrays[bias])), None)
        if convolution is not None:
            convolution.input.append(convolution.output[0] + "/bias")
            graph.initializer.append(onnx.numpy_helper.from_array(arrays[bias].reshape(-1), convolution.input[2]))
            node.input[:] = inner.input
            graph.node.remove(inner)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def save(frozen: tf.GraphDef, inputs: Sequence[str], outputs: Sequence[str], folder: str) -> None:
    """Write a SavedModel of constants alone."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(frozen, name="")
        tf.saved_model.simple_save(session, folder, *(
            {name: graph.get_tensor_by_name(name + ":0") for name in names} for names in (inputs, outputs)))
