"""The driver: only what changed is built again, and nothing half-made is taken for finished."""

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
from tests.conftest import ROOT, made, run

STAGES = list(build.NAMES)


def stages_run(output: str) -> list[str]:
    """The stages that a build's output says were done."""
    return [line.split()[1] for line in output.splitlines() if " done in " in line]


def refused(tree: Path, *goals: str, **environment: str) -> str:
    """The one error line of a make that must fail, and fail without a traceback."""
    done = run("make", "--no-print-directory", *goals, cwd=tree, **environment)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    return "\n".join(errors)


def test_a_finished_build_is_left_alone(workshop):
    before = {path: path.stat().st_mtime_ns for path in (workshop / "build").rglob("*.onnx")}
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == []
    assert {path: path.stat().st_mtime_ns for path in (workshop / "build").rglob("*.onnx")} == before


def test_times_alone_rebuild_nothing(workshop):
    for path in [*(workshop / "scripts").rglob("*.py"), *(workshop / "models").rglob("*"),
                 *(workshop / "build").rglob("*.onnx")]:
        os.utime(path)
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == []


def test_the_table_names_every_artifact_with_its_gate_and_hash(tiny):
    table = made("all", "WEIGHTS=tiny")
    for component in ("denoiser", "harmonizer"):
        for variant in ("fp32", "fp16", "int8"):
            assert any(line.startswith(f"coconet-{component}") and variant in line and line.endswith("passed  matches")
                       for line in table.splitlines()), table


def test_changed_code_rebuilds_its_stage_and_what_follows(workshop):
    module = workshop / "models/coconet/compose.py"
    module.write_text(module.read_text() + "# a remark\n")
    again = ["compose", "verify"]  # of coconet, and of coconetjs, which has its module
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == again * 2


def test_code_that_no_stage_imports_rebuilds_nothing(workshop):
    module = workshop / "scripts/bench.py"
    module.write_text(module.read_text() + "# a remark\n")
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == []


def test_a_changed_gate_alone_reaches_the_verdict(workshop):
    path = workshop / "models/coconet/recipe.toml"
    path.write_text(path.read_text().replace("at_least = 30", "at_least = 90"))
    done = run("make", "--no-print-directory", "all", "WEIGHTS=tiny", cwd=workshop)
    assert "coconet-denoiser-int8.onnx: snr_db of logits, chorales: 41.7, must be at least 90" in done.stderr
    assert "in legacy" not in done.stdout and "in torch" in done.stdout
    assert "all that was measured is in build/tiny/coconet/missed.md" in done.stderr
    assert "gate MISSED: snr_db" in (workshop / "build/tiny/coconet/missed.md").read_text()


def test_a_damaged_artifact_is_named_by_verify_and_rebuilt_alone(workshop):
    artifact = workshop / "build/tiny/coconet/compose/coconet-denoiser-int8.onnx"
    whole = artifact.read_bytes()
    artifact.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    message = refused(workshop, "verify", "WEIGHTS=tiny")
    assert "coconet-denoiser-int8.onnx is not the recorded one" in message
    assert len(message.splitlines()) == 1
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == ["compose"]
    assert artifact.read_bytes() == whole


