"""Plants defects in copies of a tiny checkpoint, in the legacy toolchain: defects.py FOLDER

Prints what the export's reading of each of them says, as JSON by the defect.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import hyperparameters
from models.coconet.original import build
from models.coconet.seeded import PREFIX
from models.coconet.weights import load_strictly
from scripts.job import Refusal

DATA = PREFIX + ".data-00000-of-00001"


def rename(arrays):
    arrays["model/conv1/kernel"] = arrays.pop("model/conv1/weights")


def shorten(arrays):
    arrays["model/conv2/beta"] = arrays["model/conv2/beta"][:-1]


def spoil(arrays):
    arrays["model/conv3/gamma"][0] = np.nan


def widen(arrays):
    arrays["model/conv4/beta"] = arrays["model/conv4/beta"].astype(np.float64)


def cut(name, size):
    def shorten_file(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return shorten_file


def flip(folder):
    data = bytearray((folder / DATA).read_bytes())
    data[100] ^= 1
    (folder / DATA).write_bytes(bytes(data))


def replace(*texts):
    def change(folder):
        text = (folder / "config").read_text()
        for old, new in zip(texts[::2], texts[1::2]):
            assert old in text
            text = text.replace(old, new)
        (folder / "config").write_text(text)

    return change


IN_ARRAYS = {"renamed": rename, "mis-shaped": shorten, "not finite": spoil, "wide": widen}
IN_FILES = {
    "none": lambda folder: None, "truncated data": cut(DATA, -2000), "flipped bit": flip,
    "truncated index": cut(PREFIX + ".index", 100), "more layers": replace("num_layers: 6", "num_layers: 8"),
    "another range": replace("max_pitch: 81", "max_pitch: 101"), "no config": cut("config", 3),
    "no number": replace("num_filters: 16", "num_filters: '16'"),
    "a few layers": replace("num_layers: 6", "num_layers: 3"),
    "layers without end": replace("num_layers: 6", "num_layers: 1000000000"),
    "another kind": replace("architecture: straight", "architecture: unet"),
    "no switch": replace("use_residual: true", "use_residual: 'no'"),
    "one instrument": replace("separate_instruments: true", "separate_instruments: false"),
    "a straight one, split": replace("num_pointwise_splits: 1", "num_pointwise_splits: 4"),
    "uneven splits": replace("architecture: straight", "architecture: dilated", "use_sep_conv: false",
                             "use_sep_conv: true", "num_pointwise_splits: 1", "num_pointwise_splits: 3"),
    "no dilation": replace("architecture: straight", "architecture: dilated", "crop_piece_len: 64",
                           "crop_piece_len: 1"),
    "no epsilon": replace("batch_norm_variance_epsilon: 1.0e-07", "batch_norm_variance_epsilon: -1.0"),
    "separable": replace("use_sep_conv: false", "use_sep_conv: true"),
    "without batch norm": replace("batch_norm: true", "batch_norm: false"),
}


def write(prefix, arrays):
    with tf.Graph().as_default(), tf.Session() as session:
        for name, array in arrays.items():
            tf.get_variable(name, initializer=array)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, prefix, write_state=False)


def said_of(folder):
    try:
        hparams = hyperparameters.read(folder)
        with tf.Graph().as_default(), tf.Session() as session:
            build(hparams)
            load_strictly(session, folder)
    except Refusal as refusal:
        return str(refusal)
    return "sound"


original, told = Path(sys.argv[1]), {}
reader = tf.train.NewCheckpointReader(str(original / PREFIX))
for defect in [*IN_ARRAYS, *IN_FILES]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "checkpoint"
        shutil.copytree(str(original), str(place))
        if defect in IN_ARRAYS:
            arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
            IN_ARRAYS[defect](arrays)
            write(str(place / PREFIX), arrays)
        else:
            IN_FILES[defect](place)
        told[defect] = said_of(place)
print(json.dumps(told))
