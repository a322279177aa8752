"""The driver: only what changed is built again, and nothing half-made is taken for finished.

Most of it on a toy whose stages are plain Python; what a real stage may do otherwise is done by real ones.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import build, recipe
from tests.conftest import ROOT, copy_tree, heed_interrupts, made, refused, run
from tests.scripts import toy

STAGES = list(build.NAMES)
OWN = [name for name in STAGES if name not in ("ask", "lite")]  # the toy's
BUILT = "build/tiny/toy"


def stages_run(output: str) -> list[str]:
    """The stages that a build's output says were done."""
    return [line.split()[1] for line in output.splitlines() if " done in " in line]


@pytest.fixture(scope="module")
def cast(tmp_path_factory) -> Path:
    """A tree with the toy's finished build, with its checksums recorded; nobody may change it."""
    tree = toy.plant(tmp_path_factory.mktemp("toy") / "tree")
    assert stages_run(run("make", "toy", "WEIGHTS=tiny", cwd=tree).stdout) == OWN
    made("checksums", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)
    return tree


@pytest.fixture
def tree(cast, tmp_path) -> Path:
    """A copy of it, to break things in."""
    return Path(shutil.copytree(cast, tmp_path / "tree"))


def rebuilt(tree: Path, *words: str) -> list[str]:
    """The stages that making the toy runs."""
    return stages_run(made("toy", "WEIGHTS=tiny", *words, cwd=tree))


# What is built again


def test_a_finished_build_is_left_alone(tree):
    before = {path: path.stat().st_mtime_ns for path in (tree / "build").rglob("*.onnx")}
    assert rebuilt(tree) == []
    assert {path: path.stat().st_mtime_ns for path in (tree / "build").rglob("*.onnx")} == before


def test_times_alone_rebuild_nothing(tree):
    for path in [*(tree / "scripts").rglob("*.py"), *(tree / "models").rglob("*"), *(tree / "build").rglob("*.onnx")]:
        os.utime(path)
    assert rebuilt(tree) == []


def test_changed_code_rebuilds_its_stage_and_what_follows_in_every_model_that_has_it(tree):
    run("make", "echo", "WEIGHTS=tiny", cwd=tree)
    module = tree / "models/toy/compose.py"
    module.write_text(module.read_text() + "# a remark\n")
    assert stages_run(run("make", "all", "WEIGHTS=tiny", cwd=tree).stdout) == ["compose", "verify"] * 2


def test_code_that_no_stage_imports_rebuilds_nothing(tree):
    module = tree / "scripts/bench.py"
    module.write_text(module.read_text() + "# a remark\n")
    assert rebuilt(tree) == []


def test_a_changed_setting_rebuilds_all_and_a_changed_gate_the_verdict(tree):
    path = tree / "models/toy/recipe.toml"
    path.write_text(path.read_text().replace("at_least = 30", "at_least = 35"))
    assert rebuilt(tree) == ["verify"]
    path.write_text(path.read_text().replace("layers = 1", "layers = 2"))
    assert stages_run(run("make", "toy", "WEIGHTS=tiny", cwd=tree).stdout) == OWN


def test_a_damaged_artifact_is_named_by_verify_and_rebuilt_alone(tree):
    artifact = tree / BUILT / "compose/toy-line-int8.onnx"
    whole = artifact.read_bytes()
    artifact.write_bytes(whole[:10] + bytes([whole[10] ^ 1]) + whole[11:])
    message = refused("verify", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)
    assert "toy-line-int8.onnx is not the recorded one" in message
    assert rebuilt(tree) == ["compose"]
    assert artifact.read_bytes() == whole


