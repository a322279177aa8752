"""Takes every network the way of its user, in a copy of the tree: `python -m tests.networks.cast OUT.json [NAME…]`.

Its weights are written by the framework; `make new` makes a folder of them, into which the user's own part goes (the
class, the names of ports); the driver of `make` brings it from fetch to verify; and every artifact is asked what the
framework was asked. new.py and build.py are the real ones and run in this process; what they start, the stages, runs
in one process a toolchain.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from scripts import build, command, kernels, manifest, new
from scripts.job import Refusal
from tests.networks import cases, processes

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMEWORKS = {"tensorflow": "legacy", "pytorch": "torch", "flax": "jax"}
LEAST = {"fp32": 90, "fp16": 50, "int8": 20}  # dB, the gates of the recipe that make new writes
EQUAL = 200.0  # dB, where there is no error
Told = dict[str, Any]


def written(framework: str, folder: Path, names: list[str]) -> list[Told]:
    """What a framework's process tells of the networks that it has written into a folder."""
    words = ["scripts/in", FRAMEWORKS[framework], "python", "-m", f"tests.networks.{framework}", str(folder), *names]
    status, _, errors = processes.asked(words, "")
    if status:
        raise Refusal(f"tests/networks/{framework}.py: expected its networks, found: {errors}")
    return json.loads((folder / "networks.json").read_text())


def outcome(told: Told, framework: str) -> Told:
    """What became of a network: `kind` is equal, refused (a sentence, `said`, at the command or stage `where`), fails
    (a crash) or wrong (artifacts that passed their gates and don't answer as the framework does).

    `snr_db` and `bytes` are those of each variant.
    """
    kept = {"framework": framework, **{key: told[key] for key in ("name", "shows", "then", "did")}}
    at = "make new"
    try:
        folder = made(told, FRAMEWORKS[framework])
        provide(folder, told)
        one = build.Build(told["name"], "seeded", build.Origin(None, None, None, None),
                          manifest.Hashes(ROOT / "build/.hashes.json"))
        with command.alone(ROOT / one.folder) as one.held:
            for stage in one.pending(build.STAGES):
                at = stage.name
                one.run(stage)
    except Refusal as refusal:
        said = str(refusal).removeprefix(f"{told['name']} {at}: ")
        return {**kept, "kind": "fails" if f"{told['name']} {at} failed (" in said else "refused", "where": at,
                "said": plain(said, told)}
    except Exception as error:
        return {**kept, "kind": "fails", "where": at, "said": plain(f"{type(error).__name__}: {error}", told)}
    found = dict(measured(one.folder / "compose", told))
    sound = all(found[variant][0] >= least for variant, least in LEAST.items())
    return {**kept, "kind": "equal" if sound else "wrong", "snr_db": {name: snr for name, (snr, _) in found.items()},
            "bytes": {name: size for name, (_, size) in found.items()}}


def plain(said: str, told: Told) -> str:
    """A sentence without the places of this run."""
    for place in (Path(told["path"]).parent, ROOT):
        said = said.replace(f"{place}/", "")
    return re.sub(r"; all that was measured is in \S+|: the whole story is in \S+", "", " ".join(said.split()))


def made(told: Told, toolchain: str) -> Path:
    """The folder that make new makes, its ports those of the network where weights can't tell them."""
    reader = new.READERS[toolchain]

    def named(path: Path) -> new.Given:
        given = reader(path)
        return given._replace(ports={kind: told[kind] for kind in ("inputs", "outputs")}) if told["outputs"] else given

    new.READERS[toolchain] = named
    try:
        return new.new(told["name"], Path(told["path"]), toolchain, told["signature"])[0]
    finally:
        new.READERS[toolchain] = reader


def provide(folder: Path, told: Told) -> None:
    """Do the user's part: put the classes into their files, and change what is to be changed."""
    for file, source in told["source"].items():
        name = re.search(r"^class (\w+)", source, re.MULTILINE)[1]
        text = (folder / file).read_text()
        if file == "ask.py":
            source = re.sub(rf"\b{name}\b", "Network", source)
            text = replaced(text, r"class Network\(.*?(?=\n\n\n)", source)
        else:
            text = replaced(text, r"(?<=^def network\(\) -> torch\.nn\.Module:\n).*?(?=\n\n\n)", f"    return {name}()")
            text = replaced(text, r"^(?=def network)", f"{source}\n\n\n")
        (folder / file).write_text(text)
    for file, old, text in told["edits"]:
        whole = (folder / file).read_text()
        assert old in whole, f"{folder.name}/{file} has no {old!r}"
        (folder / file).write_text(whole.replace(old, text))


def replaced(text: str, pattern: str, put: str) -> str:
    found, times = re.subn(pattern, lambda _: put, text, count=1, flags=re.DOTALL | re.MULTILINE)
    assert times, f"{pattern} isn't in {text}"
    return found


def measured(folder: Path, told: Told) -> Iterator[tuple[str, tuple[float, int]]]:
    """Signal to error in dB of each variant against the framework, the least of all answers, and the file's bytes."""
    cases: dict[str, dict[str, np.ndarray]] = {}
    with np.load(Path(told["path"]).parent / "answers.npz") as arrays:
        for key in arrays:
            case, _, name = key.partition("/")
            cases.setdefault(case, {})[name] = arrays[key]
    for variant in LEAST:
        path = folder / f"{told['name']}-model-{variant}.onnx"
        session = onnxruntime.InferenceSession(path, kernels.exact_options(), providers=["CPUExecutionProvider"])
        snr = EQUAL
        for arrays in cases.values():
            feed = {port.name: arrays[port.name] for port in session.get_inputs()}
            for port, answer in zip(session.get_outputs(), session.run(None, feed), strict=True):
                if answer.dtype == np.float32 or variant == "fp32":  # a rounded variant may choose another number
                    snr = min(snr, decibels(arrays[port.name], answer))
        yield variant, (snr, path.stat().st_size)


def decibels(expected: np.ndarray, found: np.ndarray) -> float:
    """Signal to error; whole numbers, and what is infinite or none, have to be the same."""
    same = np.isfinite(expected)
    if expected.shape != found.shape or not np.array_equal(expected[~same], found[~same], equal_nan=True):
        return -EQUAL
    signal, given = expected[same].astype(np.float64), found[same].astype(np.float64)
    power, error = np.square(signal).sum(), np.square(signal - given).sum()
    if not np.isfinite(error) or (error and expected.dtype.kind != "f"):
        return -EQUAL
    if not error or not power:
        return -EQUAL if error else EQUAL
    return float(np.clip(10 * np.log10(power / error), -EQUAL, EQUAL))


def main() -> int:
    out, names = Path(sys.argv[1]), sys.argv[2:]
    new.subprocess = build.subprocess = processes
    found = []
    place = ROOT / "build/networks"
    shutil.rmtree(place, ignore_errors=True)
    try:
        for framework in FRAMEWORKS:
            own = [name for name in cases.names(framework) if name in names or not names]
            for told in written(framework, place / framework, own) if own else []:
                found.append(outcome(told, framework))
                print(json.dumps(found[-1]), flush=True)
    finally:
        processes.close()
    out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
