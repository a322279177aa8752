"""Container engines to test with: each fixture starts nothing, and says loudly where one is missing."""

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

from scripts import bases, command
from scripts.builders import ENGINES, programs
from tests.conftest import ROOT, copy_tree, made, run


def answering(builder: str) -> None:
    """Skip where the builder, or the engine behind it, doesn't work on this machine."""
    _, reason = programs(builder)
    if reason:
        pytest.skip(f"NO {builder.upper()}: {reason}")


def holding(engine: str) -> str:
    """The engine, with all images on local bases in its store."""
    builder = {"docker": "docker", "podman": "buildah"}[engine]
    answering(builder)
    if not shutil.which("mmdebstrap"):
        pytest.skip("NO MMDEBSTRAP: no local bases can be made")
    made("images", BASES="local", ENGINE=engine, BUILDER=builder)
    if builder == "docker":
        run("docker", "builder", "prune", "--all", "--force")  # five gigabytes of the steps in between
    return engine


@pytest.fixture(scope="session", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn. No test takes an image away: other tests use it at the same time."""
    return holding(request.param)


@pytest.fixture(scope="session")
def podman() -> str:
    return holding("podman")


class Small(NamedTuple):
    """A copy of the tree with one more toolchain, of one package, whose image is built in seconds."""
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


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    answering("buildah")
    archive = ROOT / "build/images/base-3.11.tar"
    if not archive.is_file():
        with command.alone(archive.parent):
            bases.base("3.11", archive.parent)
    made = Small(copy_tree(tmp_path / "tree"), f"small-{uuid.uuid4().hex[:12]}")
    made.folder.mkdir()
    (made.folder / "python-version").write_text("3.11\n")
    pins = (ROOT / "images/torch/requirements.lock").read_text()
    start = pins.index("mpmath==")
    (made.folder / "requirements.lock").write_text(pins[start:pins.index("    # via", start)])
    dockerfile = (ROOT / "images/jax/Dockerfile").read_text()
    (made.folder / "Dockerfile").write_text(dockerfile.replace("install jax", f"install {made.toolchain}"))
    made.append(f"echo {made.toolchain} > /opt/toolchain/name")  # so that no layer is another test's
    (made.tree / "build/images").mkdir(parents=True)
    os.link(archive, made.tree / "build/images" / archive.name)
    yield made
    for program in filter(shutil.which, set(ENGINES.values())):
        run(program, "image", "rm", "--force", made.tag)


class Registry(NamedTuple):
    address: str
    folder: Path

    def blob(self, digest: str) -> Path:
        algorithm, value = digest.split(":")
        return self.folder / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A real registry on loopback, over plain HTTP."""
    if not shutil.which("docker-registry"):
        pytest.skip("NO REGISTRY: docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {tmp_path}/registry\n"
        f"http:\n  addr: 127.0.0.1:{port}\n")
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    with (tmp_path / "registry.log").open("w") as log:
        served = subprocess.Popen(["docker-registry", "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=log)
    for _ in range(100):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield Registry(f"127.0.0.1:{port}", tmp_path / "registry")
    served.terminate()
    served.wait()
