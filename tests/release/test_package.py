"""A release's assets: all of them told of, equal wherever they are packed, each one checkable by who downloads it."""

import hashlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from scripts import recipe
from scripts.images import SOURCE
from tests.conftest import ROOT, built, made, run

TAG = "v0.1.0"
MODELS = recipe.models(ROOT)


def clone(target: Path) -> Path:
    """A clone of this commit with whatever isn't committed yet, and the finished tiny builds."""
    run("git", "clone", "--quiet", ROOT, target)
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target / name)
    for model in MODELS:
        shutil.copytree(built(model, "tiny"), target / built(model, "tiny").relative_to(ROOT))
    return target


@pytest.fixture(scope="session")
def packed(tiny, tmp_path_factory) -> Path:
    """dist/<tag>/ of the tiny builds, which nobody may change."""
    tree = clone(tmp_path_factory.mktemp("packed") / "tree")
    made("package", "WEIGHTS=tiny", f"TAG={TAG}", cwd=tree)
    return tree / "dist" / TAG


@pytest.fixture
def release(packed, tmp_path) -> Path:
    """A copy of it, to break things in."""
    return shutil.copytree(packed, tmp_path / "release")


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def tried(folder: Path, *names: str) -> tuple[int, str]:
    done = run("scripts/in", "player", "python", folder / "try_it.py", *names)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


# What there is


def test_every_asset_is_in_the_manifest_and_in_the_sums(packed):
    told, found = manifest_of(packed), sums(packed)
    assert {name: file["sha256"] for name, file in told["files"].items()} == {
        name: digest for name, digest in found.items() if name not in ("manifest.json", "SHA256SUMS")}
    lines = dict(reversed(line.split("  ")) for line in (packed / "SHA256SUMS").read_text().splitlines())
    assert lines == {name: digest for name, digest in found.items() if name != "SHA256SUMS"}
    assert run("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS", cwd=packed).returncode == 0


def test_every_artifact_of_every_build_is_there(packed):
    for model in MODELS:
        outputs = json.loads((built(model, "tiny") / "compose/manifest.json").read_text())["outputs"]
        assert all(sums(packed)[file["file"]] == file["sha256"] for file in outputs)
        artifacts = manifest_of(packed)["models"][model]["artifacts"]
        assert {one.get(key) for one in artifacts for key in ("file", "weights_file")} - {None} == {
            file["file"] for file in outputs}


def test_the_manifest_tells_what_gates_measured_and_their_bounds(packed):
    for model in MODELS:
        artifacts = {one["file"]: one for one in manifest_of(packed)["models"][model]["artifacts"]}
        for told in json.loads((built(model, "tiny") / "verify/report.json").read_text())["artifacts"]:
            gates = artifacts[told["file"]]["gates"]
            assert len(gates) == len(told["gates"]) and all("at_most" in gate or "at_least" in gate for gate in gates)
            for gate, measured in zip(gates, told["gates"], strict=True):
                assert gate["measured"] == pytest.approx(measured["measured"], rel=0.05)


def test_a_card_says_what_its_model_needs_said(packed):
    for model, told in manifest_of(packed)["models"].items():
        card = (packed / f"{model}.md").read_text()
        assert all(one["file"] in card for one in told["artifacts"])
        assert told["weights_licence"] in card and told["attribution"] in card
        assert ("**Synthetic weights**" in card) == (told["source"]["kind"] != "bundled")
        assert "## Limits\n\n" in card and "InferenceSession" in card and "ort." in card
        ports = {port.get("group", port["name"]) for one in told["components"].values()
                 for kind in ("inputs", "outputs") for port in one[kind]}
        assert all(re.search(rf"^\| (in|out): {port}(_0 to \d+)? \|", card, re.MULTILINE) for port in ports)
    assert "no commercial use, whatever is made of it under the same licence" in (packed / "vampnet.md").read_text()


