"""Engines: the same bytes from docker, podman and a bare machine, and a container that can do nothing else."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from scripts import recipe
from tests.conftest import ROOT, built, copy_tree, made, run
from tests.test_reproducible import hashes


def inside(engine: str, code: str, toolchain: str = "torch", **environment: str) -> str:
    """What Python code prints in the toolchain's container."""
    done = run("scripts/in", toolchain, "python", "-c", code, ENGINE=engine, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_tiny_bytes_are_those_of_a_bare_machine(engine, tiny, tmp_path):
    """Manifests too. Another folder, with a space in its name."""
    tree = copy_tree(tmp_path / "an other place")
    said = made("all", cwd=tree, WEIGHTS="tiny", ENGINE=engine)
    assert f"legacy runs in {engine}\ntorch runs in {engine}\n" in said
    for model in recipe.models(ROOT):
        here = built(model, "tiny")
        assert hashes(tree / here.relative_to(ROOT)) == hashes(here)


def test_real_size_bytes_are_those_of_a_bare_machine(engine, seeded, tmp_path):
    tree = copy_tree(tmp_path / "tree")
    made("all", "MODELS=coconet", cwd=tree, ENGINE=engine)
    assert hashes(tree / "build/seeded/coconet") == hashes(ROOT / "build/seeded/coconet")


def test_weights_outside_the_tree_are_read_where_they_lie(engine, tiny, tmp_path):
    weights = tmp_path / "my weights"
    shutil.copytree(ROOT / "build/tiny/coconet/fetch", weights)
    for name in ("manifest.json", "timing.json"):
        (weights / name).unlink()
    tree = copy_tree(tmp_path / "tree")
    made("fetch", "MODELS=coconet", cwd=tree, CHECKPOINT=str(weights), ENGINE=engine)
    assert (tree / "build/custom/coconet/fetch/manifest.json").is_file()


def test_weights_inside_the_tree_are_read_where_they_lie(engine, tiny, tmp_path):
    """A container sees the tree at another place."""
    tree = copy_tree(tmp_path / "tree")
    shutil.copytree(ROOT / "build/tiny/coconet/fetch", tree / "weights")
    made("fetch", "MODELS=coconet", cwd=tree, CHECKPOINT="weights", ENGINE=engine)
    assert (tree / "build/custom/coconet/fetch/manifest.json").is_file()


def test_there_is_no_network(engine):
    code = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert inside(engine, code) == "['lo']"


def test_nothing_can_be_written_but_the_tree_and_tmp(engine):
    code = ("import os; print([place for place in ('/', '/opt/toolchain', '/usr', '/home', '/var/tmp', '/tmp', '/src')"
            " if os.access(place, os.W_OK)])")
    assert inside(engine, code) == "['/tmp', '/src']"


def test_it_has_no_powers_and_gains_none(engine):
    code = ("lines = open('/proc/self/status').read().splitlines()\n"
            "status = dict(line.split(':\\t') for line in lines if ':\\t' in line)\n"
            "print({int(status[name], 16) for name in ('CapPrm', 'CapEff', 'CapBnd', 'CapInh')}, status['NoNewPrivs'])")
    assert inside(engine, code) == "{0} 1"


def test_only_the_tree_is_seen_of_this_machine(engine, tmp_path):
    (tmp_path / "secret").touch()
    seen = inside(engine, f"import os; print(os.path.exists({str(tmp_path / 'secret')!r}), sorted(os.listdir('/src')))")
    assert seen.startswith("False") and "'Makefile'" in seen


def test_files_belong_to_the_caller():
    """An ordinary user, who may use docker; podman's images are each user's own."""
    if not os.path.exists("/var/run/docker.sock") or os.geteuid() != 0:
        pytest.skip("NO DOCKER to be used by an ordinary user here")
    made("images", BASES="local", BUILDER="docker", ENGINE="docker", TOOLCHAINS="torch")
    group = os.stat("/var/run/docker.sock").st_gid
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder) / "tree")
        for path in (Path(folder), tree, *tree.rglob("*")):
            os.chown(path, 1234, group)
        done = run("setpriv", "--reuid=1234", f"--regid={group}", "--clear-groups",
                   "scripts/in", "torch", "python", "-c",
                   "import os; open('made', 'w'); print(os.getuid(), os.getgid())", cwd=tree, ENGINE="docker")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["1234", str(group)]
        assert ((tree / "made").stat().st_uid, (tree / "made").stat().st_gid) == (1234, group)


def test_a_command_sees_the_same_environment_in_every_engine(engine):
    code = "import os; print(sorted((n, os.environ[n]) for n in {}))"
    names = ["PYTHONHASHSEED", "TZ", "LC_ALL", "SOURCE_DATE_EPOCH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"]
    assert inside(engine, code.format(names), TZ="Asia/Tokyo") == inside("venv", code.format(names))


def test_input_and_exit_status_go_through(engine):
    done = subprocess.run([ROOT / "scripts/in", "torch", "sh", "-c", "cat; exit 7"], input="told", text=True,
                          capture_output=True, env={**os.environ, "ENGINE": engine}, check=False)
    assert (done.stdout, done.returncode) == ("told", 7)


def test_a_signal_ends_the_container(engine):
    code = "print(1, flush=True); import time; time.sleep(99)"
    with subprocess.Popen([ROOT / "scripts/in", "torch", "python", "-c", code],
                          env={**os.environ, "ENGINE": engine}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait() != 0
    assert time.monotonic() - started < 30
    names = run(engine, "ps", "--format", "{{.Names}}").stdout.split()
    assert f"bellfoundry-torch-{process.pid}" not in names


def test_an_image_of_another_lock_is_refused_and_told_apart(engine, tmp_path):
    tree = copy_tree(tmp_path / "tree")
    lock = tree / "images/torch/requirements.lock"
    lock.write_text(lock.read_text() + "\n")
    refused = run("scripts/in", "torch", "true", cwd=tree, ENGINE=engine)
    assert refused.returncode == 2
    assert "was made from the lock" in refused.stderr and "run make images" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    said = run("scripts/in", "torch", cwd=tree, ENGINE="auto").stdout
    assert said.startswith("torch runs in venv (docker") and "was made from the lock" in said


def test_auto_takes_the_first_engine_that_has_the_image(engine):
    if engine == "docker":
        assert run("scripts/in", "torch", ENGINE="auto").stdout == "torch runs in docker\n"
    else:
        said = run("scripts/in", "torch", ENGINE="auto", DOCKER_HOST="unix:///nowhere").stdout
        assert said == "torch runs in podman (docker's daemon doesn't answer: start it)\n"


def test_a_toolchain_without_an_image_runs_in_a_virtual_environment(engine):
    assert run("scripts/in", "player", ENGINE=engine).stdout == "player runs in venv (it has no image)\n"
