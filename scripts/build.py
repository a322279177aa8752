"""The driver behind `make all`: brings every model from fetch to verify, and checks the bytes.

Runs on the machine's own Python 3.11 with the standard library alone, and starts each
stage that isn't up to date in its toolchain. A stage is up to date when its key is that
of its manifest and its files are intact, whatever their times say.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from scripts import checksums, command, manifest, recipe, source, sources
from scripts.job import REFUSED, Refusal, module_name

ROOT = Path(__file__).resolve().parent.parent
SPARE_BYTES = 64 * 10**6
LINES, LETTERS = 3, 300  # of an exception that is told as the reason of a failure
ERROR = "error: "  # how a download that has standard error for its bar says what is wrong


class Stage(NamedTuple):
    name: str
    toolchain: str | None  # None: the model's own
    reads: tuple[str, ...]
    own: tuple[str, ...]  # the model's modules that the stage calls, where it has them


STAGES = (
    Stage("fetch", None, (), ("seeded",)),
    Stage("ask", None, ("fetch",), ("ask",)),
    Stage("export", None, ("fetch", "ask"), ("export", "rewrites")),
    Stage("optimize", "torch", ("export",), ()),
    Stage("quantize", "torch", ("optimize",), ("inputs", "kernels")),
    Stage("lite", None, ("fetch", "export"), ("lite",)),
    Stage("compose", "torch", ("quantize", "lite", "export", "fetch"), ("compose",)),
    Stage("verify", "torch", ("compose", "lite", "export", "ask"), ("kernels",)),
)
NAMES = tuple(stage.name for stage in STAGES)


class Origin(NamedTuple):
    """Where weights come from that a build doesn't make up."""
    checkpoint: Path | None  # the user's own
    sources: Path | None  # a folder of the authors' files, as the user has them
    mirror: str | None
    trust: str | None


