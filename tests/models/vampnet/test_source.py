"""A checkpoint is read strictly and without running its code: every array accounted for, by name."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.vampnet import seeded, weights
from models.vampnet.inputs import WRITTEN
from scripts.job import Refusal
from scripts.recipe import read as read_recipe
from tests.conftest import ROOT, run

SIZES = read_recipe(ROOT, "vampnet")["sources"]["tiny"]
PARTS = tuple(SIZES)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    seeded.write(folder, SIZES)
    return folder


@pytest.fixture
def checkpoint(written, tmp_path):
    shutil.copytree(written, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def change(checkpoint, part, plant):
    """Plant a defect in a file and return what reading it says."""
    file = torch.load(checkpoint / f"{part}.pth", weights_only=True)
    plant(file)
    torch.save(file, checkpoint / f"{part}.pth")
    return refused(checkpoint, part)


def refused(checkpoint, part):
    with pytest.raises(Refusal) as refusal:
        weights.read(checkpoint, part)
    said = str(refusal.value)
    assert said.startswith(f"{checkpoint / part}.pth") and "\n" not in said
    return said


@pytest.mark.parametrize("part", PARTS)
def test_a_seeded_file_is_read_and_every_array_is_in_the_network(checkpoint, part):
    arrays, sizes = weights.read(checkpoint, part)
    assert arrays.keys() == weights.load(arrays, part, sizes).state_dict().keys()
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert {name: sizes[name] for name in SIZES[part]} == SIZES[part]


def test_the_real_sizes_have_the_published_numbers_of_parameters():
    """With adapters as without, and of the codec."""
    real = read_recipe(ROOT, "vampnet")["sources"]["seeded"]

    def parameters(part, adapted):
        return sum(int(np.prod(shape)) for shape in weights.expected(weights.built(part, real[part]), adapted).values())

    assert [parameters("coarse", adapted) for adapted in (False, True)] == [333_026_464, 335_893_664]
    assert [parameters("c2f", adapted) for adapted in (False, True)] == [275_459_312, 277_753_072]
    assert parameters("codec", False) == 150_182_426


def test_the_same_bytes_are_written_twice(written, tmp_path):
    seeded.write(tmp_path, SIZES)
    for part in PARTS:
        assert (tmp_path / f"{part}.pth").read_bytes() == (written / f"{part}.pth").read_bytes()


def test_a_file_without_adapters_is_read_too(tmp_path):
    seeded.write(tmp_path, SIZES, adapted=False)
    for part in PARTS:
        weights.read(tmp_path, part)


def test_adapters_add_their_product_over_their_rank(checkpoint):
    file = torch.load(checkpoint / "coarse.pth", weights_only=True)["state_dict"]
    name = "transformer.layers.1.feed_forward.w_1."
    expected = file[f"{name}weight"].double() + file[f"{name}lora_B"].double() @ file[f"{name}lora_A"].double() / 8
    np.testing.assert_array_equal(weights.read(checkpoint, "coarse")[0][f"{name}weight"], expected.float().numpy())


def test_a_weight_norm_has_the_length_it_says(checkpoint):
    """Over all axes but the first, of transposed convolutions too, as torch's weight_norm computes it."""
    file = torch.load(checkpoint / "codec.pth", weights_only=True)["state_dict"]
    found = weights.read(checkpoint, "codec")[0]
    for name in ("encoder.block.2.block.4", "decoder.model.2.block.1", "quantizer.quantizers.3.in_proj"):
        expected = torch._weight_norm(file[f"{name}.weight_v"], file[f"{name}.weight_g"], 0).numpy()
        np.testing.assert_allclose(found[f"{name}.weight"], expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(("part", "name"), [
    ("coarse", "transformer.layers.1.norm_3.weight"), ("c2f", "classifier.layers.0.weight_g"),
    ("codec", "decoder.model.3.block.2.mrf_blocks.1.block.2.layer.2.alpha")])
def test_a_missing_an_unknown_and_a_misshapen_array_are_named(checkpoint, part, name):
    def drop(file):
        del file["state_dict"][name]

    def rename(file):
        file["state_dict"]["another"] = file["state_dict"].pop(name)

    def shorten(file):
        file["state_dict"][name] = file["state_dict"][name].flatten()[:-1]

    original = checkpoint.with_name("original")
    shutil.copytree(checkpoint, original)
    for plant, expected in ((drop, f"1 missing: {name}"), (rename, "1 unknown: another"),
                            (shorten, f"1 of another shape: {name} is")):
        shutil.copyfile(original / f"{part}.pth", checkpoint / f"{part}.pth")
        assert expected in change(checkpoint, part, plant)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_named(checkpoint, value):
    name = "transformer.layers.0.self_attn.fc.lora_B"

    def plant(file):
        file["state_dict"][name][3, 1] = value

    assert f"{name}: expected finite numbers" in change(checkpoint, "coarse", plant)


def test_adapters_of_another_rank_are_named(checkpoint):
    name = "transformer.layers.0.self_attn.w_vs.lora_A"

    def plant(file):
        file["state_dict"][name] = file["state_dict"][name][:4]

    assert f"{name} is [4, 64], expected [8, 64]" in change(checkpoint, "coarse", plant)


def test_adapters_of_some_layers_alone_are_named(checkpoint):
    def plant(file):
        for kind in ("lora_A", "lora_B"):
            del file["state_dict"][f"transformer.layers.1.self_attn.fc.{kind}"]

    assert "2 missing: transformer.layers.1.self_attn.fc.lora_A" in change(checkpoint, "coarse", plant)


@pytest.mark.parametrize(("given", "wanted"), [
    ("c2f", "coarse"), ("coarse", "c2f"), ("codec", "coarse"), ("c2f", "codec")])
def test_a_part_in_the_place_of_another_is_named(checkpoint, given, wanted):
    shutil.copyfile(checkpoint / f"{given}.pth", checkpoint / f"{wanted}.pth")
    assert f"expected VampNet's {wanted}, found {given}" in refused(checkpoint, wanted)


@pytest.mark.parametrize(("part", "size", "value"), [
    ("coarse", "n_layers", 10**9), ("coarse", "n_heads", 0), ("coarse", "embedding_dim", "64"),
    ("c2f", "n_heads", True),
    ("codec", "encoder_rates", []), ("codec", "decoder_rates", [6, -4]), ("codec", "decoder_dim", None)])
def test_sizes_that_are_none_are_named(checkpoint, part, size, value):
    assert f"found {size} = {value!r}" in change(
        checkpoint, part, lambda file: file["metadata"]["kwargs"].update({size: value}))


def test_a_codec_of_another_frame_and_heads_that_do_not_share_are_named(checkpoint):
    assert "expected a codec of 768 samples a frame" in change(
        checkpoint, "codec", lambda file: file["metadata"]["kwargs"].update(encoder_rates=[2, 4, 8, 8]))
    assert "64 and 5 heads" in change(
        checkpoint, "coarse", lambda file: file["metadata"]["kwargs"].update(n_heads=5))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(200)])
