"""The layout of Coconet's edition for browsers: TensorFlow.js' manifest and shards (Python 3.7, TensorFlow 2.4.1).

magenta-js reads raw variables (music/src/coconet/model.ts); tensorflowjs' own writer writes them, in 8 bits.
"""

from pathlib import Path
from typing import Any, Dict, Sequence, Type

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflowjs.write_weights import write_weights

from models.coconet.original import contrib_name
from models.coconet.seeded import population
from models.coconetjs import architecture
from models.coconetjs.original import Normalizing, network
from models.coconetjs.ranges import POINTWISE, STEPS, bounds
from models.coconetjs.weights import UNREAD_OF_SPLIT
from scripts.seeded import seeded_uniform

KERNELS = ("depthwise_weights", *POINTWISE)
Arrays = Dict[str, np.ndarray]


def write(folder: Path, hyperparameters: Dict[str, Any]) -> None:
    """Write stand-in weights of Magenta's hyperparameters in the upstream's layout."""
    layers = architecture.layers(hyperparameters["num_dilation_blocks"], hyperparameters["num_filters"])
    shapes = {name: shape for layer in layers for name, shape in layer.shapes().items()}
    arrays = {name: weight(name, shape, layers) for name, shape in shapes.items()}
    for layer in layers:
        if layer.splits > 1:  # what the authors' manifest has besides
            name = "{}/{}".format(layer.name, UNREAD_OF_SPLIT)
            arrays[name] = weight(name, (layer.inputs,), layers)
    arrays.update(resized(arrays, measured(hyperparameters, arrays, Normalizing), layers))
    for name, array in measured(hyperparameters, arrays, Storing).items():
        arrays[name] = reaching(array, *bounds(name, layers))
    write_weights([[{"name": name, "data": array} for name, array in arrays.items()]], str(folder),
                  quantization_dtype_map={"uint8": "*"})


def reaching(values: np.ndarray, low: float, step: float) -> np.ndarray:
    """float32 of values in 8 bits of a range, the least and the largest of them at its ends."""
    steps = np.clip(np.round((values - low) / step), 0, STEPS)
    flat = steps.ravel()
    flat[values.argmin()], flat[values.argmax()] = 0, STEPS
    return (low + step * steps).astype(np.float32)


def weight(name: str, shape: Sequence[int], layers: Sequence[architecture.Layer]) -> np.ndarray:
    """The stand-in value, float32, of an array: more small ones than large, within the range of the authors' array.

    In the first layer the notes, one pitch in 46, count eight times as much as what tells which are known, so that
    another note gives other answers. popmean and popvariance are those of nothing yet.
    """
    kind = name.rsplit("/", 1)[-1]
    if kind in ("popmean", "popvariance"):
        return np.full(shape, kind == "popvariance", np.float32)
    low, step = bounds(name, layers)
    uniform = seeded_uniform("coconetjs/" + name, shape).astype(np.float64)
    cubed = uniform * uniform * uniform
    high = low + STEPS * step
    if low > 0 or high < 0:
        values = (low + high) / 2 + (high - low) / 2 * cubed
    else:
        values = np.where(cubed < 0, -low, high) * cubed
    if name == "model/conv0/SeparableConv2d/depthwise_weights":
        values[:, :, shape[2] // 2:] /= 8
    return reaching(values, low, step)


class Storing(Normalizing):
    """Normalizes by what 8 bits hold of a batch's means and variances, so that no layer inherits what others lose."""

    def stored(self, kind: str, moment: tf.Tensor) -> tf.Tensor:
        """As reaching has it."""
        layers = architecture.layers(self.hparams.num_dilation_blocks, self.hparams.num_filters)
        low, step = bounds("{}/{}".format(tf.get_variable_scope().name, kind), layers)
        steps = tf.clip_by_value(tf.round((moment - low) / step), 0, STEPS)
        for end, value in ((tf.reduce_min(moment), 0), (tf.reduce_max(moment), STEPS)):
            steps = tf.where(tf.equal(moment, end), tf.fill(tf.shape(steps), float(value)), steps)
        return low + step * steps


def measured(hyperparameters: Dict[str, Any], arrays: Arrays, graph: Type[Normalizing]) -> Arrays:
    """popmean and popvariance that a network of such arrays has, by name in a manifest."""
    with tf.Graph().as_default(), tf.Session() as session:
        for name, variable in network(hyperparameters, graph).items():
            variable.load(arrays[name], session)
        return {contrib_name(name): array for name, array in population(session).items()}


def resized(arrays: Arrays, statistics: Arrays, layers: Sequence[architecture.Layer]) -> Arrays:
    """The kernels again, so that each layer's results vary by as much as the authors' popvariance tells.

    A filter's weights are made larger or smaller; how large all of them together can be, the range of the weights
    tells, and what is left to be done the depthwise kernel does.
    """
    found: Arrays = {}
    for layer in layers:
        low, step = bounds(layer.name + "/popvariance", layers)
        middle, half = np.log(low * (low + STEPS * step)) / 2, np.log(1 + STEPS * step / low) / 2
        uniform = seeded_uniform("coconetjs/{}/sizes".format(layer.name), (layer.outputs,)).astype(np.float64)
        aims = np.exp(middle + half * uniform * uniform * uniform)
        ratios = np.sqrt(aims / statistics[layer.name + "/popvariance"].ravel())
        level = np.exp(np.log(ratios).mean())
        for name in (name for name in layer.shapes() if name.endswith(KERNELS)):
            ratio = ratios / level
            if name.endswith("/kernel"):
                part = int(name.split("/")[-2].split("_")[-1])
                ratio = ratio.reshape(layer.splits, -1)[part]
            factor = level if name.endswith("depthwise_weights") else ratio
            found[name] = reaching(arrays[name] * factor, *bounds(name, layers))
    return found
