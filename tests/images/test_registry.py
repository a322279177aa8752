"""Images in a real registry on loopback: pushed, pulled by digest, and nothing else accepted."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import run
from tests.images.conftest import BARE, BUILDERS, Registry, Small, answering, leaving_no_cache, planted, serving, uproot


class Pushed(NamedTuple):
    """An image in a registry, gone from the engine's store."""
    engine: str
    small: Small
    registry: Registry
    record: dict[str, str]  # what checksums/images.toml says of it

    def refused(self, words: str = "") -> None:
        """Pulling ends with one line, and leaves no image."""
        assert words in self.small.error("pull", ENGINE=self.engine)
        assert run(self.engine, "image", "inspect", self.small.tag).returncode != 0


@pytest.fixture(scope="module", params=BUILDERS)
def kept(request, tmp_path_factory):
    """Of each engine, a small tree whose image was pushed and is gone from its store, and the registry that has it."""
    answering(BUILDERS[request.param])
    folder, told = tmp_path_factory.mktemp("pushed"), {"BUILDER": BUILDERS[request.param], "ENGINE": request.param}
    one = planted(folder / "tree", BARE)
    with serving(folder) as served, leaving_no_cache():  # which would hold the layers, proven
        for verb, more in (("images", {}), ("push", {"REGISTRY": f"{served.address}/foundry"})):
            done = one.make(verb, **told, **more)
            assert done.returncode == 0, done.stdout + done.stderr
        run(request.param, "image", "rm", "--force", one.tag)
    yield request.param, one, served
    uproot(one)


@pytest.fixture
def pushed(kept, registry, tmp_path):
    """A copy of it to break things in: the engine, the tree, the registry, which has another port, and the record."""
    engine, one, served = kept
    shutil.copytree(served.folder, registry.folder, dirs_exist_ok=True)
    small = one._replace(tree=Path(shutil.copytree(one.tree, tmp_path / "pushed")))
    record = small.tree / "checksums/images.toml"
    record.write_text(record.read_text().replace(served.address, registry.address))
    told = tomllib.loads(record.read_text())[small.toolchain]["pushed"]
    yield Pushed(engine, small, registry, told)
    run(engine, "image", "rm", "--force", told["image"])  # under every name, by which its layers would stay


def test_a_pushed_image_is_pulled_by_its_digest_and_runs(pushed):
    done = pushed.small.make("pull", ENGINE=pushed.engine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"pulled {pushed.record['repository']}@{pushed.record['manifest']}\n")
    ran = run("scripts/in", pushed.small.toolchain, "python", "-c", "print(open('/opt/toolchain/name').read())",
              cwd=pushed.small.tree, ENGINE=pushed.engine)
    assert ran.stdout.split() == [pushed.small.toolchain], ran.stderr


def test_a_tampered_layer_is_refused(pushed):
    manifest = json.loads(pushed.registry.blob(pushed.record["manifest"]).read_text())
    layer = pushed.registry.blob(manifest["layers"][-1]["digest"])
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)
    pushed.refused()


def test_a_tampered_manifest_is_refused(pushed):
    blob = pushed.registry.blob(pushed.record["manifest"])
    manifest = json.loads(blob.read_text())
    manifest["layers"][-1]["size"] += 1
    blob.write_text(json.dumps(manifest))
    pushed.refused()


@pytest.mark.parametrize(("entry", "said"), [("manifest", "doesn't have this image"), ("image", "don't use it")])
def test_an_image_of_another_digest_than_the_recorded_is_refused(pushed, entry, said):
    path = pushed.small.tree / "checksums/images.toml"
    path.write_text(path.read_text().replace(pushed.record[entry], "sha256:" + "1" * 64))
    pushed.refused(said)


def test_an_image_of_another_lock_is_not_even_pulled(pushed):
    lock = pushed.small.folder / "requirements.lock"
    lock.write_text(lock.read_text() + "\n")
    pushed.refused("is of the lock")


def test_an_image_that_was_never_pushed_is_said(small):
    assert f"records no pushed image of {small.toolchain}" in small.error("pull")


def test_a_push_needs_a_place_and_an_image(small):
    assert "make push needs REGISTRY=" in small.error("push")
    assert "run make images before make push" in small.error("push", REGISTRY="127.0.0.1:1/x")


@pytest.mark.parametrize("kept", ["podman"], indirect=True)
def test_a_stage_runs_in_an_image_that_was_pulled(pushed, tmp_path):
    """Into a store of podman's that has nothing else."""
    store = tmp_path / "storage.conf"
    store.write_text(f'[storage]\ndriver = "overlay"\nrunroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n')
    fresh = {"ENGINE": "podman", "CONTAINERS_STORAGE_CONF": str(store)}
    try:
        assert run("podman", "images", "--quiet", **fresh).stdout == ""
        pulled = pushed.small.make("pull", **fresh)
        said = pushed.small.make("fetch", MODELS="toy", WEIGHTS="tiny", **fresh).stdout
    finally:
        run("podman", "image", "rm", "--all", "--force", **fresh)
    assert pulled.returncode == 0, pulled.stderr
    assert f"{pushed.small.toolchain} runs in podman" in said and said.count(" done in ") == 1