def test_a_file_of_another_kind_and_a_truncated_one_are_refused(checkpoint, content):
    path = checkpoint / "coarse.pth"
    half = path.read_bytes()[:path.stat().st_size // 2]
    for damaged in (content, half):
        path.write_bytes(damaged)
        assert "can't be read so" in refused(checkpoint, "coarse")


@pytest.mark.parametrize("told", [[], {"state_dict": {}}, {"state_dict": [], "metadata": {"kwargs": {}}},
                                  {"state_dict": {}, "metadata": {"kwargs": 3}}])
def test_another_layout_is_refused(checkpoint, told):
    torch.save(told, checkpoint / "coarse.pth")
    refused(checkpoint, "coarse")


class Trap:
    """What a hostile pickle does: it names a function to be called."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_by_name_and_runs_none(checkpoint, tmp_path):
    torch.save({"state_dict": {}, "metadata": Trap(tmp_path / "sprung")}, checkpoint / "coarse.pth")
    assert "pathlib.PosixPath" in refused(checkpoint, "coarse")
    assert not (tmp_path / "sprung").exists()
    (checkpoint / "coarse.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    refused(checkpoint, "coarse")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(("file", "names"), [
    ("malicious", ["builtins.print"]),
    ("foreign", ["pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "wavebeat.dstcn.dsTCNModel"])])
def test_the_golden_hostile_files_are_refused_by_name(golden, checkpoint, capsys, file, names):
    shutil.copyfile(golden / f"vampnet/{file}.pth", checkpoint / "coarse.pth")
    said = refused(checkpoint, "coarse")
    assert all(name in said for name in names)
    assert capsys.readouterr().out == ""


def test_a_users_checkpoint_is_cast_in_one_command(checkpoint, tiny):
    done = run("make", "vampnet", f"CHECKPOINT={checkpoint}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vampnet-coarse-sampler  int8" in done.stdout


def test_a_refused_checkpoint_is_one_line(checkpoint):
    (checkpoint / "codec.pth").write_bytes(b"")  # which is read first
    done = run("make", "vampnet", f"CHECKPOINT={checkpoint}")
    assert done.returncode != 0
    [said] = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "codec.pth: expected" in said and "Traceback" not in done.stderr


def test_files_of_both_transformers_share_the_codecs_codes():
    assert {part: SIZES[part]["n_codebooks"] for part in WRITTEN} == {"coarse": 4, "c2f": 14}
