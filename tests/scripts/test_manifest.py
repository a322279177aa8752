"""Keys follow the code that a stage runs, and hashes follow the bytes."""

import ast
import json
import os

import pytest

from scripts import manifest
from tests.conftest import ROOT, run

MODULES = [ROOT / name for name in run("git", "ls-files", "scripts/*.py", "models/*.py").stdout.splitlines()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_those_that_python_sees(path):
    seen = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            seen |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            seen |= {alias.name for alias in node.names}
    here = {name for name in seen if name.split(".")[0] in ("scripts", "models")}
    assert set(manifest.imported(path)) == here


def test_code_follows_imports_and_data_but_not_further():
    found = set(manifest.code(ROOT, ["scripts.export", "models.coconet.export"]))
    assert {"scripts/export.py", "scripts/job.py", "scripts/freeze.py", "scripts/seeded.py", "models/coconet/inputs.py",
            "models/coconet/chorales.json", "models/coconet/original.py", "models/coconet/seeded.py"} <= found
    assert not found & {"scripts/build.py", "scripts/quantize.py", "models/coconet/compose.py"}


def test_a_hash_is_remembered_until_the_file_is_touched(tmp_path):
    (tmp_path / "file").write_text("one")
    hashes = manifest.Hashes(tmp_path / "store")
    first = hashes(tmp_path / "file")
    hashes.save()
    again = manifest.Hashes(tmp_path / "store")
    assert again(tmp_path / "file") == first and not again.changed
    stat = (tmp_path / "file").stat()
    (tmp_path / "file").write_text("two")
    os.utime(tmp_path / "file", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert again(tmp_path / "file") == manifest.sha256(tmp_path / "file") != first


def test_a_damaged_store_of_hashes_is_begun_anew(tmp_path):
    (tmp_path / "store").write_text("{")
    (tmp_path / "file").write_text("one")
    assert manifest.Hashes(tmp_path / "store")(tmp_path / "file") == manifest.sha256(tmp_path / "file")


def test_a_stages_files_in_folders_are_described_and_guarded(tmp_path):
    (tmp_path / "target.w").mkdir()
    for name in ("target.w/.zarray", "target.w/0.0", "target.w/manifest.json", "checkpoint", "timing.json"):
        (tmp_path / name).write_text(name)
    outputs, evidence = manifest.describe(tmp_path, manifest.sha256)
    names = [file["file"] for file in outputs]
    assert names == ["checkpoint", "target.w/.zarray", "target.w/0.0", "target.w/manifest.json"] and not evidence
    (tmp_path / "manifest.json").write_text(json.dumps({"outputs": outputs}))
    (tmp_path / "timing.json").write_text(json.dumps({"evidence": evidence}))
    assert manifest.damage(tmp_path, manifest.sha256) is None
    (tmp_path / "target.w/0.1").write_text("stray")
    assert "target.w/0.1 doesn't belong" in manifest.damage(tmp_path, manifest.sha256)
    (tmp_path / "target.w/0.1").unlink()
    (tmp_path / "target.w/.zarray").write_text("changed")
    assert "target.w/.zarray is damaged" in manifest.damage(tmp_path, manifest.sha256)
