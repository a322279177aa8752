"""make new: a folder that converts what it was given, or says what it misses; nothing that is given is run."""

import io
import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.mt3 import seeded
from scripts import card, flax_params, job, new, recipe, verify
from scripts.docs import pages
from scripts.job import Refusal
from tests.conftest import ROOT, copy_tree, exact_session, made, run

# Of several signatures: tones, and others that are no model, or one of other inputs.
SAVED_MODEL = """
import sys
import numpy as np, tensorflow as tf

class Model(tf.Module):
    def __init__(self):
        draw = np.random.RandomState(0).randn
        self.table, self.first, self.last = (
            tf.Variable(draw(*shape).astype("f")) for shape in ((12, 16), (16, 64), (64, 8)))
        keys = tf.constant([36, 38], tf.int64)
        self.numbers = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys - 35), 0)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 16], tf.float32, "zeta"),
                                  tf.TensorSpec([None, None], tf.int32, "alpha")])
    def __call__(self, zeta, alpha):
        hidden = tf.nn.relu(tf.einsum("btc,cd->btd", zeta + tf.gather(self.table, alpha), self.first))
        scores = tf.einsum("btc,cd->btd", hidden, self.last)
        return {"scores": scores, "best": tf.argmax(scores, -1, output_type=tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "pitches")])
    def looked_up(self, pitches):
        return {"vectors": tf.gather(self.table, self.numbers.lookup(pitches))}

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8, "picture")])
    def blurred(self, picture):
        return {"blurred": tf.nn.avg_pool1d(tf.cast(picture, tf.float32), 9, 1, "VALID")}

model = Model()
tf.saved_model.save(model, sys.argv[1], signatures={
    "tones": model.__call__, "looked_up": model.looked_up, "blurred": model.blurred})
"""
FLAX = """
import sys
import flax.linen as nn, flax.serialization, jax, jax.numpy as jnp

class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(8)(x)

with open(sys.argv[1], "wb") as file:
    file.write(flax.serialization.to_bytes(Network().init(jax.random.key(0), jnp.zeros((1, 16)))))
"""
# A network whose normalization has statistics, as a training's state holds it, and what Flax answers with them.
NORMED = """
import sys
import flax.linen as nn, flax.serialization, jax, jax.numpy as jnp, numpy as np

class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(32)(x))
        return nn.Dense(4)(nn.relu(x))
"""
WRITE_NORMED = """
variables = Network().init(jax.random.key(1), jnp.zeros((1, 12)))
told = variables["batch_stats"]["BatchNorm_0"]
told["mean"], told["var"] = jnp.linspace(-1, 1, 32), jnp.linspace(0.2, 4, 32)
x = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
np.savez(sys.argv[1] + ".npz", x=x, y=Network().apply(variables, x))
with open(sys.argv[1], "wb") as file:
    file.write(flax.serialization.to_bytes({**variables, "step": 7, "opt_state": {"0": {"count": 7}}}))
"""


# A network as vocoders and transformers have it, its weights' names as an old weight norm and a wrapper leave them.
VOICE = """
class Voice(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.heard, self.said = norm(nn.Conv1d(16, 24, 5, padding=2)), norm(nn.ConvTranspose1d(24, 8, 4, 2, 1))
        self.mixed = nn.Linear(24, 72)
        self.register_buffer("mask", torch.triu(torch.full((32, 32), -torch.inf), 1))

    def forward(self, x):
        q, k, v = self.mixed(self.heard(x).transpose(1, 2).tanh()).chunk(3, -1)
        length = q.shape[1]
        weights = (q @ k.transpose(1, 2) / 5 + self.mask[:length, :length]).softmax(-1)
        return {"more": weights, "y": self.said((weights @ v).transpose(1, 2))}
"""
VOICE_INPUTS = """from scripts.seeded import seeded_uniform


def feed(name, batch, length):
    return {"x": seeded_uniform("voice/" + name, (batch, 16, length))}


def reference():
    return {"small": feed("small", 1, 3), "large": feed("large", 8, 32)}


def calibration(component):
    return [feed("calibration {}".format(number), 8, 32) for number in range(8)]
"""


