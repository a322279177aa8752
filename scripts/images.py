"""The toolchain images: `make images`, `make images-verify`, `make push` and `make pull`.

An image is named localhost/bellfoundry-<toolchain>. It carries the hash of the lock that it
was built from, which scripts/in compares with the tree's, and one over all its inputs, by
which a second `make images` knows that there is nothing to do. checksums/images.toml
records what images must be and where they were pushed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from scripts import bases, builders, command, layers, manifest
from scripts.builders import Builder
from scripts.job import REFUSED, Refusal

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "images"
RECORD = ROOT / "checksums" / "images.toml"
SOURCE = "https://github.com/bellfoundry/bellfoundry"
# What tells pip and uv where packages come from, and whom to trust: build secrets, by the variables they read.
SECRETS = {"ca_bundle": "SSL_CERT_FILE", "pip_conf": "PIP_CONFIG_FILE", "uv_toml": "UV_CONFIG_FILE"}
STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP .*|#\d+ \[.*|Downloading .*|COMMIT.*")


class Plan(NamedTuple):
    """One image to be: what it is made from."""
    toolchain: str
    base: str | None  # a local base's name; None: the one that its Dockerfile pins
    archive: Path | None  # that holds it
    base_digest: str
    labels: dict[str, str]

    @property
    def tag(self) -> str:
        return f"localhost/bellfoundry-{self.toolchain}"

    @property
    def kind(self) -> str:
        return "local" if self.base else "official"

    @property
    def inputs(self) -> str:
        return self.labels["bellfoundry.inputs"]


def toolchains() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("images/*/Dockerfile"))


def plan(toolchain: str, kind: str) -> Plan:
    """What an image is to be made from; makes its local base if that isn't there yet."""
    folder = ROOT / "images" / toolchain
    base = archive = None
    pinned = re.search(r"^ARG BASE=\S+@(sha256:[0-9a-f]{64})$", (folder / "Dockerfile").read_text(), re.MULTILINE)
    if not pinned:
        raise Refusal(f"images/{toolchain}/Dockerfile: expected a line ARG BASE=image@sha256:…, found none: "
                      "pin its base by digest")
    digest = pinned[1]
    if kind == "local":
        version = (folder / "python-version").read_text().strip()
        archive, digest = bases.base(version, WORK)
        base = f"{bases.name(version)}:latest"
    inputs = {str(path.relative_to(ROOT)): manifest.sha256(path) for path in parts(toolchain)} | {"base": digest}
    return Plan(toolchain, base, archive, digest, {
        "org.opencontainers.image.title": f"Bellfoundry's toolchain {toolchain}",
        "org.opencontainers.image.source": SOURCE,
        "org.opencontainers.image.revision": revision(parts(toolchain)),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "bellfoundry.lock": manifest.sha256(folder / "requirements.lock"),
        "bellfoundry.inputs": manifest.key(inputs),
    })


def parts(toolchain: str) -> list[Path]:
    """The files that an image is made from, besides its base."""
    folder = ROOT / "images" / toolchain
    return [ROOT / "images/install", ROOT / "images/uv.lock", folder / "Dockerfile", folder / "requirements.lock"]


def key(toolchain: str) -> str:
    """What decides whether an image comes out equal twice: its parts, and how it and its local base are built."""
    files = [*parts(toolchain), ROOT / "images" / toolchain / "python-version",
             ROOT / "scripts/bases.py", ROOT / "scripts/builders.py"]
    return manifest.key({path.name: manifest.sha256(path) for path in files})


def revision(parts: list[Path]) -> str:
    """The last commit that changed any of an image's parts: the image is that commit's, whatever came after."""
    def git(*words: str | Path) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], text=True, capture_output=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", *parts)
    return "uncommitted" if changed else git("log", "-1", "--format=%H", "--", *parts) or "unknown"


def build(one: Plan, builder: Builder, tag: str, fresh: bool = False) -> None:
    """Build an image under a name. Its whole output is in build/images/<toolchain>.log."""
    log = WORK / f"{one.toolchain}.log"
    with tempfile.TemporaryDirectory(dir=WORK) as folder, log.open("w", encoding="utf-8") as story:
        def hear(line: str) -> None:
            print(line, file=story)
            if STEP.fullmatch(line):
                print(f"  {one.toolchain:<8} {line[:110]}", flush=True)

        if one.archive and ((base := builder.image(one.base)) is None or base.digest != one.base_digest):
            builder.load(one.archive)
        try:
            builder.build(one.toolchain, tag, base=one.base, context=context(one.toolchain, Path(folder)),
                          dockerfile=ROOT / "images" / one.toolchain / "Dockerfile", labels=one.labels,
                          secrets=secrets(), fresh=fresh, hear=hear)
        except Refusal as refusal:
            raise Refusal(f"the image {one.toolchain} was not built: {refusal}. "
                          f"The whole story is in {log.relative_to(ROOT)}") from None


