"""T5X checkpoints: every layout bit for bit, and every flaw said in a sentence that names the place."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import source, t5x
from scripts.job import Refusal
from tests.conftest import run

LAYOUTS = ("t5x-tiny", "t5x-tiny-bf16", "t5x-tiny-2021", "t5x-tiny-2021-gcs")
EMBEDDING = "target.decoder.token_embedder.embedding"


def read(folder: Path) -> dict[str, np.ndarray]:
    return {name: t5x.load(leaf) for name, leaf in t5x.leaves(folder).items()}


@pytest.fixture
def checkpoint(golden, tmp_path) -> Path:
    """A copy of the golden checkpoint of 2021, to break."""
    folder = tmp_path / "checkpoint_1000"
    shutil.copytree(golden / "mt3/t5x-tiny-2021", folder, copy_function=shutil.copyfile)
    for path in (folder, *folder.glob("*/")):
        path.chmod(0o755)
    return folder


def write_array(folder: Path, array: np.ndarray, chunks: tuple[int, ...], packed: bool) -> Path:
    """A checkpoint of one array, w, whose edge chunks are filled up with numbers that mustn't be read."""
    place = folder / "target.w"
    place.mkdir(parents=True)
    (place / ".zarray").write_text(json.dumps({
        "zarr_format": 2, "shape": array.shape, "chunks": chunks, "dtype": "<f4", "order": "C", "filters": None,
        "fill_value": None, "compressor": {"id": "gzip", "level": 1} if packed else None}))
    for corner in np.ndindex(*(-(-size // chunk) for size, chunk in zip(array.shape, chunks, strict=True))):
        block = np.full(chunks, 7, "<f4")
        part = array[tuple(slice(at * chunk, (at + 1) * chunk) for at, chunk in zip(corner, chunks, strict=True))]
        block[tuple(map(slice, part.shape))] = part
        (place / ".".join(map(str, corner))).write_bytes(gzip.compress(block.tobytes()) if packed else block.tobytes())
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": "../../etc/"}, "dtype": "float32"}
    (folder / "checkpoint").write_bytes(msgpack.packb({"optimizer": {"target": {"w": spec}, "state": {}}}))
    return folder


# What is read


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_bit_for_bit(golden, layout):
    kind = "bfloat16_bits" if layout.endswith("bf16") else "float32"
    expected = np.load(golden / "mt3/expected.npz")
    names = [name.removeprefix(f"{kind}/") for name in expected.files if name.startswith(f"{kind}/")]
    found = read(golden / "mt3" / layout)
    assert set(found) == set(names) and len(names) == 51
    for name in names:
        bits = np.uint16 if kind == "bfloat16_bits" else np.uint32
        assert np.array_equal(found[name].view(bits), expected[f"{kind}/{name}"].view(bits)), name


def test_tensorstore_reads_the_same_bits(golden):
    folder = golden / "mt3/t5x-tiny"
    code = ("import sys, json, hashlib, pathlib, tensorstore as ts\n"
            "def sha(p):\n"
            " store = ts.open({'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': str(p)}}, open=True).result()\n"
            " return hashlib.sha256(store.read().result().tobytes()).hexdigest()\n"
            "print(json.dumps({p.name: sha(p) for p in pathlib.Path(sys.argv[1]).glob('target.*')}))")
    done = run("scripts/in", "jax", "python", "-c", code, folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"target." + name.replace("/", "."): hashlib.sha256(array.tobytes()).hexdigest()
                                       for name, array in read(folder).items()}


@settings(max_examples=40)
@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=3), data=st.data(), packed=st.booleans())
def test_arrays_in_any_number_of_chunks_are_put_together(tmp_path_factory, shape, data, packed):
    chunks = tuple(data.draw(st.integers(1, size)) for size in shape)
    array = np.arange(np.prod(shape), dtype="<f4").reshape(shape)
    folder = write_array(tmp_path_factory.mktemp("t5x"), array, chunks, packed)
    assert np.array_equal(read(folder)["w"], array)


def test_the_only_checkpoint_of_a_folder_is_taken(checkpoint):
    assert source.t5x_folder(checkpoint.parent) == checkpoint == source.t5x_folder(checkpoint)


def test_one_of_several_checkpoints_must_be_named(checkpoint):
    shutil.copytree(checkpoint, checkpoint.with_name("checkpoint_2000"))
    with pytest.raises(Refusal, match="found checkpoint_1000, checkpoint_2000: name one"):
        source.t5x_folder(checkpoint.parent)


def test_a_custom_source_is_the_tree_and_the_networks_arrays(golden, tmp_path):
    (tmp_path / "out").mkdir()
    source.copy(golden / "mt3/t5x-tiny", {"checkpoint": "t5x"}, tmp_path / "out")
    assert {path.name.split(".")[0] for path in (tmp_path / "out").iterdir()} == {"checkpoint", "target"}
    assert np.array_equal(*(read(folder)["decoder/logits_dense/kernel"]
                            for folder in (tmp_path / "out", golden / "mt3/t5x-tiny")))


def test_files_of_a_checkpoint_have_names_of_their_own(golden):
    found = source.by_name(source.files(golden / "mt3/t5x-tiny", {"checkpoint": "t5x"}))
    assert len(found) == 1 + 2 * 51 and f"{EMBEDDING}/.zarray" in found


# What is refused


@pytest.mark.parametrize(("file", "change", "said"), [
    ("0.0", lambda data: None, "decoder/token_embedder/embedding.*0.0"),
    ("0.0", lambda data: data[:-20], "decoder/token_embedder/embedding.*0.0"),
    ("0.0", lambda data: b"", "decoder/token_embedder/embedding.*0.0"),
    ("0.0", lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "decoder/token_embedder/embedding.*0.0"),
    ("0.0", lambda data: gzip.compress(bytes(128 * 32 * 4 - 4)), "decoder/token_embedder/embedding.*0.0"),
    ("0.0", lambda data: gzip.compress(bytes(10**8)), "decoder/token_embedder/embedding.*0.0"),
    ("0.0", lambda data: gzip.compress(np.full(128 * 32, np.nan, "<f4").tobytes()), "embedding.*NaN"),
    ("0.0", lambda data: gzip.compress(np.full(128 * 32, np.inf, "<f4").tobytes()), "embedding.*infinity"),
    (".zarray", lambda data: None, "decoder/token_embedder/embedding"),
    (".zarray", lambda data: b"{", "decoder/token_embedder/embedding"),
    (".zarray", lambda data: b"[]", "decoder/token_embedder/embedding"),
    (".zarray", lambda data: data.replace(b'format":2', b'format":3'), "embedding.*zarr_format"),
    (".zarray", lambda data: data.replace(b'"<f4"', b'"<f8"'), "embedding.*<f8"),
    (".zarray", lambda data: data.replace(b'"<f4"', b'"|O"'), "embedding.*O"),
    (".zarray", lambda data: data.replace(b'"C"', b'"F"'), "embedding.*order"),
    (".zarray", lambda data: data.replace(b'"gzip"', b'"blosc"'), "embedding.*blosc"),
    (".zarray", lambda data: data.replace(b'"filters":null', b'"filters":[{"id":"delta"}]'), "embedding.*filters"),
    (".zarray", lambda data: data.replace(b'"shape":[128', b'"shape":[-128'), "embedding"),
    (".zarray", lambda data: data.replace(b'"shape":[128', b'"shape":[9999999999999'), "embedding"),
])
def test_a_flaw_of_an_array_in_a_folder_is_refused_by_its_name(checkpoint, file, change, said):
    path = checkpoint / EMBEDDING / file
    changed = change(path.read_bytes())
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    with pytest.raises(Refusal, match=said):
        read(checkpoint)


def test_a_lost_folder_is_refused_by_its_name(checkpoint):
    shutil.rmtree(checkpoint / EMBEDDING)
    with pytest.raises(Refusal, match="decoder/token_embedder/embedding"):
        read(checkpoint)


def test_a_folder_that_the_tree_does_not_name_is_refused(checkpoint):
    shutil.copytree(checkpoint / EMBEDDING, checkpoint / "target.decoder.other.kernel")
    with pytest.raises(Refusal, match=r"target\.decoder\.other\.kernel"):
        read(checkpoint)


def nested(depth: int) -> bytes:
    return b"\x81\xa1a" * depth + b"\xc0"


@pytest.mark.parametrize("content", [
    b"", b"\xc1", b"\x93", b"not T5X at all", b'model_checkpoint_path: "model.ckpt-1"\n', b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\xa1a", nested(900), nested(100_000), msgpack.packb([1]),
    msgpack.packb({"optimizer": 1}), msgpack.packb({"optimizer": {"target": [1, 2]}}),
    msgpack.packb({"optimizer": {"target": {"..": {"driver": "zarr", "kvstore": {}}}}}),
    msgpack.packb({"optimizer": {"target": {"a/b": {"driver": "zarr", "kvstore": {}}}}}),
    msgpack.packb({"optimizer": {"target": {"w": 1.0}}}),
    msgpack.packb({"optimizer": {"target": {"w": msgpack.ExtType(5, b"x")}}}),
    msgpack.packb({"optimizer": {"target": {"w": msgpack.ExtType(1, b"x")}}}),
    msgpack.packb({"optimizer": {"target": {"w": msgpack.ExtType(1, msgpack.packb(([4], "float32", b"1234")))}}}),
    msgpack.packb({"optimizer": {"target": {"w": msgpack.ExtType(1, msgpack.packb(([1], "object", b"12345678")))}}}),
    b"\x81\xa9optimizer\x81\xa6target" + nested(990),
], ids=lambda content: repr(content[:24]))
def test_a_tree_that_t5x_did_not_write_is_refused(tmp_path, content):
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(Refusal, match="checkpoint"):
        read(tmp_path)


@settings(max_examples=150)
@given(place=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_no_flipped_byte_of_the_tree_does_more_than_be_refused(golden, tmp_path_factory, place, bits):
    data = bytearray((golden / "mt3/t5x-tiny-2021/checkpoint").read_bytes())
    data[place % len(data)] ^= bits
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "checkpoint").write_bytes(data)
    with pytest.raises(Refusal):
        read(folder)  # whose folders are not there at all: what it must not do is fail otherwise


@pytest.mark.parametrize("content", ["none", "empty folder", "file"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "it"
    if content == "empty folder":
        path.mkdir()
    elif content == "file":
        path.write_bytes(b"PK")
    with pytest.raises(Refusal, match="expected the folder of a T5X checkpoint"):
        source.t5x_folder(path)
