"""A checkpoint's arrays into Magenta's graph, every one accounted for (Python 3.7, TensorFlow 2.4.1)."""

import re
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet.original import contrib_name
from models.coconet.seeded import PREFIX
from scripts.arrays import flaws, listed
from scripts.job import Refusal

OF_TRAINING = re.compile(r"(^|/)(Adam(_1)?|beta[12]_power|learning_rate|global_step)$")


def load_strictly(session: tf.Session, source: Path) -> None:
    """Load every variable of the graph from the source's checkpoint, each exactly once.

    Names may be those of TensorFlow 1 or 2. What training leaves there besides (coconet_train.py saves its whole graph)
    is passed over by name. Raises Refusal naming arrays that are missing, left over, of another shape or dtype,
    unreadable or not finite.
    """
    place = source / PREFIX
    try:
        reader = tf.train.NewCheckpointReader(str(place))
    except (tf.errors.OpError, ValueError) as error:
        raise Refusal("{}: not a readable TensorFlow checkpoint: {}".format(place, _first_line(error))) from error
    dtypes = reader.get_variable_to_dtype_map()
    found = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()
             if not OF_TRAINING.search(name)}
    of_contrib = any("/SeparableConv2d/" in name for name in found)
    expected = {contrib_name(variable.op.name) if of_contrib else variable.op.name: variable
                for variable in tf.global_variables()}
    wrong = flaws(dict(sorted(found.items())), {name: tuple(one.shape.as_list()) for name, one in expected.items()})
    wrong += ["{} is {}, expected float32".format(name, dtypes[name].name) for name in sorted(found)
              if name in expected and dtypes[name] != tf.float32]
    unreadable, infinite = [], []
    for name in [] if wrong else sorted(expected):
        try:
            array = reader.get_tensor(name)
        except Exception as error:  # the reader raises whatever a damaged file leads it into
            unreadable.append("{} ({})".format(name, _first_line(error)))
            continue
        if np.isfinite(array).all():
            expected[name].load(array, session)
        else:
            infinite.append(name)
    wrong += ["{} {}: {}".format(len(names), flaw, listed(names))
              for flaw, names in (("unreadable", unreadable), ("with values that are not finite", infinite)) if names]
    if wrong:
        raise Refusal("{}: expected the {} arrays of the network that its config describes, found {}: the checkpoint "
                      "and its config don't belong together, or the files are damaged".format(
                          PREFIX, len(expected), "; ".join(wrong)))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
