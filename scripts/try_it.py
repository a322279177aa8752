"""Checks a release's assets: python try_it.py [FILE ...], in their folder, with onnxruntime and NumPy alone.

Each file's SHA-256 is compared with manifest.json's; each graph is run on its test vector, and what it returns compared
with what the original framework returned. Without names, every asset that is there is checked. Exit status 1 if
anything differs.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main(names):
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    artifacts = {one["file"]: one for model in manifest["models"].values() for one in model["artifacts"]}
    unknown = sorted(set(names) - set(artifacts))
    if unknown:
        sys.exit(f"error: {', '.join(unknown)}: expected artifacts of {manifest['version']}, found none of this name "
                 "in manifest.json")
    flaws = {}
    for name in names or [name for name in artifacts if (folder / name).is_file()]:
        flaw, said = check(folder, artifacts[name], manifest["files"])
        print(f"{name:<36} {'WRONG: ' + flaw if flaw else said}", flush=True)
        if flaw:
            flaws[name] = flaw
    sys.exit(f"error: {len(flaws)} of the assets aren't what manifest.json says: download them again" if flaws else 0)


def check(folder, artifact, files):
    """What is wrong with an artifact, or nothing, and what was seen."""
    needed = [artifact["file"], artifact.get("weights_file"), artifact.get("vector")]
    for name in filter(None, needed):
        if not (folder / name).is_file():
            return f"{name} is missing: download it too", ""
        found = sha256(folder / name)
        if found != files[name]["sha256"]:
            return f"{name} has the SHA-256 {found}, expected {files[name]['sha256']}", ""
    if "vector" not in artifact:
        return "", "hash matches; ONNX Runtime doesn't run this format"
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact 8-bit products on x86 without VNNI
    session = onnxruntime.InferenceSession(str(folder / artifact["file"]), options, providers=["CPUExecutionProvider"])
    with np.load(folder / artifact["vector"], allow_pickle=False) as arrays:
        returned = session.run(None, {port.name: arrays[port.name] for port in session.get_inputs()})
        for port, found in zip(session.get_outputs(), returned):
            expected, bound = arrays[port.name], artifact["checks"][port.name]
            if found.shape != expected.shape:
                return f"{port.name} is of shape {found.shape}, expected {expected.shape}", ""
            share = np.mean(np.abs(found.astype(np.float64) - expected) <= bound["tolerance"])
            if not share >= bound["share"]:
                return (f"{share:.1%} of {port.name} within {bound['tolerance']:g} of the original, expected "
                        f"{bound['share']:.1%}"), ""
    return "", "hash matches, and so does what it returns"


def sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
