"""Coconet's checkpoints: seeded ones are what they say, and every array of a user's is accounted for."""

import json
import shutil

import numpy as np
import pytest

from scripts.seeded import seeded_uniform
from tests.conftest import made, run

SURGERY = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
folder, defect = sys.argv[1:]
prefix = folder + "/best_model.ckpt"
reader = tf.train.NewCheckpointReader(prefix)
arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
if defect == "renamed":
    arrays["model/conv1/kernel"] = arrays.pop("model/conv1/weights")
elif defect == "mis-shaped":
    arrays["model/conv2/beta"] = arrays["model/conv2/beta"][:-1]
elif defect == "not finite":
    arrays["model/conv3/gamma"][0] = np.nan
with tf.Session() as session:
    for name, array in arrays.items():
        tf.get_variable(name, initializer=array)
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, prefix, write_state=False)
"""


@pytest.fixture
def checkpoint(workshop, tmp_path):
    """A checkpoint folder of the user's own, in the upstream's layout."""
    folder = tmp_path / "my checkpoint"
    shutil.copytree(workshop / "build/tiny/coconet/fetch", folder, ignore=shutil.ignore_patterns("*.json"))
    return folder


def refused(workshop, checkpoint) -> str:
    done = run("make", "--no-print-directory", "coconet", f"CHECKPOINT={checkpoint}", cwd=workshop)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(errors) == 1 and errors[0].startswith("error: "), done.stderr
    assert not (workshop / "build/custom/coconet/export").exists()
    return errors[0]


def test_a_users_checkpoint_is_cast_like_ours(workshop, checkpoint):
    output = made("coconet", f"CHECKPOINT={checkpoint}", cwd=workshop)
    assert "coconet-harmonizer  int8" in output
    name = "quantize/denoiser-int8.onnx"
    ours, theirs = (workshop / "build" / weights / "coconet" / name for weights in ("tiny", "custom"))
    assert ours.read_bytes() == theirs.read_bytes()


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


def test_a_training_run_is_cast_without_what_only_training_needs(workshop, checkpoint, tmp_path):
    """Magenta's own training graph saves optimizer slots too, beside other checkpoints of the run."""
    directory = tmp_path / "run"
    directory.mkdir()
    shutil.copy(checkpoint / "config", directory)
    done = run("scripts/in", "legacy", "python", "-c", TRAINING, checkpoint, directory)
    assert done.returncode == 0, done.stderr
    made("export", "MODELS=coconet", f"CHECKPOINT={directory}", cwd=workshop)
    name = "export/denoiser.onnx"
    ours, theirs = (workshop / "build" / weights / "coconet" / name for weights in ("tiny", "custom"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_another_checkpoint_in_the_same_place_is_cast_anew(workshop, checkpoint):
    made("fetch", "MODELS=coconet", f"CHECKPOINT={checkpoint}", cwd=workshop)
    (checkpoint / "config").write_text((checkpoint / "config").read_text() + "\n")
    assert "copying" in made("fetch", "MODELS=coconet", f"CHECKPOINT={checkpoint}", cwd=workshop)


@pytest.mark.parametrize(("defect", "said"), [
    ("renamed", ["missing model/conv1/weights", "unexpected model/conv1/kernel"]),
    ("mis-shaped", ["model/conv2/beta is [15], expected [16]"]),
    ("not finite", ["model/conv3/gamma holds values that are not finite"]),
])
def test_a_defective_array_is_named(workshop, checkpoint, defect, said):
    assert run("scripts/in", "legacy", "python", "-c", SURGERY, checkpoint, defect).returncode == 0
    message = refused(workshop, checkpoint)
    assert all(part in message for part in said), message


def test_a_truncated_data_file_names_the_arrays_it_cost(workshop, checkpoint):
    data = checkpoint / "best_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-2000])
    assert "model/conv5/weights is unreadable" in refused(workshop, checkpoint)


def test_a_flipped_bit_names_the_array(workshop, checkpoint):
    data = checkpoint / "best_model.ckpt.data-00000-of-00001"
    whole = bytearray(data.read_bytes())
    whole[100] ^= 1
    data.write_bytes(whole)
    assert "model/conv0/" in refused(workshop, checkpoint)


def test_a_truncated_index_is_refused(workshop, checkpoint):
    index = checkpoint / "best_model.ckpt.index"
    index.write_bytes(index.read_bytes()[:100])
    assert "best_model.ckpt" in refused(workshop, checkpoint)


def test_a_folder_that_is_no_checkpoint_is_refused(workshop, checkpoint):
    (checkpoint / "config").unlink()
    assert "missing config" in refused(workshop, checkpoint)


def test_a_config_that_contradicts_the_arrays_is_refused(workshop, checkpoint):
    config = checkpoint / "config"
    config.write_text(config.read_text().replace("num_layers: 6", "num_layers: 8"))
    assert "missing model/conv6/" in refused(workshop, checkpoint)


def test_hyperparameters_that_magenta_does_not_know_are_refused(workshop):
    path = workshop / "models/coconet/recipe.toml"
    path.write_text(path.read_text().replace("num_layers = 6", "num_layerz = 6"))
    done = run("make", "coconet", "WEIGHTS=tiny", cwd=workshop)
    assert "recipe.toml, [sources]" in done.stderr and "num_layerz" in done.stderr


def test_what_lies_beside_a_checkpoint_does_not_matter(workshop, checkpoint):
    made("fetch", "MODELS=coconet", f"CHECKPOINT={checkpoint}", cwd=workshop)
    (checkpoint / "events.out.tfevents.1").write_text("more")
    assert "copying" not in made("fetch", "MODELS=coconet", f"CHECKPOINT={checkpoint}", cwd=workshop)


def test_a_config_of_another_range_is_refused(workshop, checkpoint):
    config = checkpoint / "config"
    config.write_text(config.read_text().replace("max_pitch: 81", "max_pitch: 101"))
    assert "the recipe's ports don't fit" in refused(workshop, checkpoint)


def test_the_stream_is_the_agreed_one():
    """Fixed values of the construction that the design prescribes, equal on NumPy 1.19 and 2.x."""
    drawn = seeded_uniform("bellfoundry", (2, 2))
    assert drawn.dtype == np.float32 and drawn.shape == (2, 2)
    code = "from scripts.seeded import *; print(json.dumps(seeded_uniform('bellfoundry', (2, 2)).tolist()))"
    legacy = run("scripts/in", "legacy", "python", "-c", "import json; " + code)
    assert json.loads(legacy.stdout) == drawn.tolist()
