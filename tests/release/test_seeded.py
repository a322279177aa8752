"""A dry run of a release of the real sizes: packaged, every gate that can be asked, every asset run."""

import shutil

import pytest

from tests.conftest import ROOT, SMALL, made, run

TAG = "v0.0.0"


@pytest.fixture(scope="module")
def packed(seeded):
    """dist/<tag>/ of the seeded builds, here, where they are."""
    made("package", f"MODELS={' '.join(SMALL)}", f"TAG={TAG}")
    yield ROOT / "dist" / TAG
    shutil.rmtree(ROOT / "dist" / TAG)


def test_a_dry_run_says_what_a_release_would_send_and_why_it_would_refuse(packed):
    said = made("publish", f"TAG={TAG}", "DRY_RUN=1")
    assert "a release would refuse: v0.0.0: expected released weights, found seeded ones" in said
    assert "coconet-harmonizer-int8.onnx" in said and "nothing was sent" in said


def test_a_release_of_stand_ins_is_refused(packed):
    done = run("make", "publish", f"TAG={TAG}", GITHUB_TOKEN="secret", GITHUB_REPOSITORY="somebody/something",
               GITHUB_API_URL="http://127.0.0.1:1")
    assert done.returncode == 2 and "expected released weights, found seeded ones" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_every_asset_of_the_real_size_answers_as_the_original_did(packed):
    done = run("scripts/in", "player", "python", packed / "try_it.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("so does what it returns") == len(list(packed.glob("*.onnx")))
