"""A GrooVAE checkpoint, read strictly: every array accounted for, and the configuration that it belongs to.

Magenta's checkpoints hold no configuration, and four of its GrooVAE configurations have arrays of
the same names and shapes. What tells them apart is what training leaves beside the weights: the
length of the examples in the graph (.meta), and which inputs the optimizer has ever seen move the
encoder (Adam's slots: where an input is always zero, so are they, to the last bit).
"""

import hashlib
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from models.groovae.inputs import DEPTH, DRUMS, LATENT, OPEN_HI_HAT
from models.groovae.original import CONFIGURATION, build, configs
from scripts.job import Refusal, progress

# The index of the released checkpoint. It holds a CRC-32C of each tensor, which TensorFlow's
# reader compares with what it reads: with this index, only the released arrays can be read.
RELEASED_INDEX = "d28995ac26a9fc86e35defe0ccf6abcebfdcd66afdebdccd14703457ec36fa19"
ENCODER = "encoder/cell_0/bidirectional_rnn/{}/"
CELL = "multi_rnn_cell/cell_{}/lstm_cell/"
OPAQUE = re.compile(r"(encoder/cell_0/bidirectional_rnn/(fw|bw)|decoder)/opaque_kernel$")  # cuDNN's copy of the LSTMs
SLOT = re.compile(r"(.+)/Adam(_1)?$")
TAPPED = {OPEN_HI_HAT, 2 * DRUMS + OPEN_HI_HAT}
CLOSED_HI_HAT = {2, DRUMS + 2, 2 * DRUMS + 2}
BAR = 16  # steps
MOST_TOLD = 6


def read(source: Path) -> Dict[str, np.ndarray]:
    """The network's arrays by their TensorFlow names, from the one checkpoint in a folder.

    Raises Refusal naming each array that is missing, left over, mis-shaped, unreadable or not
    finite, and the configuration where it is another than this recipe's.
    """
    [index] = source.glob("*.index")
    prefix = index.with_suffix("")
    try:
        reader = tf.train.NewCheckpointReader(str(prefix))
        shapes = reader.get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError) as error:
        raise Refusal("{}: not a readable TensorFlow checkpoint: {}".format(index.name, first_line(error))) from error
    expected = variables(sizes_of(shapes))
    found = {name: shape for name, shape in shapes.items() if name in expected or not of_training(name, expected)}
    wrong = ["missing " + name for name in sorted(set(expected) - set(found))]
    wrong += ["unexpected " + name for name in sorted(set(found) - set(expected))]
    wrong += ["{} is {}, expected {}".format(name, found[name], expected[name])
              for name in sorted(set(found) & set(expected)) if found[name] != expected[name]]
    if wrong:
        raise Refusal("{}: {}: {}".format(prefix.name, listed(wrong), whose(found)))

    arrays = {}
    for name in sorted(shapes):
        try:
            array = reader.get_tensor(name)
        except Exception as error:  # the reader raises whatever a damaged file leads it into
            wrong.append("{} is unreadable ({})".format(name, first_line(error).rsplit("): ", 1)[-1]))
            continue
        if name in expected and not np.isfinite(array).all():
            wrong.append("{} holds values that are not finite".format(name))
        arrays[name] = array
    if wrong:
        raise Refusal("{}: {}: the files are damaged or don't belong together: fetch them again".format(
            prefix.name, listed(wrong)))

    released = hashlib.sha256(index.read_bytes()).hexdigest() == RELEASED_INDEX
    if released:
        progress("all {} arrays have the CRC-32C of the released {}".format(len(arrays), CONFIGURATION))
    else:
        require_taps(prefix, arrays)
    return {name: arrays[name] for name in expected}


def sizes_of(shapes: Dict[str, List[int]]) -> Dict[str, Any]:
    """Magenta's hyperparameters that decide the arrays' shapes, seen from some of them; its own where those lack."""
    told = configs.CONFIG_MAP[CONFIGURATION].hparams

    def units(name: str, default: int) -> int:
        return shapes[name][0] // 4 if len(shapes.get(name, [])) == 1 and shapes[name][0] >= 4 else default

    return {
        "enc_rnn_size": [units(ENCODER.format("fw") + CELL.format(0) + "bias", told.enc_rnn_size[0])],
        "dec_rnn_size": [units("decoder/" + CELL.format(number) + "bias", default)
                         for number, default in enumerate(told.dec_rnn_size)],
        "z_size": LATENT,
    }


def sizes(arrays: Dict[str, np.ndarray]) -> Dict[str, Any]:
    """The same of arrays that were read."""
    return sizes_of({name: list(array.shape) for name, array in arrays.items()})


