"""What the documents say is so: their commands run, their links lead somewhere, their tables are today's."""

import copy
import json
import re
import shlex
import xml.etree.ElementTree

import numpy as np
import pytest

from scripts import chart, recipe
from scripts.docs import artifacts, benchmarks, measured, pages
from scripts.job import Refusal
from tests.conftest import ROOT, SMALL, built, copy_tree, made, run

DOCUMENTS = [ROOT / name for name in run("git", "ls-files", "*.md").stdout.splitlines()]
COMMANDS = sorted({line for path in DOCUMENTS for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
                   for line in block.strip().splitlines()})
README = (ROOT / "README.md").read_text()
SHOWN = re.findall(r"```sh\n(.*?)\n```\n```text\n(.*?)```", README, re.DOTALL)  # a command, and what it prints
SLACK = {"snr_db": 1.5, "size_share": 0.001, **dict.fromkeys((  # what another processor may measure, more or less
    "agreement", "agreement_above_median", "decision_agreement", "equality", "loop_equality"), 0.03)}


# What is generated


def test_every_generated_file_is_what_make_docs_writes(tmp_path):
    for path, text in pages.render(ROOT).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
        assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes(), f"{path}: run make docs"


@pytest.mark.parametrize(("file", "old", "new", "changed"), [
    ("models/coconet/recipe.toml", "softmax of the logits", "something else", "models/coconet/README.md"),
    ("models/groovae/recipe.toml", "Plays a drum groove", "Plays the flute", "README.md"),
    ("docs/measured.json", '"bytes": 468627', '"bytes": 468628', "docs/artifacts.md"),
    ("docs/benchmarks.json", '"groove/int8": {"1": 6.01', '"groove/int8": {"1": 7.01', "docs/bench-groovae.svg"),
    ("checksums/sources.toml", "93122683", "93122684", "docs/released-weights.md"),
    ("Makefile", "help: ## print", "help: ## show", "docs/verbs.md"),
])
def test_what_changes_in_a_source_changes_in_the_docs(tmp_path, file, old, new, changed):
    tree = copy_tree(tmp_path / "tree")
    text = (tree / file).read_text()
    assert old in text
    (tree / file).write_text(text.replace(old, new))
    assert f"wrote {changed}" in made("docs", cwd=tree)
    assert made("docs", cwd=tree) == "all generated pages are up to date\n"


@pytest.mark.parametrize(("block", "message"), [
    ("<!-- docs: poems -->\n<!-- /docs -->", "docs/a.md: no generated block 'poems': expected one of"),
    ("<!-- docs: benchmark -->\n<!-- /docs -->", "docs/a.md: no generated block 'benchmark'"),
    ("<!-- docs: ports -->\n<!-- /docs -->", "docs/a.md: no generated block 'ports'"),
    ("<!-- docs: verbs -->\n", "docs/a.md: expected <!-- docs: NAME --> and <!-- /docs --> in turn"),
])
def test_a_block_that_is_not_known_or_does_not_end_is_refused(tmp_path, block, message):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text(block)
    with pytest.raises(Refusal, match=re.escape(message)):
        pages.render(tmp_path)


def test_every_model_has_its_card_its_benchmark_and_its_row():
    marks = [name for path in DOCUMENTS for name in re.findall(r"<!-- docs: (.+) -->", path.read_text())]
    assert marks.count("ports") == len(recipe.models(ROOT))
    assert {f"benchmark {result['model']}" for result in benchmarks.read(ROOT).values()} <= set(marks)
    assert set(pages.TABLES) <= set(marks)


def test_the_readme_fits_on_a_screen():
    assert len(README.splitlines()) <= 120


# What was measured