def voice() -> torch.nn.Module:
    scope = {"torch": torch, "nn": torch.nn}
    exec(VOICE, scope)
    torch.manual_seed(0)
    return scope["Voice"](torch.nn.utils.weight_norm)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8, bias=False))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A tree with a model of each toolchain, made by make new and cast."""
    folder = tmp_path_factory.mktemp("new")
    tree = copy_tree(folder / "tree")
    for code, toolchain, name in ((SAVED_MODEL, "legacy", "saved"), (FLAX, "jax", "flax.msgpack"),
                                  (NORMED + WRITE_NORMED, "jax", "normed.msgpack")):
        (folder / "write.py").write_text(code)
        done = run("scripts/in", toolchain, "python", folder / "write.py", folder / name)
        assert done.returncode == 0, done.stderr
    torch.save(network().state_dict(), folder / "weights.pth")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in voice().state_dict().items()}, "step": 7},
               folder / "epoch=3-step=7.ckpt")
    for model, path, toolchain, *more in (
            ("tones", "saved", "legacy", "SIGNATURE=tones"), ("dense", "flax.msgpack", "jax"),
            ("chain", "weights.pth", "torch"), ("normed", "normed.msgpack", "jax"),
            ("voice", "epoch=3-step=7.ckpt", "torch")):
        made("new", f"MODEL={model}", f"FROM={folder / path}", f"TOOLCHAIN={toolchain}", *more, cwd=tree)
    made_for_normed(tree / "models/normed")
    made_for_voice(tree / "models/voice")
    (tree / "said").write_text(made("-j2", "all", "MODELS=tones dense chain normed voice", cwd=tree))
    shutil.copyfile(folder / "normed.msgpack.npz", tree / "normed.npz")
    return tree


def made_for_normed(folder: Path) -> None:
    """Put the network of NORMED into the files that make new wrote."""
    network = NORMED[NORMED.index("class"):].rstrip() + "\n"
    replaced(folder / "ask.py", r"class Network.*?\n\n\n(?=def ask)", network + "\n\n")
    replaced(folder / "ask.py", "import Refusal, progress", "import progress")
    replaced(folder / "network.py", r"from scripts\.job import Refusal\n", "")
    replaced(folder / "network.py", r"(?<=Module:\n).*?(?=\n\ndef load)", """    return torch.nn.ModuleDict()


class Twin(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.Dense_0, self.BatchNorm_0, self.Dense_1 = (
            torch.nn.Linear(12, 32), torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 4))

    def forward(self, x):
        return self.Dense_1(torch.relu(self.BatchNorm_0(self.Dense_0(x))))
""".replace("torch.nn.ModuleDict()", "Twin()"))
    replaced(folder / "recipe.toml", r'\["batch", 1\]', '["batch", 12]', 1)
    replaced(folder / "recipe.toml", r'\["batch", 1\]', '["batch", 4]', 1)
    replaced(folder / "inputs.py", r"\(batch, 1\)", "(batch, 12)")


def made_for_voice(folder: Path) -> None:
    """Put VOICE into the files that make new wrote, its weight norm of the new kind."""
    replaced(folder / "network.py", r"from scripts\.job import Refusal\n", "")
    replaced(folder / "network.py", r"(?<=import torch\n)", "from torch import nn\n")
    replaced(folder / "network.py", r"(?<=recipe\.toml.\"\"\"\n).*?(?=\n\ndef load)",
             f"    return Voice(nn.utils.parametrizations.weight_norm)\n\n{VOICE.rstrip()}\n")
    replaced(folder / "recipe.toml", r'\["batch", 1\]', '["batch", 16, "length"]', 1)
    replaced(folder / "recipe.toml", r'\["batch", 1\]', '["batch", 8, "samples"]', 1)
    (folder / "inputs.py").write_text(VOICE_INPUTS)


def replaced(path: Path, pattern: str, text: str, count: int = 0) -> None:
    found, times = re.subn(pattern, lambda _: text, path.read_text(), count=count, flags=re.DOTALL)
    assert times
    path.write_text(found)


def refused(tree: Path, *words: str) -> str:
    done = run("make", "--no-print-directory", *words, cwd=tree)
    assert done.returncode and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize("model", ["tones", "dense", "chain"])
def test_a_simple_model_converts_as_it_is(tree, model):
    artifacts = json.loads((tree / f"build/bundled/{model}/verify/report.json").read_text())["artifacts"]
    assert [one["variant"] for one in artifacts] == ["fp32", "fp16", "int8"]
    assert artifacts[2]["bytes"] < 0.7 * artifacts[0]["bytes"]
    measured = {one["variant"]: min(row["snr_db"] for row in one["measured"] if row["port"] != "best")
                for one in artifacts}
    assert measured["fp32"] > 120 and measured["int8"] > 30


def test_the_statistics_of_a_flax_network_are_of_it_too(tree):
    given = np.load(tree / "normed.npz")
    session = exact_session(tree / "build/bundled/normed/compose/normed-model-fp32.onnx")
    np.testing.assert_allclose(session.run(["y"], {"x": given["x"]})[0], given["y"], rtol=1e-4, atol=1e-5)


def test_a_network_of_convolutions_with_a_mask_answers_as_it_did(tree):
    """Its file has the names of an old weight norm, and is another module's than the one that is exported."""
    x = np.random.default_rng(0).uniform(-1, 1, (2, 16, 20)).astype(np.float32)
    with torch.inference_mode():
        expected = voice()(torch.from_numpy(x))["y"].numpy()
    for variant, least in (("fp32", 100), ("fp16", 50), ("int8", 25)):
        session = exact_session(tree / f"build/bundled/voice/compose/voice-model-{variant}.onnx")
        assert verify.compare(expected, session.run(["y"], {"x": x})[0])["snr_db"] > least
    assert 'method = "static-qdq"' in (tree / "models/voice/recipe.toml").read_text()


