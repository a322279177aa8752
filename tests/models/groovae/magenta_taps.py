"""Taps as Magenta's own converter reads them, in the legacy toolchain: magenta_taps.py TAPS.npz FILE.mid..."""

import copy
import sys
from pathlib import Path

import numpy as np

from models.groovae.original import CONFIGURATION, configs

import note_seq  # isort: skip  (only after Magenta's code was entered)

converter = copy.deepcopy(configs.CONFIG_MAP[CONFIGURATION].data_converter)
converter.set_mode("infer")
np.savez(sys.argv[1], **{
    Path(name).stem: np.array(converter.to_tensors(note_seq.midi_file_to_note_sequence(name)).inputs, np.float32)
    for name in sys.argv[2:]})
