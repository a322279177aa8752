"""Against what the original vampnet and lac returned elsewhere: at toy size, and at the real one."""

import shutil

import numpy as np
import onnxruntime
import pytest
import torch

from models.vampnet import components, seeded
from models.vampnet.inputs import WRITTEN
from models.vampnet.weights import codebooks, load, read
from scripts import graphs
from scripts.recipe import read as read_recipe
from tests.conftest import ROOT
from tests.models.vampnet.golden_weights import golden_weight
from tests.proven import skip_where_proven

RECIPE = read_recipe(ROOT, "vampnet")
EVERY = {"coarse": 4, "c2f": 16}  # of the vocabulary, which the tiny golden logits hold one in


class Cast:
    """A part of a checkpoint in PyTorch and as the export builds it, in ONNX Runtime."""

    def __init__(self, source, part, folder):
        codec, sizes = read(source, "codec")
        if part == "codec":
            self.network = load(codec, "codec", sizes)
            graphs.save(components.encoder(codec, sizes, RECIPE["components"]["encoder"], RECIPE["opset"]),
                        folder / "encoder.onnx", beside=True)
            graphs.save(components.decoder(codec, sizes, RECIPE["components"]["decoder"], RECIPE["opset"]),
                        folder / "decoder.onnx", beside=True)
            self.encoder, self.decoder = (onnxruntime.InferenceSession(folder / f"{name}.onnx")
                                          for name in ("encoder", "decoder"))
        else:
            arrays, sizes = read(source, part)
            self.network, self.tables = load(arrays, part, sizes), torch.from_numpy(codebooks(codec, WRITTEN[part][0]))
            graphs.save(components.transformer(arrays, codec, sizes, RECIPE["components"][part], RECIPE["opset"]),
                        folder / f"{part}.onnx", beside=True)
            self.session = onnxruntime.InferenceSession(folder / f"{part}.onnx")

    @torch.inference_mode()
    def torch(self, codes):
        """The golden data's logits [batch, vocabulary, time * written] of PyTorch's."""
        return flat(self.network(torch.from_numpy(codes.astype(np.int64)), self.tables).numpy())

    def onnx(self, codes):
        return flat(self.session.run(None, {"codes": codes.astype(np.int64)})[0])


def flat(logits):
    """[batch, written, time, vocabulary] as upstream has it: [batch, vocabulary, time * written]"""
    return logits.transpose(0, 3, 2, 1).reshape(len(logits), logits.shape[3], -1)


def likeliest(logits, written):
    """[batch, written, time] of upstream's logits."""
    return logits.argmax(1).reshape(len(logits), -1, written).swapaxes(1, 2)


@pytest.fixture(scope="module")
def checkpoint(golden, tmp_path_factory):
    """The golden files under the names of a release."""
    folder = tmp_path_factory.mktemp("checkpoint")
    for part in ("coarse", "c2f", "codec"):
        shutil.copyfile(golden / f"vampnet/{part}-tiny.pth", folder / f"{part}.pth")
    return folder


@pytest.fixture(scope="module")
def told(golden):
    return np.load(golden / "vampnet/tiny.npz")


@pytest.mark.parametrize("part", WRITTEN)
def test_a_tiny_file_that_upstream_wrote_gives_upstreams_logits(told, checkpoint, part, tmp_path):
    """coarse with adapters, c2f without."""
    cast = Cast(checkpoint, part, tmp_path)
    for time in (33, 80):
        codes, expected = told[f"{part}_codes_T{time}"], told[f"{part}_logits_vocab{EVERY[part]}_T{time}"]
        for logits in (cast.torch(codes), cast.onnx(codes)):
            assert np.abs(logits[:, 1::EVERY[part]] - expected).max() <= 2e-4
            np.testing.assert_array_equal(likeliest(logits, WRITTEN[part][1]), told[f"{part}_argmax_T{time}"])