def test_figures_are_recorded_of_every_recorded_artifact():
    found = {path: {line.rpartition("/")[2] for line in path.read_text().splitlines()
                    if line.endswith((".onnx", ".tflite"))}
             for path in ROOT.glob("checksums/*/*.sha256") if path.parent.name not in ("tiny", "sources")}
    entries = measured.read(ROOT)
    assert {f"{path.parent.name}/{path.stem}": files for path, files in found.items()} == {
        name: {one["file"] for one in entry["artifacts"]} for name, entry in entries.items()}
    for path in found:
        assert entries[f"{path.parent.name}/{path.stem}"]["checksums"] == measured.digest(path), (
            f"{path}: other artifacts than the figures are of: build them and run make docs")


@pytest.mark.parametrize("model", SMALL)
def test_recorded_figures_are_those_of_the_build(seeded, model):
    weights = recipe.kind(recipe.read(ROOT, model), "seeded")
    report = json.loads((built(model, weights) / "verify/report.json").read_text())
    entry = measured.read(ROOT)[f"{weights}/{model}"]
    assert agree(entry["artifacts"], [measured.figures(one) for one in report["artifacts"]])


def agree(told: list[dict], found: list[dict]) -> bool:
    """Whether figures are of the same artifacts and gates, and measured alike, but for what another CPU may change."""
    def same(metric: str, one: float, other: float) -> bool:
        return abs(one - other) <= SLACK.get(metric, 0.7 * max(one, other))
    shape = [measured.shape({"checksums": "", "artifacts": artifacts}) for artifacts in (told, found)]
    return shape[0] == shape[1] and all(
        same("agreement", one.get("agreement", 0), other.get("agreement", 0))
        and all(same(gate["metric"], gate["measured"], other_gate["measured"])
                for gate, other_gate in zip(one["gates"], other["gates"]))
        for one, other in zip(told, found))


@pytest.mark.parametrize(("metric", "change", "equal"), [
    ("snr_db", 1.0, True), ("snr_db", 3.0, False), ("agreement", -0.01, True), ("agreement", -0.1, False),
    ("size_share", 0.1, False), ("bytes", -800_000, False)])
def test_figures_are_held_to_a_build(metric, change, equal):
    told = measured.read(ROOT)["bundled/harmonizer"]["artifacts"]
    found = copy.deepcopy(told)
    [gate] = [gate for gate in found[1]["gates"] if gate["metric"] == metric]
    gate["measured"] += change
    assert agree(told, found) == equal


def test_a_build_without_news_changes_no_record(bundled_tree):
    assert made("docs", cwd=bundled_tree) == "all generated pages are up to date\n"


def test_a_build_with_other_gates_is_recorded_and_shown(bundled_tree):
    record = bundled_tree / "docs/measured.json"
    record.write_text(record.read_text().replace('"at_least": 35', '"at_least": 34'))
    assert "recorded the figures of harmonizer, bundled weights" in made("docs", cwd=bundled_tree)
    assert "(≥ 35)" in (bundled_tree / "docs/artifacts.md").read_text()


def test_a_build_that_is_not_the_recorded_one_is_not_shown(bundled_tree):
    path = bundled_tree / "checksums/bundled/harmonizer.sha256"
    path.write_text(path.read_text().replace("9", "8", 1))
    assert "recorded" not in made("docs", cwd=bundled_tree)


@pytest.fixture
def bundled_tree(workshop):
    """A copy of the tree with the harmonizer's build."""
    return workshop("harmonizer")


def test_a_benchmark_is_recorded_and_replaces_an_older_one(tmp_path):
    result = {**benchmarks.read(ROOT)["seeded/coconet"], "date": "2026-12-01"}
    path = tmp_path / "build/seeded/coconet/bench/bench.json"
    path.parent.mkdir(parents=True)
    for date, news in (("2026-12-01", 1), ("2026-12-01", 0), ("2026-11-01", 0), ("2026-12-02", 1)):
        path.write_text(json.dumps({**result, "date": date}))
        assert len(list(benchmarks.record(tmp_path))) == news
    assert benchmarks.read(tmp_path)["seeded/coconet"]["date"] == "2026-12-02"


