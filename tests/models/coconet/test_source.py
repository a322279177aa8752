"""Coconet's checkpoints: seeded ones are what they say, and every array of a user's is accounted for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts import recipe, source
from scripts.job import Refusal
from scripts.seeded import seeded_uniform
from tests.conftest import ROOT, made, refused, run

HERE = Path(__file__).resolve().parent
CUSTOM = recipe.read(ROOT, "coconet")["sources"]["custom"]


@pytest.fixture
def tree(workshop) -> Path:
    return workshop("coconet")


@pytest.fixture
def checkpoint(tree, tmp_path) -> Path:
    """A checkpoint folder of the user's own, in the upstream's layout."""
    folder = tmp_path / "my checkpoint"
    shutil.copytree(tree / "build/tiny/coconet/fetch", folder, ignore=shutil.ignore_patterns("*.json"))
    return folder


def same(tree: Path, name: str) -> bool:
    """Whether the build of the user's checkpoint has the same file as ours."""
    ours, theirs = (tree / "build" / weights / "coconet" / name for weights in ("tiny", "custom"))
    return ours.read_bytes() == theirs.read_bytes()


def test_a_users_checkpoint_is_cast_like_ours(tree, checkpoint):
    assert "coconet-harmonizer  int8" in made("coconet", f"CHECKPOINT={checkpoint}", cwd=tree)
    assert same(tree, "quantize/denoiser-int8.onnx")


TRAINING = """
import sys
import tensorflow.compat.v1 as tf
from models.coconet.original import lib_graph, lib_hparams
source, run = sys.argv[1:]
hparams = lib_hparams.load_hparams(source)
with tf.Session() as session:
    lib_graph.build_graph(is_training=True, hparams=hparams)
    session.run(tf.global_variables_initializer())
    reader = tf.train.NewCheckpointReader(source + "/best_model.ckpt")
    trained = set(reader.get_variable_to_shape_map())
    for variable in tf.global_variables():
        if variable.op.name in trained:
            variable.load(reader.get_tensor(variable.op.name), session)
    saver = tf.train.Saver()
    saver.save(session, run + "/best_model.ckpt")
    saver.save(session, run + "/model.ckpt", global_step=12)
    assert len(tf.global_variables()) > 2 * len(trained)
"""


def test_a_training_run_is_cast_without_what_only_training_needs(tree, checkpoint, tmp_path):
    """Magenta's own training graph saves optimizer slots too, beside other checkpoints of the run."""
    directory = tmp_path / "run"
    directory.mkdir()
    shutil.copy(checkpoint / "config", directory)
    done = run("scripts/in", "legacy", "python", "-c", TRAINING, checkpoint, directory)
    assert done.returncode == 0, done.stderr
    made("export", "MODELS=coconet", f"CHECKPOINT={directory}", cwd=tree)
    assert same(tree, "export/denoiser.onnx")


@pytest.fixture(scope="module")
def defects(tiny):
    """What is said of each defect that defects.py plants, by its name."""
    done = run("scripts/in", "legacy", "python", HERE / "defects.py", tiny.parent / "fetch")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("defect", "said"), [
    ("none", ["sound"]),
    ("renamed", ["1 missing: model/conv1/weights; 1 unknown: model/conv1/kernel"]),
    ("mis-shaped", ["model/conv2/beta is [15], expected [16]"]),
    ("wide", ["model/conv4/beta is float64, expected float32"]),
    ("not finite", ["1 with values that are not finite: model/conv3/gamma"]),
    ("truncated data", ["6 unreadable: model/conv4/weights (", ") and 1 more: "]),
    ("flipped bit", ["1 unreadable: model/conv0/"]),
    ("truncated index", ["best_model.ckpt: not a readable TensorFlow checkpoint"]),
    ("more layers", ["10 missing: model/conv6/", "expected the 40 arrays of the network that its config describes"]),
    ("separable", ["12 missing: model/conv2/separable_conv2d/depthwise_kernel", "4 unknown: model/conv2/weights"]),
    ("without batch norm", ["6 missing: model/conv0/bias", "24 unknown: model/conv0/beta"]),
    ("another range", ["expected max_pitch 81, as the recipe's ports have it, found 101"]),
    ("one instrument", ["expected separate_instruments True, as the recipe's ports have it, found False"]),
    ("no config", ["is not readable as Coconet hyperparameters"]),
    ("no number", ["expected num_filters an integer from 1 to 4096, found '16'"]),
    ("a few layers", ["expected num_layers an integer from 4 to 999, found 3"]),
    ("layers without end", ["expected num_layers an integer from 4 to 999, found 1000000000"]),
    ("another kind", ["expected architecture straight or dilated, found 'unet'"]),
    ("no switch", ["expected use_residual true or false, found 'no'"]),
    ("a straight one, split", ["expected num_pointwise_splits 1 with architecture straight, found 4"]),
    ("uneven splits", ["expected num_pointwise_splits a divisor of num_filters, 16, found 3"]),
    ("no dilation", ["expected crop_piece_len an integer from 2 to 65536, found 1"]),
    ("no epsilon", ["expected batch_norm_variance_epsilon a number from 0 up, found -1.0"]),
])
def test_a_defect_is_named(defects, defect, said):
    assert all(part in defects[defect] for part in said), defects[defect]