class Build:
    """One model's build: its recipe, its folder, and which stages are to be run."""

    def __init__(self, model: str, weights: str, origin: Origin, hashes: manifest.Hashes, route: str | None = None):
        self.model, self.origin, self.hashes = model, origin, hashes
        self.recipe = recipe.read(ROOT, model)
        self.weights = recipe.kind(self.recipe, weights)
        self.checkpoint = ROOT / "models" / model / "source" if self.weights == "bundled" else origin.checkpoint
        if self.weights not in ("released", *self.recipe["sources"]):
            raise Refusal(f"{model}: expected {self.weights} weights in its recipe, found "
                          f"{', '.join(self.recipe['sources'])}: use WEIGHTS= with one of those")
        if route:
            self.recipe["route"] = self.taken(route)
        self.judged = self.weights != "custom" and not route  # by checksums/
        self.source = self.recipe["sources"].get("released", {}).get("source")
        self.known = self.learn() if self.weights == "released" else None
        self.folder = Path("build") / (f"{self.weights}-{route}" if route else self.weights) / model
        self.held: TextIO | None = None  # the lock of its folder
        self.missed = ROOT / self.folder / "missed.md"

    def taken(self, route: str) -> str:
        """The route, where the model's export can go it. Raises Refusal where it can't."""
        if route not in self.recipe.get("routes", []):
            raise Refusal(f"{self.model}: expected a model that ROUTE={route} leads to, found one whose recipe doesn't "
                          "name it: TensorFlow.js takes a graph of TensorFlow without ops such as GrooVAE's "
                          "LSTMBlockCell; leave out ROUTE")
        return route

    def has(self, stage: str) -> bool:
        """Whether the model has this stage: lite, and ask where another toolchain exports, if its recipe says so."""
        return {"lite": "lite" in self.recipe, "ask": "exporter" in self.recipe}.get(stage, True)

    def reads(self, stage: Stage) -> list[str]:
        return list(filter(self.has, stage.reads))

    def toolchain(self, stage: Stage) -> str:
        own = self.recipe["toolchain"]
        return stage.toolchain or (self.recipe.get("exporter", own) if stage.name == "export" else own)

    def lock(self, stage: Stage) -> Path:
        return ROOT / "images" / self.toolchain(stage) / "requirements.lock"

    def key(self, stage: Stage) -> str:
        """What decides the stage's bytes; needs the manifests of the stages that it reads."""
        modules = [f"scripts.{stage.name}", *(module_name(self.model, self.recipe, own) for own in stage.own)]
        told = dict(self.recipe, sources=self.recipe["sources"][self.weights])
        if stage.name != "verify":
            del told["gates"]
        answers = ROOT / "models" / self.model / "answers.npz"  # the owner's, of the weights that are bundled
        owned = stage.name == "verify" and self.weights == "bundled" and answers.is_file()
        return manifest.key({
            "stage": stage.name,
            **({"answers": self.hashes(answers)} if owned else {}),
            "weights": self.weights,
            "recipe": told,
            "code": manifest.code(ROOT, modules),
            "lock": manifest.file_hash(self.lock(stage)),
            "reads": {name: manifest.sha256(ROOT / self.folder / name / "manifest.json") for name in self.reads(stage)},
            "checkpoint": self.checkpoint_hashes() if stage.name == "fetch" else None,
        })

    def checkpoint_hashes(self) -> dict[str, Any] | None:
        """What tells the files that the stage fetch copies from others; released ones may be gone from the cache."""
        if self.weights not in ("custom", "bundled"):
            return self.known
        files = source.files(self.checkpoint, self.recipe["sources"]["custom"])
        return {name: self.hashes(path) for name, path in source.by_name(files).items()}

    def learn(self) -> dict[str, Any]:
        """What is known of the released files, and where they lie if they are there."""
        if not self.source:
            raise Refusal(f"{self.model}: expected a source under [sources.released] in its recipe, found none: use "
                          "WEIGHTS=seeded, or CHECKPOINT=path")
        told = sources.get(ROOT, self.source)
        found = sources.find(self.source, told, self.origin.sources or sources.cache())
        self.checkpoint = found and found.resolve()  # a link may lead where a container sees nothing
        return sources.proofs(told)

    def provide(self) -> None:
        """Have the released files where they are to be read from, proven. Raises Refusal where they can't be had."""
        words = [ROOT / "scripts/in", "download", "python", "-m", "scripts.download", self.source]
        for option in ("sources", "mirror", "trust"):
            if value := getattr(self.origin, option):
                words += [f"--{option}", str(value)]
        with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              pass_fds=[self.held.fileno()]) as process:
            last = self.follow("fetch", process)
        if process.returncode:
            told = last.removeprefix(ERROR) if last.startswith(ERROR) else "the download failed, see above"
            raise Refusal(f"{self.model} fetch: {told}")
        self.known = self.learn()

    def up_to_date(self, stage: Stage) -> bool:
        folder = ROOT / self.folder / stage.name
        try:
            same = json.loads((folder / "manifest.json").read_text())["key"] == self.key(stage)
        except (OSError, ValueError, KeyError):
            return False
        return same and manifest.damage(folder, self.hashes) is None

    def pending(self, stages: tuple[Stage, ...]) -> Iterator[Stage]:
        """The stages to run; asks for each only after the ones before it are done."""
        for stage in stages:
            if self.has(stage.name) and not self.up_to_date(stage):
                yield stage

    def run(self, stage: Stage) -> None:
        """Run a stage beside its place and put its folder there when it is whole."""
        started = time.monotonic()
        if stage.name == "fetch" and self.weights == "released":
            self.provide()
        key = self.key(stage)
        place = ROOT / self.folder / stage.name
        partial = self.folder / f".{stage.name}.partial"
        say(self.model, stage.name, f"in {self.toolchain(stage)}")
        shutil.rmtree(ROOT / partial, ignore_errors=True)
        (ROOT / partial).mkdir(parents=True)
        try:
            self.start(stage, partial)
            outputs, evidence = manifest.describe(ROOT / partial, self.hashes)
            manifest.write_atomically(ROOT / partial / "manifest.json", json.dumps({
                "model": self.model,
                "stage": stage.name,
                "weights": self.weights,
                "key": key,
                "settings": {"opset": self.recipe["opset"], "variants": self.recipe["variants"],
                             "source": self.recipe["sources"][self.weights],
                             "weights_licence": self.recipe["weights_licence"]},
                "tools": manifest.pins(self.lock(stage)),
                "inputs": [{"file": f"{name}/{file['file']}", "bytes": file["bytes"], "sha256": file["sha256"]}
                           for name in self.reads(stage)
                           for file in json.loads((place.parent / name / "manifest.json").read_text())["outputs"]],
                "outputs": outputs,
            }, indent=1) + "\n")
            seconds = time.monotonic() - started
            manifest.write_atomically(ROOT / partial / "timing.json",
                                      json.dumps({"seconds": round(seconds, 3), "evidence": evidence}) + "\n")
            shutil.rmtree(place, ignore_errors=True)
            (ROOT / partial).rename(place)
        except Refusal as refusal:
            if (ROOT / partial / "report.md").is_file():  # what was measured of artifacts that missed a gate
                (ROOT / partial / "report.md").replace(self.missed)
                raise Refusal(f"{refusal}; all that was measured is in {self.missed.relative_to(ROOT)}") from None
            raise
        finally:
            shutil.rmtree(ROOT / partial, ignore_errors=True)
        self.missed.unlink(missing_ok=True)
        if stage.name == "fetch" and self.weights == "custom":
            say(self.model, stage.name, self.vouch(place, outputs))
        say(self.model, stage.name, f"done in {seconds:.1f} s")

    def vouch(self, place: Path, outputs: list[dict[str, Any]]) -> str:
        """What can be said of where the user's own checkpoint is from, whose files lie in a place."""
        told = sources.get(ROOT, self.source) if self.source else {}
        return f"{self.checkpoint}: " + sources.vouch(told, place, {one["file"]: one["sha256"] for one in outputs})

    def start(self, stage: Stage, out: Path) -> None:
        """Run the stage's module in its toolchain. Raises Refusal with its sentence where it fails."""
        log = ROOT / self.folder / f"{stage.name}.log"
        told = json.dumps({
            "model": self.model, "weights": self.weights, "recipe": self.recipe,
            "inputs": {name: str(self.folder / name) for name in self.reads(stage)},
            "out": str(out), "checkpoint": self.checkpoint and str(self.checkpoint).removeprefix(f"{ROOT}/"),
        })
        words = [ROOT / "scripts/in", self.toolchain(stage), "python", "-m", f"scripts.{stage.name}"]
        with log.open("w", encoding="utf-8") as errors, subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, "CHECKPOINT": str(self.checkpoint or "")},  # scripts/in shows it to a container
                pass_fds=[self.held.fileno()]) as process:  # the lock is held until the stage has ended
            self.follow(stage.name, process, told)
        if process.returncode == 0:
            log.unlink()
            return
        lines = log.read_text(encoding="utf-8").strip().splitlines()
        if process.returncode == REFUSED and lines:
            raise Refusal(f"{self.model} {stage.name}: {lines[-1]}")
        if (free := shutil.disk_usage(ROOT / self.folder).free) < SPARE_BYTES:  # where even a log may find no room
            raise Refusal(f"{self.model} {stage.name} failed with {free // 10**6} MB of disk left: the disk is full, "
                          "free some space and run make again")
        why = reason(lines) or f"exit status {process.returncode}"
        raise Refusal(f"{self.model} {stage.name} failed ({why}): the whole story is in {log.relative_to(ROOT)}")


    def follow(self, stage: str, process: subprocess.Popen, told: str | None = None) -> str:
        """Tell a process what it is to do, and the user each line that it says but for an error; returns the last."""
        line = ""
        _running.add(process)
        if _stopping.is_set():
            process.terminate()
        try:
            if told is not None:
                process.stdin.write(told)
                process.stdin.close()
            for line in process.stdout:
                if not line.startswith(ERROR):
                    say(self.model, stage, line.rstrip())
        except BrokenPipeError:
            pass  # it ended before it read; its exit status tells
        finally:
            _running.discard(process)
        return line.rstrip()