def test_damage_that_keeps_the_times_is_seen_too(tree):
    artifact = tree / BUILT / "quantize/line-fp32.onnx"
    stat, whole = artifact.stat(), artifact.read_bytes()
    rebuilt(tree)
    artifact.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(artifact, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert rebuilt(tree) == ["quantize"]


def test_a_damaged_reference_is_made_again(tree):
    (tree / BUILT / "export/reference.npz").write_bytes(b"")
    assert "export" in rebuilt(tree)


def test_a_file_that_is_not_of_the_build_is_noticed_and_cleared(tree):
    stray = tree / BUILT / "compose/toy-line-int4.onnx"
    stray.touch()
    assert "int4.onnx is not among the recorded" in refused("verify", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)
    assert rebuilt(tree) == ["compose"]
    assert not stray.exists()


def test_a_stage_can_be_asked_for_by_its_name(tree):
    shutil.rmtree(tree / BUILT)
    assert stages_run(made("fetch", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)) == ["fetch"]


def test_a_model_named_twice_is_built_once(tree):
    shutil.rmtree(tree / BUILT / "verify")
    assert stages_run(made("-j2", "all", "WEIGHTS=tiny", "MODELS=toy toy", cwd=tree)) == ["verify"]


def test_another_checkpoint_in_the_same_place_is_cast_anew(tree, tmp_path):
    weights = tmp_path / "weights.txt"
    weights.write_text("weights of mine\n")
    assert stages_run(made("toy", f"CHECKPOINT={tmp_path}", cwd=tree)) == OWN
    assert stages_run(made("toy", f"CHECKPOINT={tmp_path}", cwd=tree)) == []
    weights.write_text("other weights\n")
    assert stages_run(made("toy", f"CHECKPOINT={tmp_path}", cwd=tree)) == OWN


# What was recorded


def test_checksums_may_be_written_as_sha256sum_writes_them(tree):
    path = tree / "checksums/tiny/toy.sha256"
    path.write_text(path.read_text().replace("  build", " *build") + "\n")
    made("verify", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)
    path.write_text("gibberish\n")
    message = refused("verify", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)
    assert "checksums/tiny/toy.sha256:1: expected a SHA-256" in message


def test_verify_asks_for_a_build_where_there_is_none(tree):
    shutil.rmtree(tree / "build")
    done = run("make", "verify", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)
    assert done.returncode == 2 and done.stderr.count("is missing: run make toy") == 2


def test_bytes_that_are_not_the_recorded_ones_fail_the_build(tree):
    path = tree / "checksums/tiny/toy.sha256"
    path.write_text(path.read_text().replace(path.read_text()[:8], "00000000"))
    assert "not the recorded ones" in refused("toy", "WEIGHTS=tiny", cwd=tree)


def test_checksums_records_what_all_then_accepts(tree):
    path = tree / "checksums/tiny/toy.sha256"
    recorded = path.read_text()
    path.unlink()
    made("checksums", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)
    assert path.read_text() == recorded


# Kills, interrupts and commands at the same time


def slow(tree: Path, *words: str) -> subprocess.Popen:
    """A make whose stage quantize takes a minute, begun anew; SIGINT reaches it as it would at a terminal."""
    shutil.rmtree(tree / BUILT / "quantize", ignore_errors=True)
    return subprocess.Popen(["make", *(words or ("toy", "WEIGHTS=tiny"))], cwd=tree, text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_interrupts,
                            env={**os.environ, "ENGINE": "venv", "PACE": "20"})


def until(process: subprocess.Popen, what: str) -> None:
    """Read what a process prints until it says that."""
    while what not in (line := process.stdout.readline()):
        assert line, process.stderr.read()


def test_a_killed_stage_leaves_nothing_that_looks_finished(tree):
    with slow(tree) as process:
        until(process, "calibrated 1 of")
        os.killpg(process.pid, signal.SIGKILL)
    assert not (tree / BUILT / "quantize").exists()
    assert rebuilt(tree) == ["quantize"]
    assert not list((tree / BUILT).glob(".*.partial"))


def test_the_stage_of_a_killed_driver_keeps_others_out_until_it_has_ended(tree):
    with slow(tree) as process:
        until(process, "calibrated 1 of")
        [driver] = children(process.pid, "scripts.build")
        os.kill(driver, signal.SIGKILL)
        [stage] = children(None, "scripts.quantize", tree)
        waiting = subprocess.Popen(["make", "toy", "WEIGHTS=tiny"], cwd=tree, text=True, stdout=subprocess.PIPE,
                                   env={**os.environ, "ENGINE": "venv"})
        until(waiting, "waiting for another command in toy")
        os.kill(stage, signal.SIGKILL)
        assert stages_run(waiting.communicate()[0]) == ["quantize"]


def children(parent: int | None, what: str, cwd: Path | None = None) -> list[int]:
    """The processes whose command line has a word, of a process group or in a folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
            place = (folder / "cwd").resolve()
        except (OSError, ValueError):
            continue  # it has ended
        if what in words and words[0].endswith(("python", "python3.11")) and (
                group == parent if parent else place == cwd.resolve()):
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_says_so_and_goes_on_later(tree, how):
    with slow(tree) as process:
        until(process, "calibrated 1 of")
        os.killpg(process.pid, how)
        said = process.stderr.read()
    assert "interrupted" in said and "Traceback" not in said
    assert not list((tree / BUILT).glob("*quantize*/"))
    assert rebuilt(tree) == ["quantize"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_begins_no_other_model(tree, how):
    shutil.rmtree(tree / BUILT / "quantize")
    words = [sys.executable, "-m", "scripts.build", "--weights", "tiny", "toy", "echo"]
    with subprocess.Popen(words, cwd=tree, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE,
                          preexec_fn=heed_interrupts, env={**os.environ, "ENGINE": "venv", "PACE": "20"}) as process:
        until(process, "calibrated 1 of")
        process.send_signal(how)
        said = process.stdout.readlines()
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 130
    assert not [line for line in said if "echo" in line or " done in " in line], said


def test_two_builds_of_a_model_take_turns(tree):
    shutil.rmtree(tree / BUILT / "verify")
    builds = [subprocess.Popen(["make", "toy", "WEIGHTS=tiny"], cwd=tree, stdout=subprocess.PIPE, text=True)
              for _ in range(2)]
    outputs = [build.communicate()[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert sorted(map(stages_run, outputs)) == [[], ["verify"]]


def test_builds_of_two_models_do_not_wait_for_each_other(tree):
    """What one learns of its files' hashes isn't lost to the other."""
    with slow(tree) as process:
        until(process, "calibrated 1 of")
        said = run("make", "echo", "WEIGHTS=tiny", cwd=tree).stdout
        assert stages_run(said) == OWN and "waiting" not in said
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    assert rebuilt(tree) == ["quantize"]
    stored = json.loads((tree / "build/.hashes.json").read_text())
    known = {tuple(one[:-1]) for one in stored.values()}
    for path in [*(tree / "build/tiny/echo").rglob("*.onnx"), *(tree / BUILT / "quantize").glob("*.onnx")]:
        stat = path.stat()
        assert (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) in known, path


# What goes wrong


def test_a_build_folder_that_cannot_be_made_is_said_in_a_line(tree):
    shutil.rmtree(tree / "build")
    (tree / "build").touch()
    assert refused("toy", "WEIGHTS=tiny", cwd=tree).startswith("error: ")


def full_disk(tree: Path, kilobytes: int, goal: str, **environment: str) -> None:
    """Build on a real small disk, which must be said to be full, and hold nothing half-made."""
    shutil.rmtree(tree / "build", ignore_errors=True)
    (tree / "build").mkdir()
    small = f"mount -t tmpfs -o size={kilobytes}k tmpfs build && {{ make {goal} WEIGHTS=tiny; ls -A build/tiny/*; }}"
    done = run("unshare", "--mount", "--map-root-user", "bash", "-c", small, cwd=tree, **environment)
    if "unshare" in done.stderr:
        pytest.skip(f"NO SMALL DISK can be mounted here: {done.stderr.strip()}")
    assert "disk is full" in done.stderr or "No space left" in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert ".partial" not in done.stdout and "matches" not in done.stdout


@pytest.mark.parametrize("kilobytes", [20, 32, 48, 64, 96, 128])
def test_a_full_disk_is_said_in_a_line_and_nothing_half_made_stays(tree, kilobytes):
    """It fills up in another stage each time."""
    full_disk(tree, kilobytes, "toy", BYTES="20000")


def test_an_unexpected_failure_names_its_log(tree):
    module = tree / "scripts/compose.py"
    head = "def compose(task):"
    module.write_text(module.read_text().replace(head, head + "\n    raise RuntimeError('burst')"))
    message = refused("toy", "WEIGHTS=tiny", cwd=tree)
    assert "RuntimeError: burst" in message and f"{BUILT}/compose.log" in message
    assert "RuntimeError: burst" in (tree / BUILT / "compose.log").read_text()


def test_weights_that_a_recipe_lacks_are_refused(tree):
    path = tree / "models/toy/recipe.toml"
    path.write_text(re.sub(r"\[sources\.tiny\]\n(.+\n)+", "", path.read_text()))
    assert "toy: expected tiny weights in its recipe, found seeded, custom" in refused(
        "toy", "WEIGHTS=tiny", cwd=tree)


def test_an_unknown_model_stops_before_any_stage_runs(tree):
    assert "no model 'nobody'" in refused("all", "WEIGHTS=tiny", "MODELS=toy nobody", cwd=tree)


def test_a_bench_asks_for_a_build(tree):
    shutil.rmtree(tree / BUILT / "compose")
    assert "run make toy WEIGHTS=tiny before make bench" in refused(
        "bench", "WEIGHTS=tiny", "MODELS=toy", cwd=tree)


# Weights that lie in a model's folder


@pytest.fixture
def bundled(tree) -> Path:
    """A tree whose toy has them."""
    folder = tree / "models/toy"
    shutil.copytree(tree / BUILT / "fetch", folder / "source", ignore=shutil.ignore_patterns("*.json"))
    text = (folder / "recipe.toml").read_text()
    for kind in ("seeded", "tiny"):
        text = re.sub(rf"\[sources\.{kind}\]\n(.+\n)+", "", text)
    (folder / "recipe.toml").write_text(text + '\n[sources.bundled]\nabout = "a line"\n')
    shutil.rmtree(tree / "build")
    shutil.rmtree(tree / "models/echo")
    return tree


@pytest.mark.parametrize("weights", ["seeded", "tiny"])
def test_bundled_weights_are_built_whatever_kind_is_asked_for(bundled, weights):
    """Their checksums are of their own kind, and a changed byte of them is built anew."""
    table = made("toy", f"WEIGHTS={weights}", cwd=bundled)
    assert "nothing is recorded of toy yet: make checksums records what was built" in table
    assert not (bundled / f"build/{weights}/toy").exists()
    made("checksums", f"WEIGHTS={weights}", cwd=bundled)
    assert "every byte of the bundled build is as recorded" in made("verify", cwd=bundled)
    assert stages_run(made("toy", cwd=bundled)) == []
    (bundled / "models/toy/source/weights.txt").write_text("noise\n")
    assert refused("toy", cwd=bundled).startswith("error: toy export: weights.txt: expected weights, found none")


# What is told of a stage that crashed

TRACEBACK = ["2026 warning", "Traceback (most recent call last):", '  File "a.py", line 1, in <module>', "    f()", ""]


@pytest.mark.parametrize(("lines", "told"), [
    ([*TRACEBACK, "KeyError: 'x'", "", "During handling of the above exception, another exception occurred:", "",
      "Traceback (most recent call last):", '  File "a.py", line 2, in <module>', "    g()",
      "tensorflow.python.framework.errors_impl.InvalidArgumentError: cropped_shape[0]=-1 must be non-negative",
      "\t [[{{node depthwise}}]]", "", "(signature_wrapper)", "for details."],
     "InvalidArgumentError: cropped_shape[0]=-1 must be non-negative [[{{node depthwise}}]]"),
    ([*TRACEBACK, "onnx.checker.ValidationError: Nodes must be sorted, however input 'x' of node:", "name: y",
      ") is none"],
     "ValidationError: Nodes must be sorted, however input 'x' of node: name: y ) is none"),
    ([*TRACEBACK, "MemoryError"], "MemoryError"),
    (["some words", "Killed"], "Killed"),
    ([], ""),
    ([*TRACEBACK, f"ValueError: {'x' * 5000}"], f"ValueError: {'x' * 287}…"),
])
def test_the_reason_of_a_crash_is_its_exceptions_own_sentence(lines, told):
    assert build.reason(lines) == told


# By real stages


def test_the_table_names_every_artifact_with_its_gate_and_hash(tiny):
    table = made("coconet", "WEIGHTS=tiny")
    for component in ("denoiser", "harmonizer"):
        for variant in ("fp32", "fp16", "int8"):
            assert any(line.startswith(f"coconet-{component}") and variant in line and line.endswith("passed  matches")
                       for line in table.splitlines()), table


def test_a_missed_gate_is_told_with_all_that_was_measured(workshop):
    tree = workshop("coconet")
    path = tree / "models/coconet/recipe.toml"
    path.write_text(path.read_text().replace("at_least = 20", "at_least = 90"))
    done = run("make", "--no-print-directory", "coconet", "WEIGHTS=tiny", cwd=tree)
    assert re.search(r"denoiser-int8.onnx: snr_db of logits, chorales: [\d.]+, must be at least 90", done.stderr)
    assert "in legacy" not in done.stdout and "in torch" in done.stdout
    assert "all that was measured is in build/tiny/coconet/missed.md" in done.stderr
    told = (tree / "build/tiny/coconet/missed.md").read_text()
    assert "gate MISSED: snr_db" in told
    assert ("its rounding changes more than the recipe allows; coconet-denoiser-fp32.onnx, coconet-denoiser-fp16.onnx "
            "in build/tiny/coconet/compose passed every gate: use one of them instead") in told
    assert (tree / "build/tiny/coconet/compose/coconet-denoiser-fp16.onnx").is_file()
    manifest = "build/tiny/coconet/fetch/manifest.json"
    assert manifest in told and (tree / manifest).is_file()


def test_a_real_stage_that_is_killed_or_interrupted_leaves_nothing(workshop):
    tree = workshop("coconet")
    for how in (signal.SIGKILL, signal.SIGINT):
        shutil.rmtree(tree / "build/tiny/coconet/quantize", ignore_errors=True)
        with slow(tree, "quantize", "MODELS=coconet", "WEIGHTS=tiny") as process:
            until(process, "calibrated 2 of")
            os.killpg(process.pid, how)
            assert "Traceback" not in process.stderr.read()
        assert not (tree / "build/tiny/coconet/quantize").exists()
    assert stages_run(made("coconet", "WEIGHTS=tiny", cwd=tree)) == ["quantize"]
    assert not list((tree / "build/tiny/coconet").glob(".*.partial"))


@pytest.mark.parametrize("kilobytes", [300, 700])
def test_a_disk_that_real_stages_fill_up_is_said_to_be_full(tmp_path, kilobytes):
    full_disk(copy_tree(tmp_path / "tree"), kilobytes, "coconet")


def test_a_bench_leaves_a_build_that_verifies(workshop):
    tree = workshop("groovae")
    table = made("bench", "WEIGHTS=tiny", "MODELS=groovae", cwd=tree)
    for contestant in ("original", "naive export", "fp32", "fp16", "int8"):
        assert f"| encoder | {contestant} |" in table
    assert "| groove | original |" in table and "| groove | int8 tflite |" in table
    assert (tree / "build/tiny/groovae/bench/bench.svg").read_text().startswith("<svg")
    made("verify", "WEIGHTS=tiny", "MODELS=groovae", cwd=tree)


def test_checksums_are_what_sha256sum_reads(tiny):
    assert run("sha256sum", "-c", "checksums/tiny/coconet.sha256").returncode == 0


def test_manifests_tell_everything_but_where_and_when(tiny):
    recipes = {model: recipe.read(ROOT, model) for model in recipe.models(ROOT)}
    paths = [path for model, told in recipes.items()
             for path in (ROOT / "build" / recipe.kind(told, "tiny") / model).glob("*/manifest.json")]
    assert len(paths) == sum(len(STAGES) - ("lite" not in told) - ("exporter" not in told) for told in recipes.values())
    for path in paths:
        told = json.loads(path.read_text())
        assert {"model", "stage", "weights", "key", "inputs", "outputs", "tools", "settings"} <= set(told)
        text = json.dumps(told)
        assert str(ROOT) not in text and time.strftime("%Y-%m-%d") not in text


# A user's words


@pytest.mark.parametrize(("words", "said"), [
    (["all", "WEIGHTS=nonsense"], "nonsense"),
    (["coconet", "WEIGHTS=custom"], "WEIGHTS=custom needs CHECKPOINT=path"),
    (["coconet", "CHECKPOINT=nowhere -j"], "expected a folder"),
    (["verify", "WEIGHTS=tiny", "MODELS=cocnet"], "no model 'cocnet'"),
    (["checksums", "WEIGHTS=tiny", "MODELS=cocnet"], "no model 'cocnet'"),
    (["bench", "WEIGHTS=tiny", "MODELS=cocnet"], "no model 'cocnet'"),
    (["play", "MODEL=cocnet"], "expected one of: coconet"),
    (["play", "MODEL=coconet", "WEIGHTS=tiny"], "IN: expected a MIDI file"),
    (["play", "MODEL=coconet", "WEIGHTS=tiny", "IN=-1.mid", "OUT=x.mid"], "-1.mid: expected a MIDI file"),
    (["play", "MODEL=coconet", "WEIGHTS=tiny", "IN=a.mid", "OUT=x.mid", "SEED=abc"], "seed"),
    (["play", "MODEL=coconet", "WEIGHTS=none", "IN=a.mid", "OUT=x.mid"], "weights"),
])
def test_a_mistake_is_one_line(tiny, words, said):
    assert said in refused(*words)


def test_what_a_user_types_is_never_run(tmp_path):
    tree = copy_tree(tmp_path / "tree")
    run("make", "play", "MODEL=coconet ; touch planted #", "IN=$$(touch planted)", "OUT=`touch planted`.mid", cwd=tree)
    run("make", "convert", 'MODEL=mt3" ; touch planted #', "CHECKPOINT=`touch planted`", "OUT=$$(touch planted)",
        cwd=tree)
    assert not (tree / "planted").exists()


def test_an_artifact_that_has_not_passed_its_gates_is_not_played(workshop):
    tree = workshop("coconet")
    shutil.rmtree(tree / "build/tiny/coconet/verify")
    assert "passed its gates" in refused("play", "MODEL=coconet", "WEIGHTS=tiny", "OUT=x.mid",
                                         "IN=models/coconet/samples/ode-to-joy.mid", cwd=tree)


def test_a_variant_that_saves_nothing_is_named():
    artifacts = [{"file": f"{component}-{variant}", "component": component, "variant": variant, "bytes": size}
                 for component, variant, size in (("a", "fp32", 10), ("a", "int8", 11), ("b", "fp32", 20),
                                                  ("b", "int8", 20), ("c", "int8", 5))]
    assert build.grown(artifacts) == ["a-int8"]
