"""What weights.read says of damaged files, as JSON by the damage (Python 3.7): python … defects.py GOOD FOLDER"""

import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np

from models.harmonizer import weights
from scripts.job import Refusal

KERNEL = "attention/attention/query_kernel:0"


def replace(file, name, array):
    del file[name]
    file[name] = array


DEFECTS = {
    "missing": lambda file: file.__delitem__(KERNEL),
    "extra": lambda file: file.create_dataset("chords/chords/second_bias:0", data=np.zeros(3, np.float32)),
    "shape": lambda file: replace(file, KERNEL, file[KERNEL][()].T),
    "nan": lambda file: file[KERNEL].__setitem__((3, 4), np.nan),
    "type": lambda file: replace(file, KERNEL, file[KERNEL][()].astype(np.float64)),
    "link": lambda file: replace(file, KERNEL, h5py.ExternalLink("other.h5", KERNEL)),
}


def main():
    good, folder = Path(sys.argv[1]), Path(sys.argv[2])
    told = {}
    for name, damage in DEFECTS.items():
        path = folder / (name + ".h5")
        shutil.copyfile(str(good), str(path))
        with h5py.File(str(path), "r+") as file:
            damage(file)
        told[name] = refusal(path)
    (folder / "cut.h5").write_bytes(good.read_bytes()[:5000])
    told["cut"] = refusal(folder / "cut.h5")
    model = weights.read(good)
    weights.write(folder / "again.h5", model)
    model.save_weights(str(folder / "keras.h5"))
    told["keras"] = refusal(folder / "keras.h5")
    model.load_weights(str(good))
    told["itself"] = refusal(good)
    print(json.dumps(told))


def refusal(path):
    try:
        weights.read(path)
    except Refusal as said:
        return str(said)
    return ""


main()
