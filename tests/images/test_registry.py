"""Images in a real registry on loopback: pushed, pulled by digest, and nothing else accepted."""

import json
import tomllib

import pytest

from tests.conftest import run
from tests.images.conftest import answering, leaving_no_cache

STORES = [("docker", "docker"), ("podman", "buildah")]
each_store = pytest.mark.parametrize(("engine_name", "builder"), STORES, ids=["docker", "podman"])


@pytest.fixture
def pushed(small, registry, engine_name, builder):
    """The small image, pushed to the registry and gone from the engine's store; its record."""
    answering(builder)
    told = {"BUILDER": builder, "ENGINE": engine_name}
    with leaving_no_cache():  # which would hold the layers, proven
        for verb, more in (("images", {}), ("push", {"REGISTRY": f"{registry.address}/foundry"})):
            done = small.make(verb, **told, **more)
            assert done.returncode == 0, done.stdout + done.stderr
        run(engine_name, "image", "rm", "--force", small.tag)
    return tomllib.loads((small.tree / "checksums/images.toml").read_text())[small.toolchain]["pushed"]


@each_store
def test_a_pushed_image_is_pulled_by_its_digest_and_runs(small, pushed, engine_name):
    done = small.make("pull", ENGINE=engine_name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"pulled {pushed['repository']}@{pushed['manifest']}\n")
    ran = run("scripts/in", small.toolchain, "python", "-c", "import mpmath; print(mpmath.mpf(2))", cwd=small.tree,
              ENGINE=engine_name)
    assert ran.stdout == "2.0\n", ran.stderr


@each_store
def test_a_tampered_layer_is_refused(small, pushed, registry, engine_name):
    manifest = json.loads(registry.blob(pushed["manifest"]).read_text())
    layer = registry.blob(manifest["layers"][-1]["digest"])
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)
    refused(small, engine_name)


@each_store
def test_a_tampered_manifest_is_refused(small, pushed, registry, engine_name):
    blob = registry.blob(pushed["manifest"])
    manifest = json.loads(blob.read_text())
    manifest["layers"][-1]["size"] += 1
    blob.write_text(json.dumps(manifest))
    refused(small, engine_name)


@each_store
def test_a_digest_that_the_registry_does_not_have_is_refused(small, pushed, engine_name):
    path = small.tree / "checksums/images.toml"
    path.write_text(path.read_text().replace(pushed["manifest"], "sha256:" + "1" * 64))
    refused(small, engine_name, "doesn't have this image")


@each_store
def test_an_image_that_is_not_the_recorded_one_is_refused(small, pushed, engine_name):
    path = small.tree / "checksums/images.toml"
    path.write_text(path.read_text().replace(pushed["image"], "sha256:" + "2" * 64))
    refused(small, engine_name, "don't use it")


@each_store
def test_an_image_of_another_lock_is_not_even_pulled(small, pushed, engine_name):
    lock = small.folder / "requirements.lock"
    lock.write_text(lock.read_text() + "\n")
    refused(small, engine_name, "is of the lock")


def refused(small, engine_name, words="") -> None:
    assert words in small.error("pull", ENGINE=engine_name)
    assert run(engine_name, "image", "inspect", small.tag).returncode != 0


def test_an_image_that_was_never_pushed_is_said(small):
    assert f"records no pushed image of {small.toolchain}" in small.error("pull")


def test_a_push_needs_a_place_and_an_image(small):
    assert "make push needs REGISTRY=" in small.error("push")
    assert "run make images before make push" in small.error("push", REGISTRY="127.0.0.1:1/x")


def test_a_model_is_made_in_an_image_that_was_pulled(small, registry, tmp_path):
    """From the registry into a store of podman's that has nothing else, and made there."""
    told = {"ENGINE": "podman"}
    for goals in (["images"], ["push", f"REGISTRY={registry.address}/foundry"]):
        assert small.make(*goals, **told).returncode == 0
    store = tmp_path / "storage.conf"
    store.write_text(f'[storage]\ndriver = "overlay"\nrunroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n')
    fresh = {"CONTAINERS_STORAGE_CONF": str(store)}
    try:
        assert run("podman", "images", "--quiet", **fresh).stdout == ""
        pulled = small.make("pull", **told, **fresh)
        said = small.make("toy", WEIGHTS="tiny", **told, **fresh).stdout
    finally:
        run("podman", "image", "rm", "--all", "--force", **fresh)
    assert pulled.returncode == 0, pulled.stderr
    assert f"{small.toolchain} runs in podman" in said and said.count(" done in ") == 6