def judged(tree: Path, **arrays: np.ndarray) -> list[dict]:
    """What the stage verify says of the model chain's fp32 by these numbers of its owner's."""
    np.savez(tree / "models/chain/answers.npz", **arrays)
    try:
        return verify.from_owner(job.Job("chain", "bundled", recipe.read(tree, "chain"), {
            "compose": tree / "build/bundled/chain/compose"}, tree, None))
    finally:
        (tree / "models/chain/answers.npz").unlink()


def owned(module: torch.nn.Module, rows: int = 40) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(rows, 16)).astype(np.float32)
    with torch.inference_mode():
        return {"x": x, "y": module(torch.from_numpy(x)).numpy()}


def test_a_guess_that_is_right_passes_its_owners_numbers(tree, monkeypatch):
    monkeypatch.setattr(job, "ROOT", tree)
    [one] = judged(tree, **owned(network()))
    assert one["passed"] and one["measured"] > 100
    cases = {f"{case}/{port}": array for case, rows in (("one", 1), ("other", 9))
             for port, array in owned(network(), rows).items()}
    assert [one["passed"] for one in judged(tree, **cases)] == [True]


@pytest.mark.parametrize("trained", [
    lambda first, last: (first, torch.nn.Tanh(), last), lambda first, last: (first, torch.nn.GELU(), last),
    lambda first, last: (first, last), lambda first, last: (torch.nn.ReLU(), first, last),
])
def test_a_guess_of_other_activations_or_another_order_misses_them(tree, monkeypatch, trained):
    monkeypatch.setattr(job, "ROOT", tree)
    first, _, last = network()
    [one] = judged(tree, **owned(torch.nn.Sequential(*trained(first, last))))
    assert not one["passed"] and one["measured"] < 40
    assert re.fullmatch(r"models/chain/answers\.npz: model in fp32 has snr_db of y: [\d.e-]+, must be at least 90: the "
                        "network isn't the one that answered so, .*", one["text"])


@pytest.mark.parametrize(("arrays", "said"), [
    ({"x": np.ones((2, 16), np.float32)}, "expected an array for each port, x, y, found x: write it"),
    ({"x": np.ones((2, 9), np.float32), "y": np.ones((2, 8), np.float32)}, "of the recipe's shapes, found: "),
    ({"x": np.ones((2, 16), np.float32), "y": np.ones((3, 8), np.float32)}, "of the recipe's shapes, found: "),
    ({"x": np.array([{}]), "y": np.ones(1)}, "expected arrays as numpy.savez writes them, found: "),
])
def test_numbers_of_an_owner_that_do_not_fit_are_one_sentence(tree, monkeypatch, arrays, said):
    monkeypatch.setattr(job, "ROOT", tree)
    with pytest.raises(Refusal, match=f"^models/chain/answers.npz: .*{said}"):
        judged(tree, **arrays)


