"""The authors' checkpoint: its layout and size, down to what training left in it, is cast in every way it comes."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from tests.conftest import copy_tree, made, run

HERE = Path(__file__).resolve().parent
FILES = ("config", "best_model.ckpt.index", "best_model.ckpt.data-00000-of-00001")
ARRAYS, BYTES = 708, 109_117_584  # of the authors' own
# Names, shapes and dtypes of all arrays that a checkpoint's index tells.
INDEX = """
import json, sys
import tensorflow.compat.v1 as tf
for prefix in sys.argv[1:]:
    reader = tf.train.NewCheckpointReader(prefix)
    dtypes = reader.get_variable_to_dtype_map()
    print(json.dumps({name: [shape, dtypes[name].name] for name, shape in reader.get_variable_to_shape_map().items()}))
"""


@pytest.fixture(scope="module")
def released(seeded, tmp_path_factory) -> Path:
    """A folder as checkpoint.zip holds it, with the seeded weights in it."""
    folder = tmp_path_factory.mktemp("released") / "coconet-64layers-128filters"
    folder.mkdir()
    done = run("scripts/in", "legacy", "python", HERE / "write_released.py", seeded.parent / "fetch", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_its_layout_is_that_of_the_authors_own(released, golden):
    assert (released / FILES[2]).stat().st_size == BYTES
    done = run("scripts/in", "legacy", "python", "-c", INDEX, released / "best_model.ckpt",
               golden / "coconet/released/best_model.ckpt")
    ours, theirs = map(json.loads, done.stdout.splitlines())
    assert ours == theirs and len(ours) == ARRAYS


def test_its_config_has_no_key_that_the_authors_own_lacks(released, golden):
    def keys(path: Path) -> set[str]:
        return set(re.findall(r"^(\w+):", path.read_text(), re.MULTILINE))

    assert keys(released / "config") == keys(golden / "coconet/released/config")


@pytest.fixture
def tree(tmp_path) -> Path:
    """The repository, which knows nothing of the authors' file yet."""
    tree = copy_tree(tmp_path / "tree")
    record = tree / "checksums/sources.toml"
    record.write_text(re.sub(r"\[coconet\.(files|members)\]\n(?:[^\[\n].*\n|\n)*", "", record.read_text()))
    return tree


@pytest.mark.parametrize("way", ["folder", "the folder around it", "prefix", "archive", "released"])
def test_it_is_cast_like_the_seeded_weights_in_it(released, seeded, tree, tmp_path, way):
    words = {"folder": [f"CHECKPOINT={released}"], "the folder around it": [f"CHECKPOINT={released.parent}"],
             "prefix": [f"CHECKPOINT={released / 'best_model.ckpt'}"],
             "archive": [f"CHECKPOINT={tmp_path / 'checkpoint.zip'}"],
             "released": ["WEIGHTS=released", "TRUST=first-use", f"SOURCES={tmp_path}"]}[way]
    if way in ("archive", "released"):
        with zipfile.ZipFile(tmp_path / "checkpoint.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for path in sorted(released.iterdir()):
                packed.write(path, f"{released.name}/{path.name}")
    made("export" if way == "folder" else "fetch", "MODELS=coconet", *words, cwd=tree)
    build = tree / "build" / ("released" if way == "released" else "custom") / "coconet"
    assert all((build / "fetch" / name).read_bytes() == (released / name).read_bytes() for name in FILES)
    if (build / "export").exists():
        exported = seeded.parent / "export/denoiser.onnx"
        assert (build / "export/denoiser.onnx").read_bytes() == exported.read_bytes()
