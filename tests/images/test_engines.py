"""Engines: the same bytes from docker, podman and a bare machine, and a container that can do nothing else."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from scripts import engines, recipe
from scripts.places import hashes
from tests.conftest import FULL, ROOT, built, copy_tree, made, run
from tests.images.conftest import BUILDERS, holding

NAMES = ["PYTHONHASHSEED", "TZ", "LC_ALL", "SOURCE_DATE_EPOCH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"]


@pytest.mark.parametrize("engine", BUILDERS)
def test_every_models_bytes_are_those_of_a_bare_machine(engine, tiny, tmp_path):
    """At toy size, manifests too, and Coconet's at its real one; in another folder, with a space in its name. It is
    done again only where checksums/engines.toml was written for other inputs.
    """
    if not FULL and engines.recorded().get(engine) == engines.key():
        return
    tree = copy_tree(tmp_path / "an other place")
    said = made("all", cwd=tree, WEIGHTS="tiny", ENGINE=holding(engine))
    assert f"legacy runs in {engine}\ntorch runs in {engine}\n" in said
    for model in recipe.models(ROOT):
        here = built(model, "tiny")
        assert hashes(tree / here.relative_to(ROOT)) == hashes(here)
    assert "differs" not in made("coconet", cwd=tree, ENGINE=engine)


def test_the_proof_of_an_engine_is_of_all_that_decides_its_bytes(monkeypatch, tmp_path):
    tree = copy_tree(tmp_path)
    for module in (engines, engines.images, engines.checksums):
        monkeypatch.setattr(module, "ROOT", tree)
    before = engines.key()
    for name in ("scripts/in", "images/install", "images/jax/Dockerfile", "images/legacy/requirements.lock",
                 "images/torch/python-version", "scripts/builders.py", "checksums/tiny/mt3.sha256",
                 "checksums/seeded/coconet.sha256", "checksums/bundled/harmonizer.sha256"):
        whole = (tree / name).read_bytes()
        (tree / name).write_bytes(whole + b"\n")
        assert engines.key() != before, name
        (tree / name).write_bytes(whole)
    assert engines.key() == before


def test_an_engine_that_builds_other_bytes_is_not_put_on_record(tmp_path):
    tree = copy_tree(tmp_path)
    (tree / "Makefile").write_text("all coconet:\n\t@echo bytes differ >&2; exit 1\n")
    run("git", "init", "--quiet", cwd=tree)
    before = (tree / "checksums/engines.toml").read_bytes()
    done = run("python3", "-m", "scripts.engines", cwd=tree, ENGINE="podman")
    assert done.returncode == 2 and "podman: expected a build with the recorded bytes" in done.stderr
    assert (tree / "checksums/engines.toml").read_bytes() == before


def test_a_toys_bytes_are_those_of_a_bare_machine(box):
    """Every stage, in the engine's containers."""
    tree = box.small.tree
    said = run("make", "toy", "WEIGHTS=tiny", cwd=tree, ENGINE=box.engine).stdout
    assert f"{box.small.toolchain} runs in {box.engine}\n" in said
    contained = hashes(tree / "build/tiny/toy")
    shutil.rmtree(tree / "build/tiny")
    run("make", "toy", "WEIGHTS=tiny", cwd=tree, ENGINE="venv")
    assert len(contained) > 10 and hashes(tree / "build/tiny/toy") == contained


def test_weights_outside_the_tree_are_read_where_they_lie(box, tmp_path):
    (tmp_path / "my weights").mkdir()
    (tmp_path / "my weights/weights.txt").write_text("weights of mine\n")
    made("fetch", "MODELS=toy", cwd=box.small.tree, CHECKPOINT=str(tmp_path / "my weights"), ENGINE=box.engine)
    assert (box.small.tree / "build/custom/toy/fetch/weights.txt").read_text() == "weights of mine\n"


def test_weights_inside_the_tree_are_read_where_they_lie(box):
    """A container sees the tree at another place."""
    (box.small.tree / "own").mkdir()
    (box.small.tree / "own/weights.txt").write_text("weights of ours\n")
    made("fetch", "MODELS=toy", cwd=box.small.tree, CHECKPOINT="own", ENGINE=box.engine)
    assert (box.small.tree / "build/custom/toy/fetch/weights.txt").read_text() == "weights of ours\n"


def test_there_is_no_network(box):
    assert box.says("import socket; print([name for _, name in socket.if_nameindex()])") == "['lo']"