def test_a_card_is_the_models_own_with_links_that_lead_to_the_versions_files(packed):
    for model in MODELS:
        card, own = ((place / name).read_text() for place, name in ((packed, f"{model}.md"),
                                                                    (ROOT / f"models/{model}", "README.md")))
        added = ["## Files", "## Run a file", "## Licence"]
        headings = [line for line in re.findall("^#.*", card, re.MULTILINE) if line not in added]
        assert headings == re.findall("^#.*", own, re.MULTILINE)
        for target in re.findall(r"\]\((?!http)([^)]+)\)", card):
            assert target.startswith("#"), target
        for kind, path in re.findall(rf"\({SOURCE}/(raw|blob)/{TAG}/([^)#]+)", card):
            assert (ROOT / path).exists() and (kind == "raw") == path.endswith(".png"), path


def test_the_python_of_every_card_runs(packed, monkeypatch):
    monkeypatch.chdir(packed)
    for model in MODELS:
        run_it = (packed / f"{model}.md").read_text().partition("\n## Run a file\n")[2].partition("\n## ")[0]
        [code] = re.findall(r"```python\n(.*?)```", run_it, re.DOTALL)
        told: dict = {}
        exec(code, told)
        assert all(np.isfinite(output).all() for output in told["outputs"])


# That it is the same everywhere


