"""Weights of TensorFlow.js: read as its own reader does, whatever its own writer writes, and nothing else."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts import tfjs
from scripts.job import Refusal
from tests.conftest import ROOT

# Writes the weights of a case with tensorflowjs, and what it reads of them, a line told for each case done.
WRITER = """
import json, sys
from pathlib import Path
import numpy as np
from tensorflowjs.read_weights import read_weights
from tensorflowjs.write_weights import write_weights
said = sys.stdout
sys.stdout = sys.stderr
for line in sys.stdin:
    told = json.loads(line)
    folder, dtypes, random = Path(told["folder"]), {}, np.random.RandomState(told["seed"])
    folder.mkdir()
    groups = []
    for shapes in told["groups"]:
        groups.append([])
        for dtype, shape, quantized in shapes:
            name = "weight {}".format(random.randint(1 << 30)) + "/x" * len(groups)
            if dtype == "string":
                data = np.array([b"x" * random.randint(5) for _ in range(int(np.prod(shape)))], object).reshape(shape)
            elif dtype == "complex64":
                data = np.asarray(random.randn(*shape) + 1j * random.randn(*shape)).astype(dtype)
            else:
                data = np.asarray(random.randn(*shape) * told["size"] + told["offset"]).astype(dtype)
            if quantized:
                dtypes.setdefault(quantized, []).append(name)
            groups[-1].append({"name": name, "data": data})
    manifest = write_weights(groups, str(folder), told["shard"], quantization_dtype_map=dtypes)
    read = {one["name"].replace("/", "|"): one["data"] for one in read_weights(manifest, str(folder), flatten=True)}
    texts = {name: [text.decode() for text in read.pop(name).ravel()]
             for name in list(read) if read[name].dtype == object}
    np.savez(str(folder / "read.npz"), **read)
    (folder / "texts.json").write_text(json.dumps(texts))
    said.write("done\\n")
    said.flush()
