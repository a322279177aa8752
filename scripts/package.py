"""`make package`: the artifacts of finished builds as a release's assets, in dist/<tag>/, each of which can be checked.

Beside the artifacts, under their own names: a card a model, test vectors (what the original framework was asked and
returned), try_it.py, which checks an asset against them, manifest.json (of the form that docs/manifest.schema.json
says), a bill of materials, a provenance statement, the release's text, and SHA256SUMS over all of it. Equal builds of
one commit give equal bytes; what was measured, and the last bits of test vectors, are those of the machine that
verified the build. Runs in the toolchain `release`.
"""

import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from scripts import card, checksums, command, identity, manifest, matrix, provenance, recipe, reference, sources
from scripts.docs import pages
from scripts.gates import MOST_BYTES
from scripts.job import Refusal, progress

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "docs/manifest.schema.json"
DIGITS = 2  # of what was measured
SLACK, SHARE = 4, 0.9  # times the error that was measured, and of the share that was equal: what another CPU may do

Told = dict[str, Any]


def package(models: list[str], weights: str, tag: str) -> Path:
    """Write dist/<tag>/ from verified builds. Raises Refusal where one isn't there or recorded, or a file too large."""
    if bound := [model for model in models if "custom_ops" in recipe.read(ROOT, model)]:
        raise Refusal(f"{bound[0]}: expected artifacts that any ONNX Runtime runs, found operators of its recipe's "
                      "own, whose kernels a release doesn't hold: write them as texts, or name other MODELS")
    commit = provenance.commit(ROOT)
    place = ROOT / "dist" / tag
    partial = place.with_name(f".{tag}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        told = {"schema": 1, "version": tag, "weights": weights, "commit": commit, "models": {}, "files": {}}
        for model in models:
            progress(f"  {model:<12} packaging")
            described = recipe.read(ROOT, model)
            kind = recipe.kind(described, weights)
            with command.alone(ROOT / "build" / kind / model):
                require_whole(model, kind)
                told["models"][model] = assemble(model, kind, described, partial)
            text = card.card(model, told, pages.text(ROOT, Path("models") / model / "README.md"))
            (partial / f"{model}.md").write_text(text, encoding="utf-8")
        shutil.copyfile(ROOT / "scripts/try_it.py", partial / "try_it.py")
        (partial / "notes.md").write_text(card.notes(told, changes(tag)), encoding="utf-8")
        told["files"] = files(partial)
        if large := [name for name, file in told["files"].items() if file["bytes"] > MOST_BYTES]:
            raise Refusal(f"{large[0]}: expected at most {MOST_BYTES:,} bytes, as GitHub takes, found "
                          f"{told['files'][large[0]]['bytes']:,}: put its weights into several files")
        (partial / "sbom.cdx.json").write_text(provenance.bill(ROOT, told), encoding="utf-8")
        (partial / "provenance.intoto.json").write_text(provenance.statement(told), encoding="utf-8")
        told["files"] = files(partial)
        jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
        (partial / "manifest.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        sums = [f"{file['sha256']}  {name}\n" for name, file in files(partial).items()]
        (partial / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def files(folder: Path) -> Told:
    """The files of a folder with their sizes and hashes, by name."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": manifest.sha256(path)}
            for path in sorted(folder.iterdir())}


def require_whole(model: str, weights: str) -> None:
    """Raises Refusal for a build that isn't finished, or not the recorded one, to the last byte."""
    folder = ROOT / "build" / weights / model
    for stage in ("compose", "verify"):
        if damage := manifest.damage(folder / stage, manifest.sha256):
            raise Refusal(f"{damage}: run make {model} WEIGHTS={weights} before make package")
    if flaws := checksums.verify(weights, model):
        raise Refusal(flaws[0])


def assemble(model: str, weights: str, described: Told, out: Path) -> Told:
    """Copy a model's artifacts and write its test vectors; returns what the manifest says of it."""
    folder = ROOT / "build" / weights / model
    report = json.loads((folder / "verify/report.json").read_text())
    asked = folder / ("ask" if "exporter" in described else "export") / "reference.npz"
    vectors = {component: vector(f"{model}-{component}.npz", cases, out)
               for component, cases in reference.read(asked).items() if component in described["components"]}
    artifacts = []
    for one in report["artifacts"]:
        for name in (one["file"], *one["beside"]):
            if not (out / name).exists():
                shutil.copyfile(folder / "compose" / name, out / name)
        name, case, arrays = vectors[one["component"]]
        format_ = Path(one["file"]).suffix[1:]
        artifacts.append({
            "file": one["file"], "component": one["component"], "variant": one["variant"], "format": format_,
            "bytes": one["bytes"], "sha256": manifest.sha256(out / one["file"]),
            **({"weights_file": one["beside"][0]} if one["beside"] else {}),
            **({"vector": name, "checks": checks(described["components"][one["component"]], arrays,
                                                 {row["port"]: row for row in one["measured"]
                                                  if row["case"] == case and "together" not in row})}
               if format_ == "onnx" else {}),
            "gates": [{key: rounded(value) if key == "measured" else value for key, value in gate.items()
                       if key not in ("text", "passed")} for gate in one["gates"]],
        })
    own = ("title", "task", "upstream", "code_licence", "weights_licence", "attribution")
    return {
        **{key: described[key] for key in own},
        "recipe_version": described["version"], "opset": described["opset"], "card": f"{model}.md",
        "source": source_of(folder / "fetch", described, weights), "toolchains": toolchains(described),
        "components": {name: {key: component[key] for key in ("about", "inputs", "outputs")}
                       for name, component in described["components"].items()},
        "artifacts": artifacts, "vectors": sorted(name for name, _, _ in vectors.values()),
        **({"guessed": True} if report.get("guessed") else {}),
    }


def vector(name: str, cases: reference.Cases, out: Path) -> tuple[str, str, dict[str, np.ndarray]]:
    """Write the smallest case of a component: what the original was asked and what it returned, by port."""
    case = min(cases, key=lambda one: (sum(array.nbytes for array in cases[one].values()), one))
    told = {port: array for port, array in sorted(cases[case].items()) if not port.endswith(reference.EXACT)}
    np.savez(out / name, **told)
    return name, case, told


def checks(component: Told, arrays: dict[str, np.ndarray], measured: dict[str, Told]) -> Told:
    """How close an artifact must come to its vector: what share of each output within what tolerance."""
    found = {}
    for port in component["outputs"]:
        expected, row = arrays[port["name"]], measured[port.get("group", port["name"])]
        if np.array_equal(expected, np.round(expected)):  # decisions: codes, tokens, notes
            found[port["name"]] = {"tolerance": 0, "share": rounded(SHARE * row["equality"])}
        else:
            least = 1e-5 * max(1, float(np.abs(expected).max()))
            found[port["name"]] = {"tolerance": rounded(max(least, SLACK * row["max_error"])), "share": 0.999}
    return found


def rounded(value: float) -> float:
    """A figure with no more digits than another machine would measure again."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def source_of(fetch: Path, described: Told, weights: str) -> Told:
    """What the weights were: their kind, one hash over the files, and of the authors' where they came from."""
    told: Told = {"kind": weights, "sha256": identity.source_hash(fetch)}
    if weights == "released":
        known = sources.get(ROOT, described["sources"]["released"]["source"])
        told |= {"url": known["url"], "licence_text": known["licence_text"], **sources.proofs(known)}
    return told


def toolchains(described: Told) -> Told:
    """The toolchains that a model was made in: the hash of each one's lock, and the image that was pushed, if any."""
    images = tomllib.loads((ROOT / "checksums/images.toml").read_text())
    found = {}
    for name in matrix.toolchains(described):
        lock = manifest.sha256(ROOT / "images" / name / "requirements.lock")
        pushed = images.get(name, {}).get("pushed", {})
        found[name] = {"lock": lock, **({"image": f"{pushed['repository']}@{pushed['manifest']}"}
                                        if pushed.get("lock") == lock else {})}
    return found


def changes(tag: str) -> str:
    """The changelog's section of a version, or else of what isn't released."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for title in (tag.removeprefix("v"), "Unreleased"):
        if found := text.partition(f"\n## {title}")[2]:
            return found.partition("\n")[2].partition("\n## ")[0].strip()
    return ""


def main() -> int:
    parser = command.Parser(prog="scripts.package", description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--weights", default="seeded", choices=("seeded", "released", "tiny"))
    parser.add_argument("--tag", default="untagged")
    asked = parser.parse_args()
    if not asked.tag.replace(".", "").replace("-", "").isalnum():
        raise Refusal(f"TAG={asked.tag}: expected letters, digits, dots and dashes, for instance v1.0.0")
    with command.alone(ROOT / "build/package"):
        place = package(asked.models or recipe.models(ROOT), asked.weights, asked.tag)
    files = sorted(place.iterdir())
    print(f"{place.relative_to(ROOT)}: {len(files)} files, {sum(file.stat().st_size for file in files):,} bytes; "
          "sha256sum -c SHA256SUMS there checks them, python try_it.py runs them")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
