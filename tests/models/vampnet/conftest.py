"""Fixtures: this model's artifacts of a finished tiny build."""

from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def cast(tiny: Path) -> Path:
    return ROOT / "build/tiny/vampnet/compose"
