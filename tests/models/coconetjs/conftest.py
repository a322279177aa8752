"""Fixtures: this model's stand-in weights, and some to break."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, made

OWN = shutil.ignore_patterns("manifest.json", "timing.json")


@pytest.fixture(scope="session")
def stand_in() -> Path:
    """A folder with the toy network's manifest and shards."""
    made("fetch", "WEIGHTS=tiny", "MODELS=coconetjs")
    return ROOT / "build/tiny/coconetjs/fetch"


@pytest.fixture
def weights(stand_in: Path, tmp_path: Path) -> Path:
    """A copy of it, as a user has it."""
    return Path(shutil.copytree(stand_in, tmp_path / "bach", ignore=OWN))
