"""The bench times what it says: the same tokens from every side."""

import json

from models.mt3 import inputs
from tests.conftest import run
from tests.models.mt3.conftest import HERE


def test_lean_jax_writes_the_tokens_of_the_network_as_written(cast):
    done = run("scripts/in", "jax", "python", HERE / "ask_lean.py", cast.parent / "fetch")
    assert done.returncode == 0, done.stderr[-2000:]
    lean, written = json.loads(done.stdout)
    assert lean == written and len(set(written[0])) > 3


def test_every_side_has_every_work(cast):
    """Each by its own contestants; nothing is timed."""
    names = {}
    for side, toolchain in (("original", "jax"), ("onnx", "torch")):
        done = run("scripts/in", toolchain, "python", "-m", "scripts.contestant", side, "mt3", "mt3",
                   "build/tiny/mt3", "1")
        assert done.returncode == 0, done.stderr[-2000:]
        for name in json.loads(done.stdout.splitlines()[0]):
            work, contestant = name.split("/")
            names.setdefault(work, []).append(contestant)
    for work in ("transcriber, 200 tokens", "transcriber, 800 tokens", "transcriber, 8 x 100 tokens"):
        assert sorted(names[work]) == ["PyTorch", "fp16", "fp32", "int8", "lean JAX", "original"]
    assert sorted(names["encoder"]) == ["PyTorch", "fp16", "fp32", "int8", "original"]
    assert not set(inputs.TRAINED) & names.keys()


def test_trained_weights_write_sound_down_too(cast, tmp_path):
    """Where segments end, which untrained ones don't."""
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom/mt3").symlink_to(cast.parent)
    done = run("scripts/in", "torch", "python", "-m", "scripts.contestant", "onnx", "mt3", "mt3",
               tmp_path / "custom/mt3", "1")
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[0])
    assert {f"{work}/{variant}" for work in inputs.TRAINED for variant in ("fp32", "fp16", "int8")} <= set(told)
