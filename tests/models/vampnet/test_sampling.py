"""The masked decoding does what upstream's does: its schedule, its masking again, its filter, its whole runs."""

import json
import shutil

import numpy as np
import pytest
import torch

from models.vampnet import components, compose, sampling
from models.vampnet.inputs import MASK, WRITTEN
from models.vampnet.sampling import Controls
from models.vampnet.weights import codebooks, load, read
from scripts.recipe import read as read_recipe
from tests.conftest import ROOT, exact_session


@pytest.fixture(scope="module")
def told(golden):
    return json.loads((golden / "vampnet/sampling.json").read_text())


@pytest.fixture(scope="module")
def arrays(golden):
    return np.load(golden / "vampnet/sampling.npz")


def counts(confidence_masked, steps, at_start):
    """How many are asked for and masked after each step of a run whose confidences never tie."""
    asked, after = [], []
    batch, size = confidence_masked.shape
    masked = confidence_masked.copy()
    order = np.tile(np.arange(size, dtype=np.float32), (batch, 1))
    for number in range(steps):
        confidence = np.where(masked, order, np.float32(np.inf)).reshape(batch, 1, size)
        scheduled = sampling.scheduled(number, steps, at_start)
        alive = masked.sum(1)
        asked.append([scheduled if number + 1 == steps else max(1, min(n - 1, scheduled)) for n in alive])
        masked = sampling.masked_again(confidence, number, steps, at_start).reshape(batch, size)
        after.append(masked.sum(1).tolist())
    return asked, after


def test_every_run_masks_as_many_as_upstreams(told):
    """68 runs: one step to 36, one place, none, all, and batches, whose schedule counts all items together."""
    for run in told["generate_runs"]:
        size = (run["codebooks"] - run["conditioning"]) * run["T"]
        masked = np.arange(size)[None].repeat(run["batch"], 0) < run["masked_at_start_per_item"]
        asked, after = counts(masked, run["steps"], run["num_masked_counted"])
        assert asked == run["num_to_mask"] and after == run["masked_after"], run


def test_the_schedule_is_float32s_where_float64s_would_differ(told):
    """At two thirds of the way each even count is one lower."""
    seen = 0
    for case in told["floor_float32_vs_float64"]["differences"]:
        for count in case["first"]:
            found = sampling.scheduled(case["step"], case["steps"], count["n_masked_at_start"])
            seen += found == count["float32"]
            assert found in (count["float32"], count["float64"])
            if 3 * (case["step"] + 1) == 2 * case["steps"]:
                assert found == count["float32"]
    assert seen >= 4


def test_the_least_confident_are_masked_again(told, arrays):
    for case in told["mask_by_random_topk"]:
        gumbel, count = arrays[f"topk_{case['index']}_gumbel"], case["num_to_mask"]
        confidence = np.log(arrays["topk_probs"]) + np.float32(case["temperature"]) * gumbel
        ordered = np.sort(confidence, axis=1)
        np.testing.assert_array_equal(confidence < ordered[:, count:count + 1], arrays[f"topk_{case['index']}_mask"])


@pytest.mark.parametrize(("mass", "least"), [("0.15", 64), ("0.2", 1), ("0.15", 8), ("0.95", 1)])
def test_the_typical_codes_are_upstreams(arrays, mass, least):
    found = np.isfinite(sampling.typical(arrays["sfl_logits"], float(mass), least))
    np.testing.assert_array_equal(found, arrays[f"typical_filter_mass{mass}_min{least}_kept"])


@pytest.fixture(scope="module")
def tiny_cast(golden, tmp_path_factory):
    """Steps in PyTorch and samplers in ONNX Runtime, of the tiny files that upstream wrote."""
    folder = tmp_path_factory.mktemp("tiny")
    for part in ("coarse", "c2f", "codec"):
        shutil.copyfile(golden / f"vampnet/{part}-tiny.pth", folder / f"{part}.pth")
    codec, recipe = read(folder, "codec")[0], read_recipe(ROOT, "vampnet")
    steps, graphs = {}, {}
    for part, (count, _) in WRITTEN.items():
        own, sizes = read(folder, part)
        network, tables = load(own, part, sizes), torch.from_numpy(codebooks(codec, count))
        steps[part] = lambda codes, network=network, tables=tables: network(torch.from_numpy(codes), tables).numpy()
        graphs[part] = components.transformer(own, codec, sizes, recipe["components"][part], recipe["opset"])
    return steps, {name: exact_session(model.SerializeToString())
                   for name, model in compose.compose(graphs).items()}


def folded(values, written):
    """[1, time * written] as upstream has it: [1, written, time]"""
    return values.reshape(1, -1, written).swapaxes(1, 2)


def run(session, codes, mask, uniforms, controls):
    return session.run(None, sampling.feed(codes, mask, uniforms, controls))[0]


@pytest.mark.parametrize("index", range(4))
def test_a_whole_run_of_upstreams_is_replayed_by_the_sampler(told, arrays, tiny_cast, index):
    """Its own draws, as uniforms that choose the same codes and give the same Gumbel noise: every code is equal."""
    trace = told["trace"][index]
    part = trace["part"].removesuffix("-tiny")
    count, written = WRITTEN[part]
    steps, samplers = tiny_cast
    start, mask = (arrays[f"trace{index}_{name}"].astype(np.int64) for name in ("start", "mask"))
    controls = Controls(trace["kwargs"]["temperature"], trace["kwargs"]["mask_temperature"],
                        trace["kwargs"].get("sample_cutoff", 1.0))
    current, noise = np.where(mask == 1, MASK, start), []
    for number in range(trace["steps"]):
        name = f"trace{index}_step{number}"
        codes = folded(arrays[f"{name}_tokens"], written).astype(np.int64)
        with torch.inference_mode():
            scaled = steps[part](current) / np.float32(controls.temperature)
        cumulative = np.exp(scaled - scaled.max(-1, keepdims=True), dtype=np.float64).cumsum(-1)
        cumulative /= cumulative[..., -1:]
        upper = np.take_along_axis(cumulative, codes[..., None], -1)[..., 0]
        lower = np.where(codes > 0, np.take_along_axis(cumulative, np.maximum(codes - 1, 0)[..., None], -1)[..., 0], 0)
        gumbel = folded(arrays[f"{name}_gumbel"], written).astype(np.float64)
        noise.append(np.stack([(upper + lower) / 2, np.exp(-np.exp(-gumbel))]).astype(np.float32))
        again = folded(arrays[f"{name}_mask_after"], written).astype(bool)
        known = current[:, count - written:]
        current = np.concatenate([current[:, :count - written], np.where(
            again, MASK, np.where(known == MASK, codes, known))], axis=1)
    expected = arrays[f"trace{index}_out"].astype(np.int64)
    np.testing.assert_array_equal(current, expected)
    uniforms = np.minimum(np.stack(noise), np.float32(1 - 2**-24))
    with torch.inference_mode():
        np.testing.assert_array_equal(sampling.generate(steps[part], start, mask, uniforms, controls), expected)
    np.testing.assert_array_equal(run(samplers[f"{part}-sampler"], start, mask, uniforms, controls), expected)
