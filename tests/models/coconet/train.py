"""Trains a Coconet of each kind for a few steps with Magenta's own coconet_train, and exports what that saved.

In the legacy toolchain: train.py TOLD.json FOLDER. The file has the `recipe` and the `kinds`: by name, flags of
coconet_train, and beside them `batch_norm`, for which it has no flag, `contrib`, whether the layers are TensorFlow 1's,
`tfjs`, whether to go that way too, and keys that the config is to be `without`. Fills FOLDER/<kind>: run/, where
Magenta saved it, answers.npz, what Magenta's own load_checkpoint makes of that, and export/, or export-tfjs/ too.
"""

import contextlib
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow.compat.v1 as tf
import tf_slim
import yaml
from absl.testing import flagsaver
from tensorflow.python.training import training_util

from models.coconet import export as exporting
from models.coconet import inputs
from models.coconet.original import lib_graph, lib_hparams

from magenta.models.coconet import coconet_train  # isort: skip  (found only after the line above)

PIECES = {"train": 16, "valid": 2, "test": 1}
FLAGS = {"dataset": "Jsb16thSeparated", "num_filters": 16, "batch_size": 2, "crop_piece_len": 16, "num_epochs": 1,
         "save_model_secs": 0}
RATE = 2**-7  # Magenta's own, for which there is no flag either, leaves narrow networks dead after a few steps


def write_data(folder):
    """Chord progressions as the chorales are published: an array of pieces, MIDI pitches [time, 4] each."""
    folds = {}
    for fold, count in PIECES.items():
        folds[fold] = np.empty(count, object)
        folds[fold][:] = [piece.astype(float) for piece in inputs.progressions("training " + fold, count, 24)]
    np.savez(str(folder / "Jsb16thSeparated.npz"), **folds)


def of_contrib(x, filters, kernel_size, depth_multiplier, strides, padding, dilation_rate, activation,
               depthwise_initializer, pointwise_initializer):
    """What Magenta called until May 2020 where it calls tf.layers.separable_conv2d now, and as it called it."""
    return tf_slim.layers.separable_convolution2d(
        x, filters, kernel_size, depth_multiplier=depth_multiplier, stride=strides, padding=padding, rate=dilation_rate,
        activation_fn=activation, weights_initializer=depthwise_initializer)


def dilated(x, weights, strides, padding, dilations):
    """tf.nn.conv2d, with gradients of dilated convolutions on CPUs too, which TensorFlow 2.4.1 has on GPUs alone."""
    def convolved(x, _, padding):
        return convolve(x, weights, strides=[1, 1, 1, 1], padding=padding)
    return tf.nn.with_space_to_batch(x, dilations[1:3], padding, convolved, filter_shape=weights.shape)


convolve = tf.nn.conv2d


@contextlib.contextmanager
def magenta(batch_norm, contrib):
    """Magenta's code as it trained such a kind, or would have: a network without residuals counts up what isn't set."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(tf.nn, "conv2d", dilated))
        for module, slow in ((training_util, "write_graph"), (coconet_train, "_print_popstat_info")):
            stack.enter_context(mock.patch.object(module, slow))  # of which nothing is read
        stack.enter_context(mock.patch.object(lib_graph.CoconetGraph, "residual_counter", -1, create=True))
        if contrib:
            stack.enter_context(mock.patch.object(tf.layers, "separable_conv2d", of_contrib))
        stack.enter_context(mock.patch.dict(lib_hparams.Hyperparameters._defaults, batch_norm=batch_norm,
                                            learning_rate=RATE))
        if not batch_norm:
            stack.enter_context(mock.patch.object(coconet_train, "estimate_popstats"))  # of which there are none
        yield


def train(data, folder, flags):
    """Returns the folder that coconet_train made in the given one."""
    np.random.seed(0)
    tf.set_random_seed(0)
    with flagsaver.flagsaver(**dict(FLAGS, data_dir=str(data), logdir=str(folder), **flags)):
        coconet_train.main(None)
    [made] = folder.iterdir()
    return made


def forget(config, keys):
    """Leave keys out of a config, which Magenta's code of back then didn't have."""
    found = yaml.safe_load(config.read_text())
    assert set(keys) <= set(found)
    config.write_text(yaml.dump({key: value for key, value in found.items() if key not in keys}))


def answers(run):
    """What Magenta's own loader gives, of a case of the recipe's reference."""
    feed = inputs.reference()["short"]
    with tf.Graph().as_default():
        loaded = lib_graph.load_checkpoint(str(run))
        given = loaded.model.placeholders
        logits = loaded.sess.run(loaded.model.logits, {given[name]: feed[name] for name in feed})
    return dict(feed, logits=logits)


told, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
write_data(folder)
coconet_train.FLAGS(["train"])
for kind, flags in told["kinds"].items():
    print("training", kind, flush=True)
    place = folder / kind
    (place / "logs").mkdir(parents=True)
    batch_norm, contrib, routed, keys = (flags.pop(*asked) for asked in (
        ("batch_norm", True), ("contrib", False), ("tfjs", False), ("without", [])))
    with magenta(batch_norm, contrib):
        train(folder, place / "logs", flags).rename(place / "run")
        forget(place / "run/config", keys)
        np.savez(str(place / "answers.npz"), **answers(place / "run"))
    (place / "export").mkdir()
    exporting.export(place / "run", place / "export", told["recipe"])
    if routed:
        (place / "export-tfjs").mkdir()
        asked = dict(np.load(str(place / "export/reference.npz")))  # of the same original
        with mock.patch.object(exporting, "answers", return_value=asked):
            exporting.export(place / "run", place / "export-tfjs", dict(told["recipe"], route="tfjs"))
