"""Fixtures: finished builds, a copy of the tree to break things in, and the golden data."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import hypothesis
import pytest

from scripts import recipe

hypothesis.settings.register_profile("untimed", deadline=None)  # no test is timed
hypothesis.settings.load_profile("untimed")
ROOT = Path(__file__).resolve().parent.parent
TOLD = re.search(r"^export (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)[1].split()
OUTER = {*TOLD, "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MODELS", "TESTS", "TOOLCHAINS"} - {"ENGINE", "GOLDEN", "\\"}
SMALL = [model for model in recipe.models(ROOT) if model != "vampnet"]  # enough to be built at real size by the tests


def run(*command: str | Path, cwd: Path = ROOT, told: str | None = None,
        **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is text, its exit status not yet judged. told: its standard input.

    What an outer `make test` told its children isn't passed on; stages run in virtual environments
    unless a test says otherwise.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in OUTER}
    return subprocess.run(list(map(str, command)), cwd=cwd, env={**inherited, "ENGINE": "venv", **environment},
                          text=True, capture_output=True, check=False, input=told)


def made(*goals: str, cwd: Path = ROOT, **environment: str) -> str:
    """Run make and return what it printed; the test fails where make does."""
    done = run("make", "--no-print-directory", *goals, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def npm_installed(locked: Path, name: str) -> Path:
    """Where npm has installed a folder's package-lock.json: a folder a lock in the cache, as toolchains are."""
    if not shutil.which("npm"):
        pytest.skip(f"NO {name.upper()}: npm is not installed")
    files = [locked / file for file in ("package.json", "package-lock.json")]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bellfoundry"
    place = cache / f"{name}-{hashlib.sha256(files[1].read_bytes()).hexdigest()[:16]}"
    if not place.is_dir():
        partial = place.with_name(f"{place.name}.partial.{os.getpid()}")
        partial.mkdir(parents=True)
        try:
            for file in files:
                shutil.copy(file, partial)
            done = run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=partial)
            assert done.returncode == 0, done.stderr
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place


def built(model: str, weights: str) -> Path:
    """The folder of a model's build where such weights are asked for: of these, or of those that are bundled."""
    return ROOT / "build" / recipe.kind(recipe.read(ROOT, model), weights) / model


def copy_tree(target: Path) -> Path:
    """The files of the repository, without its builds."""
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The artifacts of a finished tiny build."""
    made("all", "WEIGHTS=tiny")
    return ROOT / "build/tiny/coconet/compose"


@pytest.fixture(scope="session")
def seeded() -> Path:
    """The artifacts of a finished build at real size, of every model but VampNet, which takes 14 GB."""
    made("all", f"MODELS={' '.join(SMALL)}")
    return ROOT / "build/seeded/coconet/compose"


@pytest.fixture
def workshop(tmp_path: Path, tiny: Path) -> Path:
    """A copy of the tree with its own finished tiny build, to break things in."""
    copy_tree(tmp_path / "tree")
    for kind in ("tiny", "bundled"):
        if (ROOT / "build" / kind).is_dir():
            shutil.copytree(ROOT / "build" / kind, tmp_path / "tree/build" / kind)
    return tmp_path / "tree"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of the original frameworks: GOLDEN=folder, or ../shared/golden beside the repository."""
    folder = Path(os.environ.get("GOLDEN") or ROOT.parent / "shared/golden")
    if not folder.is_dir():
        pytest.skip(f"NO GOLDEN DATA at {folder}: set GOLDEN to the folder that holds it")
    return folder
