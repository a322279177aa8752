"""`make compare RELEASE=folder`: what was built here against a release, by the hashes in its SHA256SUMS.

Of the release's assets that file alone is needed. Every model that has been built is compared: its artifacts must be
the release's, none missing and none extra, and every byte of them is read. What differs is said a line each, and
written to build/compare.md for whoever is to be told. Runs on the machine's own Python 3.11 with the standard library
alone.
"""

import sys
from pathlib import Path

from scripts import command, gates, manifest, recipe
from scripts.checksums import ARTIFACTS
from scripts.job import REFUSED, Refusal

ROOT = Path(__file__).resolve().parent.parent


def released(folder: Path) -> dict[str, str]:
    """The SHA-256 of each artifact of a release, by its name. Raises Refusal where SHA256SUMS is missing or damaged."""
    if not (folder / gates.SUMS).is_file():
        raise Refusal(f"RELEASE={folder}: expected a release's {gates.SUMS} in it, found none: get it with gh release "
                      f"download --pattern {gates.SUMS} --dir {folder}")
    recorded = gates.recorded(folder, "download it again")
    return {name: digest for name, digest in recorded.items() if Path(name).suffix in ARTIFACTS}


def built(weights: str) -> dict[str, dict[str, Path]]:
    """The artifacts of each model whose build is there, by their names. Raises Refusal where none is."""
    kinds = {model: recipe.kind(recipe.read(ROOT, model), weights) for model in recipe.models(ROOT)}
    folders = {model: ROOT / "build" / kind / model / "compose" for model, kind in kinds.items()}
    found = {model: {path.name: path for path in sorted(folder.iterdir()) if path.suffix in ARTIFACTS}
             for model, folder in folders.items() if (folder / "manifest.json").is_file()}
    if not found:
        raise Refusal(f"build/{weights}: expected a finished build to compare, found none: run make all "
                      f"WEIGHTS={weights}")
    return found


def model_of(name: str, models: list[str]) -> str:
    """The model that an artifact is of: <model>-<component>-<variant>, where one model's name may begin another's."""
    return max((model for model in models if name.startswith(f"{model}-")), key=len, default="")


def differences(here: dict[str, Path], there: dict[str, str]) -> list[str]:
    """Every difference between one model's artifacts and the release's, a sentence each."""
    found = []
    for name in sorted(set(here) | set(there)):
        if name not in here:
            found.append(f"{name}: the release has it, and it was not built")
        elif name not in there:
            found.append(f"{name}: it was built, and the release doesn't have it")
        elif (hashed := manifest.sha256(here[name])) != there[name]:
            found.append(f"{name}: expected SHA-256 {there[name]}, as the release has it, found {hashed}")
    return found


def compare(folder: Path, weights: str) -> int:
    """Say what differs, or that nothing does; returns the exit status."""
    report = ROOT / "build/compare.md"
    report.unlink(missing_ok=True)
    there, here = released(folder), built(weights)
    owners = {name: model_of(name, recipe.models(ROOT)) for name in there}
    found = [f"{name}: the release has it, and no recipe here makes it" for name, model in owners.items() if not model]
    for model, files in here.items():
        found += differences(files, {name: digest for name, digest in there.items() if owners[name] == model})
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    if found:
        lines = "".join(f"- {line}\n" for line in found)
        manifest.write_atomically(report, f"What was built isn't what was released:\n\n{lines}")
        return REFUSED
    print(f"{sum(map(len, here.values()))} artifacts of {', '.join(here)} are equal to the release's, byte by byte")
    return 0


def main() -> int:
    parser = command.Parser(prog="scripts.compare", description=__doc__)
    parser.add_argument("release", type=Path)
    parser.add_argument("--weights", default="released", choices=("seeded", "released", "tiny"))
    asked = parser.parse_args()
    return compare(asked.release, asked.weights)


if __name__ == "__main__":
    sys.exit(command.run(main))
