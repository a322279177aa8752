"""Vamps on sounds in the player's toolchain: process.py ARTIFACTS SOUNDS CASES OUT.

SOUNDS: an .npz of arrays. CASES: JSON, of each case a sound's name, its rate, and settings. OUT: an .npz of what came
out of each case, and of its codes as case/codes; where it was refused, of what was said.
"""

import json
import sys
from pathlib import Path

import numpy as np

from models.vampnet.player import VampNet
from scripts.job import Refusal

artifacts, sounds, cases, out = sys.argv[1:]
vampnet, told = VampNet(Path(artifacts)), {}
with np.load(sounds) as given:
    for case, (name, rate, settings) in json.loads(Path(cases).read_text()).items():
        try:
            told[case] = vampnet.process(given[name], rate, **settings)
            told[f"{case}/codes"] = vampnet.encode(given[name], rate)
        except Refusal as refusal:
            told[case] = np.array(str(refusal))
np.savez(out, **told)
