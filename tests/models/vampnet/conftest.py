"""Fixtures: this model's artifacts."""

from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def cast(tiny: Path) -> Path:
    """This model's artifacts of a finished tiny build."""
    return ROOT / "build/tiny/vampnet/compose"