def test_a_guess_is_called_one_until_its_owners_numbers_judge_it(tree):
    report = tree / "build/bundled/chain/verify/report.json"
    assert json.loads(report.read_text())["guessed"] is True
    assert "chain is a guess of make new's" in (tree / "said").read_text()
    assert "voice is a guess" not in (tree / "said").read_text()
    np.savez(tree / "models/chain/answers.npz", **owned(torch.nn.Sequential(*list(network())[::2])))
    message = refused(tree, "chain")
    assert "models/chain/answers.npz: model in fp32 has snr_db of y: " in message and message.count("error: ") == 1
    np.savez(tree / "models/chain/answers.npz", **owned(network()))
    assert "is a guess" not in made("chain", cwd=tree)
    told = json.loads(report.read_text())
    assert "guessed" not in told and told["answers"][0]["passed"]
    (tree / "models/chain/answers.npz").unlink()
    assert "chain is a guess of make new's" in made("chain", cwd=tree)


def test_the_card_of_a_release_calls_a_guess_one(tree):
    told = recipe.read(tree, "chain")
    artifact = {"file": "a.onnx", "bytes": 1, "gates": [], "sha256": "0", "format": "onnx", "component": "model",
                "vector": "a.npz"}
    told |= {"source": {"kind": "bundled"}, "artifacts": [artifact]}
    for guessed in (True, False):
        release = {"version": "v1", "models": {"chain": {**told, "guessed": guessed}}}
        assert ("**A guess**" in card.card("chain", release, "# Chain\n\nA chain.\n")) == guessed


def test_its_card_has_its_ports_as_make_docs_writes_them(tree):
    page = Path("models/tones/README.md")
    assert "| in: " in (tree / page).read_text() and pages.text(tree, page) == (tree / page).read_text()


def test_its_ports_keep_their_names_and_get_a_recipes_dtypes(tree):
    """The signature's int32 are int64 outside, and the inputs aren't permuted, whatever their order."""
    text = (tree / "models/tones/recipe.toml").read_text()
    assert [line for line in text.splitlines() if line.startswith(("name", "dtype", "shape"))] == [
        'name = "alpha"', 'dtype = "int64"', 'shape = ["batch", "length"]',
        'name = "zeta"', 'dtype = "float32"', 'shape = ["batch", "length", 16]',
        'name = "best"', 'dtype = "int64"', 'shape = ["batch", "length"]',
        'name = "scores"', 'dtype = "float32"', 'shape = ["batch", "length", 8]']


def test_a_signature_is_chosen_among_several(tree):
    words = ["MODEL=other", f"FROM={tree / 'models/tones/source'}", "TOOLCHAIN=legacy"]
    said = refused(tree, "new", *words)
    assert "expected the signature serving_default, found blurred, looked_up, tones: choose one" in said
    assert "SIGNATURE=blurred" in said
    assert "expected the signature third, found blurred" in refused(tree, "new", *words, "SIGNATURE=third")
    assert "found one: leave it out" in refused(tree, "new", "MODEL=other", "FROM=README.md", "TOOLCHAIN=torch",
                                                "SIGNATURE=tones")
    assert 'signature = "tones"' in (tree / "models/tones/recipe.toml").read_text()


def test_a_lookup_table_is_said_before_anything_is_made(tree):
    assert "found a lookup table, None_Lookup: look up before, and give the model the indices" in refused(
        tree, "new", "MODEL=other", f"FROM={tree / 'models/tones/source'}", "TOOLCHAIN=legacy", "SIGNATURE=looked_up")
    assert not (tree / "models/other").exists()


def test_integers_reach_the_last_row_of_their_table_or_the_end_of_their_dtype(tree):
    """And a case that is too short for the original is named, with what to do; which is enough."""
    made("new", "MODEL=blurred", f"FROM={tree / 'models/tones/source'}", "TOOLCHAIN=legacy", "SIGNATURE=blurred",
         cwd=tree)
    assert '    "alpha": 11,\n' in (tree / "models/tones/inputs.py").read_text()
    assert '    "picture": 255,\n' in (tree / "models/blurred/inputs.py").read_text()
    message = refused(tree, "export", "MODELS=blurred")
    assert "found 'small' of the model's inputs.py, picture 2×3×3, which it refuses (" in message
    assert "enlarge its sizes there" in message
    replaced(tree / "models/blurred/inputs.py", "batch=2, length=3", "batch=2, length=9")
    made("export", "MODELS=blurred", cwd=tree)
    shutil.rmtree(tree / "models/blurred")


