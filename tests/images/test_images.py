"""Each image: what its lock says, and nothing that doesn't belong there."""

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts import layers, manifest
from tests.conftest import FULL, ROOT, run
from tests.images.conftest import BUILDERS, holding, proven

TOOLCHAINS = ("jax", "legacy", "torch")
# Bounds of the project, in bytes as the engine counts them.
BUDGETS = {"jax": 950_000_000, "legacy": 1_300_000_000, "torch": 1_050_000_000}
IMPORTS = {
    "jax": "jax, flax, tensorstore, msgpack, ml_dtypes, numpy",
    "legacy": "tensorflow, tf2onnx, onnx, mido, yaml, numpy",
    "torch": "torch, onnx, onnxruntime, onnxscript, mido, matplotlib, safetensors, soundfile, soxr",
}
# Debian's own, in every base; without new privileges they are programs like any other.
SETUID = {"usr/bin/" + name for name in (
    "chage", "chfn", "chsh", "expiry", "gpasswd", "mount", "newgrp", "passwd", "su", "umount", "wall")} | {
    "usr/sbin/unix_chkpwd", "usr/lib/openssh/ssh-keysign"}


class Held(NamedTuple):
    """An image in an engine's store."""
    engine: str
    toolchain: str

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in its container."""
        return run("scripts/in", self.toolchain, *words, ENGINE=self.engine)

    def inspected(self) -> dict:
        return json.loads(run(self.engine, "image", "inspect", f"localhost/bellfoundry-{self.toolchain}").stdout)[0]


@pytest.fixture(scope="module", params=[Held(engine, toolchain) for engine in BUILDERS for toolchain in TOOLCHAINS],
                ids="-".join)
def image(request) -> Held:
    """Each image in podman, and in docker where podman lacks it or with FULL=1. It is built for the tests only where it
    isn't on record that it comes out equal.
    """
    held = request.param
    if not FULL and held.engine == "docker" and held._replace(engine="podman").run("true").returncode == 0:
        pytest.skip("NOT LOOKED INTO: docker's images, as podman's of the same Dockerfiles are: FULL=1 does both")
    if not proven(held.toolchain, BUILDERS["podman"]):
        holding(held.engine, held.toolchain)
    elif held.run("true").returncode:
        pytest.skip(f"NO IMAGES in {held.engine} to look into, and their proofs are of today's inputs: run make images "
                    "BASES=local, or FULL=1 make test")
    return held


def leaks(archive: Path, secrets: list[bytes]) -> list[str]:
    """The files of an image's layers that hold any of the given bytes."""
    found = []
    for layer in layers.layers(archive):
        for entry in layer:
            if entry.isreg():
                contents = layer.extractfile(entry).read()
                found += [entry.name] if any(secret in contents for secret in secrets) else []
    return found


@pytest.fixture(scope="module")
def unpacked(image, tmp_path_factory) -> Path:
    """An image as an archive of its layers."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    done = run(image.engine, "save", "--output", archive, f"localhost/bellfoundry-{image.toolchain}")
    assert done.returncode == 0, done.stderr
    yield archive
    archive.unlink()


def test_interpreter_and_packages_are_those_of_the_lock(image):
    code = ("import json, sys\n"
            "try:\n    from importlib.metadata import distributions\n"
            "except ImportError:\n    from importlib_metadata import distributions\n"
            "found = [[one.metadata['Name'], one.version] for one in distributions()]\n"
            "print(json.dumps(['%d.%d' % sys.version_info[:2], found]))")
    done = image.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    version, packages = json.loads(done.stdout)
    assert version == (ROOT / "images" / image.toolchain / "python-version").read_text().strip()
    found = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in packages}
    pinned = manifest.pins(ROOT / "images" / image.toolchain / "requirements.lock")
    assert found == {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}


def test_imports(image):
    done = image.run("python", "-c", f"import {IMPORTS[image.toolchain]}")
    assert done.returncode == 0, done.stderr


def test_is_nobodys_and_says_what_it_is(image):
    config = image.inspected()["Config"]
    assert config["User"] == "65534:65534"
    labels = config["Labels"]
    assert labels["bellfoundry.lock"] == manifest.sha256(ROOT / "images" / image.toolchain / "requirements.lock")
    assert labels["org.opencontainers.image.source"].startswith("https://")
    assert re.fullmatch("[0-9a-f]{40}|uncommitted|unknown", labels["org.opencontainers.image.revision"])


def test_keeps_within_its_budget(image):
    assert image.inspected()["Size"] <= BUDGETS[image.toolchain]


@pytest.fixture(scope="module")
def listing(unpacked) -> list[tarfile.TarInfo]:
    return [entry for layer in layers.layers(unpacked) for entry in layer]


def test_holds_no_caches_no_compiled_python_and_no_tools_to_build_with(listing):
    toolchain = [entry.name for entry in listing if "opt/toolchain" in entry.name]
    assert len(toolchain) > 1000
    unwanted = re.compile(r"__pycache__|\.pyc$|/\.cache/|/uv_cache\.json$|/bin/(pip|uv|gcc|cc)\d*$")
    assert [name for name in toolchain if unwanted.search(name)] == []


def test_sets_no_user_that_its_base_does_not(listing):
    special = {entry.name.removeprefix("./") for entry in listing if entry.isreg() and entry.mode & 0o6000}
    assert special <= SETUID


def test_holds_nothing_of_this_machines_certificates(unpacked):
    """They went in as a build secret, beside which Debian's own certificates are in every base."""
    bundle, debian = Path(os.environ.get("SSL_CERT_FILE", "")), Path("/usr/share/ca-certificates/mozilla")
    if not bundle.is_file() or not debian.is_dir():
        pytest.skip("NO CERTIFICATES of this machine's own to look for: SSL_CERT_FILE names none")
    known = "".join(path.read_text() for path in debian.glob("*.crt"))
    lines = re.findall(r"BEGIN CERTIFICATE-----\n(.{64})", bundle.read_text())
    own = [line.encode() for line in lines if line not in known]
    assert leaks(unpacked, own) == []


