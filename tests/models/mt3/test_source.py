"""MT3's arrays: every one accounted for, its sizes read off the shapes, its network Flax's in PyTorch."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

from models.mt3 import port, seeded, weights
from scripts.job import Refusal
from scripts.seeded import seeded_uniform

TINY = {"emb_dim": 32, "num_heads": 2, "head_dim": 8, "mlp_dim": 48, "num_encoder_layers": 2, "num_decoder_layers": 2,
        "vocab_size": 128, "input_depth": 512}
REAL = {"emb_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024, "num_encoder_layers": 8,
        "num_decoder_layers": 8, "vocab_size": 1536, "input_depth": 512}
QUERY = "encoder/layers_0/attention/query/kernel"


def golden_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The rule in golden/mt3/README.md."""
    uniform = seeded_uniform("golden-public/mt3/" + name, shape)
    if name.endswith("/scale"):
        return 1 + np.float32(0.2) * uniform
    return uniform * np.float32(0.05 if name.endswith("/embedding") else np.sqrt(3 / shape[0]))


def rewrite(folder: Path, change: Callable[[dict], None]) -> None:
    """Change the target's tree in a checkpoint."""
    tree = msgpack.unpackb((folder / "checkpoint").read_bytes())
    change(tree["optimizer"]["target"])
    (folder / "checkpoint").write_bytes(msgpack.packb(tree))


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    seeded.write(tmp_path, TINY)
    return tmp_path


# What is read


def test_the_real_network_has_189_arrays():
    shapes = weights.expected(REAL)
    assert len(shapes) == 189 and sum(map(np.prod, shapes.values())) == 45_896_704
    assert sum(map(np.prod, weights.expected({**REAL, "vocab_size": 1664}).values())) == 46_027_776


@pytest.mark.parametrize("sizes", [TINY, REAL])
def test_sizes_are_read_off_the_shapes(sizes):
    assert weights.sizes_of(weights.expected(sizes), sizes["head_dim"]) == sizes