def reason(lines: list[str]) -> str:
    """What a log's last traceback says that went wrong: its exception, with what follows, cut; else the last line."""
    begins = max((number for number, line in enumerate(lines) if line.startswith("Traceback ")), default=None)
    if begins is None:
        return lines[-1] if lines else ""
    said = list(itertools.dropwhile(lambda line: line.startswith(" ") or not line, lines[begins + 1:]))
    text = " ".join(line.strip() for line in said[:LINES] if line.strip())
    text = re.sub(r"^(?:\w+\.)+(?=\w+:)", "", text)
    return text if len(text) <= LETTERS else f"{text[:LETTERS - 1]}…"


_printing = threading.Lock()
_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


def say(model: str, stage: str, what: str) -> None:
    with _printing:
        print(f"  {model:<12} {stage:<9} {what}", flush=True)


def build(models: list[str], weights: str, until: str, jobs: int, origin: Origin, route: str | None) -> int:
    """Bring the models to the stage `until`; returns the exit status."""
    hashes = manifest.Hashes(ROOT / "build" / ".hashes.json")
    stages = STAGES[:NAMES.index(until) + 1]
    builds = [Build(model, weights, origin, hashes, route) for model in models]
    if weights == "released" and origin.sources:
        builds = present(builds, origin.sources)

    def bring(one: Build) -> None:
        with one.held:
            for stage in one.pending(stages):
                if _stopping.is_set():
                    return
                one.run(stage)

    stale = [one for one in builds if next(one.pending(stages), None)]
    download = {"download"} if any(one.weights == "released" for one in stale) else set()
    for toolchain in sorted({one.toolchain(stage) for one in stale for stage in stages} | download):
        if subprocess.run([ROOT / "scripts/in", toolchain], check=False).returncode:
            return REFUSED
    for one in sorted(stale, key=lambda one: one.folder):  # in one order, so that no two commands wait for each other
        one.held = command.alone(ROOT / one.folder)
    failures = []
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = [pool.submit(bring, one) for one in stale]
        while wait(futures, timeout=0.5).not_done:
            pass  # an interrupt that comes just before an endless wait would not be heard until its end
        for future in futures:
            try:
                future.result()
            except (Refusal, OSError) as error:
                failures.append(str(error))
    except KeyboardInterrupt:
        _stopping.set()
        for process in list(_running):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        with command.alone(ROOT / "build"):
            hashes.save()
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        return REFUSED
    if until != "verify":
        return 0
    if subprocess.run([ROOT / "scripts/in", "player"], stdout=subprocess.DEVNULL, check=False).returncode:
        print("note: the toolchain player isn't made, see above: make play will need the network", file=sys.stderr)
    return table(builds, hashes)


