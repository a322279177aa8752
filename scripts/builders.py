"""The programs that build images: which of them are here, and how each is told the same thing.

buildx and docker put images where docker runs them; buildah and podman, which share one
store, where podman does. All but plain docker can build the same bytes twice.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scripts.bases import EPOCH
from scripts.job import Refusal

ENGINES = {"buildx": "docker", "docker": "docker", "buildah": "podman", "podman": "podman"}

# What the programs say when something fails, and what to do about it.
FAULTS = (
    (r"no space left on device|disk quota exceeded",
     "the disk is full: free some space, for instance with '{program} system prune', and run make again"),
    (r"permission denied.*docker.*sock",
     "you may not use docker's socket: join the group docker, or use podman with ENGINE=podman"),
    (r"cannot connect to the docker daemon|is the docker daemon running",
     "docker's daemon doesn't answer: start it, or use podman with ENGINE=podman"),
    (r"hash mismatch", "a package is not the one that the lock names: don't use what the index serves"),
    (r"does not match|did not match|digest mismatch|unexpected commit digest|failed commit on ref|failed verification",
     "these are not the bytes that were asked for by digest: don't use what the registry serves"),
    (r"manifest unknown|name unknown|manifest for .* not found|no such manifest|repository does not exist",
     "the registry doesn't have this image: push it there first, or build it with make images"),
    (r"dial tcp|no such host|i/o timeout|connection refused|failed to resolve|pinging container registry"
     r"|deadline exceeded|server misbehaving|sending request|failed to fetch|unreachable|tls handshake|x509",
     "a registry or package index can't be reached: check the network and SSL_CERT_FILE; "
     "BASES=local needs no registry"),
)


class Image(NamedTuple):
    digest: str  # of its config, which names every layer by its uncompressed bytes
    labels: dict[str, str]
    bytes: int


class Builder(NamedTuple):
    name: str
    program: str  # what builds
    engine: str  # what keeps and runs the image: a path whose last part is docker or podman

    def build(self, toolchain: str, tag: str, *, base: str | None, context: Path, dockerfile: Path,
              labels: dict[str, str], secrets: dict[str, str], fresh: bool, hear: Callable[[str], None]) -> None:
        """Build an image on the given base, or on the one that its Dockerfile pins."""
        if self.name == "buildx":
            told = {"context": context, "dockerfile": dockerfile, "tags": tag, **({"args.BASE": base} if base else {}),
                    **{f"labels.{name}": value for name, value in labels.items()}}
            words = ["buildx", "bake", f"--file={dockerfile.parent.parent}/bake.hcl",
                     *(f"--set={toolchain}.{name}={value}" for name, value in told.items()),
                     *(f"--set={toolchain}.secrets=id={name},src={path}" for name, path in secrets.items())]
        else:
            words = ["build", f"--tag={tag}", f"--file={dockerfile}", *([f"--build-arg=BASE={base}"] if base else []),
                     *(f"--label={name}={value}" for name, value in labels.items()),
                     *(f"--secret=id={name},src={path}" for name, path in secrets.items())]
        if self.name in ("buildx", "docker"):
            words += ["--progress=plain"]
        else:  # --layers=false: history would tell the steps' layers, and each of the two in its own words
            words += [f"--timestamp={EPOCH}", "--network=host", "--layers=false", "--identity-label=false"]
        words += ["--no-cache"] if fresh else []
        run(self.program, *words, toolchain if self.name == "buildx" else context, hear=hear)

    def image(self, tag: str) -> Image | None:
        """What the engine keeps under that name, if anything."""
        done = subprocess.run([self.engine, "image", "inspect", tag], text=True, capture_output=True, check=False)
        if done.returncode:
            return None
        told = json.loads(done.stdout)[0]
        return Image("sha256:" + told["Id"].removeprefix("sha256:"), told["Config"].get("Labels") or {}, told["Size"])

    def load(self, archive: Path) -> None:
        run(self.engine, "load", "--input", archive)

    def save(self, tag: str, archive: Path) -> None:
        """Write the image as `docker save` does."""
        run(self.engine, "save", "--output", archive, tag)

    def remove(self, tag: str) -> None:
        """Take the name away, and the image where it has no other name and runs nowhere."""
        subprocess.run([self.engine, "image", "rm", tag], capture_output=True, check=False)

    def push(self, tag: str, address: str) -> str:
        """Push under the address; returns the digest of the manifest that the registry now has."""
        run(self.engine, "tag", tag, address)
        try:
            if Path(self.engine).name == "docker":
                return re.findall(r"digest: (sha256:[0-9a-f]{64})", run(self.engine, "push", address))[-1]
            with tempfile.NamedTemporaryFile("r") as digest:
                run(self.engine, "push", "--digestfile", digest.name, address)
                return digest.read()
        finally:
            self.remove(address)

    def pull(self, address: str, tag: str) -> None:
        """Pull by an address with a digest, which the engine checks, and name the image."""
        run(self.engine, "pull", address)
        run(self.engine, "tag", address, tag)


def run(program: str, *words: str | Path, hear: Callable[[str], None] = lambda line: None) -> str:
    """Run a program to its end and return what it printed; `hear` is told each line.

    Raises Refusal with what went wrong in a sentence where it fails.
    """
    lines = []
    with subprocess.Popen([program, *words], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env={**os.environ, "DOCKER_BUILDKIT": "1"}) as process:
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                hear(lines[-1])
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode:
        raise Refusal(explained(lines, program))
    return "\n".join(lines)


def explained(lines: list[str], program: str) -> str:
    """The fault that a failed program's output tells of, and the remedy."""
    name = Path(program).name
    for pattern, remedy in FAULTS:
        for line in reversed(lines):
            if re.search(pattern, line, re.IGNORECASE):
                return f"{remedy.format(program=name)} ({name}: {line.strip()[:200]})"
    errors = [line for line in lines if re.match(r"\W*error\b", line, re.IGNORECASE) and "at STEP" not in line]
    return f"{name} failed: {(errors or lines or ['it said nothing'])[-1].strip()[:300]}"


