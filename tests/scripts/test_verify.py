"""Every gate is closed: a planted defect is caught, by the sentence that belongs to it."""

import json
import re
import shutil

import numpy as np
import onnx
import pytest

from scripts import job, recipe, verify
from tests.conftest import ROOT


@pytest.fixture
def task(tiny, tmp_path):
    """A verify job over a copy of the tiny build's artifacts."""
    shutil.copytree(tiny, tmp_path / "compose")
    shutil.copytree(tiny.parent / "export", tmp_path / "export")
    (tmp_path / "verify").mkdir()
    return job.Job("coconet", "tiny", recipe.read(ROOT, "coconet"),
                   {"compose": tmp_path / "compose", "export": tmp_path / "export"}, tmp_path / "verify", None)


def plant(task, change, name="coconet-denoiser-fp32.onnx"):
    """Change one artifact and return what verify says of it."""
    path = task.inputs["compose"] / name
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    with pytest.raises(job.Refusal) as refusal:
        verify.verify(task)
    assert str(refusal.value).startswith(name) or name in str(refusal.value)
    return str(refusal.value)


def test_sound_artifacts_pass_and_are_reported(task):
    verify.verify(task)
    report = json.loads((task.out / "report.json").read_text())
    assert {(one["component"], one["variant"]) for one in report["artifacts"]} == {
        (component, variant) for component in task.recipe["components"] for variant in task.variants(component)}
    assert all(gate["passed"] for artifact in report["artifacts"] for gate in artifact["gates"])
    assert all(artifact["gates"] for artifact in report["artifacts"])
    assert "above the median margin" in (task.out / "report.md").read_text()


def test_a_changed_weight_is_caught(task):
    def change(model):
        tensor = max(model.graph.initializer, key=lambda t: np.prod(t.dims))
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.flat[np.abs(array).argmax()] *= 1.01
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    assert "noise_ratio of probabilities" in plant(task, change)


def test_coarser_weights_are_caught(task):
    def change(model):
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            if array.dtype == np.int8:
                tensor.CopyFrom(onnx.numpy_helper.from_array((array // 16 * 16).astype(np.int8), tensor.name))
    assert "agreement_above_median of logits" in plant(task, change, "coconet-denoiser-int8.onnx")


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_a_loop_that_loses_the_given_voice_is_caught(task, variant):
    def change(model):
        loop = next(node for node in model.graph.node if node.op_type == "Loop")
        body = next(a.g for a in loop.attribute if a.name == "body")
        where = [node for node in body.node if node.op_type == "Where"][-1]
        where.input[2] = where.input[1]
    assert "given_max_error of harmonized: 1" in plant(task, change, f"coconet-harmonizer-{variant}.onnx")


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_a_loop_that_halves_the_given_notes_is_caught(task, variant):
    def change(model):
        loop = next(node for node in model.graph.node if node.op_type == "Loop")
        loop.output[0] = "whole"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))
        model.graph.node.append(onnx.helper.make_node("Mul", ["whole", "half"], ["harmonized"], "halve"))
    assert "given_max_error of harmonized: 0.5" in plant(task, change, f"coconet-harmonizer-{variant}.onnx")


@pytest.mark.parametrize("variant", ["fp16", "int8"])
def test_a_loop_that_stops_early_is_caught(task, variant):
    def change(model):
        loop = next(node for node in model.graph.node if node.op_type == "Loop")
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "once"))
        loop.input[0] = "once"
    assert "loop_equality of harmonized" in plant(task, change, f"coconet-harmonizer-{variant}.onnx")


def test_a_loop_with_another_schedule_is_caught(task):
    """That ends with nine of ten notes rewritten in each step."""
    def change(model):
        for tensor in model.graph.initializer:
            if not tensor.dims and onnx.numpy_helper.to_array(tensor) == np.float32(0.1):
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(0.9, np.float32), tensor.name))
    assert "loop_equality of harmonized" in plant(task, change, "coconet-harmonizer-int8.onnx")


def test_weights_that_are_kept_in_fp32_too_are_caught(task):
    def change(model):
        whole = onnx.load(task.inputs["compose"] / "coconet-denoiser-fp32.onnx").graph.initializer
        for tensor in whole:
            tensor.name += " once more"
            model.graph.initializer.append(tensor)
    assert re.search(r"size_share: 1\.\d+, must be at most 0\.45", plant(task, change, "coconet-denoiser-int8.onnx"))
    task.recipe["gates"] = [gate for gate in task.recipe["gates"] if gate["metric"] != "size_share"]
    with pytest.raises(job.Refusal, match=r"size_share: 1\.\d+, must be at most 0\.99"):
        verify.verify(task)


