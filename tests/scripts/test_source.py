"""Whatever file of a checkpoint a user names is taken, or refused with a remedy that helps."""

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile

import pytest

from scripts import source
from scripts.job import Refusal

PREFIX, CUSTOM = "model.ckpt-64", {"checkpoint": "tensorflow"}
FILES = [f"{PREFIX}.data-00000-of-00001", f"{PREFIX}.index", f"{PREFIX}.meta"]


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("name", ["", PREFIX, *FILES])
def test_a_checkpoint_is_its_folder_its_prefix_or_any_of_its_files(checkpoint, name):
    assert sorted(path.name for path in source.files(checkpoint / name, CUSTOM)) == FILES


def test_a_data_file_that_bears_the_prefix_is_renamed_first(checkpoint):
    (checkpoint / FILES[0]).rename(checkpoint / PREFIX)
    with pytest.raises(Refusal, match=rf"lie in {FILES[0]}, found a file of that name: rename it to that one"):
        source.files(checkpoint / PREFIX, CUSTOM)
    (checkpoint / PREFIX).rename(checkpoint / FILES[0])
    assert len(source.files(checkpoint / PREFIX, CUSTOM)) == 3


@pytest.mark.parametrize(("end", "pack", "program"), [
    ("gz", gzip.compress, "gunzip"), ("bz2", bz2.compress, "bunzip2"), ("xz", lzma.compress, "unxz")])
def test_a_compressed_archive_is_undone_first(checkpoint, tmp_path, end, pack, program):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.add(checkpoint, "run")
    path = tmp_path / f"run.tar.{end}"
    path.write_bytes(pack(file.getvalue()))
    (tmp_path / "out").mkdir()
    with pytest.raises(Refusal, match=rf"found a compressed one: undo that first, with {program} ") as refusal:
        source.copy(path, CUSTOM, tmp_path / "out")
    if shutil.which(program):
        subprocess.run(str(refusal.value).partition(", with ")[2].split(), check=True)
        source.copy(tmp_path / "run.tar", CUSTOM, tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
