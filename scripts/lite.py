"""Stage lite, in the model's own toolchain: the artifacts for TensorFlow Lite, and what its interpreter answers.

The model's lite.py builds the graphs; each becomes <component>-<variant>.tflite in each of the
recipe's [lite] variants, with the metadata by which it can be told apart from any other. The
interpreter then runs every case of reference.npz on the finished file; its answers go to
answers.npz, as `<component>-<variant>/<case>/<port>`, for the stage verify to judge.

Methods: `none` converts; `dynamic-range` stores weights as 8-bit integers besides.
"""

import json
from pathlib import Path
from typing import Any, Callable, Dict, Sequence

import flatbuffers
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.lite.python import schema_py_generated as schema

from scripts import identity, job, reference

OPTIMIZATIONS = {"none": [], "dynamic-range": [tf.lite.Optimize.DEFAULT]}
METADATA = "bellfoundry"  # the name of the metadata entry, a JSON object
OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def lite(task: job.Job) -> None:
    cases = reference.read(task.inputs["export"] / "reference.npz")
    answers = {}
    with tf.Graph().as_default(), tf.Session() as session:
        graphs = task.module("lite").build(task.inputs["fetch"])
        for variant, how in task.recipe["lite"].items():
            for component in how["components"]:
                path = task.out / "{}-{}.tflite".format(component, variant)
                job.progress("{}: {}, {}".format(component, variant, how["about"]))
                told = dict(identity.identity(task, component, variant),
                            source_sha256=identity.source_hash(task.inputs["fetch"]))
                path.write_bytes(label(convert(session, *graphs[component], method=how["method"]), told))
                outputs = [port["name"] for port in task.recipe["components"][component]["outputs"]]
                for case, feed in cases[component].items():
                    for port, array in zip(outputs, interpret(path, feed, outputs)):
                        answers["{}/{}/{}".format(path.stem, case, port)] = array
    np.savez(str(task.out / "answers.npz"), **answers)


def convert(session: tf.Session, inputs: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor], method: str) -> bytes:
    """A graph as a TensorFlow Lite model of builtin operators. Raises Refusal naming any other."""
    converter = tf.lite.TFLiteConverter.from_session(session, list(inputs), list(outputs))
    converter.optimizations = OPTIMIZATIONS[method]
    converter.allow_custom_ops = True  # so that they can be named
    model = converter.convert()
    foreign = [name for name in operators(model) if name.startswith("CUSTOM ")]
    if foreign:
        raise job.Refusal("no builtin operator of TensorFlow Lite for {}: rewrite it in the model's lite.py".format(
            ", ".join(name[len("CUSTOM "):] for name in foreign)))
    return model


def operators(model: bytes) -> Dict[str, int]:
    """How often each operator occurs, loops' bodies included, by name; foreign ones as `CUSTOM <name>`."""
    told = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    names = ["CUSTOM " + code.customCode.decode() if code.customCode else OPERATORS[code.builtinCode]
             for code in told.operatorCodes]
    used = [names[operator.opcodeIndex] for graph in told.subgraphs for operator in graph.operators]
    return {name: used.count(name) for name in sorted(set(used))}


def label(model: bytes, told: Dict[str, str]) -> bytes:
    """The model with metadata in it, an entry that holds JSON."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(json.dumps(told, sort_keys=True).encode(), np.uint8)
    entry.name, entry.buffer = METADATA, len(whole.buffers)
    whole.buffers.append(buffer)
    whole.metadata.append(entry)
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def labelled(model: bytes) -> Dict[str, str]:
    """What the metadata of a model says."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(model, 0))
    [entry] = [entry for entry in whole.metadata if entry.name == METADATA.encode()]
    return json.loads(bytes(bytearray(whole.buffers[entry.buffer].data)).decode())


def interpreter(path: Path, feed: Dict[str, np.ndarray], threads: int = 1) -> Callable[[], Any]:
    """A call that runs the model on a feed; the interpreter is returned, for its outputs to be read."""
    made = tf.lite.Interpreter(str(path), num_threads=threads)
    ports = made.get_input_details()
    for port in ports:
        made.resize_tensor_input(port["index"], feed[port["name"]].shape)
    made.allocate_tensors()

    def call() -> Any:
        for port in ports:
            made.set_tensor(port["index"], feed[port["name"]])
        made.invoke()
        return made

    return call


def interpret(path: Path, feed: Dict[str, np.ndarray], outputs: Sequence[str]) -> Sequence[np.ndarray]:
    """What the interpreter answers, in the order of the named outputs."""
    made = interpreter(path, feed)()
    found = {port["name"]: made.get_tensor(port["index"]) for port in made.get_output_details()}
    return [found[name] for name in outputs]


if __name__ == "__main__":
    job.run(lite)