def test_a_component_without_weights_has_no_share_of_them(task, monkeypatch):
    monkeypatch.setattr(verify, "numbers", lambda model: 0)
    verify.verify(task)
    gates = [gate for one in json.loads((task.out / "report.json").read_text())["artifacts"] for gate in one["gates"]]
    assert gates and "size_share" not in [gate["metric"] for gate in gates]


@pytest.mark.parametrize("wider", [1, 40])
def test_the_share_of_a_size_is_of_weights_whatever_the_network(wider):
    """Half in float16, wherever they lie; names and nodes don't count."""
    def graph(dtype):
        tensors = [onnx.numpy_helper.from_array(np.zeros((3, 5 * wider), dtype), name) for name in ("one", "two")]
        body = onnx.helper.make_graph([], "body", [], [], tensors[1:])
        node = onnx.helper.make_node("If", ["is"], ["it"], "a name", then_branch=body, else_branch=body)
        return onnx.helper.make_model(onnx.helper.make_graph([node], "graph", [], [], tensors[:1]))
    assert verify.numbers(graph(np.float32)) == 3 * 3 * 5 * wider * 4 == 2 * verify.numbers(graph(np.float16))


def test_a_renamed_input_is_caught(task):
    def change(model):
        model.graph.input[0].name = "rolls"
        for node in model.graph.node:
            node.input[:] = ["rolls" if name == "pianorolls" else name for name in node.input]
    assert "expected the inputs" in plant(task, change)


def test_permuted_inputs_are_caught(task):
    def change(model):
        first, second = model.graph.input[1], model.graph.input[0]
        ports = [onnx.ValueInfoProto.FromString(port.SerializeToString()) for port in (first, second)]
        del model.graph.input[:]
        model.graph.input.extend(ports)
    assert "expected the inputs" in plant(task, change)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_frozen_axis_is_caught(task, axis):
    def change(model):
        for port in (*model.graph.input, *model.graph.output):
            port.type.tensor_type.shape.dim[axis].dim_value = 2
    assert "expected the inputs" in plant(task, change)


def test_a_graph_that_serves_one_length_only_is_caught(task):
    """The ports say dynamic, but a Reshape inside was traced at one size."""
    def change(model):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 32, 46, 4]), "size"))
        model.graph.node.insert(0, onnx.helper.make_node("Reshape", ["pianorolls", "size"], ["traced"], "traced"))
        for node in list(model.graph.node)[1:]:
            node.input[:] = ["traced" if name == "pianorolls" else name for name in node.input]
    assert "reshape" in plant(task, change).lower()


def test_a_reference_of_one_size_is_refused(task):
    path = task.inputs["export"] / "reference.npz"
    with np.load(path) as arrays:
        kept = {key: arrays[key] for key in arrays if "/made/" in key or "harmonizer" in key}
    np.savez(path, **kept)
    with pytest.raises(job.Refusal, match="batch, time at one size only"):
        verify.verify(task)


def test_a_random_op_is_caught(task):
    def change(model):
        model.graph.node.append(onnx.helper.make_node("RandomUniformLike", ["pianorolls"], ["noise"], "noise"))
    assert "random ops (RandomUniformLike)" in plant(task, change)


def test_an_op_of_another_domain_is_caught(task):
    def change(model):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    assert "standard ONNX of opset 17 alone" in plant(task, change)


def test_another_opset_is_caught(task):
    def change(model):
        model.opset_import[0].version = 18
    assert "opset" in plant(task, change)


@pytest.mark.parametrize("trace", ["/home/bach/coconet", "/data/x/y", "made 2026-01-31", "at 12:30:59"])
def test_a_trace_of_place_or_time_is_caught(task, trace):
    def change(model):
        model.doc_string = trace
    assert "tells where or when it was made" in plant(task, change)


def test_a_path_as_a_tensors_name_is_caught(task):
    def change(model):
        node = model.graph.node[0]
        for other in model.graph.node:
            other.input[:] = ["/root/x/y" if name == node.output[0] else name for name in other.input]
        node.output[0] = "/root/x/y"
    assert "tells where or when it was made: '/root/x/y'" in plant(task, change)


@pytest.mark.parametrize("change", [
    lambda model: model.ClearField("metadata_props"),
    lambda model: model.metadata_props.add(key="note", value="more"),
    lambda model: onnx.helper.set_model_props(
        model, {**{p.key: p.value for p in model.metadata_props}, "weights": "released"}),
])
def test_metadata_that_is_not_the_stages_is_caught(task, change):
    assert "expected the metadata" in plant(task, change)


def test_a_broken_graph_is_caught(task):
    def change(model):
        del model.graph.node[0]
    assert "onnx.checker refuses it" in plant(task, change)