def test_a_damaged_file_is_one_line_and_leaves_nothing(tree, checkpoint):
    data = checkpoint / "best_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-2000])
    message = refused("coconet", f"CHECKPOINT={checkpoint}", cwd=tree)
    assert message.startswith("error: coconet export: ") and " unreadable: model/conv" in message
    assert not (tree / "build/custom/coconet/export").exists()


def test_a_folder_that_is_no_checkpoint_is_refused(tree, checkpoint):
    (checkpoint / "config").unlink()
    assert "missing config" in refused("coconet", f"CHECKPOINT={checkpoint}", cwd=tree)


@pytest.mark.parametrize("way", ["", "best_model.ckpt", "best_model.ckpt.index", "config", "..", "../.."])
def test_a_folder_is_told_by_a_prefix_a_file_or_a_folder_around_it(tmp_path, way):
    folder = tmp_path / "logs" / "straight-64-128_bs=20,corrupt=0.5"
    folder.mkdir(parents=True)
    for name in CUSTOM["files"]:
        (folder / name).touch()
    assert source.files((folder / way).resolve(), CUSTOM) == [folder / name for name in CUSTOM["files"]]


@pytest.mark.parametrize(("present", "given", "said"), [
    (["one", "two"], "", "expected one checkpoint, found {0}/one, {0}/two: name one"),
    ([], "best_model.ckpt", "or an archive of it, found none"),
    ([], "", "in this folder, missing config, best_model.ckpt.index, best_model.ckpt.data-00000-of-00001"),
])
def test_a_path_that_means_no_checkpoint_or_several_is_one_sentence(tmp_path, present, given, said):
    for folder in present:
        (tmp_path / folder).mkdir()
        for name in CUSTOM["files"]:
            (tmp_path / folder / name).touch()
    with pytest.raises(Refusal) as refusal:
        source.files(tmp_path / given, CUSTOM)
    assert said.format(tmp_path) in str(refusal.value)


def test_hyperparameters_that_magenta_does_not_know_are_refused(tree):
    path = tree / "models/coconet/recipe.toml"
    path.write_text(path.read_text().replace("num_layers = 6", "num_layerz = 6"))
    message = refused("coconet", "WEIGHTS=tiny", cwd=tree)
    assert "recipe.toml, [sources]" in message and "num_layerz" in message


def test_what_lies_beside_a_checkpoint_does_not_matter(tree, checkpoint):
    made("fetch", "MODELS=coconet", f"CHECKPOINT={checkpoint}", cwd=tree)
    (checkpoint / "events.out.tfevents.1").write_text("more")
    assert "copying" not in made("fetch", "MODELS=coconet", f"CHECKPOINT={checkpoint}", cwd=tree)


def test_the_stream_is_the_agreed_one():
    """Fixed values of the construction that the design prescribes, equal on NumPy 1.19 and 2.x."""
    drawn = seeded_uniform("bellfoundry", (2, 2))
    assert drawn.dtype == np.float32 and drawn.shape == (2, 2)
    code = "from scripts.seeded import *; print(json.dumps(seeded_uniform('bellfoundry', (2, 2)).tolist()))"
    legacy = run("scripts/in", "legacy", "python", "-c", "import json; " + code)
    assert json.loads(legacy.stdout) == drawn.tolist()
