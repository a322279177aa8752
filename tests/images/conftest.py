"""Container engines to test with: each fixture starts nothing, and says loudly where one is missing."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts import bases, command, images
from scripts.builders import ENGINES, programs
from tests.conftest import FULL, ROOT, made, run
from tests.scripts import toy

# In the place of images/install, whose pip and uv take most of a small image's time: an environment without packages.
BARE = "#!/bin/sh\nset -eu\npython3 -m venv --without-pip /opt/toolchain\n"
BUILDERS = {"docker": "docker", "podman": "buildah"}  # by the engine that runs what they build


def answering(builder: str) -> None:
    """Skip where the builder, or the engine behind it, doesn't work on this machine."""
    _, reason = programs(builder)
    if reason:
        pytest.skip(f"NO {builder.upper()}: {reason}")


def proven(toolchain: str, builder: str) -> bool:
    """Whether it is on record that an image of today's inputs came out equal twice, and needn't be seen again."""
    proof = images.recorded().get(toolchain, {}).get(builder, {}).get("local", {})
    return not FULL and proof.get("key") == images.key(toolchain) and proof["image"].startswith("sha256:")


def holding(engine: str, *toolchains: str) -> str:
    """The engine, with images of these toolchains on local bases in its store."""
    answering(BUILDERS[engine])
    if not shutil.which("mmdebstrap"):
        pytest.skip("NO MMDEBSTRAP: no local bases can be made")
    with leaving_no_cache():
        made("images", BASES="local", ENGINE=engine, BUILDER=BUILDERS[engine], TOOLCHAINS=" ".join(toolchains))
    return engine


@contextlib.contextmanager
def leaving_no_cache() -> Iterator[None]:
    """Take what is added to docker's build cache meanwhile out of it again, and nothing of the user's."""
    def records() -> set[str]:
        told = run("docker", "system", "df", "--verbose", "--format", "{{json .BuildCache}}").stdout
        return {record["ID"] for record in json.loads(told or "null") or []}

    before = records()
    yield
    for record in records() - before:
        run("docker", "builder", "prune", "--all", "--force", "--filter", f"id={record}")


class Small(NamedTuple):
    """A tree with the toy, made by a toolchain of its own, of one package at most, whose image is built in seconds."""
    tree: Path
    toolchain: str  # like no other test's

    @property
    def folder(self) -> Path:
        return self.tree / "images" / self.toolchain

    @property
    def tag(self) -> str:
        return f"localhost/bellfoundry-{self.toolchain}"

    def make(self, *goals: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run("make", "--no-print-directory", *goals, cwd=self.tree,
                   **{"BASES": "local", "TOOLCHAINS": self.toolchain, "ENGINE": "auto", **environment})

    def append(self, line: str) -> None:
        """One step more in the build stage."""
        dockerfile = self.folder / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text().replace("\nFROM ${BASE}\n", f"RUN {line}\n\nFROM ${{BASE}}\n"))

    def error(self, *goals: str, **environment: str) -> str:
        """The one line that make says where it refuses."""
        done = self.make(*goals, **environment)
        assert done.returncode == 2, done.stdout
        line, *rest = done.stderr.splitlines()
        assert line.startswith("error: ") and all(other.startswith("make: ") for other in rest), done.stderr
        return line


def planted(tree: Path, install: str | None = None) -> Small:
    """A small toolchain in a tree of its own, from which no image is built yet; install: in place of images/install."""
    archive = ROOT / "build/images/base-3.11.tar"
    if not archive.is_file():
        with command.alone(archive.parent):
            bases.base("3.11", archive.parent)
    toolchain = f"small-{uuid.uuid4().hex[:12]}"
    one = Small(toy.plant(tree, toolchain), toolchain)
    if install:
        (tree / "images/install").write_text(install)
    dockerfile = (ROOT / "images/jax/Dockerfile").read_text()
    (one.folder / "Dockerfile").write_text(dockerfile.replace("install jax", f"install {toolchain}"))
    one.append(f"echo {toolchain} > /opt/toolchain/name")  # so that no layer is another test's
    (tree / "build/images").mkdir(parents=True)
    os.link(archive, tree / "build/images" / archive.name)
    return one


def uproot(one: Small) -> None:
    """Take a small toolchain's images and environments away."""
    for program in filter(shutil.which, set(ENGINES.values())):
        run(program, "image", "rm", "--force", one.tag)
    for place in (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bellfoundry").glob(
            f"{one.toolchain}-*"):
        shutil.rmtree(place)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """A toolchain without a package."""
    answering("buildah")
    made = planted(tmp_path / "tree", BARE)
    yield made
    uproot(made)


@pytest.fixture
def installing(tmp_path: Path) -> Iterator[Small]:
    """A toolchain of one package, which is installed as the real ones' are."""
    answering("buildah")
    made = planted(tmp_path / "tree")
    yield made
    uproot(made)


class Box(NamedTuple):
    """An engine, and a small toolchain whose image it holds."""
    engine: str
    small: Small

    def run(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the toolchain's container."""
        return run("scripts/in", self.small.toolchain, *words, cwd=self.small.tree,
                   **{"ENGINE": self.engine, **environment})

    def says(self, code: str, **environment: str) -> str:
        """What Python code prints there."""
        done = self.run("python", "-c", code, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="session", params=BUILDERS)
def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Each engine in turn."""
    answering(BUILDERS[request.param])
    one = planted(tmp_path_factory.mktemp("box") / "tree")
    with leaving_no_cache():
        done = one.make("images", ENGINE=request.param, BUILDER=BUILDERS[request.param])
        assert done.returncode == 0, done.stdout + done.stderr
    yield Box(request.param, one)
    uproot(one)


class Registry(NamedTuple):
    address: str
    folder: Path

    def blob(self, digest: str) -> Path:
        algorithm, value = digest.split(":")
        return self.folder / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Registry]:
    """A real registry on loopback, over plain HTTP, of what lies in folder/registry; engines are told to trust it."""
    if not shutil.which("docker-registry"):
        pytest.skip("NO REGISTRY: docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "registry.yml").write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder}/registry\n"
        f"http:\n  addr: 127.0.0.1:{port}\n")
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n')
    with (folder / "registry.log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
        served = subprocess.Popen(["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
        for _ in range(100):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Registry(f"127.0.0.1:{port}", folder / "registry")
        served.terminate()
        served.wait()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with serving(tmp_path) as served:
        yield served
