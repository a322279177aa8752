"""Toolchains: hashed locks, an environment that is the same everywhere, and plain words where something lacks."""

import hashlib
import os
import re
import shutil

import pytest

from tests.conftest import ROOT, copy_tree, run

LOCKS = sorted(ROOT.glob("images/**/*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_pin_has_a_hash_and_no_address(lock):
    text = lock.read_text()
    pins = re.findall(r"^[\w.-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) > 0
    assert "://" not in text


@pytest.mark.parametrize(("toolchain", "pins"), [
    ("legacy", {"tensorflow": "2.4.1", "magenta": "2.1.4", "tf2onnx": "1.16.1", "note-seq": "0.0.3"}),
    ("torch", {"torch": "2.13.0+cpu"}),
])
def test_the_pins_that_matter(toolchain, pins):
    text = (ROOT / "images" / toolchain / "requirements.lock").read_text()
    for name, version in pins.items():
        assert f"\n{name}=={version} \\" in "\n" + text


def test_a_command_sees_the_same_environment_whatever_the_caller_has():
    wanted = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "1577836800"}
    unwanted = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "PYTHONSTARTUP": "start.py"}
    done = run("scripts/in", "legacy", "env", PYTHONHASHSEED="5", TZ="Asia/Tokyo", LC_ALL="C", SOURCE_DATE_EPOCH="9",
               **unwanted)
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: seen[name] for name in wanted} == wanted and not unwanted.keys() & seen.keys()


def test_the_toolchains_are_what_they_say():
    code = "import sys, tensorflow as tf; print(sys.version_info[:2], tf.__version__)"
    assert run("scripts/in", "legacy", "python", "-c", code).stdout.strip() == "(3, 7) 2.4.1"


def test_an_unknown_toolchain_and_engine_are_refused():
    for toolchain, engine in (("cobol", "auto"), ("torch", "vm")):
        done = run("scripts/in", toolchain, "true", ENGINE=engine)
        assert done.returncode == 2 and "expected" in done.stderr


def test_a_cache_that_cannot_be_made_is_said_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    done = run("scripts/in", "torch", "true", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.startswith("can't write the cache") and len(done.stderr.splitlines()) == 1


def test_without_network_the_first_use_of_a_toolchain_says_what_it_needs(tmp_path):
    (tmp_path / "uv").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "uv").chmod(0o755)
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_FIND_LINKS": "",
               "PIP_RETRIES": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = run("scripts/in", "player", "true", XDG_CACHE_HOME=str(tmp_path / "cache"),
               PATH=f"{tmp_path}:{os.environ['PATH']}", **nowhere)
    assert done.returncode == 2
    assert re.search("^uv [0-9.]+, which installs the toolchains, could not be fetched", done.stderr, re.MULTILINE)
    assert [path.name for path in (tmp_path / "cache/bellfoundry").iterdir()] == []


def test_an_engine_that_cannot_start_a_container_names_another(tmp_path):
    digest = hashlib.sha256((ROOT / "images/torch/requirements.lock").read_bytes()).hexdigest()
    (tmp_path / "podman").write_text(f"#!/bin/sh\n[ $1 = image ] && exec echo {digest}\necho OCI error >&2\nexit 126\n")
    (tmp_path / "podman").chmod(0o755)
    done = run("scripts/in", "torch", PATH=f"{tmp_path}:{os.environ['PATH']}", ENGINE="podman")
    assert done.returncode == 126 and done.stderr.startswith("OCI error\npodman can't start a container")
    assert run("scripts/in", "torch", ENGINE="venv").returncode == 0, "the remedy"


def test_a_missing_interpreter_is_named_with_the_remedy(tmp_path):
    """A machine whose PATH has no Python 3.7, and no pyenv."""
    for tool in ("bash", "env", "cat"):
        os.symlink(shutil.which(tool), tmp_path / tool)
    done = run("bash", "scripts/python", "3.7", PATH=str(tmp_path), PYENV_ROOT=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 1
    assert "no Python 3.7 found" in done.stderr and "pyenv install 3.7" in done.stderr


def test_make_stops_where_its_own_interpreter_is_missing(tmp_path):
    for tool in ("bash", "env", "cat", "make", "sh", "awk", "dirname"):
        os.symlink(shutil.which(tool), tmp_path / tool)
    done = run("make", "all", PATH=str(tmp_path), PYENV_ROOT=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("no Python 3.11 found") and second.startswith("make: ***")


def test_an_interpreter_under_pyenv_is_found(tmp_path):
    versions = tmp_path / "versions/3.7.99/bin"
    versions.mkdir(parents=True)
    os.symlink(run("scripts/python", "3.7").stdout.strip(), versions / "python")
    for tool in ("bash", "env"):
        os.symlink(shutil.which(tool), tmp_path / tool)
    done = run("bash", "scripts/python", "3.7", PATH=str(tmp_path), PYENV_ROOT=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 0 and done.stdout.strip()


def test_a_broken_environment_is_not_taken_for_a_toolchain(tmp_path):
    digest = hashlib.sha256((ROOT / "images/torch/requirements.lock").read_bytes()).hexdigest()[:16]
    (tmp_path / "bellfoundry" / f"torch-{digest}").mkdir(parents=True)
    said = run("make", "doctor", XDG_CACHE_HOME=str(tmp_path)).stdout
    assert "later     torch" in said and "ok        torch" not in said


def test_a_toolchain_that_fails_to_install_leaves_nothing(tmp_path):
    """A lock whose hash is wrong: refused, said, and no half-made environment is taken for one."""
    tree = copy_tree(tmp_path / "tree")
    (tree / "images/torch/requirements.lock").write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    done = run("scripts/in", "torch", "true", cwd=tree, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 2
    assert "hash mismatch" in done.stderr.lower() and "could not be installed" in done.stderr
    assert [path.name for path in (tmp_path / "cache/bellfoundry").iterdir() if "torch" in path.name] == []


def test_doctor_finds_this_machine_fit():
    done = run("make", "doctor")
    assert done.returncode == 0, done.stdout
    assert "missing" not in done.stdout


def test_make_lock_refreshes_every_lock():
    text = (ROOT / "scripts/lock").read_text()
    assert sorted(re.findall(r"^compile \S+ (\S+)", text, re.MULTILINE)) == sorted(
        str(lock.relative_to(ROOT / "images")) for lock in LOCKS)