def secrets() -> dict[str, str]:
    """The files of settings that the caller's environment names."""
    return {name: os.environ[variable] for name, variable in SECRETS.items()
            if os.path.isfile(os.environ.get(variable, ""))}


def context(toolchain: str, folder: Path) -> Path:
    """The folder to build from: images/, with what the lock names of the wheels in UV_FIND_LINKS or PIP_FIND_LINKS."""
    pins = manifest.pins(ROOT / "images" / toolchain / "requirements.lock")
    named = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or ""
    wheels = [wheel for place in re.split(r"[ ,]+", named) if place for wheel in Path(place).glob("*.whl")
              if pins.get(wheel.name.split("-")[0].replace("_", "-").lower()) == wheel.name.split("-")[1]]
    if not wheels:
        return ROOT / "images"
    shutil.copytree(ROOT / "images", folder / "images")
    (folder / "images/wheels").mkdir()
    for wheel in wheels:
        try:
            os.link(wheel, folder / "images/wheels" / wheel.name)
        except OSError:  # on another disk
            shutil.copy(wheel, folder / "images/wheels")
    return folder / "images"


def make(plans: list[Plan], builder: Builder) -> int:
    """Build the images that aren't there yet."""
    rows = [("image", "base", "GB", "digest", "")]
    for one in plans:
        found, started = builder.image(one.tag), time.monotonic()
        if found is None or found.labels != {**found.labels, **one.labels}:
            build(one, builder, one.tag)
            before, found = found, builder.image(one.tag)
            if before and before.digest != found.digest:
                builder.remove(before.digest)
            bill_of_materials(one.toolchain, builder)
            state = f"built in {time.monotonic() - started:.0f} s"
        else:
            if not bill_of(one.toolchain).is_file():
                bill_of_materials(one.toolchain, builder)
            state = "up to date"
        rows.append((one.tag, one.kind, f"{found.bytes / 1e9:.2f}", found.digest, state))
    command.table(rows, numbers={2})
    return 0


def bill_of(toolchain: str) -> Path:
    return WORK / f"{toolchain}.cdx.json"


def bill_of_materials(toolchain: str, builder: Builder) -> None:
    """Write build/images/<toolchain>.cdx.json: what the image holds, as CycloneDX."""
    shown = "--showformat=${Package}\t${Version}\t${Architecture}\n"
    listing = subprocess.run(
        [ROOT / "scripts/in", toolchain, "dpkg-query", "--show", shown],
        env={**os.environ, "ENGINE": Path(builder.engine).name}, text=True, capture_output=True, check=False)
    if listing.returncode:
        raise Refusal(f"the image {toolchain} was built, but doesn't run: {listing.stderr.strip()}")
    written = subprocess.run([ROOT / "scripts/in", "checks", "python", "-m", "scripts.bill", toolchain],
                             input=listing.stdout, text=True, capture_output=True, check=False)
    if written.returncode:
        raise Refusal(f"no bill of materials for the image {toolchain}: {written.stderr.strip()}")
    manifest.write_atomically(bill_of(toolchain), written.stdout)


def verify(plans: list[Plan], builder: Builder) -> int:
    """Build each image twice from nothing, compare the digests, and compare them with the recorded one."""
    record, status = recorded(), 0
    for one in plans:
        tags = [f"{one.tag}:verify-{number}" for number in (1, 2)]
        try:
            for tag in tags:
                build(one, builder, tag, fresh=True)
            first, second = (builder.image(tag).digest for tag in tags)
            if first != second:
                explain(one, builder, tags)
                status = REFUSED
                continue
        finally:
            for tag in tags:
                if builder.image(tag):
                    builder.remove(tag)
        print(f"{one.tag}: two builds from nothing are equal: {first}")
        place = record.setdefault(one.toolchain, {}).setdefault(builder.name, {})
        now = {"key": key(one.toolchain), "inputs": one.inputs, "base": one.base_digest,
               "revision": one.labels["org.opencontainers.image.revision"], "image": first}
        before = place.get(one.kind)
        if before and all(before[name] == now[name] for name in ("inputs", "revision")) and before["image"] != first:
            print(f"error: {one.tag} is not the recorded one: checksums/images.toml says {before['image']}, "
                  f"built was {first} from the same inputs", file=sys.stderr)
            status = REFUSED
        else:
            place[one.kind] = now
    write_record(record)
    return status