@pytest.mark.parametrize("layout", ["t5x-tiny", "t5x-tiny-bf16", "t5x-tiny-2021", "t5x-tiny-2021-gcs"])
def test_every_golden_layout_has_the_expected_arrays(golden, layout):
    arrays, sizes = weights.read(golden / "mt3" / layout, head_dim=8)
    assert sizes == TINY and {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_a_seeded_source_is_read_back(checkpoint):
    arrays, sizes = weights.read(checkpoint, head_dim=8)
    assert sizes == TINY
    assert all(np.array_equal(array, seeded.weight(name, array.shape)) for name, array in arrays.items())


def test_the_table_of_statistics_is_the_authors(golden):
    arrays, sizes = weights.read(golden / "mt3/released")
    assert seeded.STATISTICS["sizes"] == sizes and seeded.STATISTICS["arrays"].keys() == arrays.keys()
    for name, told in seeded.STATISTICS["arrays"].items():
        found = [arrays[name].mean(dtype=np.float64), arrays[name].std(dtype=np.float64)]
        np.testing.assert_allclose(told, found, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("sizes", [REAL, {**REAL, "vocab_size": 1664}], ids=["mt3", "ismir2021"])
def test_seeded_arrays_have_the_authors_mean_and_deviation(sizes):
    """Within what so many draws leave to chance."""
    for name, shape in weights.expected(sizes).items():
        mean, deviation = seeded.STATISTICS["arrays"][name]
        array = seeded.weight(name, shape).astype(np.float64)
        chance = 5 * deviation / np.sqrt(array.size)
        assert abs(array.mean() - mean) < chance and abs(array.std() - deviation) < chance, name


def test_kernels_of_fewer_inputs_are_larger_so_that_products_are_as_large():
    for name, inputs, sizes in ((QUERY, 512, TINY), ("decoder/layers_1/mlp/wo/kernel", 1024, TINY),
                                ("decoder/layers_1/self_attention/out/kernel", 384, TINY)):
        shape = weights.expected(sizes)[name]
        _, deviation = seeded.STATISTICS["arrays"][name]
        assert seeded.weight(name, shape).std() == pytest.approx(deviation * np.sqrt(inputs / shape[0]), rel=0.06)


def test_layers_that_the_authors_do_not_have_are_like_those_they_have():
    scale = "encoder/layers_{}/pre_mlp_layer_norm/scale"
    ninth, first = (seeded.statistics(scale.format(number), (512,)) for number in (8, 0))
    assert ninth == first != seeded.statistics(scale.format(1), (512,))


def test_a_seeded_source_lies_as_the_released_ones_do(checkpoint):
    """Norm scales inside, the rest in folders."""
    inside = [name for name in weights.expected(TINY) if not (checkpoint / seeded.place(name)).is_dir()]
    assert len(inside) == 12 and all(name.endswith("/scale") for name in inside)


def test_a_seeded_source_has_the_same_bytes_again(checkpoint, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    seeded.write(again, TINY)
    files = [path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file()]
    assert files and all((checkpoint / name).read_bytes() == (again / name).read_bytes() for name in files)


# What is refused


def drop_query(target: dict) -> None:
    del target["encoder"]["layers_0"]["attention"]["query"]


def drop_scales(target: dict) -> None:
    for name in [name for name in target if name == "scale"]:
        del target[name]
    for inner in target.values():
        if isinstance(inner, dict):
            drop_scales(inner)


def rename(target: dict) -> None:
    target["decoder"]["decoder_norm"]["scales"] = target["decoder"]["decoder_norm"].pop("scale")


def reshape(target: dict) -> None:
    target["decoder"]["decoder_norm"]["scale"] = seeded.packed(seeded.NDARRAY, np.ones(31, np.float32))


def put_nan(target: dict) -> None:
    target["decoder"]["decoder_norm"]["scale"] = seeded.packed(seeded.NDARRAY, np.full(32, np.nan, np.float32))


@pytest.mark.parametrize(("change", "said"), [
    (rename, r"1 missing: decoder/decoder_norm/scale; 1 unknown: decoder/decoder_norm/scales"),
    (reshape, r"1 of another shape: decoder/decoder_norm/scale is \[31\], expected \[32\]"),
    (put_nan, r"decoder/decoder_norm/scale: expected finite numbers, found NaN"),
    (drop_scales, r"12 missing: .*_norm/scale.* and 7 more"),
    (lambda target: target.pop("encoder"), r"expected"),
])
def test_arrays_that_are_not_the_networks_are_refused_by_name(checkpoint, change, said):
    rewrite(checkpoint, change)
    with pytest.raises(Refusal, match=said):
        weights.read(checkpoint, head_dim=8)


def test_a_missing_array_is_refused_by_name(checkpoint):
    rewrite(checkpoint, drop_query)
    shutil.rmtree(checkpoint / seeded.place(QUERY))
    with pytest.raises(Refusal, match=f"1 missing: {QUERY}"):
        weights.read(checkpoint, head_dim=8)


@pytest.mark.parametrize(("found", "asked", "said"), [
    (1664, 1536, "expected mt3's vocabulary of 1536, found ismir2021's vocabulary of 1664.*make ismir2021 CHECKPOINT="),
    (1536, 1664, "expected ismir2021's vocabulary of 1664, found mt3's vocabulary of 1536.*make mt3 CHECKPOINT="),
])
def test_the_other_configurations_checkpoint_is_refused_by_its_name(tmp_path, found, asked, said):
    seeded.write(tmp_path, {**TINY, "vocab_size": found})
    weights.read(tmp_path, found, head_dim=8)
    with pytest.raises(Refusal, match=said):
        weights.read(tmp_path, asked, head_dim=8)


def test_attentions_of_broken_heads_are_refused(checkpoint):
    with pytest.raises(Refusal, match="whole heads, 64 wide each, found attentions 16 wide"):
        weights.read(checkpoint)


# What PyTorch computes


def test_every_array_has_a_place_of_its_own():
    places = port.mapping(REAL)
    assert len({place.name for place in places.values()}) == 189
    assert sum(place.transposed for place in places.values()) == 146


@pytest.mark.parametrize("change", [lambda arrays: arrays.pop(QUERY), lambda arrays: arrays.update(other=np.ones(1))])
def test_a_network_takes_neither_more_nor_fewer_arrays(change):
    arrays = {name: seeded.weight(name, shape) for name, shape in weights.expected(TINY).items()}
    port.load(arrays, TINY)
    change(arrays)
    with pytest.raises(KeyError, match="missing or unknown"):
        port.load(arrays, TINY)


def test_the_tiny_checkpoint_runs_as_in_flax(golden):
    network = port.load(*weights.read(golden / "mt3/t5x-tiny", head_dim=8))
    told = np.load(golden / "mt3/expected.npz")
    mel, tokens = (torch.from_numpy(told[f"run/{name}"]) for name in ("encoder_features", "decoder_input_tokens"))
    encoded = network.encode(mel)
    assert np.abs(encoded.numpy() - told["run/encoder_output"]).max() <= 2e-5
    assert np.abs(network.decode(tokens.long(), encoded).numpy() - told["run/logits"]).max() <= 5e-5
    assert np.array_equal(network.generate(mel, 16), told["run/greedy_tokens"])


@pytest.mark.parametrize(("file", "vocab_size"), [("network.npz", 1536), ("network_ismir2021.npz", 1664)])
def test_the_real_network_computes_what_flax_does(golden, file, vocab_size):
    sizes = {**REAL, "vocab_size": vocab_size}
    network = port.load({name: golden_weight(name, shape) for name, shape in weights.expected(sizes).items()}, sizes)
    told = np.load(golden / "mt3" / file)
    mel, tokens = torch.from_numpy(told["encoder_features"]), torch.from_numpy(told["decoder_input_tokens"]).long()
    stride, short = int(told["encoder_output_stride"]), int(told["short_length"])
    encoded = network.encode(mel)
    logits = network.decode(tokens, encoded).numpy()
    assert np.abs(encoded[:, ::stride].numpy() - told["encoder_output"]).max() <= 2e-5
    assert np.abs(logits - told["logits"]).max() <= 5e-5
    assert np.array_equal(logits.argmax(-1), told["logits"].argmax(-1))
    assert np.array_equal(network.generate(mel, 128), told["greedy_tokens"])
    heard = network.encode(mel[:, :short])
    assert np.abs(heard[:, ::stride].numpy() - told["short_encoder_output"]).max() <= 2e-5
    assert np.abs(network.decode(tokens, heard)[:, ::8].numpy() - told["short_logits"]).max() <= 5e-5
    network.decoder.token_embedder.weight.mul_(100)
    assert np.abs(network.decode(tokens, encoded)[:, ::8].numpy() - told["emb100_logits"]).max() <= 2e-4
    assert np.array_equal(network.generate(mel, 128), told["emb100_greedy_tokens"])


@pytest.mark.parametrize(("file", "vocab_size"), [("network.npz", 1536), ("network_ismir2021.npz", 1664)])
def test_padding_is_heard_as_in_flax(golden, file, vocab_size):
    """Frames of nothing but zeros magnify rounding: from float64, Flax's encoder lies 8e-5 and its logits 2.6e-4."""
    sizes = {**REAL, "vocab_size": vocab_size}
    network = port.load({name: golden_weight(name, shape) for name, shape in weights.expected(sizes).items()}, sizes)
    told = np.load(golden / "mt3" / file)
    mel, tokens = torch.from_numpy(told["encoder_features"]), torch.from_numpy(told["decoder_input_tokens"]).long()
    stride, short = int(told["encoder_output_stride"]), int(told["short_length"])
    padded = network.encode(torch.nn.functional.pad(mel[:, :short], (0, 0, 0, mel.shape[1] - short)))
    assert np.abs(padded[:, ::stride].numpy() - told["zeropad_encoder_output"]).max() <= 2e-4
    assert np.abs(network.decode(tokens, padded)[:, ::8].numpy() - told["zeropad_logits"]).max() <= 5e-4
