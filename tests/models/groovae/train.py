"""Trains for two steps by Magenta's own music_vae_train: train.py RUNS CONFIGURATION,... FILE.mid...

In the legacy toolchain, at toy size, on a TFRecord of the given drum MIDI; each configuration in
a folder of its name. Prints what reading each checkpoint says, as JSON.
"""

import json
import sys
from pathlib import Path

import tensorflow.compat.v1 as tf

from models.groovae import source
from models.groovae.original import configs
from scripts.job import Refusal

import note_seq  # isort: skip  (only after Magenta's code was entered)
from magenta.models.music_vae import music_vae_train  # isort: skip

runs, names, *files = sys.argv[1:]
record = str(Path(runs) / "drums.tfrecord")
with tf.python_io.TFRecordWriter(record) as writer:
    for name in files:
        writer.write(note_seq.midi_file_to_note_sequence(name).SerializeToString())
told = {}
for name in names.split(","):
    run_dir = Path(runs) / name
    music_vae_train.FLAGS([
        "music_vae_train", "--config=" + name, "--run_dir={}".format(run_dir), "--examples_path=" + record,
        "--num_steps=2", "--hparams=batch_size=2,enc_rnn_size=[16],dec_rnn_size=[16,16]"])
    music_vae_train.run(configs.CONFIG_MAP)
    for old in (run_dir / "train").glob("model.ckpt-0.*"):
        old.unlink()
    try:
        told[name] = sorted(source.read(run_dir / "train"))
    except Refusal as refusal:
        told[name] = str(refusal)
print(json.dumps(told))
