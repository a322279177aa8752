"""`make verify` and `make checksums`: what was built against checksums/<weights>/<model>.sha256.

The files are in the format of `sha256sum -c`, with paths from the repository's root.
"""

import json
import re
import sys
from pathlib import Path

from scripts import command, manifest, recipe
from scripts.job import REFUSED, Refusal

ROOT = Path(__file__).resolve().parent.parent
ARTIFACTS = (".onnx", ".tflite", ".weights")  # by suffix: what is built, not written beside it


def file_of(weights: str, model: str) -> Path:
    return ROOT / "checksums" / weights / f"{model}.sha256"


def recorded(weights: str, model: str) -> dict[str, str]:
    """The recorded SHA-256 of each artifact, by its path from the root; empty where none are."""
    path = file_of(weights, model)
    return listed(path, path.relative_to(ROOT), "run make checksums after a build you trust")


def listed(path: Path, name: object, remedy: str) -> dict[str, str]:
    """The SHA-256s of a file in the format of `sha256sum -c`, by path; empty where there is no such file.

    name: of the file, for messages. Raises Refusal naming the line that is none, and the remedy.
    """
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else [], 1):
        parts = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if line.strip() and not parts:
            raise Refusal(f"{name}:{number}: expected a SHA-256, two spaces and a path, found {line!r}: {remedy}")
        if parts:
            found[parts[2]] = parts[1]
    return found


def verify(weights: str, model: str) -> list[str]:
    """Every flaw of what was built, a sentence each; every byte is read."""
    expected, folder = recorded(weights, model), Path("build") / weights / model
    if not expected:
        return [f"checksums/{weights}/{model}.sha256 records nothing: run make checksums after a build you trust"]
    flaws = []
    for name, recorded_hash in expected.items():
        if not (ROOT / name).is_file():
            flaws.append(f"{name} is missing: run make {model}")
        elif (found := manifest.sha256(ROOT / name)) != recorded_hash:
            flaws.append(f"{name} is not the recorded one: expected SHA-256 {recorded_hash}, found {found}: "
                         f"run make {model} to rebuild it")
    present = {str(path.relative_to(ROOT)) for path in (ROOT / folder / "compose").glob("*.*")
               if path.suffix in ARTIFACTS}
    flaws += [f"{name} is not among the recorded: remove it, or record a changed recipe's with make checksums"
              for name in sorted(present - set(expected))]
    for stage in sorted(path.parent for path in (ROOT / folder).glob("*/manifest.json")):
        if stage.name != "compose" and (damage := manifest.damage(stage.relative_to(ROOT), manifest.sha256)):
            flaws.append(f"{damage}: run make {model} to rebuild it")
    return flaws


def record(weights: str, model: str) -> None:
    """Write the checksums of a whole, verified build. Raises Refusal if there is none."""
    folder = Path("build") / weights / model
    for stage in ("compose", "verify"):
        if damage := manifest.damage(folder / stage, manifest.sha256):
            raise Refusal(f"{damage}: run make {model} before make checksums")
    outputs = json.loads((ROOT / folder / "compose" / "manifest.json").read_text())["outputs"]
    path = file_of(weights, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_atomically(path, "".join(f"{f['sha256']}  {folder}/compose/{f['file']}\n" for f in outputs))
    print(f"recorded {len(outputs)} artifacts in {path.relative_to(ROOT)}")


def main() -> int:
    parser = command.Parser(prog="scripts.checksums", description=__doc__)
    parser.add_argument("verb", choices=("verify", "record"))
    parser.add_argument("models", nargs="*")
    parser.add_argument("--weights", default="seeded", choices=("seeded", "released", "tiny"))
    asked = parser.parse_args()
    flaws = []
    for model in asked.models or recipe.models(ROOT):
        weights = recipe.kind(recipe.read(ROOT, model), asked.weights)
        if asked.verb == "record":
            record(weights, model)
        elif found := verify(weights, model):
            flaws += found
        else:
            print(f"{model}: every byte of the {weights} build is as recorded")
    for flaw in flaws:
        print(f"error: {flaw}", file=sys.stderr)
    return REFUSED if flaws else 0


if __name__ == "__main__":
    sys.exit(command.run(main))