def test_mt3s_card_has_the_recorded_speeds():
    medians = benchmarks.read(ROOT)["released/mt3"]["medians"]
    works = {"a segment": ("transcriber, 2 s of sound", 2.05),
             "8 segments at once": ("transcriber, 8 x 2 s of sound", 8 * 2.05)}
    figure, card = r"([\d.]+)", (ROOT / "models/mt3/README.md").read_text()
    rows = re.findall(rf"^\| ({'|'.join(works)}) \| (\w+) \| {figure} \| {figure}x \| {figure} s \| {figure} \|", card,
                      re.MULTILINE)
    assert len(rows) == 8
    for sound, contestant, *told in rows:
        work, seconds = works[sound]
        one, two = (medians[f"{work}/{contestant}"][threads] for threads in ("1", "2"))
        original = medians[f"{work}/original"]["1"]
        assert told == [f"{one:.1f}", f"{original / one:.2f}", f"{one / 1000 / seconds:.2f}", f"{two:.1f}"]


def test_every_metric_of_a_gate_has_a_name():
    assert artifacts.METRICS.keys() | {"bytes"} == set(recipe.METRICS)


@pytest.mark.parametrize("name", benchmarks.read(ROOT))
def test_no_legend_and_no_figure_lies_on_a_bar(name):
    """The legend ends above the first panel, and each figure begins where its bar ends."""
    result = benchmarks.read(ROOT)[name]
    picture = xml.etree.ElementTree.fromstring(chart.draw(result))
    space = "{http://www.w3.org/2000/svg}"
    legend = [float(one.get("y")) for one in picture.findall(f"{space}text")]
    panels = picture.findall(f"{space}g")
    assert max(legend) + 12 < min(float(one.get("transform").rstrip(")").split(",")[1]) for one in panels)
    for panel in panels:
        bars = panel.findall(f"{space}rect")
        figures = [one for one in panel.findall(f"{space}text") if one.get("class") == "figure"]
        assert len(bars) == len(figures) > 0
        for bar, figure in zip(bars, figures):
            end = float(bar.get("x")) + float(bar.get("width"))
            assert end < float(figure.get("x")) and float(figure.get("x")) + 45 <= chart.PANEL + chart.GAP


# What is documented


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
    assert target.stat().st_size > 30  # of MIDI without a note: synthetic weights may hear none


def test_the_commands_of_the_readme_print_what_stands_there(seeded, tmp_path):
    """But for figures, whose last digits follow the processor, and for the folder of what is written."""
    assert len(SHOWN) == 2
    for command, printed in SHOWN:
        found = made(*shlex.split(command.replace("OUT=", f"OUT={tmp_path}/"))[1:]).replace(f"{tmp_path}/", "")
        for line in printed.splitlines():
            assert re.sub(r"\d\.\d+", "#", line) in re.sub(r"\d\.\d+", "#", found), line


def test_make_prints_every_verb_of_the_makefile():
    printed = run("make").stdout
    rows = re.findall(r"^\| `make (\S+)` \|", (ROOT / "docs/verbs.md").read_text(), re.MULTILINE)
    assert len(rows) > 30 and all(re.search(rf"^make {re.escape(verb)} ", printed, re.MULTILINE) for verb in rows)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    """To a file that is there, and to a heading in it where the link names one."""
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", path.read_text()):
        file = path.parent / target if target else path
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, anchor


def test_no_document_tells_of_a_machine():
    pattern = re.compile(r"(^|[\s\"'`])/(root|home|tmp|opt)/")
    for path in DOCUMENTS:
        assert not pattern.search(path.read_text()), path


@pytest.mark.parametrize("model", recipe.models(ROOT))
def test_a_card_names_the_licence_of_the_weights(model):
    assert recipe.read(ROOT, model)["weights_licence"] in (ROOT / "models" / model / "README.md").read_text()


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
