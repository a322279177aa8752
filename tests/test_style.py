"""The house rules that a tool can check."""

from scripts.manifest import imported
from tests.conftest import ROOT, run

FILES = [ROOT / name for name in run("git", "ls-files").stdout.splitlines()]


def test_python_is_ruff_clean():
    done = run("ruff", "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout


def test_shell_is_shellcheck_clean():
    scripts = [path for path in FILES if path.is_file() and path.read_bytes()[:30].startswith(b"#!/usr/bin/env bash")]
    assert len(scripts) >= 5
    done = run("shellcheck", *scripts)
    assert done.returncode == 0, done.stdout
    assert all("set -Eeuo pipefail" in path.read_text() for path in scripts)


def test_what_runs_on_python_3_7_compiles_there():
    modules = ["models/coconet/bench.py", "models/coconet/export.py", "models/coconet/inputs.py",
               "models/coconet/original.py", "models/coconet/seeded.py", "scripts/contestant.py", "scripts/export.py",
               "scripts/fetch.py", "scripts/freeze.py", "scripts/job.py", "scripts/seeded.py"]
    code = "import ast, sys; [ast.parse(open(name, encoding='utf-8').read(), name) for name in sys.argv[1:]]"
    done = run("scripts/in", "legacy", "python", "-c", code, *modules)
    assert done.returncode == 0, done.stderr


def test_no_stage_imports_another():
    stages = ("fetch", "export", "optimize", "quantize", "compose", "verify")
    for stage in stages:
        assert not set(imported(ROOT / f"scripts/{stage}.py")) & {f"scripts.{other}" for other in stages}, stage


def test_nothing_tracked_is_large():
    assert [path for path in FILES if path.is_file() and path.stat().st_size > 500_000] == []
