"""Writes a checkpoint in the layout of the authors' own, in the legacy toolchain: write_released.py SOURCE FOLDER

SOURCE is a build's fetch stage of the same size. Arrays of the model are its own; what Magenta's training saved besides
in 2018, a rate for each of its two graphs, Adam's two slots for each trained array, and its powers, is made up.
The config has the keys of then.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
import yaml

from models.coconet.seeded import PREFIX
from scripts.seeded import seeded_uniform

LATER = ("dilate_time_only", "interleave_split_every_n_layers", "num_dilation_blocks",
         "num_initial_regular_conv_layers", "num_pointwise_splits", "repeat_last_dilation_level",
         "sep_conv_depth_multiplier", "use_sep_conv")

tf.disable_v2_behavior()
source, folder = map(Path, sys.argv[1:])
reader = tf.train.NewCheckpointReader(str(source / PREFIX))
arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
for name, array in list(arrays.items()):
    if name.rsplit("/", 1)[-1] in ("weights", "gamma", "beta"):
        for slot in ("Adam", "Adam_1"):
            arrays["model/{}/{}".format(name, slot)] = 1e-3 * seeded_uniform(name + slot, array.shape)
for name in ("model/beta1_power", "model/beta2_power", "model/learning_rate", "model_1/learning_rate"):
    arrays[name] = np.float32(2**-6)
with tf.Session() as session:
    for name, array in arrays.items():
        tf.get_variable(name, initializer=array)
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, str(folder / PREFIX))

config = yaml.safe_load((source / "config").read_text())
assert set(LATER) <= set(config), sorted(config)
config = {key: value for key, value in config.items() if key not in LATER}
config.update(num_pitches=46, pitch_ranges=[36, 81], shortest_duration=0.125)
(folder / "config").write_text(yaml.dump(config))