def test_each_failing_artifact_is_named(task):
    """A broken form of one doesn't hide the missed gate of another."""
    path = task.inputs["compose"] / "coconet-denoiser-fp32.onnx"
    path.write_bytes(path.read_bytes()[:-100])
    worse = task.recipe["gates"]
    worse.append({"variant": "int8", "metric": "bytes", "at_most": 100})
    with pytest.raises(job.Refusal) as refusal:
        verify.verify(task)
    for name in ("coconet-denoiser-fp32", "coconet-denoiser-int8", "coconet-harmonizer-int8"):
        assert f"{name}.onnx: " in str(refusal.value)


def test_not_a_number_is_caught():
    with pytest.raises(job.Refusal, match="1 of them not finite"):
        verify.compare(np.zeros(3), np.array([0, np.nan, 0]), None)


NOISE = np.random.default_rng(0)
EXACTLY = NOISE.normal(size=(4, 50, 10))  # what an original returns in float64: rows of ten classes
ROUNDED = EXACTLY.astype(np.float32)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e5])
def test_the_noise_ratio_is_of_the_originals_own_error_whatever_the_scale(scale):
    """Its own rounding is 1; ten times as much error 10; a scale that is 1 % off tens of thousands."""
    exact = EXACTLY * scale
    own = (exact + 1e-6 * scale * NOISE.normal(size=exact.shape)).astype(np.float32)
    worse = (exact + 1e-5 * scale * NOISE.normal(size=exact.shape)).astype(np.float32)
    ratios = [verify.compare(own, found, exact=exact)["noise_ratio"]
              for found in (own, worse, (exact * 1.01).astype(np.float32))]
    assert ratios[0] == 1 and 8 < ratios[1] < 14 and ratios[2] > 5000


def test_an_original_without_any_error_allows_one_rounding():
    assert verify.compare(ROUNDED, np.nextafter(ROUNDED, np.float32(9)), exact=ROUNDED.astype(float))["noise_ratio"] < 4


def test_an_argmax_counts_where_its_lead_exceeds_the_originals_noise():
    exact = EXACTLY.copy()
    order = np.sort(exact, axis=2)
    winner, second = exact.argmax(2), exact.argsort(2)[..., -2]
    tie = (0, 0)
    exact[0, 0, winner[tie]] = exact[0, 0, second[tie]] + 1e-7
    own = (exact + 1e-6 * NOISE.normal(size=exact.shape)).astype(np.float32)
    assert order[1, 0, -1] - order[1, 0, -2] > 1e-3
    found = own.copy()
    found[0, 0, second[tie]] = found[0, 0].max() + 1e-6
    row = verify.compare(own, found, 2, exact=exact)
    assert (row["argmax_mismatches"], row["undecided"]) == (0, 1)
    found[1, 0, second[1, 0]] = found[1, 0].max() + 1e-6
    assert verify.compare(own, found, 2, exact=exact)["argmax_mismatches"] == 1


def test_a_decision_may_be_either_of_the_originals():
    own, exact = np.array([3, 5, 7]), np.array([3, 6, 7])
    assert verify.compare(own, exact, exact=exact)["equality"] == 1
    assert verify.compare(own, np.array([3, 4, 7]), exact=exact)["equality"] == pytest.approx(2 / 3)


def test_the_divergence_is_of_distributions():
    """Nothing where all logits are higher by as much; ln 2 where half of what was likely is gone."""
    logits = np.log(np.array([[0.5, 0.5, 1e-30]], np.float32))
    assert verify.compare(logits, logits + 3, 1)["divergence"] == pytest.approx(0, abs=1e-6)
    sure = np.log(np.array([[1, 1e-30, 1e-30]], np.float32))
    assert verify.compare(sure, logits, 1)["divergence"] == pytest.approx(np.log(2), rel=1e-5)


def test_a_gate_that_measures_nothing_is_refused():
    gate = {"component": "denoiser", "port": "logits", "metric": "snr_db", "case": "absent", "at_least": 1}
    with pytest.raises(job.Refusal, match="no case of the reference measures"):
        verify.judge(gate, [{"case": "made", "port": "logits", "snr_db": 2.0}], {})


def test_the_worst_case_decides_a_gate():
    rows = [{"case": case, "port": "logits", "snr_db": value} for case, value in (("one", 50.0), ("two", 20.0))]
    gate = {"port": "logits", "metric": "snr_db", "at_least": 30}
    assert not verify.judge(gate, rows, {})["passed"]


def test_metadata_tells_what_an_artifact_is(tiny):
    for path in tiny.glob("*.onnx"):
        told = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        assert f"{told['model']}-{told['component']}-{told['variant']}" == path.stem
        assert told["weights"] == "tiny" and told["licence"] == "Apache-2.0" and len(told["source_sha256"]) == 64
