"""A graph as a picture: readable, reproducible, quick, and safe whatever is in the graph."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from scripts import graph
from scripts.drawing import MOST_NODES, draw
from scripts.inspection.onnx import opened
from scripts.job import Refusal
from scripts.layering import Box, place
from tests.conftest import ROOT, run

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"/><script>alert(1)</script>\x07&amp;<![CDATA['


def drawn(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(draw(opened(path), path.stem))


def texts(picture: ElementTree.Element) -> list[str]:
    return [text.text for text in picture.iter(f"{SVG}text")]


def model(*nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = (), ends: tuple[str, ...] = ("y",),
          start: str = "x") -> onnx.ModelProto:
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ends]
    [port] = [helper.make_tensor_value_info(start, TensorProto.FLOAT, ["batch", 3])]
    return helper.make_model(helper.make_graph(nodes, "g", [port], outputs, weights),
                             opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(count: int) -> onnx.ModelProto:
    """A deep graph in which every node also reads the input."""
    names = ["x", *(f"t{number}" for number in range(count - 1)), "y"]
    return model(*(helper.make_node("Add", [one, "x"], [two]) for one, two in pairwise(names)))


def test_a_picture_shows_ops_weights_attributes_ports_and_shapes(tiny):
    shown = texts(drawn(tiny / "coconet-denoiser-fp32.onnx"))
    assert shown.count("Conv") == 6 and "kernel 3×3" in shown and "pianorolls" in shown
    assert "float batch×time×46×4" in shown  # a port
    assert any(text.endswith(" 16×16×3×3") for text in shown)  # a weight
    assert "batch×time×46×8" in shown  # at an edge
    assert "model/conv0/Relu:0" not in shown


def test_a_loops_body_is_a_section_of_its_own_with_what_it_takes_from_outside(tiny):
    shown = texts(drawn(tiny / "coconet-harmonizer-fp32.onnx"))
    assert any(text.startswith("Loop ") and text.endswith(": body") for text in shown) and "body: see below" in shown
    assert "↑ uniforms" in shown and "↑ steps" in shown and shown.count("Conv") == 6
    assert any(text.endswith("= 0.9") for text in shown)  # a small constant by its value


def test_a_nodes_tooltip_has_its_name_inputs_and_outputs(tiny):
    titles = [title.text for title in drawn(tiny / "coconet-denoiser-fp32.onnx").iter(f"{SVG}title")]
    assert any(title.startswith("Conv Conv__65\nin: model/conv2/Relu:0\n") and title.endswith("out: Conv__65:0")
               for title in titles)


def test_constants_are_no_boxes():
    value = onnx.numpy_helper.from_array(np.float32([1, 2, 3]))
    shown = texts(ElementTree.fromstring(draw(model(helper.make_node("Constant", [], ["c"], value=value),
                                                    helper.make_node("Add", ["x", "c"], ["y"])), "g")))
    assert "Constant" not in shown and "c = 1 2 3" in shown


def test_edges_go_down_and_boxes_of_a_layer_lie_apart(tiny):
    boxes = [Box(80, 30, [], "", "") for _ in range(7)]
    edges = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (5, 6)]
    routes, width, height = place(boxes, edges)
    for route in routes:
        assert all(one[1] <= two[1] for one, two in pairwise(route))
    for one, two in ((a, b) for a in boxes for b in boxes if a is not b):
        assert abs(one.x - two.x) >= 80 or abs(one.y - two.y) >= 30
    assert all(40 <= box.x <= width - 40 and 15 <= box.y <= height - 15 for box in boxes)


def test_equal_graphs_give_equal_bytes_whatever_the_hash_seed(tiny, tmp_path):
    path = tiny.parents[1] / "vampnet/compose/vampnet-decoder-fp32.onnx"
    code = "import sys; from pathlib import Path; from scripts import graph; graph.write(*map(Path, sys.argv[1:]), 'g')"
    for seed in ("1", "2"):
        done = run("scripts/in", "torch", "env", f"PYTHONHASHSEED={seed}", "python", "-c", code, path,
                   tmp_path / f"{seed}.svg")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_nothing_of_a_graphs_is_taken_for_markup():
    weight = onnx.numpy_helper.from_array(np.zeros((3, 3), np.float32), HOSTILE + "w")
    hostile = model(helper.make_node("MatMul", [HOSTILE, HOSTILE + "w"], [HOSTILE + "t"], name=HOSTILE),
                    helper.make_node(HOSTILE, [HOSTILE + "t"], ["y"], mode=HOSTILE, axis=1), weights=(weight,),
                    start=HOSTILE)
    text = draw(hostile, HOSTILE)
    picture = ElementTree.fromstring(text)
    assert {element.tag for element in picture.iter()} == {
        f"{SVG}{tag}" for tag in ("svg", "title", "style", "defs", "marker", "path", "rect", "g", "text")}
    assert "<script" not in text and "\x07" not in text
    assert {name for element in picture.iter() for name in element.attrib if name.startswith("on")} == set()


def test_a_graph_that_runs_in_a_circle_is_drawn_without_the_way_back():
    circle = model(helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
                   helper.make_node("Relu", ["b"], ["y"]))
    assert texts(ElementTree.fromstring(draw(circle, "g"))).count("Relu") == 2


def test_a_graph_of_a_thousand_nodes_and_long_edges_is_drawn():
    assert texts(ElementTree.fromstring(draw(chain(1000), "g"))).count("Add") == 1000


def test_a_graph_of_more_nodes_than_can_be_looked_at_is_refused():
    with pytest.raises(Refusal, match="expected at most 5,000 nodes, found 5,001: draw a piece of it"):
        draw(chain(MOST_NODES + 1), "g")


def test_make_graph_draws_every_component_and_step_of_a_model(tiny):
    done = run("make", "graph", "MODEL=groovae", "WEIGHTS=tiny")
    assert done.returncode == 0, done.stderr
    folder = ROOT / "build/tiny/groovae/graph"
    assert {path.stem for path in folder.iterdir()} == {"encoder", "decoder", "groove", "opening", "step"}
    assert done.stdout.count("wrote build/tiny/groovae/graph/") == 5


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["graph", *words])
    graph.main()


@pytest.mark.parametrize("words, sentence", [
    ((), "expected ONNX=path or MODEL=name, found neither"),
    (("--onnx=a", "--model=b"), "found both"),
    (("--model=nobody",), "no model 'nobody'"),
    (("--model=coconet", "--weights=none"), "run make coconet WEIGHTS=none first"),
    (("--onnx={}/m.onnx", "--", "{}"), "found a folder"),
    (("--onnx={}/m.onnx", "--", "{}/m.png"), "ends in .svg"),
    (("--onnx={}/none.onnx", "--", "{}/m.svg"), "found none"),
    (("--onnx={}/m.onnx", "--", "{}/m.svg"), "it is made to read other files"),
])
def test_what_cant_be_drawn_is_a_sentence(monkeypatch, tmp_path, words, sentence):
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    weight.external_data.append(onnx.StringStringEntryProto(key="location", value="../secret"))
    onnx.save(model(helper.make_node("Add", ["x", "w"], ["y"]), weights=(weight,)), tmp_path / "m.onnx")
    with pytest.raises(Refusal) as refused:
        asked(monkeypatch, *(word.format(tmp_path) for word in words))
    assert sentence in str(refused.value) and not list(tmp_path.glob("*.svg"))


def test_the_picture_in_the_docs_is_what_is_drawn(seeded):
    path = seeded.parents[1] / "groovae/compose/groovae-encoder-fp32.onnx"
    assert (ROOT / "docs/graph.svg").read_text() == draw(opened(path), path.stem)