def present(builds: list[Build], folder: Path) -> list[Build]:
    """The builds whose released files are in the folder, or were fetched from it before; says which are left out."""
    def place(one: Build) -> str:
        return f"{one.source}/{sources.file_name(sources.get(ROOT, one.source))}"

    lacking = [one for one in builds
               if one.weights == "released" and one.checkpoint is None and next(one.pending(STAGES[:1]), None)]
    if len(lacking) == len(builds):
        raise Refusal(f"SOURCES={folder}: expected {', or '.join(map(place, builds))} in it, found none: put it there")
    for one in lacking:
        say(one.model, "fetch", f"left out: SOURCES has no {place(one)}")
    return [one for one in builds if one not in lacking]


def table(builds: list[Build], hashes: manifest.Hashes) -> int:
    """Print what came out, a line an artifact; the exit status says whether the bytes are the recorded ones."""
    rows, matched = [("artifact", "variant", "bytes", "against the original", "gate", "SHA-256")], True
    unrecorded = [one.model for one in builds
                  if one.judged and one.weights in ("released", "bundled")
                  and not checksums.recorded(one.weights, one.model)]
    guessed, larger = [], []
    for one in builds:
        recorded = checksums.recorded(one.weights, one.model)
        report = json.loads((ROOT / one.folder / "verify" / "report.json").read_text())
        guessed += [one.model] * report.get("guessed", False)
        larger += grown(report["artifacts"]) if one.weights != "tiny" else []
        for artifact in report["artifacts"]:
            paths = [one.folder / "compose" / name for name in (artifact["file"], *artifact["beside"])]
            found, expected = [hashes(ROOT / path) for path in paths], [recorded.get(str(path)) for path in paths]
            verdict = ("matches" if found == expected else "not recorded" if None in expected
                       else f"differs: {found[0][:12]}…")
            matched &= expected == found or not one.judged or one.model in unrecorded
            gates = [gate for gate in artifact["gates"] if gate.get("port")]
            measured = ", ".join(f"{gate['metric']} {gate['measured']:.3g}" for gate in gates)
            variant = artifact["variant"] + (" tflite" if paths[0].suffix == ".tflite" else "")
            rows.append((f"{one.model}-{artifact['component']}", variant, f"{artifact['bytes']:,}",
                         measured, "passed", verdict if one.judged else found[0][:12] + "…"))
    command.table(rows, numbers={2})
    if larger:
        print(f"larger than fp32, whose weights are few: {', '.join(larger)}")
    for model in guessed:
        print(f"{model} is a guess of make new's: docs/your-own-model.md says how its owner's numbers judge it")
    if unrecorded:
        asked = "make checksums" + " WEIGHTS=released" * any(one.weights == "released" for one in builds)
        print(f"nothing is recorded of {', '.join(unrecorded)} yet: {asked} records what was built")
    if not matched:
        print("error: these bytes are not the recorded ones: if the change was intended, run make checksums",
              file=sys.stderr)
    return 0 if matched else 1