def variables(told: Dict[str, Any]) -> Dict[str, List[int]]:
    """The shapes of the variables of Magenta's own graph, by name: 16 of the network, and global_step."""
    with tf.Graph().as_default():
        build(told, batch=1)
        return {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}


def of_training(name: str, expected: Dict[str, List[int]]) -> bool:
    """Whether only training needs the array: Adam's state of a known one, or cuDNN's copy of the LSTMs."""
    slot = SLOT.match(name)
    owner = slot.group(1) if slot else name
    return name in ("beta1_power", "beta2_power") or bool(OPAQUE.match(owner)) or bool(slot and owner in expected)


def whose(found: Dict[str, List[int]]) -> str:
    """Advice where the arrays don't fit, with the name of the GrooVAE configuration that they do fit."""
    latent = found.get("encoder/mu/bias", [LATENT])
    if latent != [LATENT]:
        return "its z_size is {0}, the recipe's ports are for {1}: train with z_size={1}".format(latent[0], LATENT)
    for name, config in sorted(configs.CONFIG_MAP.items()):
        converter = config.data_converter
        depth = converter.output_depth + converter.control_depth
        kernel = found.get(ENCODER.format("fw") + CELL.format(0) + "kernel", [0, 0])
        if name.startswith("groovae_") and converter.control_depth and kernel[0] - kernel[1] // 4 == depth:
            return "these are the arrays of {}: give a checkpoint of {}".format(name, CONFIGURATION)
    return "these are not the arrays of {}: give a checkpoint of it".format(CONFIGURATION)


def require_taps(prefix: Path, arrays: Dict[str, np.ndarray]) -> None:
    """Raises Refusal naming the configuration where the checkpoint was trained on something else than taps."""
    seen, length = inputs_seen(arrays), example_length(prefix.with_suffix(prefix.suffix + ".meta"))
    other = None
    if seen is None:
        if length not in (None, 2 * BAR):
            other = "groovae_{}bar".format(length // BAR), "examples of {} steps".format(length)
    elif not seen <= TAPPED:
        if seen <= set(range(DRUMS)):
            other = "groovae_2bar_humanize", "the hits of all drums"
        elif not seen & CLOSED_HI_HAT:
            other = "groovae_2bar_add_closed_hh", "all drums but the closed hi-hat"
        else:
            other = "groovae_{}bar".format((length or 4 * BAR) // BAR), "whole drum performances"
    if other:
        raise Refusal("{}: expected a checkpoint of {}, found one of {}: it was trained on {}, not on taps: "
                      "give another checkpoint".format(prefix.name, CONFIGURATION, *other))


def inputs_seen(arrays: Dict[str, np.ndarray]) -> Optional[Set[int]]:
    """Which of the 27 inputs were ever other than zero in training; None where the checkpoint doesn't tell."""
    rows = []
    for direction in ("fw", "bw"):
        scope = ENCODER.format(direction)
        plain = arrays.get(scope + CELL.format(0) + "kernel/Adam_1")
        opaque = arrays.get(scope + "opaque_kernel/Adam_1")
        if plain is not None:
            rows.append(plain[:DEPTH])
        elif opaque is not None:  # the input's weights come first, [4 * units, 27]
            units = len(arrays[scope + CELL.format(0) + "bias"]) // 4
            rows.append(opaque[:4 * units * DEPTH].reshape(4 * units, DEPTH).T)
    seen = {number for row in rows for number in np.flatnonzero(row.any(axis=1)).tolist()}
    certain = any(SLOT.match(name) and name.endswith("lstm_cell/kernel/Adam_1") for name in arrays)
    # cuDNN calls its layout opaque: rows that are zero throughout prove that it is this one.
    return seen if rows and (certain or len(seen) < DEPTH) else None


def example_length(meta: Path) -> Optional[int]:
    """The steps that training cuts its examples to (max_seq_len in base_model.py), if a graph is there to say so."""
    if not meta.is_file():
        return None
    graph = tf.MetaGraphDef()
    try:
        graph.ParseFromString(meta.read_bytes())
    except DecodeError as error:
        raise Refusal("{}: expected the graph of a checkpoint, found a damaged file: fetch it again, or give the "
                      "checkpoint without it".format(meta.name)) from error
    constants = {node.name: node.attr["value"].tensor for node in graph.graph_def.node if node.op == "Const"}
    for node in graph.graph_def.node:
        if node.op == "Minimum" and node.name == "Minimum" and node.input[1] in constants:
            return int(tf.make_ndarray(constants[node.input[1]]))
    return None


def listed(flaws: List[str]) -> str:
    more = ["and {} more".format(len(flaws) - MOST_TOLD)] if len(flaws) > MOST_TOLD else []
    return "; ".join(flaws[:MOST_TOLD] + more)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
