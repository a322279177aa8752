"""GrooVAE's checkpoints: every layout that the upstream writes, every array accounted for, other models named."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from scripts import source
from scripts.job import Refusal
from tests.conftest import refused, run
from tests.models.groovae.conftest import legacy

PREFIX = "model.ckpt-3668"
CUSTOM = {"checkpoint": "tensorflow", "others": ["groovae_4bar"]}


def archive(folder: Path, target: Path, inside: str = "") -> Path:
    with tarfile.open(target, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, f"{inside}{path.name}")
    return target


# What the arrays are


ASKED = """
import json, pathlib, sys
import tensorflow as tf
from models.groovae import source
from scripts.job import Refusal

seeded, released = sys.argv[1:]
told = {"arrays": tf.train.load_checkpoint(seeded).get_variable_to_shape_map(), "known": source.RELEASED_INDEX}
source.MOST_TOLD = 100
try:
    source.read(pathlib.Path(released))
except Refusal as refusal:
    told["refused"] = str(refusal)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def asked(golden, full_cast, tmp_path_factory):
    """What is told of the seeded checkpoint's arrays, and of the released index beside zeros."""
    folder = tmp_path_factory.mktemp("released")
    shutil.copy(golden / f"groovae/{PREFIX}.index", folder)
    with (folder / f"{PREFIX}.data-00000-of-00001").open("wb") as data:
        data.truncate(62_254_420)
    done = run("scripts/in", "legacy", "python", "-c", ASKED, full_cast.parent / "fetch" / PREFIX, folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def released(golden):
    return json.loads((golden / "groovae/released-index.json").read_text())


def test_seeded_sources_have_the_released_checkpoints_arrays(asked, released, full_cast):
    """All 44, by name and shape, in files of the released names and of nearly their size."""
    assert asked["arrays"] == {tensor["name"]: tensor["shape"] for tensor in released["tensors"]}
    data = f"{PREFIX}.data-00000-of-00001"
    assert (full_cast.parent / "fetch" / data).stat().st_size == released["files"][data]["bytes"]


def test_the_released_index_lets_only_released_arrays_through(asked, released):
    """Its CRC-32Cs are compared with every array, those that only training needs too."""
    names = {tensor["name"] for tensor in released["tensors"]}
    assert {name for name in names if f" {name} is unreadable (Checksum" in asked["refused"]} == names - {
        "beta1_power"}  # which is 0 indeed


def test_the_released_index_is_known_by_its_hash(asked, released):
    assert asked["known"] == released["files"][f"{PREFIX}.index"]["sha256"]


@pytest.fixture(scope="module")
def defects(cast):
    """What is said of each defect that defects.py plants, by its name."""
    return json.loads(legacy("defects.py", cast.parent / "fetch"))


@pytest.mark.parametrize(("defect", "said"), [
    ("none", ["sound"]),
    ("renamed", ["missing encoder/mu/kernel", "unexpected encoder/mu/weights"]),
    ("mis-shaped", ["decoder/output_projection/bias is [26], expected [27]"]),
    ("not finite", ["encoder/sigma/bias holds values that are not finite"]),
    ("no step", ["missing global_step"]),
    ("another optimizer", ["unexpected encoder/mu/kernel/Momentum"]),
    ("a slot of nothing", ["unexpected encoder/nu/kernel/Adam"]),
    ("another latent", ["its z_size is 128, the recipe's ports are for 256"]),
    ("controls", ["these are the arrays of groovae_2bar_hits_control_tfds"]),
    ("cuDNN hits", ["found one of groovae_2bar_humanize", "trained on the hits of all drums"]),
    ("flipped bit", ["is unreadable (Checksum does not match"]),
    ("truncated data", ["encoder/sigma/kernel/Adam_1 is unreadable"]),
    ("damaged graph", [f"{PREFIX}.meta: expected the graph of a checkpoint"]),
    ("truncated index", ["not a readable TensorFlow checkpoint"]),
])
def test_a_defect_is_named(defects, defect, said):
    assert all(part in defects[defect] for part in said), defects[defect]


def test_a_damaged_file_is_one_line_and_leaves_nothing(tree, checkpoint):
    data = checkpoint / f"{PREFIX}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1000])
    message = refused("groovae", f"CHECKPOINT={checkpoint}", cwd=tree)
    assert message.startswith("error: ") and "encoder/sigma/kernel/Adam_1 is unreadable" in message
    assert not (tree / "build/custom/groovae/export").exists()


# Where the files lie


def test_every_layout_gives_the_same_files(checkpoint, tmp_path):
    """A folder, a prefix, a file of it, a training run, and archives flat and with a folder inside."""
    names = sorted(path.name for path in checkpoint.iterdir())
    training_run = tmp_path / "run"
    shutil.copytree(checkpoint, training_run / "train")
    for end in ("index", "data-00000-of-00001"):
        shutil.copy(checkpoint / f"{PREFIX}.{end}", training_run / f"train/model.ckpt-0.{end}")
    (training_run / "train/checkpoint").write_text(f'model_checkpoint_path: "/elsewhere/train/{PREFIX}"\n')
    ways = [checkpoint, checkpoint / PREFIX, checkpoint / f"{PREFIX}.index", training_run, training_run / "train",
            archive(checkpoint, tmp_path / "flat.tar"),
            archive(checkpoint, tmp_path / "inside.tar", "./groovae_2bar_tap_fixed_velocity/"),
            archive(training_run, tmp_path / "run.tar")]
    for number, way in enumerate(ways):
        out = tmp_path / f"out{number}"
        out.mkdir()
        source.copy(way, CUSTOM, out)
        assert sorted(path.name for path in out.iterdir()) == names, way
        assert all((out / name).read_bytes() == (checkpoint / name).read_bytes() for name in names), way


def test_an_archive_unpacks_the_same_on_python_3_7(checkpoint, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    code = (f"import sys, pathlib; from scripts import source; "
            f"source.copy(pathlib.Path(sys.argv[1]), {CUSTOM!r}, pathlib.Path(sys.argv[2]))")
    done = run("scripts/in", "legacy", "python", "-c", code, archive(checkpoint, tmp_path / "a.tar"), out)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in checkpoint.iterdir())


def hostile(path: Path, name: str) -> Path:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    return path


@pytest.mark.parametrize(("name", "said"), [
    ("../../planted.index", "outside"),
    ("readme.txt", "found no .index"),
    ("planted.index", "expected its data"),
    ("groovae_4bar/planted.index", "found one of groovae_4bar"),
])
def test_a_hostile_archive_plants_nothing(tmp_path, name, said):
    out = tmp_path / "deep/out"
    out.mkdir(parents=True)
    with pytest.raises(Refusal, match=said):
        source.copy(hostile(tmp_path / "a.tar", name), CUSTOM, out)
    assert not list(tmp_path.rglob("planted.index")) or list(out.rglob("planted.index"))


@pytest.mark.parametrize(("made", "said"), [
    ([], "found none"),
    (["a.index", "b.index"], "expected one checkpoint, or a file 'checkpoint' that names the latest, found a, b"),
    (["a.index"], "expected its data, a.data-00000-of-00001, found none"),
    (["a.index", "a.data-00000-of-00002"], "found a.data-00000-of-00002"),
])
def test_a_folder_without_one_whole_checkpoint_is_refused(tmp_path, made, said):
    for name in made:
        (tmp_path / name).touch()
    with pytest.raises(Refusal, match=said):
        source.files(tmp_path, CUSTOM)


@pytest.mark.parametrize("name", ["groovae_4bar.tar", "groovae_4bar/train", "groovae_4bar"])
def test_a_name_that_tells_of_another_model_is_believed(tmp_path, name):
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    if name.endswith(".tar"):
        place.touch()
    else:
        place.mkdir()
        for end in ("index", "data-00000-of-00001"):
            (place / f"model.ckpt-1.{end}").touch()
    with pytest.raises(Refusal, match="found one of groovae_4bar, as its name says"):
        source.files(place, CUSTOM)


def test_a_path_that_is_nothing_is_refused(tmp_path):
    assert "expected a folder or an archive of a TensorFlow checkpoint" in refused(
        "groovae", f"CHECKPOINT={tmp_path / 'nothing'}")