def test_it_plays_and_benches(tree, tmp_path):
    np.savez(tmp_path / "in.npz", x=np.ones((3, 16), np.float32))
    made("play", "MODEL=chain", f"IN={tmp_path / 'in.npz'}", f"OUT={tmp_path / 'out.npz'}", "VARIANT=fp32", cwd=tree)
    with torch.inference_mode():
        expected = network()(torch.ones(3, 16)).numpy()
    assert np.abs(np.load(tmp_path / "out.npz")["y"] - expected).max() < 1e-6
    assert "expected the inputs alpha, zeta as NumPy's .npz, found" in refused(
        tree, "play", "MODEL=tones", f"IN={tmp_path / 'in.npz'}", "OUT=o.npz")
    assert "| model | original |" in made("bench", "MODELS=tones", cwd=tree)


@pytest.mark.parametrize("model", ["tones", "dense", "chain"])
def test_its_layers_are_those_of_the_original(tree, model):
    said = made("bisect", f"MODEL={model}", cwd=tree)
    compared = [int(number) for number in re.findall(r"all (\d+) compared tensors agree", said)]
    assert len(compared) == 2 and compared[0] >= 1


def test_the_folder_is_as_clean_as_the_house(tree):
    done = run("scripts/in", "checks", "ruff", "check", "--no-cache", "--ignore", "UP006,UP035", "models", cwd=tree)
    assert done.returncode == 0, done.stdout
    done = run("scripts/in", "legacy", "python", "-m", "py_compile", "models/tones/inputs.py", "models/tones/export.py",
               "models/tones/bench.py", cwd=tree)
    assert done.returncode == 0, done.stderr


def test_a_wrong_guess_misses_its_gate(tree):
    """The original in JAX judges the twin in PyTorch: another activation there is caught by number."""
    path = tree / "models/dense/network.py"
    text = path.read_text()
    path.write_text(text.replace("ReLU()", "GELU()"))
    assert "dense-model-fp32.onnx: snr_db of y" in refused(tree, "dense")
    path.write_text(text)


def test_another_checkpoint_of_the_network_is_cast_and_one_of_another_is_refused(tree, tmp_path):
    for name, wider in (("fits", 64), ("other", 65)):
        (tmp_path / name).mkdir()
        module = torch.nn.Sequential(torch.nn.Linear(16, wider), torch.nn.ReLU(), torch.nn.Linear(wider, 8, bias=False))
        torch.save(module.state_dict(), tmp_path / name / "weights.pth")
    made("chain", f"CHECKPOINT={tmp_path / 'fits'}", cwd=tree)
    assert "0.weight is [65, 16], expected [64, 16]" in refused(tree, "chain", f"CHECKPOINT={tmp_path / 'other'}")


def test_arrays_that_are_no_chain_are_listed_where_the_network_goes(tree, tmp_path):
    save_file({"norm.weight": torch.ones(3), "out.kernel": torch.ones(2, 3, 4)}, tmp_path / "odd.safetensors")
    made("new", "MODEL=odd", f"FROM={tmp_path / 'odd.safetensors'}", "TOOLCHAIN=torch", cwd=tree)
    message = refused(tree, "odd")
    assert "models/odd/network.py: expected the module" in message
    assert "norm.weight [3], out.kernel [2, 3, 4]" in message


def test_a_t5x_checkpoint_is_taken_whole(tree, tiny):
    made("new", "MODEL=writer", f"FROM={ROOT / 'build/tiny/mt3/fetch'}", "TOOLCHAIN=jax", cwd=tree)
    assert 'checkpoint = "t5x"' in (tree / "models/writer/recipe.toml").read_text()
    assert "models/writer/ask.py: expected the network" in refused(tree, "writer")
    shutil.rmtree(tree / "models/writer")


