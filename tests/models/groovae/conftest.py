"""Fixtures: this model's artifacts, and a checkpoint of the user's own to break."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, run

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def cast(tiny: Path) -> Path:
    """This model's artifacts of a finished tiny build."""
    return ROOT / "build/tiny/groovae/compose"


@pytest.fixture(scope="session")
def full_cast(seeded: Path) -> Path:
    """The same at real size."""
    return ROOT / "build/seeded/groovae/compose"


@pytest.fixture
def tree(workshop: Callable[..., Path]) -> Path:
    return workshop("groovae")


@pytest.fixture
def checkpoint(cast: Path, tmp_path: Path) -> Path:
    """A checkpoint folder of the user's own, in the layout of the released one."""
    folder = tmp_path / "my checkpoint"
    shutil.copytree(cast.parent / "fetch", folder, ignore=shutil.ignore_patterns("*.json"))
    return folder


def legacy(*words: str | Path) -> str:
    """What a script of this folder prints, run in the legacy toolchain; the test fails where it does."""
    script, *arguments = words
    done = run("scripts/in", "legacy", "python", HERE / script, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
