"""`make engines-verify`: containers build the recorded bytes; checksums/engines.toml says with which inputs.

In a copy of the tree every model is built at toy size and Coconet at its real one, once an engine, and compared with
checksums/. It takes minutes, so the tests do it again only where the record is of other inputs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from scripts import checksums, command, images, manifest, recipe
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "checksums" / "engines.toml"
ENGINES = ("docker", "podman")
BUILDS = (("all", "WEIGHTS=tiny"), ("coconet",))  # what is built, as make's words


def key() -> str:
    """What decides whether an engine's bytes are the recorded ones: the images' parts, how commands are run in them,
    and the bytes that are recorded.
    """
    models = recipe.models(ROOT)
    kinds = {"tiny": models, "bundled": models, "seeded": ["coconet"]}
    return manifest.key({
        "images": {name: images.key(name) for name in images.toolchains()},
        "in": manifest.sha256(ROOT / "scripts/in"),
        "checksums": {f"{kind}/{model}": manifest.sha256(path) for kind, models in kinds.items() for model in models
                      if (path := checksums.file_of(kind, model)).is_file()}})


def recorded() -> dict[str, str]:
    """The key of each engine's proof, by its name."""
    return tomllib.loads(RECORD.read_text()) if RECORD.is_file() else {}


def copy(tree: Path) -> None:
    """Copy the repository's files, without its builds and its tests."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"], text=True,
                            capture_output=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)


def verify(engine: str) -> None:
    """Build in an engine's containers. Raises Refusal where a build fails or has other bytes."""
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        for words in BUILDS:
            print(f"make {' '.join(words)} ENGINE={engine}", flush=True)
            if subprocess.run(["make", "--no-print-directory", *words], cwd=folder, check=False,
                              env={**os.environ, "ENGINE": engine}).returncode:
                raise Refusal(f"{engine}: expected a build with the recorded bytes, found what is said above: run make "
                              "images where an image is missing, make checksums after an intended change")


def main() -> int:
    asked = os.environ.get("ENGINE") or "auto"
    if asked not in ("auto", *ENGINES):
        raise Refusal(f"ENGINE={asked} runs no images: expected auto, {' or '.join(ENGINES)}")
    for engine in ENGINES if asked == "auto" else (asked,):
        verify(engine)
        proofs = {**recorded(), engine: key()}
        lines = ["# The inputs with which each engine was last seen to build the recorded bytes.",
                 "# Written by make engines-verify.", *(f'{name} = "{proofs[name]}"' for name in sorted(proofs))]
        manifest.write_atomically(RECORD, "\n".join(lines) + "\n")
        print(f"{engine}: all bytes are the recorded ones; {RECORD.relative_to(ROOT)} says so")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
