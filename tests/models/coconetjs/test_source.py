"""The edition for browsers: its layers are the upstream's, and every array of a manifest is accounted for."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from models.coconetjs import architecture, ranges
from models.coconetjs.export import export
from models.coconetjs.weights import read
from scripts import recipe, source, tfjs
from scripts.job import Refusal
from tests.conftest import ROOT, run

CUSTOM = recipe.read(ROOT, "coconetjs")["sources"]["custom"]
LAYER = "model/conv17/"


def described(folder) -> list:
    return json.loads((folder / tfjs.MANIFEST).read_text())


def rewritten(folder, change) -> None:
    """Change the arrays of a manifest, a dict by name, and write all of them into one shard."""
    place = folder / tfjs.MANIFEST
    arrays = tfjs.arrays(place, tfjs.groups(place, place.read_bytes()))
    change(arrays)
    for path in folder.iterdir():
        path.unlink()
    told = [{"name": name, "shape": list(array.shape), "dtype": array.dtype.name} for name, array in arrays.items()]
    place.write_text(json.dumps([{"paths": ["all.bin"], "weights": told}]))
    (folder / "all.bin").write_bytes(b"".join(array.tobytes() for array in arrays.values()))


def test_the_layers_are_those_of_magenta_js(golden):
    spec = json.loads((golden / "coconet/js-spec.json").read_text())
    layers = architecture.layers(5, 128)
    shapes = {name: list(shape) for layer in layers for name, shape in layer.shapes().items()}
    assert list(shapes.items()) == [(one["name"], one["shape"]) for one in spec["weights"]]
    assert sum(map(np.prod, shapes.values())) == spec["parameters"]
    for layer, told in zip(layers, spec["layers"], strict=True):
        assert [layer.kernel, layer.kernel, layer.inputs, layer.outputs] == told["filters"]
        assert (list(layer.dilation), layer.splits) == (told["dilation"], told["pointwise_splits"])


def test_the_toy_has_every_kind_of_layer():
    layers = architecture.layers(3, 16)
    assert {layer.dilation for layer in layers} == set(architecture.BLOCK)
    assert {layer.splits for layer in layers} == {1, architecture.SPLITS}
    assert {layer.kernel for layer in layers} == {2, 3}


def test_the_table_of_ranges_is_the_authors(golden):
    [group] = json.loads((golden / "coconet/released/browser_weights_manifest.json").read_text())
    told = {one["name"]: [one["quantization"]["min"], one["quantization"]["scale"]] for one in group["weights"]}
    assert ranges.RANGES.keys() == told.keys() and len(told) == 238
    for name, found in told.items():
        np.testing.assert_allclose(ranges.RANGES[name], found, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("kind", ["tiny", "seeded"])
def test_stand_ins_are_stored_in_8_bits_over_the_authors_ranges(kind, request):
    """All arrays that the authors' manifest has, the one that isn't read too."""
    request.getfixturevalue(kind)
    folder = ROOT / "build" / kind / "coconetjs/fetch"
    _, layers = read(folder)
    [group] = described(folder)
    assert (kind == "tiny" or {one["name"] for one in group["weights"]} == ranges.RANGES.keys())
    for one in group["weights"]:
        low, step = ranges.bounds(one["name"], layers)
        told = one["quantization"]
        assert told["dtype"] == "uint8" and one["dtype"] == "float32"
        np.testing.assert_allclose([told["min"], told["min"] + 255 * told["scale"]], [low, low + 255 * step],
                                   atol=1e-6 * 255 * step, err_msg=one["name"])


def test_ranges_of_a_network_of_the_authors_size_are_the_authors():
    assert all(list(ranges.bounds(name, ranges.REAL)) == told for name, told in ranges.RANGES.items())


def test_a_smaller_network_ends_as_the_authors_does_and_its_products_are_as_large():
    layers = architecture.layers(3, 16)
    assert list(ranges.bounds("model/conv20/popvariance", layers)) == ranges.RANGES["model/conv32/popvariance"]
    assert list(ranges.bounds("model/conv18/popvariance", layers)) == ranges.RANGES["model/conv18/popvariance"]
    low, _ = ranges.bounds("model/conv3/SeparableConv2d/pointwise_weights", layers)
    assert low == pytest.approx(8 ** 0.5 * ranges.RANGES["model/conv3/SeparableConv2d/pointwise_weights"][0])


@pytest.mark.parametrize("kind", ["tiny", "seeded"])
def test_stand_ins_answer_with_many_notes_and_neither_all_nor_none_for_sure(kind, request):
    request.getfixturevalue(kind)
    reference = np.load(ROOT / "build" / kind / "coconetjs/ask/reference.npz")
    logits = reference["denoiser/chorales/logits"].astype(np.float64)
    likeliest = 1 / np.exp(logits - logits.max(2, keepdims=True)).sum(2)
    assert len(np.unique(logits.argmax(2))) > 30 and 0.15 < np.median(likeliest) < 0.99


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("filters", [4, 128])
def test_shapes_tell_the_sizes(blocks, filters):
    shapes = {name: shape for layer in architecture.layers(blocks, filters) for name, shape in layer.shapes().items()}
    assert architecture.sizes(shapes) == (blocks, filters)


@pytest.mark.parametrize(("change", "said"), [
    (lambda arrays: arrays.pop("model/conv3/gamma"), "1 missing: model/conv3/gamma"),
    (lambda arrays: arrays.pop(LAYER + "split_17_2/kernel"), "1 missing: model/conv17/split_17_2/kernel"),
    (lambda arrays: arrays.update(strange=np.zeros(1, np.float32)), "1 unknown: strange"),
    (lambda arrays: arrays.update({"model/conv4/SeparableConv2d/bias": np.zeros(16, np.float32)}),
     "1 unknown: model/conv4/SeparableConv2d/bias"),
    (lambda arrays: arrays.update({"model/conv2/beta": np.zeros(15, np.float32)}),
     "1 of another shape: model/conv2/beta is [15], expected [16]"),
    (lambda arrays: arrays.update({"model/conv2/beta": np.zeros(16, np.int32)}),
     "model/conv2/beta is int32, expected float32"),
    (lambda arrays: arrays.update({"model/conv5/popmean": np.full((1, 1, 1, 16), np.nan, np.float32)}),
     "found others in model/conv5/popmean"),
    (lambda arrays: arrays.update({"model/conv5/popvariance": np.full((1, 1, 1, 16), -1, np.float32)}),
     "found others in model/conv5/popvariance"),
    (lambda arrays: [arrays.pop(name) for name in list(arrays) if "/conv20/" in name], "found 20 layers"),
    (lambda arrays: arrays.clear(), "found 0 layers"),
])
def test_what_is_wrong_with_an_array_is_said(weights, change, said):
    read(weights)
    rewritten(weights, change)
    with pytest.raises(Refusal) as refusal:
        read(weights)
    assert said in str(refusal.value) and str(weights) in str(refusal.value)


def test_what_training_leaves_is_passed_over_and_so_is_what_magenta_js_does_not_read(weights):
    before, _ = read(weights)
    rewritten(weights, lambda arrays: arrays.update({
        "model/conv0/gamma/Adam": np.ones((1, 1, 1, 16), np.float32), "beta1_power": np.ones((), np.float32),
        "global_step": np.ones((), np.int32), LAYER + "SeparableConv2d/biases": np.ones(16, np.float32)}))
    after, _ = read(weights)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)


def test_the_published_manifest_is_taken_and_what_is_not_read_of_it_is_said(golden, tmp_path, capsys):
    """Its own shapes, scales and extra array, around a shard that is made up."""
    shutil.copy(golden / "coconet/released/browser_weights_manifest.json", tmp_path / tfjs.MANIFEST)
    stored = np.random.default_rng(0).integers(0, 256, 553_436, np.uint8)
    (tmp_path / "group1-shard1of1").write_bytes(stored.tobytes())
    arrays, layers = read(tmp_path)
    assert (len(arrays), sum(array.size for array in arrays.values()), len(layers)) == (237, 553_308, 33)
    assert max(np.abs(array).max() for array in arrays.values()) > 9e7
    out = tmp_path / "out"
    out.mkdir()
    export(tmp_path, out, recipe.read(ROOT, "coconetjs"))
    assert f"passing over {LAYER}SeparableConv2d/biases, as magenta-js does" in capsys.readouterr().out


def test_of_a_manifest_without_more_than_is_read_nothing_is_said(weights, tmp_path, capsys):
    rewritten(weights, lambda arrays: arrays.pop(LAYER + "SeparableConv2d/biases"))
    export(weights, tmp_path, recipe.read(ROOT, "coconetjs"))
    assert "passing over" not in capsys.readouterr().out


def test_quantized_weights_are_widened(weights):
    rewritten(weights, lambda arrays: arrays.pop(LAYER + "SeparableConv2d/biases"))
    before, _ = read(weights)
    told = described(weights)
    stored = []
    for one in told[0]["weights"]:
        array = before[one["name"]]
        scale = float(np.ptp(array)) / 65535 or 1.0
        one["quantization"] = {"dtype": "uint16", "scale": scale, "min": float(array.min())}
        stored.append(np.round((array.astype(np.float64) - array.min()) / scale).astype("<u2").tobytes())
    told[0]["paths"] = ["all.bin"]
    (weights / "all.bin").write_bytes(b"".join(stored))
    (weights / tfjs.MANIFEST).write_text(json.dumps(told))
    after, _ = read(weights)
    assert all(np.abs(after[name] - before[name]).max() <= np.ptp(before[name]) / 65535 for name in before)


def test_a_folder_its_manifest_and_an_archive_are_the_same_checkpoint(weights, tmp_path):
    packed = tmp_path / "bach.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in weights.iterdir():
            archive.write(path, f"checkpoints/bach/{path.name}")
    (weights / "README.md").touch()
    names = {tfjs.MANIFEST, *described(weights)[0]["paths"]}
    for number, given in enumerate((weights, weights / tfjs.MANIFEST, packed)):
        out = tmp_path / str(number)
        out.mkdir()
        source.copy(given, CUSTOM, out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            name: (weights / name).read_bytes() for name in names}


@pytest.mark.parametrize(("break_it", "said"), [
    (lambda folder: (folder / tfjs.MANIFEST).unlink(), "expected weights_manifest.json and its shards in this folder"),
    (lambda folder: (folder / "group1-shard1of1.bin").unlink(), "expected a shard of weights, found none"),
    (lambda folder: (folder / "group1-shard1of1.bin").write_bytes(b"cut"), "found 3: the model is not whole"),
])
def test_a_folder_that_is_not_whole_is_one_sentence(weights, break_it, said):
    break_it(weights)
    done = run("make", "--no-print-directory", "fetch", "MODELS=coconetjs", f"CHECKPOINT={weights}")
    assert done.returncode == 2
    [error] = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert said in error


def test_an_archive_without_a_manifest_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bach.zip", "w") as archive:
        archive.writestr("bach/model.json", "{}")
    with pytest.raises(Refusal, match=r"of weights_manifest.json and its shards, found no weights_manifest.json"):
        source.copy(tmp_path / "bach.zip", CUSTOM, tmp_path)
