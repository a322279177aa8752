"""The network's arrays in a file and out of it: Keras' HDF5 of weights, which holds no code (Python 3.7).

The layout is the one of Keras' save_weights: a group a layer, in it a dataset an array, their names as
attributes. It is read strictly, array by array, and never by Keras, whose load_model may run code.
"""

import re
from pathlib import Path
from typing import Dict, Iterator, Tuple

import h5py
import numpy as np
import tensorflow as tf

from models.harmonizer import network
from scripts.job import Refusal

FILE = "harmonizer.h5"
MOST = 2**24  # values of an array
COUNTED = re.compile(r"lstm_cell_\d+")  # Keras counts the cells that a process makes


def write(path: Path, model: tf.keras.Model) -> None:
    """Equal arrays give equal bytes: no times are in the file, and no names that hang on what was built before."""
    layers = [layer for layer in model.layers if layer.weights]
    with h5py.File(str(path), "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            named = [(stable(variable.name), variable) for variable in layer.weights]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [name.encode() for name, _ in named]
            for name, variable in named:
                group.create_dataset(name, data=variable.numpy(), track_times=False)


def stable(name: str) -> str:
    """An array's name without the number of its cell."""
    return COUNTED.sub("lstm_cell", name)


def places(model: tf.keras.Model) -> Iterator[Tuple[str, tf.Variable]]:
    """The model's arrays by where they lie in a file: layer/array."""
    for layer in model.layers:
        for variable in layer.weights:
            yield "{}/{}".format(layer.name, stable(variable.name)), variable


def read(path: Path) -> tf.keras.Model:
    """The network of a file's weights, without dropout.

    Raises Refusal naming each array that is missing, left over, mis-shaped, of another type than float32
    or not finite.
    """
    arrays = arrays_of(path)
    model = network.build(network.SIZES)
    expected = dict(places(model))
    wrong = ["missing " + name for name in sorted(set(expected) - set(arrays))]
    wrong += ["unexpected " + name for name in sorted(set(arrays) - set(expected))]
    for name in sorted(set(arrays) & set(expected)):
        array, shape = arrays[name], tuple(expected[name].shape)
        if array.dtype != np.float32 or array.shape != shape:
            wrong.append("{} is {} {}, expected float32 {}".format(name, array.dtype, list(array.shape), list(shape)))
        elif not np.isfinite(array).all():
            wrong.append("{} holds values that are not finite".format(name))
    if wrong:
        raise Refusal("{}: {}: train it again with make train, or take the file that it wrote".format(
            path.name, "; ".join(wrong)))
    for name, variable in expected.items():
        variable.assign(arrays[name])
    return model


def arrays_of(path: Path) -> Dict[str, np.ndarray]:
    """Every dataset of a file by its name; links and data in other files are not followed."""
    arrays = {}

    def keep(name: str, thing: object) -> None:
        if isinstance(thing, h5py.Dataset):
            if thing.external or thing.is_virtual or thing.size > MOST:
                raise Refusal("{}: expected arrays of at most {:,} values in the file itself, found {} of {:,} or "
                              "elsewhere: don't use it".format(path.name, MOST, name, thing.size))
            arrays[stable(name)] = thing[()]

    try:
        with h5py.File(str(path), "r") as file:
            file.visititems(keep)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise Refusal("{}: expected weights of Keras as HDF5, found a file that can't be read ({})".format(
            path.name, str(error).splitlines()[0])) from error
    return arrays
