"""Reads taps in the player's toolchain and prints each file's as JSON: hear.py FILE TEMPO..., of which 0 is none."""

import json
import sys
from pathlib import Path

from models.groovae import taps
from scripts.job import Refusal

told = []
for name, tempo in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        heard = taps.read(Path(name), float(tempo) or None)
        told.append({"steps": heard.steps.tolist(), "beats": heard.tempos[0].beats, "remarks": heard.remarks})
    except Refusal as refusal:
        told.append(str(refusal))
print(json.dumps(told))
