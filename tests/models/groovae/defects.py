"""Plants defects in copies of a tiny checkpoint, in the legacy toolchain: defects.py FOLDER

Prints what reading each of them says, as JSON.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from models.groovae import source
from scripts.job import Refusal

PREFIX = "model.ckpt-3668"
CELL = "encoder/cell_0/bidirectional_rnn/{}/multi_rnn_cell/cell_0/lstm_cell/kernel"


def rename(arrays):
    arrays["encoder/mu/weights"] = arrays.pop("encoder/mu/kernel")


def shorten(arrays):
    arrays["decoder/output_projection/bias"] = arrays["decoder/output_projection/bias"][:-1]


def overflow(arrays):
    arrays["encoder/sigma/bias"][0] = np.inf


def forget_step(arrays):
    del arrays["global_step"]


def add_momentum(arrays):
    arrays["encoder/mu/kernel/Momentum"] = arrays["encoder/mu/kernel"]


def add_slot(arrays):
    arrays["encoder/nu/kernel/Adam"] = arrays["encoder/mu/kernel"]


def narrow(arrays):
    for name in arrays:
        if name.startswith(("encoder/mu", "encoder/sigma")):
            arrays[name] = arrays[name][..., :128]


def add_controls(arrays):
    for name in map(CELL.format, ("fw", "bw")):
        arrays[name] = np.concatenate([arrays[name][:9], arrays[name]])


def see_hits(arrays):
    slot = np.zeros((4 * 32, 27), np.float32)
    slot[:, :9] = 1e-9
    arrays["encoder/cell_0/bidirectional_rnn/fw/opaque_kernel/Adam_1"][:slot.size] = slot.ravel()


def flip(folder):
    data = bytearray((folder / (PREFIX + ".data-00000-of-00001")).read_bytes())
    data[300000] ^= 1
    (folder / (PREFIX + ".data-00000-of-00001")).write_bytes(bytes(data))


def cut(end):
    def shorten_file(folder):
        path = folder / (PREFIX + end)
        path.write_bytes(path.read_bytes()[:-1000])

    return shorten_file


IN_ARRAYS = {
    "renamed": rename, "mis-shaped": shorten, "not finite": overflow, "no step": forget_step,
    "another optimizer": add_momentum, "a slot of nothing": add_slot, "another latent": narrow,
    "controls": add_controls, "cuDNN hits": see_hits,
}
IN_FILES = {
    "none": lambda folder: None, "flipped bit": flip, "truncated data": cut(".data-00000-of-00001"),
    "damaged graph": lambda folder: (folder / (PREFIX + ".meta")).write_bytes(b"\xff" * 100),
    "truncated index": cut(".index"),
}


def write(prefix, arrays):
    with tf.Graph().as_default(), tf.Session() as session:
        for name, array in arrays.items():
            tf.get_variable(name, initializer=array)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, prefix, write_state=False, write_meta_graph=False)


def said_of(folder):
    try:
        source.read(folder)
    except Refusal as refusal:
        return str(refusal)
    return "sound"


original, told = Path(sys.argv[1]), {}
reader = tf.train.NewCheckpointReader(str(original / PREFIX))
for defect in [*IN_ARRAYS, *IN_FILES]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if defect in IN_ARRAYS:
            arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
            IN_ARRAYS[defect](arrays)
            write(str(place / PREFIX), arrays)
        else:
            for path in original.glob(PREFIX + "*"):
                shutil.copy(str(path), str(place))
            IN_FILES[defect](place)
        told[defect] = said_of(place)
print(json.dumps(told))
