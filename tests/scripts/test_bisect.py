"""The first node whose numbers aren't the original's is found; graphs that agree are said to."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from scripts import bisect, graphs, recipe
from tests.conftest import ROOT, copy_tree, refused, run

MODELS = ("coconet", "groovae", "mt3", "vampnet")  # ismir2021 is mt3 with another vocabulary


@pytest.fixture(scope="module")
def told(tiny) -> dict[str, dict]:
    """Of each component of a few models what is asked, and what the original has: its toolchain runs once."""
    def tell(model: str) -> dict[str, tuple[bisect.Asked, dict]]:
        asked_of, folder = recipe.read(ROOT, model), ROOT / "build/tiny" / model
        names = [name for name, one in asked_of["components"].items() if one["stage"] == "export"]
        names += asked_of.get("steps", {})
        asked = {name: bisect.question(folder, name, bisect.opened(folder / f"export/{name}.onnx")) for name in names}
        found = bisect.originals(model, "tiny", asked_of, "venv", asked)
        return {f"{model} {name}": (asked[name], found[name]) for name in names}

    with ThreadPoolExecutor(2) as pool:
        return {name: one for model in pool.map(tell, MODELS) for name, one in model.items()}


def agree(told: dict, component: str, **paths: Path) -> bool:
    """Bisect a component, its graphs replaced where others are given."""
    model, name = component.split()
    own = {stage: ROOT / f"build/tiny/{model}/{stage}/{name}.onnx" for stage in bisect.STAGES}
    return bisect.agrees(component, own | paths, *told[component])


def harmed(tmp_path: Path, component: str, harm, stage: str = "export") -> Path:
    """A build's graph with one thing wrong."""
    model, name = component.split()
    proto = graphs.load(ROOT / f"build/tiny/{model}/{stage}/{name}.onnx")
    harm(proto.graph)
    onnx.save(proto, tmp_path / f"{name}.onnx")
    return tmp_path / f"{name}.onnx"


def weight(name: str, factor: float = 1.5):
    """One number of a weight is wrong: its largest."""
    def harm(graph: onnx.GraphProto) -> None:
        [tensor] = [tensor for tensor in graph.initializer if tensor.name == name]
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.flat[np.abs(array).argmax()] *= factor
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return harm


def attribute(node: str, **values):
    def harm(graph: onnx.GraphProto) -> None:
        [found] = [one for one in graph.node if one.name == node]
        kept = [one for one in found.attribute if one.name not in values]
        del found.attribute[:]
        found.attribute.extend([*kept, *(onnx.helper.make_attribute(name, value) for name, value in values.items())])
    return harm


