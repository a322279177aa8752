"""What can go wrong around images: one clear line each, with the remedy."""

import os
import shutil
import socket
import tarfile

import pytest

from scripts import bases
from scripts.builders import explained, find
from scripts.job import Refusal
from tests.conftest import run
from tests.images.conftest import answering


def test_no_engine_at_all(small, tmp_path):
    for tool in ("bash", "env", "cat", "make", "sh", "dirname", "git", "sed", "python3.11"):
        os.symlink(shutil.which(tool), tmp_path / tool)
    line = small.error("images", PATH=str(tmp_path))
    assert "docker is not installed" in line and "buildah is not installed" in line and "ENGINE=venv" in line


def test_no_daemon(small):
    answering("docker")
    line = small.error("images", ENGINE="docker", DOCKER_HOST="unix:///nowhere")
    assert "docker's daemon doesn't answer: start it" in line


def test_no_rights_on_the_socket(tmp_path):
    answering("docker")
    if os.geteuid() != 0:
        pytest.skip("NO ROOT to become an ordinary user")
    done = run("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "docker", "version", HOME="/")
    assert "you may not use docker's socket: join the group docker" in explained(done.stderr.splitlines(), "docker")


def test_no_space(small, tmp_path):
    """Podman's store on a small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("NO ROOT to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=230m", "tmpfs", disk)
    try:
        (tmp_path / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{disk}/run"\ngraphroot = "{disk}/graph"\n')
        line = small.error("images", BUILDER="podman", CONTAINERS_STORAGE_CONF=str(tmp_path / "storage.conf"))
    finally:
        run("umount", "--lazy", disk)
    assert "the disk is full: free some space" in line


def test_an_unreachable_registry(small, tmp_path, monkeypatch):
    """Docker Hub's name leads to a port of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:{port}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    line = small.error("images", BASES="official", BUILDER="buildah")
    assert "can't be reached" in line and "BASES=local needs no registry" in line
    assert f"build/images/{small.toolchain}.log" in line


def test_a_base_whose_digest_does_not_match(small, registry, tmp_path, monkeypatch):
    """A registry in Docker Hub's place serves another image under the pinned digest."""
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nprefix = "docker.io"\nlocation = "{registry.address}"\ninsecure = true\n'
        f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    run("podman", "load", "--input", small.tree / "build/images/base-3.11.tar")
    done = run("podman", "push", "--digestfile", tmp_path / "digest", f"{bases.name('3.11')}:latest",
               f"{registry.address}/library/python:3.11")
    assert done.returncode == 0, done.stderr
    served = registry.blob((tmp_path / "digest").read_text())
    pinned = (small.folder / "Dockerfile").read_text().split("@")[1].split()[0]
    link = (registry.folder / "docker/registry/v2/repositories/library/python/_manifests/revisions"
            / pinned.replace(":", "/") / "link")
    for place in (registry.blob(pinned), link):
        place.parent.mkdir(parents=True)
    shutil.copy(served, registry.blob(pinned))
    link.write_text(pinned)
    line = small.error("images", BASES="official", BUILDER="buildah")
    assert "these are not the bytes that were asked for by digest" in line


def test_a_base_without_a_digest_is_refused(small):
    dockerfile = small.folder / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().split("@")[0] + "\nFROM ${BASE}\n")
    assert "expected a line ARG BASE=image@sha256:" in small.error("images", BASES="official")


def test_a_package_that_is_not_the_locks(installing):
    lock = installing.folder / "requirements.lock"
    text = lock.read_text()
    lock.write_text(text.split(" \\")[0] + f" \\\n    --hash=sha256:{'0' * 64}\n")
    assert "a package is not the one that the lock names" in installing.error("images")


def test_local_bases_without_mmdebstrap(small, tmp_path):
    for tool in ("bash", "env", "cat", "make", "sh", "dirname", "git", "sed", "python3.11", "podman", "buildah"):
        os.symlink(shutil.which(tool), tmp_path / tool)
    (small.tree / "build/images/base-3.11.tar").unlink()
    assert "install the package mmdebstrap" in small.error("images", PATH=str(tmp_path))


def test_an_unknown_image_builder_or_base(small):
    assert "no image 'cobol': expected one of" in small.error("images", TOOLCHAINS="cobol")
    assert "no builder 'kaniko'" in small.error("images", BUILDER="kaniko")
    assert "bases" in small.error("images", BASES="alpine")


def test_a_builder_and_an_engine_that_do_not_go_together():
    with pytest.raises(Refusal, match="don't go together: buildah builds for podman"):
        find("docker", "buildah")


def test_the_base_holds_no_trace_of_this_machine(small):
    """Neither its name and resolver, nor logs, nor the time."""
    with tarfile.open(small.tree / "build/images/base-3.11.tar") as archive, \
            tarfile.open(fileobj=archive.extractfile("layer.tar")) as layer:
        entries = {entry.name.removeprefix("./"): entry for entry in layer}
    assert not {"etc/hostname", "etc/resolv.conf", "etc/machine-id", "var/log/apt"} & set(entries)
    assert max(entry.mtime for entry in entries.values()) <= bases.EPOCH
