"""The house rules that a tool can check."""

import json
import re
import tomllib

from scripts.images import toolchains
from scripts.manifest import imported
from tests.conftest import ROOT, run

FILES = [ROOT / name for name in run("git", "ls-files").stdout.splitlines()]


def test_python_is_ruff_clean():
    done = run("scripts/in", "checks", "ruff", "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout


def test_shell_is_shellcheck_clean():
    scripts = [path for path in FILES if path.is_file() and path.read_bytes()[:30].startswith(b"#!/usr/bin/env bash")]
    assert len(scripts) >= 5
    done = run("scripts/in", "checks", "shellcheck", *scripts)
    assert done.returncode == 0, done.stdout
    assert all("set -Eeuo pipefail" in path.read_text() for path in scripts)
    assert run("scripts/in", "checks", "shellcheck", "images/install").returncode == 0


def test_dockerfiles_are_hadolint_clean():
    done = run("scripts/in", "checks", "hadolint", *(ROOT / "images" / name / "Dockerfile" for name in toolchains()))
    assert done.returncode == 0, done.stdout


def test_bake_builds_every_image():
    lists = re.findall(r'(?:targets|toolchain) = (\["[^]]+\])', (ROOT / "images/bake.hcl").read_text())
    assert lists and all(json.loads(one) == toolchains() for one in lists)


def test_what_runs_on_python_3_7_compiles_there():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["per-file-target-version"]
    parts = [re.fullmatch(r"(.*?)\{(.*)\}(.*)", pattern) for pattern in told]
    modules = [f"{part[1]}{name}{part[3]}" for part in filter(None, parts) for name in part[2].split(",")]
    assert len(modules) > 30 and all((ROOT / name).is_file() for name in modules)
    code = "import ast, sys; [ast.parse(open(name, encoding='utf-8').read(), name) for name in sys.argv[1:]]"
    done = run("scripts/in", "legacy", "python", "-c", code, *modules)
    assert done.returncode == 0, done.stderr


def test_no_stage_imports_another():
    stages = ("fetch", "ask", "export", "optimize", "quantize", "lite", "compose", "verify")
    for stage in stages:
        assert not set(imported(ROOT / f"scripts/{stage}.py")) & {f"scripts.{other}" for other in stages}, stage


def test_nothing_tracked_is_large():
    """But for the weights that a recipe is bundled with, and golden data."""
    larger = dict.fromkeys(ROOT.glob("models/*/source/*"), 3_000_000)
    larger |= dict.fromkeys(ROOT.glob("tests/golden/*/*"), 4_000_000)
    assert [path for path in FILES if path.is_file() and path.stat().st_size > larger.get(path, 500_000)] == []
