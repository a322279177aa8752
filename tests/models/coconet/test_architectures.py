"""Coconets of every architecture that Magenta's hyperparameters describe, trained by Magenta's own code and cast."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.coconet.player import Harmonizer
from models.coconetjs import architecture
from scripts import compose, optimize, quantize, recipe, verify
from scripts.job import Job, Refusal
from tests.conftest import ROOT, exact_session, made, run

HERE = Path(__file__).resolve().parent
EQUAL = 100  # dB of logits' SNR: what float32's noise leaves
# What Magenta's hyperparameters had not yet in 2018, when the published checkpoint was trained.
LATER = ["dilate_time_only", "interleave_split_every_n_layers", "num_dilation_blocks",
         "num_initial_regular_conv_layers", "num_pointwise_splits", "repeat_last_dilation_level",
         "sep_conv_depth_multiplier", "use_sep_conv"]
STRAIGHT: dict[str, Any] = {"architecture": "straight", "num_layers": 6}
DILATED: dict[str, Any] = {"architecture": "dilated", "num_dilation_blocks": 1}
SEPARABLE: dict[str, Any] = {"use_sep_conv": True}
SPLIT = {**DILATED, **SEPARABLE, "contrib": True, "num_initial_regular_conv_layers": 0}
KINDS = {
    "straight, of 2018": {**STRAIGHT, "without": LATER},
    "wide, without residuals": {**STRAIGHT, "num_layers": 4, "num_filters": 20, "use_residual": False},
    "without batch norm": {**STRAIGHT, "batch_norm": False},
    "separable, of TensorFlow 1": {**STRAIGHT, **SEPARABLE, "contrib": True, "num_initial_regular_conv_layers": 0},
    "dilated": {**DILATED, "tfjs": True},
    "dilated in time alone": {**DILATED, "dilate_time_only": True, "repeat_last_dilation_level": True,
                              "crop_piece_len": 8, "mask_indicates_context": False},
    "dilated, separable": {**DILATED, **SEPARABLE, "sep_conv_depth_multiplier": 2},
    "split": {**SPLIT, "num_pointwise_splits": 4, "interleave_split_every_n_layers": 2, "tfjs": True},
    "split everywhere": {
        **SPLIT, "num_pointwise_splits": 2, "interleave_split_every_n_layers": 0, "sep_conv_depth_multiplier": 3,
        "dilate_time_only": True, "batch_norm": False},
    "the edition for browsers": {**SPLIT, "num_dilation_blocks": 3, "crop_piece_len": 32, "num_pointwise_splits": 4,
                                 "interleave_split_every_n_layers": 16},
}
TOLD = {
    "straight, of 2018": "straight-6-16",
    "wide, without residuals": "straight-4-20, no residuals",
    "without batch norm": "straight-6-16, no batch norm",
    "separable, of TensorFlow 1": "straight-6-16, separable convolutions",
    "dilated": "dilated-9-16",
    "dilated in time alone": "dilated-10-16, dilated in time alone, masks of what is hidden",
    "dilated, separable": "dilated-9-16, separable convolutions from layer 2, depth multiplier 2",
    "split": "dilated-9-16, separable convolutions, 4 pointwise splits in every layer of 3",
    "split everywhere": "dilated-9-16, dilated in time alone, separable convolutions, depth multiplier 3, "
                        "2 pointwise splits in every layer of 1, no batch norm",
    "the edition for browsers": architecture.told(architecture.layers(3, 16)),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder for each kind, as train.py fills it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "told.json").write_text(json.dumps({"kinds": KINDS, "recipe": recipe.read(ROOT, "coconet")}))
    done = run("scripts/in", "legacy", "python", HERE / "train.py", folder / "told.json", folder)
    assert done.returncode == 0, done.stderr
    return folder


def finish(export: Path, build: Path, route: str | None = None) -> Path:
    """The stages after an export; the folder of the artifacts, which have passed their gates."""
    told = recipe.read(ROOT, "coconet") | ({"route": route} if route else {})
    places = {"export": export, "fetch": build / "fetch"}
    places["fetch"].mkdir(parents=True)
    (places["fetch"] / "manifest.json").write_text('{"outputs": []}')
    for name, stage in (("optimize", optimize.optimize), ("quantize", quantize.quantize), ("compose", compose.compose),
                        ("verify", verify.verify)):
        places[name] = build / name
        places[name].mkdir()
        stage(Job("coconet", "custom", told, dict(places), places[name], None))
    return places["compose"]


@pytest.fixture(scope="module")
def cast(trained) -> Callable[[str], Path]:
    """The artifacts of a kind, by the stages."""
    folders: dict[str, Path] = {}

    def artifacts(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = finish(trained / kind / "export", trained / kind / "build")
        return folders[kind]

    return artifacts


def against_magenta(folder: Path, artifacts: Path) -> dict[str, float]:
    """The fp32 denoiser's logits compared with those that Magenta's own loader gives of its own checkpoint."""
    asked = np.load(folder / "answers.npz")
    [found] = exact_session(artifacts / "coconet-denoiser-fp32.onnx").run(
        ["logits"], {name: asked[name] for name in ("pianorolls", "masks")})
    return verify.compare(asked["logits"], found, 2, asked["masks"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_magenta_trained_is_cast_and_answers_as_magenta_does(trained, cast, kind):
    assert against_magenta(trained / kind, cast(kind))["snr_db"] >= EQUAL


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "tfjs" in KINDS[kind]])
def test_it_goes_by_way_of_tensorflow_js_too(trained, kind):
    artifacts = finish(trained / kind / "export-tfjs", trained / kind / "tfjs", "tfjs")
    assert against_magenta(trained / kind, artifacts)["snr_db"] >= EQUAL


def test_the_kinds_are_told_apart(trained, cast):
    """None answers as another does: so each comparison above is with the network that it should be."""
    kinds = list(KINDS)
    assert all(against_magenta(trained / kind, cast(other))["snr_db"] < EQUAL / 2
               for kind, other in zip(kinds, kinds[1:] + kinds[:1]))


@pytest.mark.parametrize("kind", KINDS)
def test_artifacts_name_their_architecture(cast, kind):
    for path in cast(kind).glob("*.onnx"):
        told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert told["architecture"] == TOLD[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_one_convolution_or_two(cast, kind):
    """Nothing is left of spaces that are taken apart, products of reshaped tensors, or batch norms."""
    nodes = onnx.load(cast(kind) / "coconet-denoiser-fp32.onnx").graph.node
    assert {node.op_type for node in nodes} <= {"Add", "Concat", "Conv", "Mul", "Relu", "Softmax", "Sub", "Transpose"}
    assert len([node for node in nodes if node.op_type in ("Mul", "Transpose")]) <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_rounded_but_where_convolutions_are_depthwise(cast, kind):
    graph = onnx.load(cast(kind) / "coconet-denoiser-int8.onnx").graph
    rounded = any(node.op_type == "QuantizeLinear" for node in graph.node)
    assert rounded == ("use_sep_conv" not in KINDS[kind])
    assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in graph.initializer)


@pytest.mark.parametrize("kind", KINDS)
def test_it_harmonizes(cast, kind):
    melody = np.repeat([67, 67, 66, 64, 62, 67, 69, 71], 2)
    found = Harmonizer(cast(kind)).harmonize(melody, steps=4)
    assert found.shape == (16, 4) and (found[:, 0] == melody).all() and 36 <= found.min() <= found.max() <= 81


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(one for one in node.attribute if one.name == name)


def array_of(model: onnx.ModelProto, name: str) -> tuple[onnx.TensorProto, np.ndarray]:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return tensor, onnx.numpy_helper.to_array(tensor)


def dilate_less(model):
    node = next(node for node in convolutions(model) if list(attribute(node, "dilations").ints) == [4, 4])
    for name, value in (("dilations", [2, 2]), ("pads", [2, 2, 2, 2])):
        attribute(node, name).ints[:] = value


def pad_later(model):
    node = next(node for node in convolutions(model) if list(attribute(node, "dilations").ints) == [4, 4])
    attribute(node, "pads").ints[:] = [5, 4, 3, 4]


def exchange_splits(model):
    node = next(node for node in convolutions(model) if attribute(node, "group").i == 4)
    tensor, array = array_of(model, node.input[1])
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.concatenate([array[4:8], array[:4], array[8:]]), tensor.name))


def forget_depthwise_biases(model):
    node = next(node for node in convolutions(model) if attribute(node, "group").i == 16 and len(node.input) == 3)
    tensor, array = array_of(model, node.input[2])
    assert np.abs(array).max() > 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(array), tensor.name))


@pytest.mark.parametrize("defect", [dilate_less, pad_later, exchange_splits, forget_depthwise_biases])
def test_a_layer_that_is_another_misses_its_gates(trained, tmp_path, defect):
    shutil.copytree(trained / "split/export", tmp_path / "export")
    model = onnx.load(tmp_path / "export/denoiser.onnx")
    defect(model)
    onnx.save(model, tmp_path / "export/denoiser.onnx")
    with pytest.raises(Refusal, match=r"coconet-denoiser-fp32.onnx: \S+ of "):
        finish(tmp_path / "export", tmp_path / "build")


def weights(path: Path) -> list[bytes]:
    """A graph's arrays, whose names count up with what a process exported before."""
    return sorted(onnx.numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer)


def test_a_users_run_is_cast_and_played_by_make(trained, cast, workshop, tmp_path):
    tree = workshop()
    made("coconet", f"CHECKPOINT={trained / 'split/run'}", cwd=tree)
    built = tree / "build/custom/coconet"
    for name in ("optimize/denoiser.onnx", "quantize/denoiser-int8.onnx"):
        assert weights(built / name) == weights(cast("split").parent / name)
    assert against_magenta(trained / "split", built / "compose")["snr_db"] >= EQUAL
    made("play", "MODEL=coconet", "WEIGHTS=custom", "IN=models/coconet/samples/ode-to-joy.mid",
         f"OUT={tmp_path / 'chorale.mid'}", "STEPS=2", cwd=tree)
    assert (tmp_path / "chorale.mid").stat().st_size > 50
