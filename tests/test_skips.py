"""What is skipped is said at the end of a run, and how many tests by reason."""

import sys

from tests.conftest import run

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_of_data(number, golden):
    if number:
        golden / "nobody/has.npz"

def test_of_tools():
    pytest.skip("NO TOOL: install it")
"""


def test_reasons_are_counted(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    done = run(sys.executable, "-m", "pytest", "-n0", "--rootdir", tmp_path, "-p", "tests.conftest", tmp_path)
    told = [line for line in done.stdout.splitlines() if line.startswith("NOT CHECKED")]
    assert told == ["NOT CHECKED, 2 tests: NO GOLDEN DATA nobody: set GOLDEN to the folder that holds it",
                    "NOT CHECKED, 1 test: NO TOOL: install it"], done.stdout + done.stderr
