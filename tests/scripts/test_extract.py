"""A piece of a graph runs alone, and returns what the whole graph has there."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from scripts import extract, graphs, probe
from scripts.job import Refusal
from tests.conftest import ROOT, exact_session, run

FROM, TO = "model/conv0/Relu:0", "model/conv2/add:0"


def cut(path: Path, starts: str, ends: str, out: Path) -> onnx.ModelProto:
    extract.extract(path.resolve(), starts.split(","), ends.split(","), out)
    return graphs.load(out)


def saved(path: Path, *nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = ()) -> Path:
    """A graph from x to y, of nobody's build."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], weights),
                                opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def asked(monkeypatch: pytest.MonkeyPatch, path: Path, starts: str, ends: str, out: Path | str) -> None:
    """As `make extract` asks."""
    monkeypatch.setattr("sys.argv", ["extract", f"--onnx={path}", f"--from={starts}", f"--to={ends}", "--", str(out)])
    extract.main()


@pytest.fixture
def denoiser(tiny) -> Path:
    return tiny / "coconet-denoiser-fp32.onnx"


def test_a_piece_runs_alone_and_returns_what_was_recorded(denoiser, tmp_path, capsys):
    out = tmp_path / "piece.onnx"
    piece = cut(denoiser, FROM, TO, out)
    assert [node.op_type for node in piece.graph.node] == ["Conv", "Relu", "Conv", "Add"]
    with np.load(tmp_path / "piece.npz") as recorded:
        [found] = exact_session(out).run([TO], {FROM: recorded[FROM]})
        assert np.abs(found - recorded[TO]).max() <= 1e-6 * np.abs(recorded[TO]).max()
    assert "the piece alone returns what the whole graph has there" in capsys.readouterr().out


def test_what_is_recorded_is_what_the_whole_graph_has(denoiser, tmp_path):
    cut(denoiser, FROM, f"{TO},logits", tmp_path / "piece.onnx")
    _, arrays = probe.smallest(ROOT / "build/tiny/coconet", "denoiser")
    with np.load(tmp_path / "piece.npz") as recorded:
        assert sorted(recorded) == sorted([FROM, TO, "logits"])
        assert np.abs(recorded["logits"] - arrays["logits"]).max() < 1e-4  # of the original itself


def test_ports_have_dtype_and_symbolic_shape_and_the_opset_is_kept(denoiser, tmp_path):
    piece = cut(denoiser, FROM, TO, tmp_path / "piece.onnx")
    [taken], [given] = piece.graph.input, piece.graph.output
    for port in (taken, given):
        axes = [axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim]
        assert axes[:2] == ["batch", 16] and isinstance(axes[2], str) and axes[3] == 46
        assert port.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [(o.domain, o.version) for o in piece.opset_import] == [("", 17)]


@pytest.mark.parametrize("component, variant", [("denoiser", "int8"), ("denoiser", "fp16")])
def test_pieces_of_smaller_variants_run_alone(tiny, tmp_path, component, variant):
    path = tiny / f"coconet-{component}-{variant}.onnx"
    convolutions = [node for node in graphs.load(path).graph.node if node.op_type == "Conv"]
    cut(path, "pianorolls,masks", convolutions[3].output[0], tmp_path / "piece.onnx")
    assert (tmp_path / "piece.npz").is_file()