def explain(one: Plan, builder: Builder, tags: list[str]) -> None:
    """Say which files of two builds differ."""
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        archives = [Path(folder) / f"{number}.tar" for number in (1, 2)]
        for tag, archive in zip(tags, archives, strict=True):
            builder.save(tag, archive)
        found = layers.differences(*archives)
        print(f"error: two builds of {one.tag} are not equal, so nobody can check it by building it again:",
              file=sys.stderr)
        for line in found[:20]:
            print(f"  {line}", file=sys.stderr)
        if len(found) > 20:
            print(f"  and {len(found) - 20} more", file=sys.stderr)
        if diffoscope := shutil.which("diffoscope"):
            report = WORK / f"{one.toolchain}.diffoscope.txt"
            subprocess.run([diffoscope, "--text", report, *archives], capture_output=True, check=False)
            print(f"  diffoscope's report is in {report.relative_to(ROOT)}", file=sys.stderr)


def push(plans: list[Plan], builder: Builder, registry: str) -> int:
    """Push the images, and record the digests by which they are pulled; build/images/pushed.sha256 lists those, too."""
    record, sums = recorded(), []
    for one in plans:
        found = builder.image(one.tag)
        if found is None or found.labels.get("bellfoundry.inputs") != one.inputs:
            raise Refusal(f"{one.tag} is not there as this tree would build it: run make images before make push")
        repository = f"{registry}/bellfoundry-{one.toolchain}"
        digest = builder.push(one.tag, f"{repository}:{one.inputs[:12]}")
        record.setdefault(one.toolchain, {})["pushed"] = {
            "repository": repository, "manifest": digest, "image": found.digest,
            "lock": one.labels["bellfoundry.lock"]}
        write_record(record)
        sums.append(f"{digest.removeprefix('sha256:')}  {repository}\n")
        print(f"pushed {repository}@{digest}")
    manifest.write_atomically(WORK / "pushed.sha256", "".join(sums))  # in the form of sha256sum, for who attests them
    return 0


def pull(names: list[str], builder: Builder, registry: str | None) -> int:
    """Pull the images by their recorded digests, and nothing else."""
    for name in names:
        entry = recorded().get(name, {}).get("pushed")
        if not entry:
            raise Refusal(f"checksums/images.toml records no pushed image of {name}: build it with make images")
        lock = manifest.sha256(ROOT / "images" / name / "requirements.lock")
        if entry["lock"] != lock:
            raise Refusal(f"the pushed image of {name} is of the lock {entry['lock'][:12]}, and this tree's is "
                          f"{lock[:12]}: build it with make images")
        repository = f"{registry}/bellfoundry-{name}" if registry else entry["repository"]
        address, tag = f"{repository}@{entry['manifest']}", f"localhost/bellfoundry-{name}"
        builder.pull(address, tag)
        if (found := builder.image(tag)).digest != entry["image"]:
            builder.remove(tag)
            raise Refusal(f"{address} holds the image {found.digest}, and checksums/images.toml records "
                          f"{entry['image']}: don't use it")
        print(f"pulled {address}")
    return 0


def recorded() -> dict[str, Any]:
    try:
        return tomllib.loads(RECORD.read_text()) if RECORD.is_file() else {}
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"checksums/images.toml: {error}: restore it from git") from None


def write_record(record: dict[str, Any]) -> None:
    lines = ["# What the images of the toolchains must be, by builder and base, and where they were pushed.",
             "# Written by make images-verify and make push."]

    def write(path: tuple[str, ...], table: dict[str, Any]) -> None:
        values = {name: value for name, value in table.items() if not isinstance(value, dict)}
        if values:
            lines.extend(["", f"[{'.'.join(path)}]"])
            lines.extend(f"{name} = {json.dumps(value)}" for name, value in values.items())
        for name in sorted(set(table) - set(values)):
            write((*path, name), table[name])

    write((), record)
    manifest.write_atomically(RECORD, "\n".join(lines) + "\n")


def main() -> int:
    parser = command.Parser(prog="scripts.images", description=__doc__)
    parser.add_argument("verb", choices=("build", "verify", "push", "pull"))
    parser.add_argument("toolchains", nargs="*", help="all of them when none is named")
    parser.add_argument("--bases", default="official", choices=("official", "local"))
    parser.add_argument("--builder", default="auto")
    parser.add_argument("--registry")
    asked = parser.parse_args()
    names = asked.toolchains or toolchains()
    for name in names:
        if name not in toolchains():
            raise Refusal(f"no image '{name}': expected one of {', '.join(toolchains())}")
    if asked.verb == "push" and not asked.registry:
        raise Refusal("make push needs REGISTRY=host/path, where the images are to go")
    builder = builders.find(os.environ.get("ENGINE") or "auto", asked.builder, twice=asked.verb == "verify")
    print(f"with {builder.name}, for {Path(builder.engine).name}", flush=True)
    with command.alone(WORK):
        if asked.verb == "pull":
            return pull(names, builder, asked.registry)
        plans = [plan(name, asked.bases) for name in names]
        if asked.verb == "push":
            return push(plans, builder, asked.registry)
        return {"build": make, "verify": verify}[asked.verb](plans, builder)


if __name__ == "__main__":
    sys.exit(command.run(main))