def test_packed_in_another_place_it_is_the_same(packed, tmp_path):
    tree = clone(tmp_path / "another place")
    done = run("make", "package", "WEIGHTS=tiny", f"TAG={TAG}", cwd=tree, TZ="Asia/Kolkata", LC_ALL="C",
               PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert sums(tree / "dist" / TAG) == sums(packed)


def test_the_bill_and_the_provenance_know_nothing_of_what_was_measured(packed):
    """Which another CPU measures otherwise, in its last digits; so do the vectors and cards that tell of it."""
    told = manifest_of(packed)
    for model in told["models"].values():
        for one in model["artifacts"]:
            one["gates"] = [{**gate, "measured": gate["measured"] * 1.01} for gate in one["gates"]]
            one["checks"] = {}
    for name, file in told["files"].items():
        if Path(name).suffix not in (".onnx", ".tflite", ".weights"):
            file["sha256"] = "0" * 64
    code = ("import json, sys; from pathlib import Path; from scripts import provenance; told = json.load(sys.stdin); "
            "sys.stdout.write(provenance.bill(Path.cwd(), told) + provenance.statement(told))")
    done = run("bash", "-c", f"scripts/in release python -c {shlex.quote(code)} <<<{shlex.quote(json.dumps(told))}")
    written = [(packed / name).read_text() for name in ("sbom.cdx.json", "provenance.intoto.json")]
    assert done.stdout == "".join(written), done.stderr


def test_nothing_of_a_machine_or_a_time_is_told(packed):
    for name in ("manifest.json", "sbom.cdx.json", "provenance.intoto.json", "notes.md", *(f"{m}.md" for m in MODELS)):
        text = (packed / name).read_text()
        assert not re.search(r"(^|[\s\"'])/(root|home|tmp|work|opt)/", text), name
        assert set(re.findall(r"20[2-9]\d-\d\d-\d\dT", text)) <= {"2020-01-01T"}, name


# What others' tools say of it


def validated(code: str, path: Path, toolchain: str) -> str:
    done = run("scripts/in", toolchain, "python", "-c", code, path)
    return done.stdout.strip() or done.stderr


BILL = """
import sys, pathlib
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text()))
"""
STATEMENT = """
import sys, pathlib
from google.protobuf.json_format import Parse
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
made = Statement.copy_from_pb(Parse(pathlib.Path(sys.argv[1]).read_text(), statement_pb2.Statement()))
made.validate()
print(len(made.pb.subject))
"""


def test_the_bill_of_materials_is_cyclonedx(packed):
    assert validated(BILL, packed / "sbom.cdx.json", "checks") == "None"
    told = json.loads((packed / "sbom.cdx.json").read_text())
    models = {one["name"]: one for one in told["components"] if one["type"] == "machine-learning-model"}
    assert set(models) == set(MODELS) and models["vampnet"]["licenses"] == [{"license": {"id": "CC-BY-NC-SA-4.0"}}]
    assert {"tensorflow", "torch", "jax"} <= {one["name"] for one in told["components"]}


def test_the_provenance_is_a_statement_about_every_built_file(packed):
    built = [path for path in packed.iterdir() if path.suffix in (".onnx", ".tflite", ".weights")]
    assert validated(STATEMENT, packed / "provenance.intoto.json", "release") == str(len(built))
    told = json.loads((packed / "provenance.intoto.json").read_text())
    assert told["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {one["name"]: one["digest"]["sha256"] for one in told["subject"]} == {
        path.name: sums(packed)[path.name] for path in built}
    [commit, *_] = told["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert commit["digest"]["gitCommit"] == run("git", "rev-parse", "HEAD").stdout.strip()


@pytest.mark.parametrize("spoil", [
    lambda told: told.pop("commit"),
    lambda told: told.update(mood="good"),
    lambda told: told["models"]["coconet"]["artifacts"][0].update(sha256="short"),
    lambda told: told["models"]["coconet"]["artifacts"][0].pop("checks"),
    lambda told: told["models"]["coconet"]["artifacts"][0]["gates"][0].pop("measured"),
])
def test_the_schema_refuses_a_manifest_that_is_none(packed, tmp_path, spoil):
    told = manifest_of(packed)
    check = ["scripts/in", "checks", "check-jsonschema", "--schemafile", "docs/manifest.schema.json"]
    assert run(*check, packed / "manifest.json").returncode == 0
    spoil(told)
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    assert run(*check, tmp_path / "manifest.json").returncode == 1


# What a user can check


def test_every_asset_is_verified_from_an_environment_with_onnxruntime_and_numpy_alone(packed, tmp_path):
    lock = (ROOT / "images/torch/requirements.lock").read_text()
    pins = [re.search(rf"^{name}==\S+", lock, re.MULTILINE)[0] for name in ("onnxruntime", "numpy")]
    assert run("scripts/uv", "venv", "--quiet", "--python", "3.11", tmp_path / "clean").returncode == 0
    python = tmp_path / "clean/bin/python"
    done = run("scripts/uv", "pip", "install", "--quiet", "--python", python, *pins)
    assert done.returncode == 0, done.stderr
    done = run(python, packed / "try_it.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    artifacts = [one for model in manifest_of(packed)["models"].values() for one in model["artifacts"]]
    ran = [one for one in artifacts if one["format"] == "onnx"]
    assert len(done.stdout.splitlines()) == len(artifacts)
    assert done.stdout.count("so does what it returns") == len(ran)


@pytest.mark.parametrize("name", ["coconet-harmonizer-int8.onnx", "vampnet-coarse-fp32.weights", "groovae-groove.npz",
                                  "groovae-groove-int8.tflite"])
def test_a_flipped_byte_is_caught(release, name):
    data = bytearray((release / name).read_bytes())
    data[len(data) // 2] ^= 1
    (release / name).write_bytes(data)
    status, said = tried(release)
    assert status == 1 and f"{name} has the SHA-256 {hashlib.sha256(data).hexdigest()}, expected" in said
    assert run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=release).returncode == 1


def test_what_is_missing_is_named(release):
    (release / "vampnet-coarse-fp32.weights").unlink()
    (release / "coconet-denoiser.npz").unlink()
    status, said = tried(release)
    assert status == 1 and "vampnet-coarse-fp32.weights is missing: download it too" in said
    assert "coconet-denoiser.npz is missing" in said


def test_one_asset_alone_can_be_checked(release, tmp_path):
    for name in ("try_it.py", "manifest.json", "coconet-denoiser-int8.onnx", "coconet-denoiser.npz"):
        shutil.copy(release / name, tmp_path / name)
    assert tried(tmp_path)[0] == 0 and tried(tmp_path, "coconet-denoiser-int8.onnx")[0] == 0
    status, said = tried(tmp_path, "coconet-denoiser-int4.onnx")
    assert status == 1 and "coconet-denoiser-int4.onnx: expected artifacts of v0.1.0" in said


@pytest.mark.parametrize("name", ["coconet-denoiser-fp32.onnx", "groovae-encoder-fp16.onnx", "mt3-encoder-fp32.onnx"])
def test_a_graph_that_computes_something_else_is_caught_by_its_vector(release, name):
    """Its largest weights turned round, and the hash told anew, so that the vector alone can tell."""
    model = onnx.load(release / name)
    floats = [one for one in model.graph.initializer if onnx.helper.tensor_dtype_to_np_dtype(one.data_type).kind == "f"]
    weights = max(floats, key=lambda one: len(one.raw_data))
    array = onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(-array, weights.name))
    onnx.save(model, release / name)
    told = manifest_of(release)
    told["files"][name]["sha256"] = hashlib.sha256((release / name).read_bytes()).hexdigest()
    (release / "manifest.json").write_text(json.dumps(told))
    status, said = tried(release, name)
    assert status == 1 and "of the original, expected" in said, said


def test_the_commands_that_tell_how_to_verify_run(packed):
    """Those that need neither GitHub nor the authors' files; of the others the verbs and the asset are known."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/verify.md").read_text(), re.DOTALL)
    [check, attest, rebuild, every, one] = "".join(blocks).splitlines()
    assert run("bash", "-c", check, cwd=packed).returncode == 0
    assert (packed / attest.removeprefix("gh attestation verify ").split()[0]).is_file()
    for command in rebuild.split(" && "):
        assert run("make", "--dry-run", *command.split()[1:]).returncode == 0, command
    for command in (every, one):
        assert tried(packed, *command.removeprefix("python try_it.py").split())[0] == 0


# What isn't packed


@pytest.fixture
def tree(tiny, tmp_path) -> Path:
    return clone(tmp_path / "tree")


def refused(tree: Path, *words: str) -> str:
    done = run("make", "--no-print-directory", "package", "MODELS=coconet", *words, cwd=tree)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert not [path for path in (tree / "dist").glob("*") if path.name != TAG]
    return done.stderr


def test_what_isnt_built_is_refused(tree):
    assert "run make coconet WEIGHTS=seeded before make package" in refused(tree)


def test_a_build_that_missed_its_gates_is_refused(tree):
    shutil.rmtree(tree / "build/tiny/coconet/verify")
    assert "before make package" in refused(tree, "WEIGHTS=tiny")


def test_bytes_that_arent_the_recorded_ones_are_refused(tree):
    sums = tree / "checksums/tiny/coconet.sha256"
    sums.write_text(sums.read_text().replace(sums.read_text()[:8], "00000000"))
    assert "is not the recorded one" in refused(tree, "WEIGHTS=tiny")
    sums.unlink()
    assert "records nothing" in refused(tree, "WEIGHTS=tiny")


def test_a_file_that_github_wouldnt_take_is_refused(tree):
    code = "from scripts import package; package.MOST_BYTES = 40_000; package.package(['coconet'], 'tiny', 'v9')"
    done = run("scripts/in", "release", "python", "-c", code, cwd=tree)
    assert "expected at most 40,000 bytes, as GitHub takes" in done.stderr and not (tree / "dist/v9").exists()


@pytest.mark.parametrize("tag", ["../v1", "v1/2", "v1 2", ""])
def test_a_tag_that_is_no_name_is_refused_or_has_the_usual_one(tree, tag):
    if tag:
        assert "expected letters, digits, dots and dashes" in refused(tree, "WEIGHTS=tiny", f"TAG={tag}")
    else:
        made("package", "WEIGHTS=tiny", "MODELS=coconet", cwd=tree)
        assert (tree / "dist/untagged/SHA256SUMS").is_file()