"""
DTYPES = ("float32", "float16", "int32", "bool", "uint8", "uint16", "complex64")
CASES = st.fixed_dictionaries({
    "groups": st.lists(st.lists(st.one_of(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4), st.none()),
        st.tuples(st.just("string"), st.lists(st.integers(1, 4), max_size=4), st.none()),  # it can't read back no texts
        st.tuples(st.sampled_from(("float32", "int32")), st.lists(st.integers(1, 4), max_size=4),
                  st.sampled_from(("uint8", "uint16", "float16")))), max_size=5), min_size=1, max_size=3),
    "shard": st.integers(1, 200), "seed": st.integers(0, 2**32 - 1),
    "size": st.sampled_from((0.0, 1e-3, 1.0, 100.0)), "offset": st.sampled_from((0.0, 10.0, -10.0)),
})


@pytest.fixture(scope="module")
def writer():
    with subprocess.Popen([ROOT / "scripts/in", "legacy", "python", "-c", WRITER], cwd=ROOT, text=True,
                          env={**os.environ, "ENGINE": "venv"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        yield process
        process.stdin.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(CASES)
def test_it_reads_what_tensorflowjs_reads(writer, tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("weights") / "written"
    writer.stdin.write(json.dumps({**case, "folder": str(folder)}) + "\n")
    writer.stdin.flush()
    assert writer.stdout.readline() == "done\n"
    place = folder / tfjs.MANIFEST
    groups = tfjs.groups(place, place.read_bytes())
    found = tfjs.arrays(place, groups)
    texts = json.loads((folder / "texts.json").read_text())
    with np.load(folder / "read.npz") as read:
        assert {name.replace("/", "|") for name in found} == {*read, *texts}
        for name, array in found.items():
            name = name.replace("/", "|")
            if name in texts:
                assert [text.decode() for text in array.ravel()] == texts[name]
            else:
                assert array.dtype == read[name].dtype and array.shape == read[name].shape
                assert array.tobytes() == read[name].tobytes()
    for group in groups:
        size = sum((folder / path).stat().st_size for path in group.paths)
        assert group.bytes == size or any(weight.stored == tfjs.STRING for weight in group.weights)


def one(**changes) -> dict:
    return {"name": "a", "shape": [2, 3], "dtype": "float32", **changes}


def written(folder, groups, **shards: bytes):
    for name, content in shards.items():
        (folder / name).write_bytes(content)
    place = folder / tfjs.MANIFEST
    place.write_text(groups if isinstance(groups, str) else json.dumps(groups))
    return place


def read(place) -> dict:
    return tfjs.arrays(place, tfjs.groups(place, place.read_bytes()))


def test_a_weight_is_read(tmp_path):
    values = np.arange(6, dtype=np.float32)
    place = written(tmp_path, [{"paths": ["s1", "s2"], "weights": [one()]}], s1=values.tobytes()[:5],
                    s2=values.tobytes()[5:])
    assert read(place)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("told", [
    "", "{", "null", "7", "[7]", '[{"paths": []}]', '[{"weights": []}]', "[" * 100_000, '{"a":' * 100_000,
    '[{"paths": 5, "weights": []}]', '[{"paths": [5], "weights": []}]', '[{"paths": ["\\ud800"], "weights": []}]',
    '[{"paths": ["s"], "weights": {"a": 1}}]', '[{"paths": [["s"]], "weights": []}]',
    '[{"paths": ["s"], "weights": [{"name": "a", "shape": [' + "9" * 5000 + '], "dtype": "uint8"}]}]',
])
def test_what_is_no_manifest_is_one_sentence(tmp_path, told):
    with pytest.raises(Refusal, match=r"expected TensorFlow.js' manifest of weights, found one that can't be read"):
        read(written(tmp_path, told, s=b""))


@pytest.mark.parametrize("weight", [
    one(name=5), one(shape=5), one(shape=["2"]), one(shape=[True, 3]), one(shape=[-2, -3]), one(shape=[2.0, 3]),
    one(shape=None), one(shape=[1] * 40), one(shape=[2**40, 2]), one(shape=[0, 10**18, 10**18]), one(dtype="float64"),
    one(dtype="object"), one(dtype=None), one(dtype=["float32"]), one(quantization={"dtype": "uint8"}),
    one(quantization={"dtype": "uint8", "scale": 1, "min": None}),
    one(quantization={"dtype": "int8", "scale": 1, "min": 0}),
    one(quantization={"dtype": "uint8", "scale": float("nan"), "min": 0}),
    one(quantization={"dtype": "uint8", "scale": 1, "min": float("inf")}), one(quantization="uint8"),
    one(quantization={"dtype": "float16"}, dtype="int32"), one(quantization={"dtype": "uint8", "scale": 1, "min": 0},
                                                               dtype="string"),
])
def test_a_strange_weight_is_refused(tmp_path, weight):
    with pytest.raises(Refusal, match="can't be read"):
        read(written(tmp_path, [{"paths": ["s"], "weights": [weight]}], s=bytes(24)))


def test_weights_or_shards_that_come_twice_are_refused(tmp_path):
    for groups in ([{"paths": ["s"], "weights": [one(), one()]}], [{"paths": ["s", "s"], "weights": [one()]}],
                   [{"paths": ["s"], "weights": [one()]}, {"paths": ["s"], "weights": [one(name="b")]}]):
        with pytest.raises(Refusal, match="of the same name"):
            read(written(tmp_path, groups, s=bytes(24)))


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:secret", ""])
def test_shards_outside_are_refused(tmp_path, path):
    (tmp_path / "secret").write_bytes(bytes(24))
    (tmp_path / "in").mkdir()
    with pytest.raises(Refusal, match="expected shards in its own folder, found"):
        read(written(tmp_path / "in", [{"paths": [path], "weights": [one()]}]))


def test_a_link_to_the_outside_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(24))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/s").symlink_to(tmp_path / "secret")
    with pytest.raises(Refusal, match="found a link"):
        read(written(tmp_path / "in", [{"paths": ["s"], "weights": [one()]}]))


@pytest.mark.parametrize(("weight", "content", "said"), [
    (one(), bytes(23), "expected 24 bytes of weights in s, found 23"),
    (one(), bytes(25), "expected 24 bytes of weights in s, found 25"),
    (one(shape=[2**20, 2**19]), bytes(24), "expected 2,199,023,255,552 bytes of weights in s, found 24"),
    (one(dtype="string"), b"\1\0\0\0a" * 5, "expected 6 texts in a, found fewer"),
    (one(dtype="string", shape=[2**40]), b"", "expected 1,099,511,627,776 texts in a, found fewer"),
    (one(dtype="string"), b"\1\0\0\0a" * 5 + b"\xff\0\0\0a", "expected 6 texts in a, found fewer"),
    (one(dtype="string"), b"\1\0\0\0a" * 7, "expected 30 bytes of weights in s, found 35"),
])
def test_shards_that_are_not_whole_are_refused(tmp_path, weight, content, said):
    with pytest.raises(Refusal) as refusal:
        read(written(tmp_path, [{"paths": ["s"], "weights": [weight]}], s=content))
    assert said in str(refusal.value)


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(Refusal, match="s: expected a shard of weights, found none"):
        read(written(tmp_path, [{"paths": ["s"], "weights": [one()]}]))


def test_sizes_are_known_without_numpy():
    """The toolchain that downloads has none."""
    code = """import sys; sys.modules["numpy"] = None
from scripts import hosts, source, tfjs
print(tfjs.groups("here", [{"paths": ["s"], "weights": [{"name": "a", "shape": [2, 3], "dtype": "int32"}]}])[0].bytes)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True,
                          check=True).stdout == "24\n"