def test_counts_of_a_flax_network_stay_whole_numbers(tmp_path):
    tree = {"params": {"kernel": seeded.packed(1, np.ones((2, 3), np.float32))},
            "seen": {"count": seeded.packed(1, np.array(7, np.int32))}}
    (tmp_path / "m.msgpack").write_bytes(msgpack.packb(tree))
    told = flax_params.arrays(tmp_path / "m.msgpack")
    assert (told["seen/count"], told["seen/count"].dtype, told["kernel"].dtype) == (7, np.int32, np.float32)


def test_a_port_that_goes_in_and_out_under_one_name_is_refused(tmp_path, monkeypatch):
    port = {"name": "state", "dtype": "float32", "shape": [3]}
    monkeypatch.setitem(new.READERS, "legacy", lambda path: new.Given(
        {"inputs": [port], "outputs": [{**port, "name": "y"}, port]}, path, []))
    with pytest.raises(Refusal, match="expected ports of different names, found state going in and out: save it with"):
        new.new("mine", tmp_path, "legacy")
    assert not (ROOT / "models/mine").exists()


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_is_refused_and_not_run(tree, tmp_path):
    torch.save({"weight": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pth")
    assert "would run: " in refused(tree, "new", "MODEL=bomb", f"FROM={tmp_path / 'bomb.pth'}", "TOOLCHAIN=torch")
    bare = io.BytesIO()
    pickle.dump(Bomb(tmp_path / "ran"), bare)
    (tmp_path / "bare.pt").write_bytes(bare.getvalue())
    assert "a bare pickle" in refused(tree, "new", "MODEL=bomb", f"FROM={tmp_path / 'bare.pt'}", "TOOLCHAIN=torch")
    assert not (tmp_path / "ran").exists() and not (tree / "models/bomb").exists()


REACHING = {
    "WriteFile": "tf.io.write_file('ran', 'x')",
    "EagerPyFunc": "x = tf.py_function(lambda given: given, [x], tf.float32)",
    "SaveV2": "tf.raw_ops.SaveV2(prefix='ran', tensor_names=['x'], shape_and_slices=[''], tensors=[x])",
}
WRITING = """
@tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
def call(x):
    {line}
    return {{"y": x + 1}}

model = tf.Module()
model.call = call
tf.saved_model.save(model, sys.argv[1] + "/{op}", signatures=call)
"""


@pytest.fixture(scope="module")
def reaching(tmp_path_factory) -> Path:
    """A folder with a SavedModel of each op that reaches out."""
    folder = tmp_path_factory.mktemp("reaching")
    (folder / "write.py").write_text("import sys\nimport tensorflow as tf\n" + "".join(
        WRITING.format(line=line, op=op) for op, line in REACHING.items()))
    done = run("scripts/in", "legacy", "python", folder / "write.py", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("op", REACHING)
def test_a_saved_model_that_reaches_out_is_refused_and_not_run(tree, reaching, op):
    """Where a folder is made, and where another checkpoint is cast by one that is there."""
    said = f"expected a graph that computes alone, found {op}, which reaches out"
    assert said in refused(tree, "new", "MODEL=out", f"FROM={reaching / op}", "TOOLCHAIN=legacy")
    assert said in refused(tree, "tones", f"CHECKPOINT={reaching / op}")
    assert not (tree / "models/out").exists() and not list(tree.glob("ran*"))


def test_names_that_would_be_code_are_no_code(tree, tmp_path):
    """In a stub's text they lose their quotes; as ports or files they are refused."""
    torch.save({'x");open("ran","w");("': torch.ones(3)}, tmp_path / "a.pth")
    made("new", "MODEL=quoted", f"FROM={tmp_path / 'a.pth'}", "TOOLCHAIN=torch", cwd=tree)
    assert 'open("' not in (tree / "models/quoted/network.py").read_text()
    refused(tree, "quoted")
    assert not (tree / "ran").exists()
    shutil.copy(tmp_path / "a.pth", tmp_path / 'a"+"b.pth')
    assert "expected names of letters" in refused(tree, "new", "MODEL=code", f"FROM={tmp_path}/a\"+\"b.pth",
                                                  "TOOLCHAIN=torch")


@pytest.mark.parametrize(("words", "said"), [
    (["MODEL=coconet", "FROM=README.md", "TOOLCHAIN=torch"], "models/coconet: expected a new name"),
    (["MODEL=verify", "FROM=README.md", "TOOLCHAIN=torch"], "MODEL=verify: expected a name"),
    (["MODEL=../mine", "FROM=README.md", "TOOLCHAIN=torch"], "MODEL=../mine: expected a name"),
    (["MODEL=mine", "FROM=README.md", "TOOLCHAIN=keras"], "TOOLCHAIN=keras: expected legacy, torch, jax"),
    (["MODEL=mine", "FROM=nothing", "TOOLCHAIN=jax"], "nothing: expected Flax's parameters"),
    (["MODEL=mine", "FROM=README.md", "TOOLCHAIN=torch"], "expected a state_dict"),
    (["MODEL=mine", "FROM=README.md", "TOOLCHAIN=jax"], "expected parameters as flax.serialization"),
    (["MODEL=mine", "FROM=docs", "TOOLCHAIN=legacy"], "expected a SavedModel"),
    (["MODEL=mine", "FROM=models/dense/source/flax.msgpack", "TOOLCHAIN=torch"], "they go with TOOLCHAIN=jax"),
])
def test_what_can_not_be_is_one_sentence(tree, words, said):
    message = refused(tree, "new", *words)
    assert said in message and message.count("error: ") == 1
    assert not (tree / "models/mine").exists() and not (tree / "build/.new.partial").exists()


def test_a_truncated_checkpoint_is_refused(tree, tmp_path):
    torch.save(network().state_dict(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-300])
    with zipfile.ZipFile(tmp_path / "locked.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
    for name in ("cut", "locked"):
        refused(tree, "new", "MODEL=mine", f"FROM={tmp_path / name}.pth", "TOOLCHAIN=torch")


@pytest.mark.parametrize(("files", "toolchain", "said"), [
    (["m/saved_model.pb", "m/variables/variables.index"], "torch", "it goes with TOOLCHAIN=legacy"),
    (["m/saved_model.pb", "m/variables/variables.index"], "legacy", None),
    (["m/saved_model.pb"], "legacy", None),
    (["m/_CHECKPOINT_METADATA", "m/_METADATA", "m/manifest.ocdbt"], "jax", "an Orbax checkpoint"),
    (["m/7/_CHECKPOINT_METADATA", "m/7/default/_METADATA"], "jax", "an Orbax checkpoint"),
    (["m/checkpoint", "m/target.x/.zarray"], "jax", None),
    (["m/checkpoint_10/checkpoint"], "jax", None),
    (["m/checkpoint", "m/model.ckpt-3.index"], "jax", "a checkpoint of TensorFlow's, which holds no graph"),
    (["m/checkpoint"], "torch", "it goes with TOOLCHAIN=jax"),
    (["m/config.json", "m/model.safetensors"], "torch", "(model.safetensors): it goes with TOOLCHAIN=torch, FROM= the"),
    (["m/model-1-of-2.safetensors", "m/model.safetensors.index.json"], "torch", "weights in several files"),
    (["m.h5"], "legacy", "save it as a SavedModel first"), (["m.keras"], "torch", "by its export(folder)"),
    (["m.npz"], "torch", "safetensors.numpy.save_file"), (["m.onnx"], "torch", "make inspect ONNX=path"),
    (["m.pb"], "legacy", "a frozen graph"), (["m.tflite"], "legacy", "take the SavedModel"),
    (["m.pth"], "jax", "it goes with TOOLCHAIN=torch"), (["m.ckpt"], "torch", None), (["m.msgpack"], "jax", None),
    (["m.txt"], "torch", "something else: save model.state_dict()"), (["m.txt"], "jax", None),
])
def test_what_is_given_is_said_for_what_it_is_with_a_way(tmp_path, files, toolchain, said):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    told = new.foreign(tmp_path / files[0].split("/")[0], toolchain)
    assert (told is None) if said is None else said in told


ORBAX = """
import sys
import flax.linen as nn, jax, jax.numpy as jnp, orbax.checkpoint
params = nn.Dense(4).init(jax.random.key(0), jnp.ones((1, 3)))["params"]
told = {"params": params, "step": 3, "opt_state": [{"mu": params}, None]}
orbax.checkpoint.PyTreeCheckpointer().save(sys.argv[1], told)
"""


def test_the_way_from_orbax_is_one(tmp_path):
    """The lines of docs/your-own-model.md write what make new takes."""
    text = (ROOT / "docs/your-own-model.md").read_text()
    [lines] = re.findall(r"```python\n(import sys, .*?)```", text, re.DOTALL)
    done = run("scripts/in", "jax", "python", "-c", ORBAX + lines, tmp_path / "orbax", tmp_path / "mine.msgpack")
    assert done.returncode == 0, done.stderr
    assert {name: array.shape for name, array in flax_params.arrays(tmp_path / "mine.msgpack").items()} == {
        "bias": (4,), "kernel": (3, 4)}
    assert "an Orbax checkpoint" in new.foreign(tmp_path / "orbax", "jax")


def test_the_way_from_numpy_is_one(tmp_path):
    np.savez(tmp_path / "m.npz", **{"0.weight": np.ones((2, 3), np.float32)})
    [remedy] = re.findall(r"safetensors\.numpy\.save_file\(.*?'\)", new.OTHERS[".npz"][1])
    exec(remedy.replace("'weights", f"'{tmp_path}/weights"), {"numpy": np, "safetensors": __import__(
        "safetensors.numpy"), "path": tmp_path / "m.npz"})
    assert new.state_dict(tmp_path / "weights.safetensors").layers == [("0", 3, 2, False)]


@pytest.mark.parametrize("named", ["{}", "module.{}", "_orig_mod.module.{}", "model.net.{}"])
def test_a_chain_is_one_whatever_its_names_begin_with(tmp_path, named):
    torch.save({"state_dict": {named.format(name): tensor for name, tensor in network().state_dict().items()}},
               tmp_path / "m.ckpt")
    assert new.state_dict(tmp_path / "m.ckpt").layers == [("0", 16, 64, True), ("2", 64, 8, False)]


@pytest.mark.parametrize(("name", "shape", "matrix", "kind"), [
    ("0.weight", (3, 2, 5), "weight", "convolutions"), ("0.weight_v", (3, 2, 5, 5), "weight", "convolutions"),
    ("0.parametrizations.weight.original1", (3, 2, 5), "weight", "convolutions"),
    ("0.weight", (3, 2), "weight", "products"), ("positions", (1, 9, 4), "weight", "products"),
    ("Conv_0/kernel", (5, 2, 3), "kernel", "convolutions"), ("down/kernel", (5, 5, 2, 3), "kernel", "convolutions"),
    ("attention/query/kernel", (8, 2, 4), "kernel", "products"),
])
def test_a_network_with_kernels_of_convolutions_gets_an_int8_for_them(name, shape, matrix, kind):
    joint = "/" if matrix == "kernel" else "."
    assert new.of_arrays({name: np.ones(shape)}, ROOT, [], matrix, joint).kind == kind


@pytest.mark.parametrize(("shapes", "layers"), [
    ({"0.weight": (4, 3), "0.bias": (4,), "10.weight": (2, 5), "2.weight": (5, 4)},
     [("0", 3, 4, True), ("2", 4, 5, False), ("10", 5, 2, False)]),
    ({"0.weight": (4, 3), "1.weight": (2, 5)}, None),
    ({"0.weight": (4, 3), "0.bias": (3,)}, None),
    ({"0.weight": (4, 3), "0.running_mean": (4,)}, None),
    ({"first.weight": (16, 12), "second.weight": (8, 16), "third.weight": (2, 8)},
     [("first", 12, 16, False), ("second", 16, 8, False), ("third", 8, 2, False)]),
    ({"first.weight": (16, 12), "second.weight": (16, 16), "third.weight": (16, 16)}, None),  # which comes first?
    ({"query.weight": (8, 8), "key.weight": (8, 8), "value.weight": (8, 8)}, None),
    ({"enc.weight": (6, 20), "dec.weight": (20, 6)}, None),
    ({"block1_a.weight": (8, 8), "block1_b.weight": (8, 8)}, None),
    ({}, None),
])
def test_dense_layers_are_a_chain_only_where_their_sizes_meet(shapes, layers):
    assert new.chain({name: np.zeros(shape) for name, shape in shapes.items()}, "weight", ".") == layers