def test_nothing_can_be_written_but_the_tree_and_tmp(box):
    code = ("import os; print([place for place in ('/', '/opt/toolchain', '/usr', '/home', '/var/tmp', '/tmp', '/src')"
            " if os.access(place, os.W_OK)])")
    assert box.says(code) == "['/tmp', '/src']"


def test_it_has_no_powers_and_gains_none(box):
    code = ("lines = open('/proc/self/status').read().splitlines()\n"
            "status = dict(line.split(':\\t') for line in lines if ':\\t' in line)\n"
            "print({int(status[name], 16) for name in ('CapPrm', 'CapEff', 'CapBnd', 'CapInh')}, status['NoNewPrivs'])")
    assert box.says(code) == "{0} 1"


def test_only_the_tree_is_seen_of_this_machine(box, tmp_path):
    (tmp_path / "secret").touch()
    seen = box.says(f"import os; print(os.path.exists({str(tmp_path / 'secret')!r}), sorted(os.listdir('/src')))")
    assert seen.startswith("False") and "'Makefile'" in seen


@pytest.mark.parametrize("box", ["docker"], indirect=True)
def test_files_belong_to_the_caller(box):
    """An ordinary user, who may use docker; podman's images are each user's own."""
    if os.geteuid() != 0:
        pytest.skip("NO ROOT to become an ordinary user")
    group = os.stat("/var/run/docker.sock").st_gid
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(box.small.tree, Path(folder) / "tree"))
        for path in (Path(folder), tree, *tree.rglob("*")):
            os.chown(path, 1234, group)
        done = run("setpriv", "--reuid=1234", f"--regid={group}", "--clear-groups",
                   "scripts/in", box.small.toolchain, "python", "-c",
                   "import os; open('made', 'w'); print(os.getuid(), os.getgid())", cwd=tree, ENGINE="docker")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["1234", str(group)]
        assert ((tree / "made").stat().st_uid, (tree / "made").stat().st_gid) == (1234, group)


def test_a_command_sees_the_same_environment_in_every_engine(box):
    code = f"import os; print(sorted((n, os.environ[n]) for n in {NAMES}))"
    assert box.says(code, TZ="Asia/Tokyo") == box.says(code, ENGINE="venv")


def test_input_and_exit_status_go_through(box):
    done = run("scripts/in", box.small.toolchain, "sh", "-c", "cat; exit 7", cwd=box.small.tree, told="told",
               ENGINE=box.engine)
    assert (done.stdout, done.returncode) == ("told", 7)


def test_a_signal_ends_the_container(box):
    code = "print(1, flush=True); import time; time.sleep(99)"
    with subprocess.Popen(["scripts/in", box.small.toolchain, "python", "-c", code], cwd=box.small.tree,
                          env={**os.environ, "ENGINE": box.engine}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait() != 0
    assert time.monotonic() - started < 30
    names = run(box.engine, "ps", "--format", "{{.Names}}").stdout.split()
    assert f"bellfoundry-{box.small.toolchain}-{process.pid}" not in names


def test_an_image_of_another_lock_is_refused_and_told_apart(box, tmp_path):
    tree = Path(shutil.copytree(box.small.tree, tmp_path / "tree"))
    lock = tree / "images" / box.small.toolchain / "requirements.lock"
    lock.write_text(lock.read_text() + "\n")
    refused = run("scripts/in", box.small.toolchain, "true", cwd=tree, ENGINE=box.engine)
    assert refused.returncode == 2
    assert "was made from the lock" in refused.stderr and "run make images" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    said = run("scripts/in", box.small.toolchain, cwd=tree, ENGINE="auto").stdout
    assert said.startswith(f"{box.small.toolchain} runs in venv (docker") and "was made from the lock" in said


def test_auto_takes_the_first_engine_that_has_the_image(box):
    name = box.small.toolchain
    if box.engine == "docker":
        assert run("scripts/in", name, cwd=box.small.tree, ENGINE="auto").stdout == f"{name} runs in docker\n"
    else:
        said = run("scripts/in", name, cwd=box.small.tree, ENGINE="auto", DOCKER_HOST="unix:///nowhere").stdout
        assert said == f"{name} runs in podman (docker's daemon doesn't answer: start it)\n"


@pytest.mark.parametrize("engine", BUILDERS)
def test_a_toolchain_without_an_image_runs_in_a_virtual_environment(engine):
    assert run("scripts/in", "player", ENGINE=engine).stdout == "player runs in venv (it has no image)\n"