def grown(artifacts: list[dict]) -> list[str]:
    """The files of those that are larger than fp32 of their component."""
    wide = {one["component"]: one["bytes"] for one in artifacts if one["variant"] == "fp32"}
    return [one["file"] for one in artifacts if one["bytes"] > wide.get(one["component"], one["bytes"])]


def main() -> int:
    parser = command.Parser(prog="scripts.build", description=__doc__)
    parser.add_argument("models", nargs="*", help="all of them when none is named")
    parser.add_argument("--weights", default="seeded", choices=("seeded", "released", "tiny", "custom"))
    parser.add_argument("--until", default="verify", choices=NAMES)
    parser.add_argument("--checkpoint", type=lambda path: Path(path).expanduser().resolve())
    parser.add_argument("--sources", type=lambda path: Path(path).expanduser().resolve())
    parser.add_argument("--mirror")
    parser.add_argument("--trust")
    parser.add_argument("--route", choices=recipe.ROUTES)
    parser.add_argument("-j", dest="jobs", type=int, nargs="?", const=os.cpu_count(), default=1)
    asked = parser.parse_args()
    if asked.weights == "custom" and not asked.checkpoint:
        raise Refusal("WEIGHTS=custom needs CHECKPOINT=path, a checkpoint in the upstream's layout")
    return build(list(dict.fromkeys(asked.models)) or recipe.models(ROOT),
                 "custom" if asked.checkpoint else asked.weights, asked.until, asked.jobs,
                 Origin(asked.checkpoint, asked.sources, asked.mirror, asked.trust), asked.route)


if __name__ == "__main__":
    sys.exit(command.run(main))
