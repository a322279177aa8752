"""A checkpoint becomes a folder for PyTorch: all of it, the same bytes each time, or nothing."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.mt3 import architecture, seeded, weights
from scripts.convert import convert
from scripts.job import Refusal
from tests.conftest import made, run

SIZES = {"emb_dim": 32, "num_heads": 2, "head_dim": 64, "mlp_dim": 48, "num_encoder_layers": 1,
         "num_decoder_layers": 1, "vocab_size": 1536, "input_depth": 512}
RECIPE = {"model": "mt3", "sources": {"custom": {"checkpoint": "t5x", "vocab_size": 1536}}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeded")
    seeded.write(folder, SIZES)
    return folder


def test_the_config_and_the_arrays_make_the_network_again(checkpoint, tmp_path):
    count = convert(checkpoint, tmp_path / "out", RECIPE)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config == {"model": "mt3", **SIZES} and count == len(weights.expected(SIZES))
    network = architecture.Transcriber(config)
    network.load_state_dict(load_file(tmp_path / "out/model.safetensors"), strict=True)
    assert not (tmp_path / "out/model.pth").exists()


def test_the_mapping_tells_where_each_array_went(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "out", RECIPE)
    arrays, _ = weights.read(checkpoint)
    state = load_file(tmp_path / "out/model.safetensors")
    header, *rows = csv.reader((tmp_path / "out/mapping.tsv").open(), delimiter="\t")
    assert header == ["T5X", "shape", "PyTorch", "shape", "transposed"]
    assert {row[0] for row in rows} == set(arrays) and {row[2] for row in rows} == set(state)
    for name, shape, place, other, transposed in rows:
        assert json.loads(shape) == list(arrays[name].shape) and json.loads(other) == list(state[place].shape)
        array = arrays[name].T if transposed == "yes" else arrays[name]
        assert np.array_equal(state[place].numpy(), array)


def test_the_bytes_are_the_same_in_another_folder(checkpoint, tmp_path):
    files = ["config.json", "mapping.tsv", "model.pth", "model.safetensors"]
    for name in ("one", "another"):
        convert(checkpoint, tmp_path / name, RECIPE, pickled=True)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == files
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "another" / name).read_bytes() for name in files)


def test_the_pickled_arrays_are_those_of_safetensors_and_load_without_code(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "out", RECIPE, pickled=True)
    pickled = torch.load(tmp_path / "out/model.pth", weights_only=True)
    state = load_file(tmp_path / "out/model.safetensors")
    assert pickled.keys() == state.keys() and all(torch.equal(pickled[name], state[name]) for name in state)


def test_a_folder_with_something_in_it_is_left_as_it_is(checkpoint, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Refusal, match="expected a new or an empty folder"):
        convert(checkpoint, tmp_path, RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_bad_checkpoint_leaves_nothing(checkpoint, tmp_path):
    with pytest.raises(Refusal, match="expected ismir2021's vocabulary"):
        convert(checkpoint, tmp_path / "out", {"model": "ismir2021", "like": "mt3",
                                               "sources": {"custom": {"vocab_size": 1664}}})
    assert not list(tmp_path.iterdir())


def test_make_converts_the_builds_own_source_and_inspects_it(cast, tmp_path):
    """Without CHECKPOINT; with PTH=1 the same arrays twice; every array is in the table, and 189 of them."""
    told = made("convert", "MODEL=mt3", "WEIGHTS=tiny", "PTH=1", f"OUT={tmp_path / 'out'}")
    assert "189 arrays" in told
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json", "mapping.tsv", "model.pth", "model.safetensors"]
    printed = made("inspect", f"T5X={cast.parent / 'fetch'}")
    assert "189 arrays, 42 of them in the file checkpoint" in printed and "vocabulary   1536: mt3" in printed


def test_make_says_in_a_line_what_cannot_be_converted(tmp_path):
    done = run("make", "--no-print-directory", "convert", "MODEL=coconet", f"CHECKPOINT={tmp_path}",
               f"OUT={tmp_path / 'out'}")
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1, done.stderr
