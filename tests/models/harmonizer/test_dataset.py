"""The file of chorales is read as data: what else it says is refused, and not done."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.harmonizer import dataset
from models.harmonizer.chords import NAMES
from scripts.job import Refusal


def write(path: Path, **members: bytes | np.ndarray) -> Path:
    """An .npz of arrays of objects, pickled; bytes take the pickle's place."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            buffer = io.BytesIO()
            np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
            archive.writestr(f"{name}.npy", buffer.getvalue() + (
                value if isinstance(value, bytes) else pickle.dumps(value, protocol=3)))
    return path


def pieces(*voices: object) -> np.ndarray:
    held = np.empty(len(voices), object)
    held[:] = voices
    return held


PIECE = np.repeat(np.array([[72, 67, 64, 48], [74, 71, 67, 55]], np.float16), 4, axis=0)


class Trap:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_reads_melodies_and_chords(tmp_path):
    rest = PIECE.copy()
    rest[:4] = np.nan
    splits = dataset.read(write(tmp_path / "d.npz", train=pieces(PIECE), valid=pieces(rest, PIECE[:7]),
                                test=pieces(PIECE)))
    [piece] = splits["train"]
    assert piece.melody.tolist() == [72] * 4 + [74] * 4
    assert [NAMES[chord] for chord in piece.chords] == ["C", "G"]
    assert splits["valid"][0].melody.tolist() == [0] * 4 + [74] * 4 and splits["valid"][0].chords[0] == -1
    assert len(splits["valid"][1].chords) == 1, "a beat that isn't whole is left out"


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "sprung"
    hostile = write(tmp_path / "d.npz", train=pickle.dumps(Trap(trap), protocol=3), valid=pieces(PIECE),
                    test=pieces(PIECE))
    with pytest.raises(Refusal, match=r"asks for posix\.mkdir, which no array needs"):
        dataset.read(hostile)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(trap), protocol=3))
    assert trap.exists(), "the trap works"


def test_a_hostile_object_within_an_array_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "sprung"
    with pytest.raises(Refusal, match="which no array needs"):
        dataset.read(write(tmp_path / "d.npz", train=pieces(PIECE, Trap(trap)), valid=pieces(PIECE),
                           test=pieces(PIECE)))
    assert not trap.exists()


@pytest.mark.parametrize(("content", "told"), [
    (b"not a zip", "not a zip"), (b"", "not a zip"),
])
def test_another_file_is_refused_in_a_sentence(tmp_path, content, told):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(Refusal, match=told) as refusal:
        dataset.read(tmp_path / "d.npz")
    assert "\n" not in str(refusal.value) and "Jsb16thSeparated.npz" in str(refusal.value)


@pytest.mark.parametrize(("voices", "told"), [
    (np.zeros((8, 4), np.float16), "pitches"), (PIECE + np.float16(0.5), "pitches"), (PIECE[:3], "no beat"),
    (PIECE[:, :3], "four voices"), (PIECE.astype(np.int64), "four voices"), ("text", "four voices"),
    (np.full((8, 4), np.inf, np.float16), "pitches"),
])
def test_what_is_no_chorale_is_refused(tmp_path, voices, told):
    with pytest.raises(Refusal, match=told):
        dataset.read(write(tmp_path / "d.npz", train=pieces(PIECE, voices), valid=pieces(PIECE), test=pieces(PIECE)))


def test_a_missing_split_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(Refusal, match=r"valid\.npy"):
        dataset.read(write(tmp_path / "d.npz", train=pieces(PIECE)))
    with pytest.raises(Refusal, match="found none"):
        dataset.read(tmp_path / "none.npz")