def billed(image: Held) -> str:
    """Its bill of materials, as make images writes it."""
    debian = image.run("dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${Architecture}\n").stdout
    done = run("scripts/in", "checks", "python", "-m", "scripts.bill", image.toolchain, told=debian)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bill(image) -> str:
    return billed(image)


def test_its_bill_of_materials_names_every_package(image, bill):
    named = {component["purl"] for component in json.loads(bill)["components"]}
    pins = manifest.pins(ROOT / "images" / image.toolchain / "requirements.lock")
    assert {f"pkg:pypi/{name}@{version.replace('+', '%2B')}" for name, version in pins.items()} <= named
    assert len([purl for purl in named if purl.startswith("pkg:deb/debian/libc6@")]) == 1


def test_its_bill_of_materials_is_valid_and_the_same_again(image, bill):
    code = ("import sys; from cyclonedx.schema import SchemaVersion\n"
            "from cyclonedx.validation.json import JsonStrictValidator\n"
            "sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) and 'not valid')")
    done = run("scripts/in", "checks", "python", "-c", code, told=bill)
    assert done.returncode == 0, done.stderr
    assert billed(image) == bill


def test_build_secrets_stay_out_of_every_layer(installing, tmp_path):
    """Settings of pip and uv, and a certificate; not in the config or its history either."""
    marker = "kept-out-5f1c"
    (tmp_path / "pip.conf").write_text(f"[global]\nextra-index-url = file:///{marker}/simple\n")
    (tmp_path / "uv.toml").write_text(f"# {marker}\n")
    bundle = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
    (tmp_path / "bundle.pem").write_text(bundle.read_text() + f"# {marker}\n")
    told = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
            "SSL_CERT_FILE": str(tmp_path / "bundle.pem")}
    done = installing.make("images", BUILDER="buildah", **told)
    assert done.returncode == 0, done.stdout + done.stderr
    run("podman", "save", "--output", tmp_path / "image.tar", installing.tag)
    assert leaks(tmp_path / "image.tar", [marker.encode()]) == []
    with tarfile.open(tmp_path / "image.tar") as image:
        assert not any(marker.encode() in image.extractfile(entry).read() for entry in image if entry.isreg())


def test_a_secret_that_leaks_is_found(installing, tmp_path):
    """The twin of the tests above: a build that keeps its certificates."""
    bundle = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt").read_text()
    (tmp_path / "bundle.pem").write_text(bundle + "# let-out-77ab\n")
    dockerfile = installing.folder / "Dockerfile"
    install = f"sh /context/install {installing.toolchain}"
    dockerfile.write_text(dockerfile.read_text().replace(
        install, f"{install} && cp /run/secrets/ca_bundle /opt/toolchain/ca.pem"))
    assert installing.make("images", BUILDER="podman", SSL_CERT_FILE=str(tmp_path / "bundle.pem")).returncode == 0
    run("podman", "save", "--output", tmp_path / "image.tar", installing.tag)
    assert leaks(tmp_path / "image.tar", [b"let-out-77ab"]) == ["opt/toolchain/ca.pem"]
