"""make images-verify: an image is what its Dockerfile says, or it is told which files are not."""

import tomllib

import pytest

from scripts import images
from tests.conftest import copy_tree, run
from tests.images.conftest import BARE, answering, planted, proven, uproot

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


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """What make images-verify records by buildah, and says by podman, of whose image another digest is on record."""
    answering("buildah")
    one = planted(tmp_path_factory.mktemp("verified") / "tree", BARE)
    path = one.tree / RECORD
    first = one.make("images-verify", BUILDER="buildah")
    assert first.returncode == 0, first.stdout + first.stderr
    entry = tomllib.loads(path.read_text())[one.toolchain]["buildah"]["local"]
    lines = [f'{name} = "{value}"\n' for name, value in {**entry, "image": f"sha256:{'0' * 64}"}.items()]
    path.write_text(path.read_text() + f"\n[{one.toolchain}.podman.local]\n" + "".join(lines))
    said = one.error("images-verify", BUILDER="podman")
    yield entry, said, tomllib.loads(path.read_text())[one.toolchain]["podman"]["local"]
    uproot(one)


def test_what_is_proven_is_recorded(verified):
    entry, _, _ = verified
    assert len(entry["key"]) == 64
    assert entry["image"].startswith("sha256:") and entry["base"].startswith("sha256:")


def test_an_image_is_held_against_the_recorded_one(verified):
    entry, said, kept = verified
    assert f"checksums/images.toml says sha256:{'0' * 64}, built was sha256:" in said
    assert kept == {**entry, "image": f"sha256:{'0' * 64}"}


def test_two_builders_of_one_store_make_the_same_image(verified):
    entry, said, _ = verified
    assert f"built was {entry['image']}" in said


def test_a_build_that_follows_the_clock_is_caught_and_its_files_named(small):
    """In contents, in a name, in a mode."""
    for step in ("date +%s%N > /opt/toolchain/made", "touch /opt/toolchain/$(date +%s%N)",
                 "now=$(date +%s) && "
                 "chmod $(printf %o $((0600 + now % 64 + now / 64 % 8 * 512))) /opt/toolchain/pyvenv.cfg"):
        small.append(step)
    done = small.make("images-verify")
    assert done.returncode == 2
    assert "are not equal, so nobody can check it" in done.stderr
    for told in ("1:opt/toolchain/made differs in contents", "is only in the",
                 "1:opt/toolchain/pyvenv.cfg differs in mode"):
        assert told in done.stderr, told
    assert small.toolchain not in (small.tree / RECORD).read_text()


def test_dockers_own_builder_is_told_to_be_unable(small):
    answering("docker")
    line = small.error("images-verify", BUILDER="docker")
    assert "writes the time of day into images" in line and "install buildah" in line


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small toolchain whose image is built, and what was said of that."""
    answering("buildah")
    one = planted(tmp_path_factory.mktemp("finished") / "tree", BARE)
    yield one, one.make("images").stdout
    uproot(one)


def test_a_second_make_images_has_nothing_to_do(finished):
    one, first = finished
    second = one.make("images").stdout
    assert "built in" in first and "up to date" in second and "STEP" not in second


def test_a_bill_of_materials_that_is_missing_is_written_beside_an_image_that_is_there(finished):
    one, _ = finished
    bill = one.tree / f"build/images/{one.toolchain}.cdx.json"
    before = bill.read_text()
    bill.unlink()
    assert "up to date" in one.make("images").stdout
    assert bill.read_text() == before


def test_a_changed_dockerfile_is_built_again(finished):
    one, _ = finished
    one.append("true")
    assert "built in" in one.make("images").stdout
