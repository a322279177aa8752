"""What every model's player has in common: its artifact, checked, and files that appear whole or not at all."""

import argparse
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import onnxruntime

from scripts import checksums, kernels, recipe
from scripts.job import Refusal, progress
from scripts.manifest import sha256

ROOT = Path(__file__).resolve().parent.parent
STAND_INS = ("seeded", "tiny")
SUMS = "SHA256SUMS"
WEIGHTS = (*STAND_INS, "released", "bundled", "custom")
Result = TypeVar("Result")


class Artifact(NamedTuple):
    path: Path
    sha256: str
    session: onnxruntime.InferenceSession
    weights: str  # what kind its metadata says they are

    def told(self) -> str:
        """Its name and hash."""
        return f"{self.path.name} (sha256 {self.sha256[:12]}…)"


def load(folder: Path, model: str, component: str, variant: str) -> Artifact:
    """An artifact in ONNX Runtime out of a folder: a build's compose folder, or a release's assets.

    Raises Refusal where the folder holds no such artifact, or a damaged one.
    """
    path = Path(folder) / f"{model}-{component}-{variant}.onnx"
    if not path.is_file():
        others = ", ".join(sorted(path.name for path in Path(folder).glob(f"{model}-{component}-*.onnx")))
        raise Refusal(f"{path}: expected an artifact, found {others or 'none'}: name a variant that is there, "
                      f"cast it with make {model}, or download it from a release")
    try:
        session = kernels.session(path, model, recipe.read(ROOT, model))
    except Refusal:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        require_files(path, str(error))
        raise Refusal(f"{path}: expected ONNX, found a file that can't be loaded: "
                      f"cast it again with make {model}, or download it again") from error
    told = session.get_modelmeta().custom_metadata_map
    require_weights(path, told)
    return Artifact(path, sha256(path), session, told.get("weights", "unknown"))


def require_files(path: Path, complaint: str) -> None:
    """Raises Refusal where what ONNX Runtime complains of are weights that are a link: it takes files alone."""
    for weights in path.parent.glob("*.weights"):
        links = weights.stat().st_nlink
        if weights.name in complaint and (weights.is_symlink() or links > 1):
            kind = "a symbolic link" if weights.is_symlink() else f"one of {links} hard links to it"
            raise Refusal(f"{weights}: expected a file of its own for ONNX Runtime, found {kind}: copy it with "
                          f"cp -L {weights} {weights}.copy && mv {weights}.copy {weights}")


def require_weights(path: Path, told: Mapping[str, str]) -> None:
    """Raises Refusal where what lies beside an artifact isn't the weights that its metadata tells of."""
    if beside := told.get("weights_file"):
        weights, expected = path.with_name(Path(beside).name), told.get("weights_sha256")
        if (found := sha256(weights)) != expected:
            raise Refusal(f"{weights}: expected the weights that {path.name} names, SHA-256 {expected}, found {found}: "
                          f"cast them again with make {told.get('model')}, or download them again")


def check_out(given: Path, out: Path, suffixes: Sequence[str], example: str) -> None:
    """Raises Refusal before any work is done for a file that can't be written."""
    if out.suffix.lower() not in suffixes:
        raise Refusal(f"OUT={out}: expected a name that ends in {', '.join(suffixes[:-1])} or {suffixes[-1]}, found "
                      f"'{out.suffix}': for instance OUT={example}")
    if not out.parent.is_dir():
        raise Refusal(f"OUT={out}: expected the folder {out.parent}, found none: make it first")
    if out.exists() and given.exists() and out.samefile(given):
        raise Refusal(f"OUT={out}: expected another file than IN, found the same: name a new one")


def add_options(parser: argparse.ArgumentParser, weights: str = "seeded") -> None:
    """What every player can be asked for."""
    parser.add_argument("--weights", default=weights, choices=WEIGHTS, help="which build to play (default %(default)s)")
    parser.add_argument("--artifacts", type=Path, metavar="FOLDER", help="a release's assets instead of a build")
    parser.add_argument("--variant", default="int8", help="fp32, fp16 or int8 (default %(default)s)")


def built(model: str, weights: str) -> Path:
    """The folder of a model's build of the weights that are asked for, or of those that are bundled instead."""
    return Path("build") / recipe.kind(recipe.read(ROOT, model), weights) / model


def artifacts(model: str, asked: argparse.Namespace) -> Path:
    """The folder of the artifacts that are asked for. Raises Refusal where there is none."""
    if asked.artifacts:
        if not asked.artifacts.is_dir():
            raise Refusal(f"ARTIFACTS={asked.artifacts}: expected a folder with a release's assets, found none: "
                          "give its path")
        return asked.artifacts
    folder = built(model, asked.weights) / "compose"
    if not folder.is_dir():
        setting = "CHECKPOINT=folder" if asked.weights == "custom" else f"WEIGHTS={asked.weights}"
        raise Refusal(f"{folder}: expected the build's artifacts, found none: run make {model} {setting}")
    return folder


def require_verified(model: str, asked: argparse.Namespace, artifact: Artifact) -> None:
    """Raises Refusal for an artifact of a build that hasn't passed its gates, or of no release, whose have."""
    if asked.artifacts:
        sums = asked.artifacts / SUMS
        listed = checksums.listed(sums, sums, "download it again")
        if listed.get(artifact.path.name) != artifact.sha256:
            raise Refusal(f"{artifact.path}: expected the SHA-256 that {SUMS} beside it has, found "
                          f"{'another' if artifact.path.name in listed else 'none there'}: download both from one "
                          "release again")
        return
    path = built(model, asked.weights) / "verify" / "manifest.json"
    passed = json.loads(path.read_text())["inputs"] if path.is_file() else []
    if artifact.sha256 not in [file["sha256"] for file in passed]:
        raise Refusal(f"{artifact.path}: expected an artifact that has passed its gates, found one that hasn't: "
                      f"run make {model}")


def ticking(call: Callable[[], Result], tick: Callable[[], object]) -> Result:
    """What the call returns; a clock ticks until it does.

    A call into ONNX Runtime, a minute long perhaps, tells nothing on its way and hears no Ctrl-C.
    """
    outcome: list[Any] = []

    def attempt() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.5)
        tick()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def write_whole(out: Path, write: Callable[[Path], None]) -> None:
    """Have the file written beside its place and put there when it is whole."""
    beside = out.with_name(f".{out.name}.partial")
    try:
        write(beside)
        beside.replace(out)
    except OSError as error:
        raise Refusal(f"{out}: can't be written ({error.strerror}): name another OUT or free the way") from error
    finally:
        beside.unlink(missing_ok=True)
    progress(f"wrote {out}")
