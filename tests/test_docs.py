"""What the documents say is so: their commands run, their links lead somewhere, their figures are the build's."""

import json
import re
import shlex

import numpy as np
import pytest

from scripts import figures, proof, recipe, sources
from tests.conftest import ROOT, SMALL, built, run

DOCUMENTS = [ROOT / name for name in run("git", "ls-files", "*.md").stdout.splitlines()]
COMMANDS = sorted({line for path in DOCUMENTS for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
                   for line in block.strip().splitlines()})


def test_there_are_commands_to_test():
    assert "make all" in COMMANDS and any(command.startswith("make play") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_is_one_that_make_knows(command):
    assert command.startswith("make ")
    done = run("make", "--dry-run", *shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make play") and "WEIGHTS" not in c])
def test_a_documented_play_line_plays(command, tiny, tmp_path):
    words = shlex.split(command)[1:]
    out = next(word for word in words if word.startswith("OUT="))
    target = tmp_path / out.removeprefix("OUT=")
    done = run("make", *[word for word in words if word != out], f"OUT={target}", "WEIGHTS=tiny")
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size > 30  # of MIDI without a note: stand-ins may hear none


def test_help_prints_every_verb_that_the_readme_lists():
    printed = run("make").stdout
    for verb in re.findall(r"^\| `make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"\b{verb}\b", printed), verb


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def recorded_rows() -> dict[tuple[str, str], list[list[str]]]:
    """The rows of docs/artifacts.md by model and kind of weights: file, variant, bytes and words."""
    sections = re.findall(r"^## (\w+), (\w+) weights$(.*?)(?=^## |\Z)", (ROOT / figures.PAGE).read_text(),
                          re.MULTILINE | re.DOTALL)
    return {(model, weights): [line.strip("| ").split(" | ") for line in text.splitlines()
                               if line.startswith(f"| {model}-")] for model, weights, text in sections}


def held(told: str, found: str) -> bool:
    """Whether two texts are one but for their numbers, and those within what another CPU's last bits may change."""
    number = r"[-\d.]+(?:e[-+]\d+)?(?= (?:dB|%|times|nats|on average|argmaxes|hits))|(?<=within )[\d.e+-]+"
    if re.sub(number, "", told) != re.sub(number, "", found):
        return False
    slack = {"dB": 1.5, "%": 3.0}
    pairs = zip(re.findall(rf"({number})\s*(\S*)", told), re.findall(rf"({number})\s*(\S*)", found), strict=True)
    return all(abs(float(one) - float(other)) <= slack.get(unit.rstrip(",;"), max(float(one), float(other)) * 0.7)
               for (one, unit), (other, _) in pairs)


@pytest.mark.parametrize("model", SMALL)
def test_the_page_of_artifacts_has_the_sizes_and_figures_of_the_build(seeded, model):
    report = json.loads((built(model, "seeded") / "verify/report.json").read_text())
    weights = recipe.kind(recipe.read(ROOT, model), "seeded")
    rows = recorded_rows()[model, weights]
    assert [row[:3] for row in rows] == [[one["file"], one["variant"], f"{one['bytes']:,}"]
                                         for one in report["artifacts"]]
    for row, artifact in zip(rows, report["artifacts"], strict=True):
        assert held(row[3] if len(row) > 3 else "", figures.words(artifact["gates"])), row


def test_figures_are_held_to_a_build():
    told = "logits: 1.8 times the original's own rounding; 98.2 % of tokens equal; mel at 45.0 dB"
    assert held(told, told.replace("1.8", "2.4").replace("98.2", "97.9").replace("45.0", "45.9"))
    assert not any(held(told, told.replace(one, other)) for one, other in (
        ("1.8", "9000.0"), ("98.2", "90.0"), ("45.0", "39.0"), ("tokens", "notes")))


def test_the_page_has_every_recorded_artifact():
    files = {path.stem: set(re.findall(r"compose/(\S+\.(?:onnx|tflite))$", path.read_text(), re.MULTILINE))
             for path in ROOT.glob("checksums/*/*.sha256") if path.parent.name not in ("tiny", "sources")}
    told: dict[str, set[str]] = {}
    for (model, _), rows in recorded_rows().items():
        told.setdefault(model, set()).update(row[0] for row in rows)
    assert told == files


def test_the_readme_tells_the_largest_artifact_of_each_model():
    rows = dict(re.findall(r"^\| (\w+) \| (\d+ \|(?: [\d.,]+ \|){3})$", (ROOT / "README.md").read_text(), re.MULTILINE))
    expected = {}
    for (model, weights), artifacts in recorded_rows().items():
        if weights in ("seeded", "bundled"):
            sizes = [max(int(row[2].replace(",", "")) for row in artifacts if row[1] == variant) / 1e6
                     for variant in ("fp32", "fp16", "int8")]
            expected[model] = f"{len(artifacts)} |" + "".join(f" {size:,.1f} |" for size in sizes)
    assert rows == expected


def test_the_readme_says_what_is_downloaded():
    """A row for each source that a recipe takes: its address, its licence, its bytes, and how many files are known."""
    rows = dict(re.findall(r"^\| (\w+) \| (\[.+\]\(http.+)$", (ROOT / "README.md").read_text(), re.MULTILINE))
    recipes = {model: recipe.read(ROOT, model)["sources"] for model in recipe.models(ROOT)}
    assert rows.keys() == {model for model, own in recipes.items() if "released" in own}
    for model, row in rows.items():
        told = sources.get(ROOT, recipes[model]["released"]["source"])
        entries = list((told.get("members") or told["files"]).values())
        grades = [entry["grade"] if sources.hashed(entry) else "by its size" for entry in entries]
        known = ", ".join(f"{grades.count(one)} {one}" for one in (*sources.GRADES, "by its size") if one in grades)
        assert f"]({told['url']})" in row and row.endswith(f"| {told['licence']} | {known} |")
        assert f"{sources.size(told):,}" in row or f"{sum(entry['bytes'] for entry in entries):,}" in row


def test_the_guide_tells_of_every_file_whose_it_is_and_how_well_it_is_known():
    """The table is what the record says, a row a file, or a list of files."""
    rows = ["| source | file | bytes | known by | grade | from |", "|---|---|---:|---|---|---|"]
    for name, told in sources.read(ROOT).items():
        entries = {file: entry for kind in ("files", "members") for file, entry in told.get(kind, {}).items()}
        if "sums" in told:
            entries = {f"all {len(entries)}": {**told["sums"], "bytes": told["bytes"], "sha256": "of each"}}
        for file, entry in entries.items():
            hashes = [f"{proof.called(one)} {entry[one][:8]}" for one in sources.DIGITS if one in entry]
            size = f"{entry['bytes']:,}" if "bytes" in entry else ""
            rows.append(f"| {name} | {file} | {size} | {', '.join(hashes) or 'its size'} | {entry['grade']} | "
                        f"{entry['from']} |")
    told = (ROOT / "docs/released.md").read_text().split("<!-- sources -->\n")[1].split("<!-- /sources -->")[0]
    assert told == "\n".join(rows) + "\n"


def test_the_bench_in_the_readme_has_a_date_and_a_machine():
    table = re.search(r"<!-- bench -->\n(.*?)<!-- /bench -->", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert re.search(r"median of \d+ rounds, \d{4}-\d\d-\d\d, .+ cores", table)
    assert "| denoiser | int8 |" in table and "| denoiser | original |" in table
    assert "| transcriber, 200 tokens | int8 |" in table and "| transcriber, 200 tokens | lean JAX |" in table
    assert "| groove | int8 |" in table and "| groove | fp32 tflite |" in table
    assert "| coarse, 100 frames | int8 |" in table and "| coarse-sampler, 3 s | original |" in table


@pytest.mark.parametrize("model", recipe.models(ROOT))
def test_a_card_has_every_port_of_the_recipe(model):
    card = (ROOT / "models" / model / "README.md").read_text()
    told = recipe.read(ROOT, model)
    for name, component in told["components"].items():
        section = card.split(f"**{name}**", 1)[1].split("\n**", 1)[0]
        for kind in ("inputs", "outputs"):
            groups = [port.get("group") for port in component[kind]]
            for port in component[kind]:
                name = f"{port['group']}_0 to {groups.count(port['group']) - 1}" if "group" in port else port["name"]
                row = f"| {kind[:-3]}: {name} | {port['dtype']} | {', '.join(map(str, port['shape']))}"
                assert row.replace("| inp:", "| in:").replace("| outp:", "| out:").rstrip() in section, row
    assert told["weights_licence"] in card


def test_no_document_tells_of_a_machine():
    pattern = re.compile(r"(^|[\s\"'`])/(root|home|tmp|opt)/")
    for path in DOCUMENTS:
        assert not pattern.search(path.read_text()), path


@pytest.mark.parametrize(("model", "result", "shape"), [
    ("coconet", "chorale", (32, 4)),
    ("groovae", "drums", (2, 32, 27)),
    ("harmonizer", "chords", (8, 3, 2)),
])
def test_the_python_in_the_card_runs(seeded, monkeypatch, model, result, shape):
    monkeypatch.chdir(ROOT)
    card = (ROOT / "models" / model / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    told: dict = {}
    exec(code.replace("steps=96", "steps=1"), told)
    assert np.shape(told[result]) == shape


def test_the_python_in_vampnets_card_runs(tiny):
    """In the toolchain that plays, with the tiny build."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "models/vampnet/README.md").read_text(), re.DOTALL)
    code = code.replace("build/seeded", "build/tiny").replace("steps=36", "steps=2")
    done = run("scripts/in", "player", "python", "-c", code + "\nprint(len(vamp) - 4.8 * 44100, codes.shape)")
    assert done.stdout.splitlines()[-1] == "0.0 (14, 276)", done.stderr