def test_weights_beside_a_graph_come_beside_the_piece(tiny, tmp_path, capsys):
    path = tiny.parents[1] / "vampnet/compose/vampnet-coarse-fp32.onnx"
    norms = [node for node in graphs.load(path, weights=False).graph.node if node.op_type == "RMSNormalization"]
    cut(path, norms[-1].input[0], "logits", tmp_path / "piece.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["piece.npz", "piece.onnx", "piece.weights"]
    assert (tmp_path / "piece.weights").stat().st_size < path.with_name("vampnet-coarse-fp32.weights").stat().st_size
    assert "bit for bit" in capsys.readouterr().out


def test_a_step_that_the_reference_tells_nothing_of_is_cut_all_the_same(tiny, tmp_path, capsys):
    cut(tiny.parents[1] / "groovae/optimize/opening.onnx", "z", "c0", tmp_path / "piece.onnx")
    assert "no run is recorded" in capsys.readouterr().out and not (tmp_path / "piece.npz").exists()


def test_a_graph_of_nobodys_build_is_cut_and_says_that_nothing_is_recorded(tmp_path, capsys):
    path = saved(tmp_path / "m.onnx", helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"]))
    assert len(cut(path, "a", "y", tmp_path / "piece.onnx").graph.node) == 1
    assert "no run is recorded of this graph" in capsys.readouterr().out


def test_equal_pieces_are_equal_bytes(denoiser, tmp_path):
    for name in ("one", "two"):
        cut(denoiser, FROM, TO, tmp_path / f"{name}.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_piece_that_returns_something_else_is_refused(denoiser, tmp_path):
    out = tmp_path / "piece.onnx"
    cut(denoiser, FROM, TO, out)
    with np.load(tmp_path / "piece.npz") as recorded:
        tensors = {name: recorded[name].copy() for name in recorded}
    tensors[TO].flat[7] += 1e-3 * np.abs(tensors[TO]).max()
    with pytest.raises(Refusal, match=r"what the whole graph has there, found a difference of 0\.001"):
        extract.prove(out, tensors, [TO])


@pytest.mark.parametrize("starts, ends, sentence", [
    ("model/conv0/Relu", TO, "found none of this name: did you mean model/conv0/Relu:0"),
    (FROM, "qqqqqqqqqqqqqq", "found none of this name: make graph"),
    ("masks", "probabilities", "needs the graph's input pianorolls too: add it to FROM"),
    (f"{FROM},model/conv4/add:0", TO, "can be reached from model/conv4/add:0, found none that needs it"),
    (TO, TO, "expected another tensor than FROM names"),
    ("model/conv3/Conv2D/merged_input:0", TO, "found a weight: it comes with the nodes that read it"),
])
def test_what_cant_be_cut_is_a_sentence(denoiser, tmp_path, starts, ends, sentence):
    with pytest.raises(Refusal) as refused:
        cut(denoiser, starts, ends, tmp_path / "piece.onnx")
    assert sentence in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_tensor_inside_a_loop_is_refused_by_the_loops_name(tiny, tmp_path):
    path = tiny / "coconet-harmonizer-fp32.onnx"
    graph = graphs.load(path).graph
    [loop] = [node for node in graph.node if node.op_type == "Loop"]
    [body] = graphs.inner_graphs(graph)
    inside = next(node.output[0] for node in body.node if node.op_type == "Conv")
    with pytest.raises(Refusal, match=rf"inside the body of the Loop {loop.name}: what is inside can't run alone"):
        cut(path, inside, "harmonized", tmp_path / "piece.onnx")


def test_what_a_loop_reads_of_the_graph_around_it_is_needed_too(tiny, tmp_path):
    with pytest.raises(Refusal, match=r"needs the graph's input (masks|uniforms) too"):
        cut(tiny / "coconet-harmonizer-fp32.onnx", "pianorolls,steps,temperature", "harmonized", tmp_path / "p.onnx")
    every = "pianorolls,masks,uniforms,temperature,steps"
    assert len(cut(tiny / "coconet-harmonizer-fp32.onnx", every, "harmonized", tmp_path / "p.onnx").graph.node) > 1


@pytest.mark.parametrize("place, sentence", [
    ({"location": "../secret"}, "it is made to read other files"),
    ({"location": "none"}, "found none: put the graph's weights beside it"),
    ({"location": "short", "length": "400"}, "found a shorter file"),
    ({"location": "short", "offset": "-4", "length": "12"}, "found a shorter file"),
    ({"location": "short", "offset": "zero"}, "the graph is damaged"),
])
def test_weights_that_lie_elsewhere_or_arent_whole_are_refused(tmp_path, place, sentence):
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    weight.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in place.items())
    (tmp_path / "short").write_bytes(b"\0" * 12)
    path = saved(tmp_path / "m.onnx", helper.make_node("Relu", ["x"], ["a"]),
                 helper.make_node("Add", ["a", "w"], ["y"]), weights=(weight,))
    with pytest.raises(Refusal) as refused:
        cut(path, "a", "y", tmp_path / "piece.onnx")
    assert sentence in str(refused.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "short"]


@pytest.mark.parametrize("out, sentence", [("", "OUT: expected a file"), (".", "found a folder"),
                                           ("piece.txt", "ends in .onnx"), ("no/piece.onnx", "no folder to put it in")])
def test_a_place_that_cant_be_written_is_a_sentence(denoiser, tmp_path, monkeypatch, out, sentence):
    with pytest.raises(Refusal) as refused:
        asked(monkeypatch, denoiser, FROM, TO, out and tmp_path / out)
    assert sentence in str(refused.value)


def test_a_piece_never_takes_the_graphs_own_place(tmp_path, monkeypatch):
    path = saved(tmp_path / "m.onnx", helper.make_node("Relu", ["x"], ["y"]))
    before = path.read_bytes()
    with pytest.raises(Refusal, match="expected another file than ONNX"):
        asked(monkeypatch, path, "x", "y", path)
    assert path.read_bytes() == before


def test_no_name_of_a_tensor_is_a_sentence(denoiser, tmp_path, monkeypatch):
    with pytest.raises(Refusal, match="FROM: expected the name of a tensor"):
        asked(monkeypatch, denoiser, " , ", TO, tmp_path / "piece.onnx")


def test_make_extract_tells_what_it_wrote(denoiser, tmp_path):
    out = tmp_path / "piece.onnx"
    done = run("make", "extract", f"ONNX={denoiser}", f"FROM={FROM}", f"TO={TO}", f"OUT={out}")
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}: 4 nodes, 4 weights" in done.stdout and f"from {FROM}  float batch×16×" in done.stdout