def test_a_tiny_codec_that_upstream_wrote_gives_upstreams_codes_and_sound(told, checkpoint, tmp_path):
    cast = Cast(checkpoint, "codec", tmp_path)
    for samples in (9216, 9517):
        audio = told[f"codec_pcm_n{samples}"].astype(np.float32)[None] / np.float32(32768)
        codes, sound = told[f"codec_codes_n{samples}"].astype(np.int64), told[f"codec_audio_n{samples}"][0]
        np.testing.assert_array_equal(cast.network.encode(torch.from_numpy(audio)).numpy(), codes)
        np.testing.assert_array_equal(cast.encoder.run(None, {"audio": audio})[0], codes)
        assert np.abs(cast.network.decode(torch.from_numpy(codes)).numpy() - sound).max() <= 1e-4
        assert np.abs(cast.decoder.run(None, {"codes": codes})[0] - sound).max() <= 1e-4


# At the real size


@pytest.fixture(scope="module")
def real(golden, tmp_path_factory):
    """A whole checkpoint of golden weights: 3 GB, which go when it is done with."""
    skip_where_proven("vampnet")
    folder = tmp_path_factory.mktemp("real")
    seeded.write(folder, RECIPE["sources"]["seeded"], golden_weight)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("part", WRITTEN)
def test_the_real_transformers_give_upstreams_logits(golden, real, part, tmp_path):
    """Within 5e-4, and the likeliest codes wherever they lead by more than noise; ONNX as PyTorch."""
    told, cast = np.load(golden / f"vampnet/{part}.npz"), Cast(real, part, tmp_path)
    for time in (57, 173):
        codes, clear = told[f"codes_T{time}"], told[f"margin_T{time}"] > 1e-3
        found = [cast.torch(codes), cast.onnx(codes)]
        for logits in found:
            assert np.abs(logits[:, 5::16] - told[f"logits_vocab16_T{time}"]).max() <= 5e-4
            same = likeliest(logits, WRITTEN[part][1]) == told[f"argmax_T{time}"]
            assert same[clear].all() and same.mean() >= 0.999
        assert np.abs(found[0] - found[1]).max() <= 2e-4  # upstream's own float32 is 9e-5 from float64 here
    shutil.rmtree(tmp_path)


def test_the_real_codec_gives_upstreams_codes_and_sound(golden, real, tmp_path):
    """Of a real recording: every code but where two are nearer than noise, and sound within 2e-4."""
    told, cast = np.load(golden / "vampnet/codec.npz"), Cast(real, "codec", tmp_path)
    for samples in (88200, 87552):
        audio = told[f"pcm_n{samples}"].astype(np.float32)[None] / np.float32(32768)
        codes, margin = told[f"codes_n{samples}"].astype(np.int64), told[f"code_margin_n{samples}"][0]
        found = cast.encoder.run(None, {"audio": audio})[0]
        differs = found[0] != codes[0]
        first = np.argmax(differs, axis=0)[differs.any(axis=0)]
        assert (margin[first, np.flatnonzero(differs.any(axis=0))] < 1e-3).all()
        assert 1 - differs.mean() >= 0.97
        assert np.abs(cast.decoder.run(None, {"codes": codes})[0] - told[f"audio_n{samples}"][0]).max() <= 2e-4
    shutil.rmtree(tmp_path)


def test_adapters_that_are_left_out_are_noticed(golden, checkpoint, told, tmp_path):
    """The same weights without them give other logits by far, so a forgotten merge can't pass."""
    file = torch.load(checkpoint / "coarse.pth", weights_only=True)
    for name in [name for name in file["state_dict"] if "lora" in name]:
        del file["state_dict"][name]
    bare = tmp_path / "bare"
    bare.mkdir()
    torch.save(file, bare / "coarse.pth")
    shutil.copyfile(checkpoint / "codec.pth", bare / "codec.pth")
    logits = Cast(bare, "coarse", tmp_path).onnx(told["coarse_codes_T33"])
    assert np.abs(logits[:, 1::4] - told["coarse_logits_vocab4_T33"]).max() > 0.1
