"""The finished build of the weights that lie in the repository."""

from pathlib import Path

import pytest

from tests.conftest import ROOT, made


@pytest.fixture(scope="session")
def bundled() -> Path:
    """Its artifacts."""
    made("harmonizer")
    return ROOT / "build/bundled/harmonizer/compose"