def test_damage_that_keeps_the_times_is_seen_too(workshop):
    artifact = workshop / "build/tiny/coconet/quantize/denoiser-fp16.onnx"
    stat, whole = artifact.stat(), artifact.read_bytes()
    made("all", "WEIGHTS=tiny", cwd=workshop)
    artifact.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(artifact, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == ["quantize"]


def test_a_damaged_reference_is_made_again(workshop):
    (workshop / "build/tiny/coconet/export/reference.npz").write_bytes(b"")
    assert "export" in stages_run(made("all", "WEIGHTS=tiny", cwd=workshop))


def test_a_file_that_is_not_of_the_build_is_noticed_and_cleared(workshop):
    stray = workshop / "build/tiny/coconet/compose/coconet-denoiser-int4.onnx"
    stray.touch()
    assert "int4.onnx is not among the recorded" in refused(workshop, "verify", "WEIGHTS=tiny")
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == ["compose"]
    assert not stray.exists()


def test_a_bench_leaves_a_build_that_verifies(workshop):
    table = made("bench", "WEIGHTS=tiny", "MODELS=coconet groovae", cwd=workshop)
    for contestant in ("original", "naive export", "fp32", "fp16", "int8"):
        assert f"| denoiser | {contestant} |" in table
    assert "| harmonizer | original |" in table
    assert "| groove | original |" in table and "| groove | int8 tflite |" in table
    assert (workshop / "build/tiny/coconet/bench/bench.png").read_bytes().startswith(b"\x89PNG")
    made("verify", "WEIGHTS=tiny", cwd=workshop)


def test_a_bench_asks_for_a_build(workshop):
    shutil.rmtree(workshop / "build/tiny/coconet/compose")
    assert "run make coconet WEIGHTS=tiny before make bench" in refused(workshop, "bench", "WEIGHTS=tiny")


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
def test_a_mistake_is_one_line(workshop, words, said):
    message = refused(workshop, *words)
    assert said in message and len(message.splitlines()) == 1


def test_what_a_user_types_is_never_run(workshop):
    run("make", "play", "MODEL=coconet ; touch planted #", "IN=$$(touch planted)", "OUT=`touch planted`.mid",
        cwd=workshop)
    run("make", "convert", 'MODEL=mt3" ; touch planted #', "CHECKPOINT=`touch planted`", "OUT=$$(touch planted)",
        cwd=workshop)
    assert not (workshop / "planted").exists()


def test_checksums_may_be_written_as_sha256sum_writes_them(workshop):
    path = workshop / "checksums/tiny/coconet.sha256"
    path.write_text(path.read_text().replace("  build", " *build") + "\n")
    made("verify", "WEIGHTS=tiny", cwd=workshop)
    path.write_text("gibberish\n")
    assert "checksums/tiny/coconet.sha256:1: expected a SHA-256" in refused(workshop, "verify", "WEIGHTS=tiny")


def test_an_artifact_that_has_not_passed_its_gates_is_not_played(workshop):
    shutil.rmtree(workshop / "build/tiny/coconet/verify")
    message = refused(workshop, "play", "MODEL=coconet", "WEIGHTS=tiny", "OUT=x.mid",
                      "IN=models/coconet/samples/ode-to-joy.mid")
    assert "passed its gates" in message


def test_a_model_named_twice_is_built_once(workshop):
    shutil.rmtree(workshop / "build/tiny/coconet/verify")
    assert stages_run(made("-j2", "all", "WEIGHTS=tiny", "MODELS=coconet coconet", cwd=workshop)) == ["verify"]


def test_verify_asks_for_a_build_where_there_is_none(workshop):
    shutil.rmtree(workshop / "build")
    assert "is missing: run make coconet" in refused(workshop, "verify", "WEIGHTS=tiny")


def test_checksums_are_what_sha256sum_reads(tiny):
    assert run("sha256sum", "-c", "checksums/tiny/coconet.sha256").returncode == 0


def test_bytes_that_are_not_the_recorded_ones_fail_the_build(workshop):
    path = workshop / "checksums/tiny/coconet.sha256"
    path.write_text(path.read_text().replace(path.read_text()[:8], "00000000"))
    assert "not the recorded ones" in refused(workshop, "all", "WEIGHTS=tiny")


def test_checksums_records_what_all_then_accepts(workshop):
    path = workshop / "checksums/tiny/coconet.sha256"
    recorded = path.read_text()
    path.unlink()
    made("checksums", "WEIGHTS=tiny", cwd=workshop)
    assert path.read_text() == recorded


def test_a_killed_stage_leaves_nothing_that_looks_finished(workshop):
    shutil.rmtree(workshop / "build/tiny/coconet/quantize")
    with subprocess.Popen(["make", "all", "WEIGHTS=tiny"], cwd=workshop, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL, start_new_session=True) as process:
        for line in process.stdout:
            if "calibrated 2 of" in line:
                os.killpg(process.pid, signal.SIGKILL)
    assert not (workshop / "build/tiny/coconet/quantize").exists()
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == ["quantize"]
    assert not list((workshop / "build/tiny/coconet").glob(".*.partial"))


def heed_interrupts() -> None:
    """A child of a shell's background job would ignore SIGINT, as its parents do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_build_says_so_and_goes_on_later(workshop):
    shutil.rmtree(workshop / "build/tiny/coconet/quantize")
    with subprocess.Popen(["make", "all", "WEIGHTS=tiny"], cwd=workshop, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed_interrupts) as process:
        for line in process.stdout:
            if "calibrated 2 of" in line:
                os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert "interrupted" in said and "Traceback" not in said
    assert not list((workshop / "build/tiny/coconet").glob("*quantize*/"))
    assert stages_run(made("all", "WEIGHTS=tiny", cwd=workshop)) == ["quantize"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_begins_no_other_model(workshop, how):
    for name in ("eins", "zwei"):
        shutil.copytree(workshop / "models/coconet", workshop / "models" / name)
    words = [sys.executable, "-m", "scripts.build", "--weights", "tiny", "eins", "zwei"]
    with subprocess.Popen(words, cwd=workshop, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE,
                          preexec_fn=heed_interrupts) as process:
        said = [process.stdout.readline()]
        process.send_signal(how)
        said += process.stdout.readlines()
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 130
    assert not [line for line in said if "zwei" in line or " done in " in line], said


def test_a_build_folder_that_cannot_be_made_is_said_in_a_line(workshop):
    shutil.rmtree(workshop / "build")
    (workshop / "build").touch()
    assert refused(workshop, "all", "WEIGHTS=tiny").startswith("error: ")


@pytest.mark.parametrize("kilobytes", [64, 300, 500, 700])
def test_a_full_disk_is_said_in_a_line_and_nothing_half_made_stays(workshop, kilobytes):
    """On a real small disk, which fills up in another stage each time."""
    shutil.rmtree(workshop / "build")
    (workshop / "build").mkdir()
    small = f"mount -t tmpfs -o size={kilobytes}k tmpfs build && {{ make all WEIGHTS=tiny; ls -A build/tiny/*; }}"
    done = run("unshare", "--mount", "--map-root-user", "bash", "-c", small, cwd=workshop)
    if "unshare" in done.stderr:
        pytest.skip(f"NO SMALL DISK can be mounted here: {done.stderr.strip()}")
    assert "disk is full" in done.stderr or "No space left" in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert ".partial" not in done.stdout and "matches" not in done.stdout


def test_an_unexpected_failure_names_its_log(workshop):
    module = workshop / "scripts/compose.py"
    head = "def compose(task: job.Job) -> None:"
    module.write_text(module.read_text().replace(head, head + "\n    raise RuntimeError('burst')"))
    message = refused(workshop, "all", "WEIGHTS=tiny")
    assert "RuntimeError: burst" in message and "build/tiny/coconet/compose.log" in message
    assert "RuntimeError: burst" in (workshop / "build/tiny/coconet/compose.log").read_text()


def test_two_builds_in_one_tree_take_turns(workshop):
    shutil.rmtree(workshop / "build/tiny/coconet/verify")
    builds = [subprocess.Popen(["make", "all", "WEIGHTS=tiny"], cwd=workshop, stdout=subprocess.PIPE, text=True)
              for _ in range(2)]
    outputs = [build.communicate()[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert sorted(map(stages_run, outputs)) == [[], ["verify"]]


def test_a_stage_can_be_asked_for_by_its_name(workshop):
    shutil.rmtree(workshop / "build/tiny/coconet")
    assert stages_run(made("fetch", "WEIGHTS=tiny", cwd=workshop)) == ["fetch"]


@pytest.fixture
def hymn(workshop: Path) -> Path:
    """A tree with a model whose weights lie in its folder, Coconet's tiny ones."""
    folder = workshop / "models/hymn"
    shutil.copytree(workshop / "models/coconet", folder)
    shutil.copytree(workshop / "build/tiny/coconet/fetch", folder / "source")
    text = (folder / "recipe.toml").read_text()
    for kind in ("seeded", "tiny", "released"):
        text = re.sub(rf"\[sources\.{kind}\]\n(.+\n)+", "", text)
    (folder / "recipe.toml").write_text(text + '\n[sources.bundled]\nabout = "of untrained weights"\n')
    return workshop


@pytest.mark.parametrize("weights", ["seeded", "tiny"])
def test_bundled_weights_are_built_whatever_kind_is_asked_for(hymn, weights):
    """Their checksums are of their own kind, and a changed byte of them is built anew."""
    table = made("hymn", f"WEIGHTS={weights}", cwd=hymn)
    assert "nothing is recorded of hymn yet: make checksums records what was built" in table
    assert not (hymn / f"build/{weights}/hymn").exists()
    made("checksums", f"WEIGHTS={weights}", "MODELS=hymn", cwd=hymn)
    assert "every byte of the bundled build is as recorded" in made("verify", "MODELS=hymn", cwd=hymn)
    assert stages_run(made("hymn", cwd=hymn)) == []
    index = hymn / "models/hymn/source/best_model.ckpt.index"
    index.write_bytes(index.read_bytes()[:-1])
    message = refused(hymn, "hymn")
    assert message.startswith("error: hymn export: ") and "not a readable TensorFlow checkpoint" in message


def test_weights_that_a_recipe_lacks_are_refused(workshop):
    path = workshop / "models/coconet/recipe.toml"
    path.write_text(re.sub(r"\[sources\.tiny\]\n(.+\n)+", "", path.read_text()))
    assert "coconet: expected tiny weights in its recipe, found seeded, custom, released" in refused(
        workshop, "coconet", "WEIGHTS=tiny")


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


def test_an_unknown_model_stops_before_any_stage_runs(workshop):
    message = refused(workshop, "all", "WEIGHTS=tiny", "MODELS=coconet nobody")
    assert "no model 'nobody'" in message