def find(engine: str, wanted: str, twice: bool = False) -> Builder:
    """The first builder that works here, of those whose images the engine runs.

    engine: auto, docker or podman; wanted: auto or a builder's name; twice: it is to build the
    same bytes twice. Raises Refusal with what each lacks where none works.
    """
    if wanted not in ("auto", *ENGINES):
        raise Refusal(f"no builder '{wanted}': expected BUILDER=auto, {', '.join(ENGINES)}")
    if engine not in ("auto", "docker", "podman"):
        raise Refusal(f"ENGINE={engine} runs no images: expected auto, docker or podman")
    reasons = []
    for name in ENGINES:
        if wanted in ("auto", name) and engine in ("auto", ENGINES[name]):
            program, reason = programs(name)
            if twice and name == "docker":
                reason = "docker's own builder writes the time of day into images, so that no two are equal"
            if not reason:
                return Builder(name, program, program if ENGINES[name] == "docker" else shutil.which("podman"))
            reasons.append(reason)
    if not reasons:
        raise Refusal(f"BUILDER={wanted} and ENGINE={engine} don't go together: {wanted} builds for {ENGINES[wanted]}")
    remedy = "install buildah and podman, or docker's buildx" if twice else "or do without images: ENGINE=venv"
    raise Refusal(f"no builder here can do this: {'; '.join(dict.fromkeys(reasons))}: {remedy}")


def programs(name: str) -> tuple[str, str]:
    """The program that is this builder, and what it lacks to work here, if anything."""
    if ENGINES[name] == "podman":
        for needed in {"podman", name}:
            if not shutil.which(needed):
                return "", f"{needed} is not installed"
        return shutil.which(name), ""
    able = {"buildx": has_buildx, "docker": has_buildkit}[name]
    here = [f"{folder}/docker" for folder in os.environ["PATH"].split(os.pathsep)
            if os.access(f"{folder}/docker", os.X_OK)]
    program = next((docker for docker in here if able(docker)), None)
    if program is None:
        return "", f"docker has no {name if name == 'buildx' else 'BuildKit'}" if here else "docker is not installed"
    done = subprocess.run([program, "version"], text=True, capture_output=True, check=False)
    return program, explained(done.stderr.splitlines(), program) if done.returncode else ""


def has_buildx(docker: str) -> bool:
    return subprocess.run([docker, "buildx", "version"], capture_output=True, check=False).returncode == 0


def has_buildkit(docker: str) -> bool:
    """Clients before 23 have BuildKit built in; later ones need buildx for it."""
    said = subprocess.run([docker, "--version"], text=True, capture_output=True, check=False).stdout
    major = re.search(r"version (\d+)", said)
    return bool(major) and int(major[1]) < 23
