"""Bach's chorales out of an .npz of pickled arrays, read without running what they say (Python 3.7 and later)."""

import pickle
import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np

from models.harmonizer.chords import BEAT, UNKNOWN, chords_of, transposed
from scripts.job import Refusal

SPLITS = ("train", "valid", "test")
VOICES = 4
MOST = 2**26  # bytes of a split, unpacked
REMEDY = "give Jsb16thSeparated.npz of github.com/czhuang/JSB-Chorales-dataset"
# What an array is made of when it is unpickled, under the names that NumPy 1 and 2 write.
MADE_OF = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
           ("numpy", "ndarray"), ("numpy", "dtype")}


class Piece(NamedTuple):
    """A chorale: its soprano and the chord of each beat."""

    melody: np.ndarray  # MIDI pitches, int64 [beats * 4], 0 is a rest
    chords: np.ndarray  # int64 [beats], UNKNOWN where all voices rest

    def moved(self, steps: int) -> "Piece":
        """The same in another key."""
        return Piece(np.where(self.melody > 0, self.melody + steps, 0), transposed(self.chords, steps))


class ArraysOnly(pickle.Unpickler):
    """Makes arrays and nothing else: a pickle that names anything besides is refused before it is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in MADE_OF:
            raise Refusal("it asks for {}.{}, which no array needs".format(module, name))
        return {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.array(0).__reduce__()[0]}[name]


def read(path: Path) -> Dict[str, List[Piece]]:
    """The splits train, valid and test. Raises Refusal on another file."""
    if not path.is_file():
        raise Refusal("DATA={}: expected a file, found none: {}".format(path, REMEDY))
    try:
        with zipfile.ZipFile(str(path)) as archive:
            return {split: [piece_of(voices) for voices in pieces_of(archive, split)] for split in SPLITS}
    except Exception as error:  # a damaged file leads its readers into whatever they raise
        raise Refusal("DATA={}: expected train, valid and test as arrays of chorales, found a file that can't be read "
                      "as such ({}): {}".format(path, str(error) or type(error).__name__, REMEDY)) from error


def pieces_of(archive: zipfile.ZipFile, split: str) -> np.ndarray:
    """A split's arrays, as an array of objects."""
    name = split + ".npy"
    if archive.getinfo(name).file_size > MOST:
        raise Refusal("{} has more than {:,} bytes".format(name, MOST))
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise Refusal("{} is of version {}".format(name, version))
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.dtype(object):
            raise Refusal("{} holds {}".format(name, dtype))
        pieces = ArraysOnly(file, encoding="latin1").load()
    if not isinstance(pieces, np.ndarray) or pieces.ndim != 1 or not len(pieces):
        raise Refusal("{} holds no row of chorales".format(name))
    return pieces


def piece_of(voices: Any) -> Piece:
    """A piece from its voices, float [sixteenths, 4], NaN for a rest, without a last beat that isn't whole."""
    if not isinstance(voices, np.ndarray) or voices.dtype.kind != "f" or voices.shape[1:] != (VOICES,):
        raise Refusal("a chorale isn't of four voices")
    whole = voices[:len(voices) // BEAT * BEAT].astype(np.float64)
    pitches = whole[~np.isnan(whole)]
    if not len(whole) or not np.isin(pitches, np.arange(1, 128)).all():
        raise Refusal("a chorale has no beat, or pitches that aren't MIDI's")
    return Piece(np.where(np.isnan(whole[:, 0]), 0, whole[:, 0]).astype(np.int64), chords_of(whole))


def beats(pieces: List[Piece]) -> np.ndarray:
    """The chords of all pieces in a row, without those unknown."""
    chords = np.concatenate([piece.chords for piece in pieces])
    return chords[chords != UNKNOWN]
