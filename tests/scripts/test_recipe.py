"""A recipe is read strictly, and what is wrong in it is named with file, line and key."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import build, job, manifest, recipe
from scripts.job import Refusal
from tests.conftest import ROOT

TEXT = (ROOT / "models/coconet/recipe.toml").read_text()


def refused(text: str, tmp_path: Path) -> str:
    """What reading this text as a recipe is refused with."""
    (tmp_path / "models/coconet").mkdir(parents=True, exist_ok=True)
    (tmp_path / "models/coconet/recipe.toml").write_text(text)
    for toolchain in ("legacy", "torch"):
        (tmp_path / "images" / toolchain).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / toolchain / "requirements.lock").touch()
    with pytest.raises(Refusal) as refusal:
        recipe.read(tmp_path, "coconet")
    return str(refusal.value)


def line_of(text: str, part: str) -> int:
    return text[:text.index(part)].count("\n") + 1


@pytest.mark.parametrize("model", recipe.models(ROOT))
def test_every_recipe_is_well_formed(model):
    assert recipe.read(ROOT, model)["title"]


@given(st.from_regex(r"[a-z]{3,9}_[a-z]{3,9}", fullmatch=True), st.data())
def test_an_unknown_key_is_named_with_its_line(tmp_path_factory, key, data):
    lines = TEXT.splitlines()
    tables = [n for n, line in enumerate(lines) if line.startswith(("[components.denoiser", "[[", "[variants.fp16"))]
    place = data.draw(st.sampled_from(tables)) + 1
    text = "\n".join([*lines[:place], f"{key} = 1", *lines[place:]])
    message = refused(text, tmp_path_factory.mktemp("recipe"))
    assert message.startswith(f"models/coconet/recipe.toml:{place + 1}: unknown key '{key}'")


@pytest.mark.parametrize(("old", "new", "named"), [
    ("opset = 17", 'opset = "17"', "opset must be of type int"),
    ("version = 1", "version = true", "version must be of type int"),
    ('title = "Coconet, the Bach harmonizer"\n', "", "lacks the key 'title'"),
    ('toolchain = "legacy"', 'toolchain = "nowhere"', "no toolchain 'nowhere'"),
    ('method = "static-qdq"', 'method = "magic"', "unknown method 'magic'"),
    ('metric = "snr_db"', 'metric = "taste"', "unknown metric 'taste'"),
    ('shape = ["passes", 2,', 'shape = ["passes", 2.5,', "a shape holds names and positive integers"),
    ("classes = 2", "classes = 9", "9 is no axis"),
    ('written_where = "masks"', 'written_where = "mask"', "'mask' is no input of denoiser"),
    ('metric = "noise_ratio"', 'metric = "agreement"', "agreement needs classes on the port probabilities"),
    ('dtype = "int64"', 'dtype = "int65"', "unknown dtype 'int65'"),
    ("at_most = 6", "", "a gate needs at_most or at_least"),
    ('name = "logits"', 'name = "masks"', "denoiser has two ports 'masks'"),
    ('port = "probabilities"\nmetric', 'port = "nothing"\nmetric', "'nothing' is no output of denoiser"),
    ('loop_of = ["denoiser"]', 'loop_of = ["decoder"]', "'decoder' is none of the components"),
    ('loop_of = ["denoiser"]', "", "loop_equality needs loop_of at harmonizer"),
    ('loop_of = ["denoiser"]', 'loop_of = ["denoiser"]\nvariants = ["fp16", "int8"]',
     "size_share needs the format onnx, and a variant fp32"),
])
def test_a_wrong_value_is_named(tmp_path, old, new, named):
    assert old in TEXT
    assert named in refused(TEXT.replace(old, new, 1), tmp_path)


def test_a_wrong_value_has_its_line(tmp_path):
    text = TEXT.replace('method = "static-qdq"', 'method = "magic"')
    assert f"recipe.toml:{line_of(text, 'method = ' + chr(34) + 'magic')}:" in refused(text, tmp_path)


def test_a_recipe_needs_weights_of_its_own(tmp_path):
    assert "needs sources.seeded, or sources.bundled" in refused(
        re.sub(r"\[sources\.seeded\]\n(.+\n)+", "", TEXT), tmp_path)


def test_what_is_not_toml_is_refused_with_its_line(tmp_path):
    assert "line 2" in refused('title = "x"\nversion = = 1\n', tmp_path)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(Refusal, match=r"expected one of.*coconet"):
        recipe.read(ROOT, "nobody")


MT3 = (ROOT / "models/mt3/recipe.toml").read_text()


def read_as(tmp_path: Path, **texts: str) -> dict:
    """The last of these recipes, read in a tree that holds them all."""
    for model, text in texts.items():
        (tmp_path / "models" / model).mkdir(parents=True)
        (tmp_path / "models" / model / "recipe.toml").write_text(text)
    for toolchain in ("jax", "torch"):
        (tmp_path / "images" / toolchain).mkdir(parents=True)
        (tmp_path / "images" / toolchain / "requirements.lock").touch()
    return recipe.read(tmp_path, list(texts)[-1])


def test_a_port_for_each_layer_becomes_so_many_of_one_group(tmp_path):
    told = read_as(tmp_path, mt3=MT3)
    outputs = told["components"]["encoder"]["outputs"]
    assert [port["name"] for port in outputs] == [f"cross_{part}_{number}" for part in ("keys", "values")
                                                  for number in range(8)]
    assert {port["group"] for port in outputs} == {"cross_keys", "cross_values"}


def test_a_recipe_like_another_is_that_but_for_its_own_words(tmp_path):
    told = read_as(tmp_path, mt3=MT3, piano='like = "mt3"\ntitle = "Piano"\n[sources.tiny]\nvocab_size = 7\n')
    other = recipe.read(tmp_path, "mt3")
    assert told["title"] == "Piano" and told["sources"]["tiny"] == {**other["sources"]["tiny"], "vocab_size": 7}
    assert told["components"] == other["components"] and told["gates"] == other["gates"]


@pytest.mark.parametrize(("text", "kept"), [
    ('checkpoint = "tfjs"', {"checkpoint": "tfjs", "vocab_size": 1536}),
    ('files = ["weights"]', {"files": ["weights"], "vocab_size": 1536}),
])
def test_another_kind_of_checkpoint_takes_the_place_of_the_others(tmp_path, text, kept):
    assert read_as(tmp_path, mt3=MT3, piano=f'like = "mt3"\n[sources.custom]\n{text}\n')["sources"]["custom"] == kept


def test_files_and_a_kind_of_checkpoint_at_once_are_refused(tmp_path):
    with pytest.raises(Refusal, match="needs files or checkpoint, one of them"):
        read_as(tmp_path, mt3=MT3, piano='like = "mt3"\n[sources.custom]\nfiles = ["a"]\ncheckpoint = "tfjs"\n')


def test_an_unknown_route_is_refused(tmp_path):
    with pytest.raises(Refusal, match="unknown route 'scenic'; known are tfjs"):
        read_as(tmp_path, mt3=MT3, piano='like = "mt3"\nroutes = ["scenic"]\n')


@pytest.mark.parametrize(("module", "owner"), [("export", "coconetjs"), ("compose", "coconet"), ("inputs", "coconet")])
def test_a_model_like_another_has_modules_of_its_own_and_the_others(module, owner):
    told = recipe.read(ROOT, "coconetjs")
    assert job.module_name("coconetjs", told, module) == f"models.{owner}.{module}"
    assert job.module_name("coconet", recipe.read(ROOT, "coconet"), module) == f"models.coconet.{module}"


@pytest.mark.parametrize(("stage", "path"), [("export", "models/coconetjs/export.py"),
                                             ("compose", "models/coconet/compose.py")])
def test_a_stages_key_is_of_the_module_that_it_calls(stage, path, tmp_path, monkeypatch):
    """A change of that file changes the key, and a change of the other model's doesn't."""
    def key() -> str:
        manifest.file_hash.cache_clear()
        origin = build.Origin(None, None, None, None)
        one = build.Build("coconetjs", "tiny", origin, manifest.Hashes(tmp_path / "hashes"))
        monkeypatch.setattr(one, "reads", lambda stage: [])
        return one.key(next(known for known in build.STAGES if known.name == stage))

    def changed(name: str) -> bool:
        before = key()
        monkeypatch.setattr(manifest, "sha256", lambda file: "other" if str(file).endswith(name) else whole(file))
        after = key()
        monkeypatch.setattr(manifest, "sha256", whole)
        return before != after

    whole = manifest.sha256
    others = {"models/coconet/export.py", "models/coconetjs/compose.py", "models/coconet/compose.py",
              "models/coconetjs/export.py"} - {path}
    assert changed(path) and not any(map(changed, others))


@pytest.mark.parametrize(("text", "said"), [
    ('like = "nobody"\n', "models/piano/recipe.toml:1: no other model 'nobody'"),
    ('title = "Piano"\nlike = "piano"\n', "models/piano/recipe.toml:2: no other model 'piano'"),
    ('like = "mt3"\ntaste = 1\n', "models/piano/recipe.toml:2: unknown key 'taste'"),
    ('like = "mt3"\n[components.encoder]\nvariants = ["int2"]\n', "'int2' is none of the variants"),
    ('like = "mt3"\n[variants.int8]\ninstead = {decoder = "magic"}\n', "unknown method 'magic'"),
    ('like = "mt3"\n[variants.int8]\ndepthwise = "magic"\n', "unknown method 'magic'"),
    ('like = "mt3"\nexporter = "nowhere"\n', "models/piano/recipe.toml:2: no toolchain 'nowhere'"),
])
def test_what_is_wrong_in_a_recipe_like_another_is_named_there(tmp_path, text, said):
    with pytest.raises(Refusal) as refusal:
        read_as(tmp_path, mt3=MT3, piano=text)
    assert said in str(refusal.value)
