"""`make places-verify`: another place gives the same bytes; checksums/places.toml says of which inputs.

There everything is different that mustn't matter: the folder, with a space in its name, the hash seed, threads, time
zone, locale, umask, processor and clock. Every model is built at toy size, and Coconet's real size calibrated, whose
bytes rest on measured activations. It takes minutes, so the tests do it again only where the record is of other inputs.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from scripts import command, engines, manifest, recipe
from scripts.build import NAMES
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "checksums" / "places.toml"
CALIBRATION = "calibration"  # what else is on record beside models
CALIBRATED = Path("build/seeded/coconet")
# What the numerical libraries take as: use no newer instructions than these.
OLD_PROCESSOR = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "DNNL_MAX_CPU_ISA": "SSE41",
                 "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OPENBLAS_CORETYPE": "Nehalem"}
OTHER = {"ENGINE": "venv", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C",
         "LANG": "tr_TR.UTF-8", "SOURCE_DATE_EPOCH": "1", **OLD_PROCESSOR}


def folder(name: str) -> Path:
    """Where what is on record under a name is built, in any tree."""
    return CALIBRATED if name == CALIBRATION else Path("build", recipe.kind(recipe.read(ROOT, name), "tiny"), name)


def stages(name: str) -> list[str]:
    """The stages of a finished build that are proven."""
    return ["quantize"] if name == CALIBRATION else [
        stage for stage in NAMES if (ROOT / folder(name) / stage / "manifest.json").is_file()]


def key(name: str) -> str:
    """What decides whether another place gives the bytes of this tree's finished build: the keys of its stages, how
    commands are run, and what the other place is like.
    """
    return manifest.key({
        "stages": {stage: json.loads((ROOT / folder(name) / stage / "manifest.json").read_text())["key"]
                   for stage in stages(name)},
        "code": {file: manifest.sha256(ROOT / "scripts" / file) for file in ("in", "build.py", "places.py")}})


def recorded() -> dict[str, str]:
    """The key of each proof, by its name."""
    return tomllib.loads(RECORD.read_text()) if RECORD.is_file() else {}


def hashes(build: Path) -> dict[str, str]:
    """Every reproducible file of a build's stages, manifests too, by its path."""
    return {str(path.relative_to(build)): hashlib.sha256(path.read_bytes()).hexdigest()
            for stage in NAMES for path in sorted((build / stage).rglob("*"))
            if path.is_file() and path.name not in manifest.EVIDENCE | {"timing.json"}}


def differences(name: str, tree: Path) -> list[str]:
    """The files of this tree's finished build that come out otherwise in another tree, which is made for that.

    Raises Refusal where the build fails there.
    """
    engines.copy(tree)
    words = ["all", "WEIGHTS=tiny", f"MODELS={name}"]
    if name == CALIBRATION:
        words = ["quantize", "WEIGHTS=seeded", "MODELS=coconet"]
        for stage in ("fetch", "export", "optimize"):
            shutil.copytree(ROOT / CALIBRATED / stage, tree / CALIBRATED / stage)
    (tree / "build").mkdir(exist_ok=True)
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        ["bash", "-c", 'umask 077 && exec taskset -c "$@"', "bash", str(core), "make", "--no-print-directory", *words,
         "CHECKPOINT=", "ROUTE="], cwd=tree, env={**os.environ, **OTHER}, text=True, capture_output=True, check=False)
    if not all((tree / folder(name) / stage / "manifest.json").is_file() for stage in stages(name)):
        raise Refusal(f"{name}: expected a build in another place, found that it fails there: {done.stderr.strip()}")
    here, there = ({file: value for file, value in hashes(place / folder(name)).items()
                    if file.split("/")[0] in stages(name)} for place in (ROOT, tree))
    return sorted(file for file in {*here, *there} if here.get(file) != there.get(file))


def main() -> int:
    parser = command.Parser(prog="scripts.places", description=__doc__)
    parser.add_argument("models", nargs="*", help="all of them when none is named")
    models = parser.parse_args().models or recipe.models(ROOT)
    calibrated = [CALIBRATION] * ("coconet" in models)
    for words in (["all", "WEIGHTS=tiny", f"MODELS={' '.join(models)}"],
                  *(["quantize", "MODELS=coconet"] for _ in calibrated)):
        if subprocess.run(["make", "--no-print-directory", *words], cwd=ROOT, check=False).returncode:
            raise Refusal("expected a build with the recorded bytes in this place, found what is said above: run make "
                          "checksums WEIGHTS=tiny after an intended change")
    for name in models + calibrated:
        with tempfile.TemporaryDirectory() as place:
            other = differences(name, Path(place) / "an other place")
        if other:
            raise Refusal(f"{name}: expected the same bytes in another place, found others in {', '.join(other)}: "
                          "compare what its stages read of the place")
        proofs = {**recorded(), name: key(name)}
        lines = ["# The inputs with which each model's bytes were last seen to be the same in another place.",
                 "# Written by make places-verify.", *(f'{one} = "{proofs[one]}"' for one in sorted(proofs))]
        manifest.write_atomically(RECORD, "\n".join(lines) + "\n")
        print(f"{name}: the same bytes in another place; {RECORD.relative_to(ROOT)} says so", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