COMPONENTS = ["coconet denoiser", "groovae encoder", "groovae opening", "groovae step", "mt3 frontend", "mt3 encoder",
              "mt3 decoder", "vampnet encoder", "vampnet decoder", "vampnet coarse", "vampnet c2f"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_unharmed_graphs_agree(told, capsys, component):
    assert agree(told, component)
    said = capsys.readouterr().out
    assert said.count("compared tensors agree") == 2 and "parts from" not in said


def test_every_component_is_looked_at(told):
    assert list(told) == COMPONENTS


def test_most_tensors_of_the_converted_graphs_are_compared(told):
    """Between two of them lie a few nodes, which are named together."""
    shares = {component: len(told[component][1].keys() & told[component][0].tensors.keys()) /
              len(told[component][0].tensors) for component in COMPONENTS}
    assert shares["coconet denoiser"] > 0.6 and shares["groovae step"] == 1 and min(
        share for component, share in shares.items() if component != "mt3 frontend") > 0.15


@pytest.mark.parametrize("component, name, node", [
    ("coconet denoiser", "model/conv3/Conv2D/merged_input:0", "model/conv3/Relu (Relu)"),
    ("coconet denoiser", "model/conv5/batchnorm/sub:0", "Transpose__86 (Transpose)"),
    ("groovae encoder", "lstm_held", "(Reshape)"),
    ("groovae encoder", "sigma/bias", "(Add)"),
    ("groovae step", "MatMul_2/b:0", "MatMul_2 (MatMul)"),
    ("mt3 encoder", "encoder/layers_3/mlp/wi_0+encoder/layers_3/mlp/wi_1", "(MatMul)"),
    ("mt3 decoder", "decoder/layers_7/pre_cross_attention_layer_norm", "(Mul)"),
    ("vampnet decoder", "decoder.model.4.block.2.mrf_blocks.1.block.2.layer.1", "(Conv)"),
    ("vampnet coarse", "transformer.layers.1.feed_forward.w_2", "(MatMul)"),
])
def test_a_wrong_weight_is_found_by_name(told, tmp_path, capsys, component, name, node):
    assert not agree(told, component, export=harmed(tmp_path, component, weight(name, 3)))
    said = capsys.readouterr().out
    [parting] = [line for line in said.splitlines() if "parts from the original at the node" in line]
    [read] = [line for line in said.splitlines() if "weights read there:" in line]
    assert node in parting and name in read, said
    assert read.count(",") < 8  # few others are suspected
    assert "optimize" not in said


def test_a_wrong_dilation_is_found(told, tmp_path, capsys):
    wrong = harmed(tmp_path, "coconet denoiser", attribute("Conv__65", dilations=[2, 2], pads=[2, 2, 2, 2]))
    assert not agree(told, "coconet denoiser", export=wrong)
    said = capsys.readouterr().out
    assert "parts from the original at the node model/conv3/Relu (Relu)" in said and "Conv__65 (Conv)" in said


def test_a_wrong_padding_that_stops_the_graph_further_on_is_found_where_it_is(told, tmp_path, capsys):
    wrong = harmed(tmp_path, "coconet denoiser", attribute("Conv__65", auto_pad="NOTSET", pads=[0, 0, 0, 0]))
    assert not agree(told, "coconet denoiser", export=wrong)
    said = capsys.readouterr().out
    assert "at the node model/conv3/Relu (Relu)" in said and "Conv__65 (Conv)" in said and "the original's is" in said


def test_a_fault_of_the_optimizer_is_told_from_one_of_the_export(told, tmp_path, capsys):
    wrong = harmed(tmp_path, "coconet denoiser", weight("model/conv4/Conv2D/merged_input:0", -1), "optimize")
    assert not agree(told, "coconet denoiser", optimize=wrong)
    said = capsys.readouterr().out.splitlines()
    assert said[1].split()[:2] == ["export", "all"] and said[2].split()[:2] == ["optimize", "parts"]
    assert "model/conv4/Conv2D/merged_input:0" in said[-1]


@pytest.mark.parametrize("expected, found, error", [
    (np.arange(8.).reshape(1, 2, 2, 2), np.arange(8.).reshape(1, 2, 2, 2).transpose(0, 3, 1, 2), 0),  # other axes
    (np.arange(6.).reshape(2, 3), np.arange(6.).reshape(3, 2), 0),  # reshaped
    (np.arange(6.).reshape(2, 3), np.arange(6.)[::-1], None),  # in nobody knows which order
    (np.ones((2, 3)), np.ones((2, 4)), np.inf),
    (np.ones(4), np.array([1, 1, np.nan, 1]), np.inf),
    (np.array([0, -np.inf]), np.array([0, -np.inf]), 0),
    (np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]), 0.25),
    (np.zeros(3), np.full(3, 1e-9), 1e-4),
])
def test_how_far_tensors_are_apart(expected, found, error):
    assert bisect.distance(expected, found) == (error if error is None else pytest.approx(error, rel=0.01))


def test_a_model_without_a_trace_says_what_to_add(tmp_path):
    (copy_tree(tmp_path) / "models/coconet/trace.py").unlink()
    assert "models/coconet/trace.py: expected a function trace(" in refused("bisect", "MODEL=coconet", cwd=tmp_path)


def test_make_bisect_runs_the_whole_of_it(tiny):
    done = run("make", "bisect", "MODEL=coconet", "WEIGHTS=tiny")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("coconet denoiser, tiny weights, case 'short'") and "all 13 compared" in done.stdout
    assert not list((ROOT / "build/tiny/coconet").glob(".bisect*"))


def test_make_bisect_without_a_build_says_what_to_run(tmp_path):
    copy_tree(tmp_path)
    assert "run make groovae WEIGHTS=tiny first" in refused("bisect", "MODEL=groovae", "WEIGHTS=tiny", cwd=tmp_path)
    assert "no model 'nobody'" in refused("bisect", "MODEL=nobody", cwd=tmp_path)
