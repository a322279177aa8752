"""make images-verify: an image is what its Dockerfile says, or it is told which files are not."""

import tomllib

import pytest

from scripts import images
from tests.conftest import copy_tree, run
from tests.images.conftest import answering, proven

RECORD = "checksums/images.toml"


@pytest.mark.parametrize("builder", ["buildah", "podman"])
@pytest.mark.parametrize("toolchain", images.toolchains())
def test_two_builds_from_nothing_are_equal(builder, toolchain, tmp_path):
    """Each image at its real size; again only where checksums/images.toml was written for other inputs."""
    if proven(toolchain, builder):
        return
    answering(builder)
    tree = copy_tree(tmp_path / "tree")
    done = run("make", "images-verify", cwd=tree, BASES="local", BUILDER=builder, ENGINE="auto", TOOLCHAINS=toolchain)
    assert done.returncode == 0, done.stdout + done.stderr
    proof = tomllib.loads((tree / RECORD).read_text())[toolchain][builder]["local"]
    assert proof["key"] == images.key(toolchain)
    assert f"localhost/bellfoundry-{toolchain}: two builds from nothing are equal: {proof['image']}" in done.stdout


def test_a_proof_of_other_inputs_proves_nothing(monkeypatch):
    record = images.recorded()
    record["torch"]["buildah"]["local"]["key"] = "0" * 64
    monkeypatch.setattr(images, "recorded", lambda: record)
    assert not proven("torch", "buildah")


def test_the_proof_of_an_image_is_of_all_that_decides_its_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(images, "ROOT", copy_tree(tmp_path))
    before = images.key("torch")
    for name in ("images/install", "images/uv.lock", "images/torch/Dockerfile", "images/torch/requirements.lock",
                 "images/torch/python-version", "scripts/bases.py", "scripts/builders.py"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole + b"\n")
        assert images.key("torch") != before, name
        (tmp_path / name).write_bytes(whole)
    assert images.key("torch") == before


def test_what_is_proven_is_recorded_and_held_against_the_next_build(small):
    assert small.make("images-verify").returncode == 0
    path = small.tree / RECORD
    entry = tomllib.loads(path.read_text())[small.toolchain]["buildah"]["local"]
    assert len(entry["key"]) == 64
    assert entry["image"].startswith("sha256:") and entry["base"].startswith("sha256:")
    path.write_text(path.read_text().replace(entry["image"], "sha256:" + "0" * 64))
    line = small.error("images-verify")
    assert f"checksums/images.toml says sha256:{'0' * 64}, built was {entry['image']}" in line
    assert "0" * 64 in path.read_text()


@pytest.mark.parametrize(("step", "told"), [
    ("date +%s%N > /opt/toolchain/made", "1:opt/toolchain/made differs in contents"),
    ("touch /opt/toolchain/$(date +%s%N)", "is only in the"),
    ("now=$(date +%s) && chmod $(printf %o $((0600 + now % 64 + now / 64 % 8 * 512))) /opt/toolchain/pyvenv.cfg",
     "1:opt/toolchain/pyvenv.cfg differs in mode"),
], ids=["contents", "names", "modes"])
def test_a_build_that_follows_the_clock_is_caught_and_its_file_named(small, step, told):
    small.append(step)
    done = small.make("images-verify")
    assert done.returncode == 2
    assert "are not equal, so nobody can check it" in done.stderr
    assert told in done.stderr
    assert small.toolchain not in (small.tree / RECORD).read_text()


def test_dockers_own_builder_is_told_to_be_unable(small):
    answering("docker")
    line = small.error("images-verify", BUILDER="docker")
    assert "writes the time of day into images" in line and "install buildah" in line


def test_two_builders_of_one_store_make_the_same_image(small):
    digests = set()
    for builder in ("buildah", "podman"):
        assert small.make("images-verify", BUILDER=builder).returncode == 0
        digests.add(tomllib.loads((small.tree / RECORD).read_text())[small.toolchain][builder]["local"]["image"])
    assert len(digests) == 1


def test_a_second_make_images_has_nothing_to_do(small):
    first, second = small.make("images"), small.make("images")
    assert "built in" in first.stdout and "up to date" in second.stdout and "STEP" not in second.stdout


def test_a_bill_of_materials_that_is_missing_is_written_beside_an_image_that_is_there(small):
    small.make("images")
    bill = small.tree / f"build/images/{small.toolchain}.cdx.json"
    before = bill.read_text()
    bill.unlink()
    assert "up to date" in small.make("images").stdout
    assert bill.read_text() == before


def test_a_changed_dockerfile_is_built_again(small):
    small.make("images")
    small.append("true")
    assert "built in" in small.make("images").stdout
