"""`make bench`: every artifact against the original framework, in turn, in one run.

For each number of threads and each work the original (in its own toolchain), the export as its
converter wrote it, and the finished artifacts take turns for several rounds, so that a machine whose
speed drifts is the same machine for all. The most memory that each takes is that of a process of its
own. Medians and ratios go to bench.json, bench.md and bench.svg under build/<weights>/<model>/bench/.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts import chart, command, manifest, recipe
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, FEWEST = 7, 3
ENOUGH = 60  # seconds of a work, after which the fewest rounds will do
THREADS = (1, 2)


class Contestant:
    """A process that holds one side's models and times one of them each time it is asked."""

    def __init__(self, toolchain: str, side: str, model: str, like: str, folder: Path, threads: int):
        words = ["python", "-m", "scripts.contestant", side, model, like, str(folder), str(threads)]
        self.log = ROOT / folder / f"bench-{side}.log"
        self.process = subprocess.Popen([ROOT / "scripts/in", toolchain, *words], cwd=ROOT, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"))
        self.names: list[str] = json.loads(self.heard())

    def heard(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise Refusal(f"a side of the bench stopped: the story is in {self.log.relative_to(ROOT)}")
        return line

    def turn(self, name: str) -> tuple[float, float]:
        """Milliseconds of a call of the named model, and the most memory that its process has taken, in MB."""
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        milliseconds, memory = map(float, self.heard().split())
        return milliseconds, memory

    def leave(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.log.unlink()


def bench(model: str, weights: str) -> dict[str, Any]:
    """The medians in ms by contestant and number of threads. Raises Refusal if the model isn't built."""
    told = recipe.read(ROOT, model)
    weights = recipe.kind(told, weights)
    folder = Path("build") / weights / model
    for stage in ("fetch", "export", "compose"):
        if damage := manifest.damage(folder / stage, manifest.sha256):
            raise Refusal(f"{damage}: run make {model} WEIGHTS={weights} before make bench")
    toolchains = {"original": told["toolchain"], "onnx": "torch"}

    def start(side: str, threads: int) -> Contestant:
        return Contestant(toolchains[side], side, model, told.get("like", model), folder, threads)

    medians: dict[str, dict[str, float]] = {}
    counts = set()
    for threads in THREADS:
        print(f"{model}, threads: {threads}", flush=True)
        sides = {side: start(side, threads) for side in toolchains}
        entries = [(side, name) for side in sides for name in sides[side].names]
        for work in dict.fromkeys(name.split("/")[0] for _, name in entries if name.endswith("/original")):
            print(f"  {work}", flush=True)
            turns = [(side, name) for side, name in entries if name.split("/")[0] == work]
            for name, measured in rounds(sides, turns).items():
                medians.setdefault(name, {})[str(threads)] = statistics.median(measured)
                counts.add(len(measured))
        for side in sides.values():
            side.leave()
    memory = {}
    for side, name in entries:
        if name in medians:
            alone = start(side, THREADS[0])
            _, memory[name] = alone.turn(name)
            alone.leave()
    own = [*told["variants"], *(f"{name} tflite" for name in told.get("lite", {}))]
    rivals = [name.split("/")[1] for name in medians]
    order = list(dict.fromkeys(["original", *(name for name in rivals if name not in own), *own]))
    medians = {f"{work}/{name}": medians[f"{work}/{name}"] for work in dict.fromkeys(
        name.split("/")[0] for name in medians) for name in order if f"{work}/{name}" in medians}
    return {"model": model, "weights": weights, "date": datetime.date.today().isoformat(), "machine": machine(),
            "rounds": " to ".join(map(str, sorted({min(counts), max(counts)}))), "medians": medians,
            "ratios": ratios(medians), "memory": memory}


def ratios(medians: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The original's time over that of each contestant, to two places, by contestant and number of threads."""
    return {name: {threads: round(medians[f"{name.split('/')[0]}/original"][threads] / one, 2)
                   for threads, one in measured.items()} for name, measured in medians.items()}


def rounds(sides: dict[str, Contestant], turns: list[tuple[str, str]]) -> dict[str, list[float]]:
    """The milliseconds of each contestant of a work, a number a round, by name; one round before warms up."""
    times: dict[str, list[float]] = {name: [] for _, name in turns}
    started = time.monotonic()
    for number in range(-1, ROUNDS):
        if number >= FEWEST and time.monotonic() - started > ENOUGH:
            break
        for side, name in turns:
            milliseconds, _ = sides[side].turn(name)
            if number >= 0:
                times[name].append(milliseconds)
    return times


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def plural(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def table(result: dict[str, Any]) -> list[str]:
    """The result as lines of a Markdown table; a ratio is the original's time over the contestant's."""
    memory = result["memory"]
    lines = [f"{result['model']}, {result['weights']} weights, median of {result['rounds']} rounds, "
             f"{result['date']}, {result['machine']}", "",
             f"| component | contestant | {' | '.join(f'{plural(t)}, ms | ratio' for t in THREADS)} |"
             + " memory, MB |" * bool(memory),
             "|---|---|" + "---:|---:|" * len(THREADS) + "---:|" * bool(memory)]
    for name, measured in result["medians"].items():
        work, contestant = name.split("/")
        cells = [f"{measured[str(t)]:.1f} | {result['ratios'][name][str(t)]:.2f}x" for t in THREADS]
        lines.append(f"| {work} | {contestant} | {' | '.join(cells)} |"
                     + (f" {memory[name]:,.0f} |" if memory else ""))
    return lines


def main() -> int:
    parser = command.Parser(prog="scripts.bench", description=__doc__)
    parser.add_argument("--weights", default="seeded", choices=("seeded", "released", "tiny", "custom"))
    parser.add_argument("models", nargs="*")
    asked = parser.parse_args()
    for model in asked.models or recipe.models(ROOT):
        result = bench(model, asked.weights)
        out = Path("build") / result["weights"] / model / "bench"
        (ROOT / out).mkdir(exist_ok=True)
        (ROOT / out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
        (ROOT / out / "bench.md").write_text("\n".join(table(result)) + "\n")
        (ROOT / out / "bench.svg").write_text(chart.draw(result), encoding="utf-8")
        print("\n".join(table(result)), f"\npicture: {out / 'bench.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
