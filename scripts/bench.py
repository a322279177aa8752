"""`make bench`: every artifact against the original framework, in turn, in one run.

For each number of threads the original (in its own toolchain), the export as its converter
wrote it, and the finished artifacts take turns for several rounds, so that a machine whose
speed drifts is the same machine for all. Medians and ratios go to bench.json, bench.md and
bench.png under build/<weights>/<model>/bench/.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts import command, manifest, recipe
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7
THREADS = (1, 2)


class Contestant:
    """A process that holds one side's models and times one of them each time it is asked."""

    def __init__(self, toolchain: str, side: str, code: str, folder: Path, threads: int):
        words = ["python", "-m", "scripts.contestant", side, code, str(folder), str(threads)]
        self.log = ROOT / folder / f"bench-{side}.log"
        self.process = subprocess.Popen([ROOT / "scripts/in", toolchain, *words], cwd=ROOT, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"))
        self.names: list[str] = json.loads(self.heard())

    def heard(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise Refusal(f"a side of the bench stopped: the story is in {self.log.relative_to(ROOT)}")
        return line

    def turn(self, name: str) -> float:
        """Milliseconds of a call of the named model."""
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return float(self.heard())

    def leave(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.log.unlink()


def bench(model: str, weights: str) -> dict[str, Any]:
    """The medians in ms by contestant and number of threads. Raises Refusal if the model isn't built."""
    folder = Path("build") / weights / model
    told = recipe.read(ROOT, model)
    for stage in ("fetch", "export", "compose"):
        if damage := manifest.damage(folder / stage, manifest.sha256):
            raise Refusal(f"{damage}: run make {model} WEIGHTS={weights} before make bench")
    own = told["toolchain"]
    medians: dict[str, dict[str, float]] = {}
    for threads in THREADS:
        print(f"{model}, threads: {threads}", flush=True)
        sides = [Contestant(toolchain, side, told.get("like", model), folder, threads)
                 for toolchain, side in ((own, "original"), ("torch", "onnx"))]
        entries = [(side, name) for side in sides for name in side.names]
        times: dict[str, list[float]] = {name: [] for _, name in entries}
        for number in range(-1, ROUNDS):
            print("  warming up" if number < 0 else f"  round {number + 1} of {ROUNDS}", flush=True)
            for side, name in entries:
                milliseconds = side.turn(name)
                if number >= 0:
                    times[name].append(milliseconds)
        for side in sides:
            side.leave()
        for name, measured in times.items():
            medians.setdefault(name, {})[str(threads)] = statistics.median(measured)
    works = [name.split("/")[0] for name in medians]
    own = [*told["variants"], *(f"{name} tflite" for name in told.get("lite", {}))]
    rivals = [name.split("/")[1] for name in medians]
    order = list(dict.fromkeys(["original", *(name for name in rivals if name not in own), *own]))
    medians = {f"{work}/{name}": medians[f"{work}/{name}"] for work in dict.fromkeys(works)
               for name in order if f"{work}/{name}" in medians and f"{work}/original" in medians}
    return {"model": model, "weights": weights, "date": datetime.date.today().isoformat(), "machine": machine(),
            "rounds": ROUNDS, "medians": medians}


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def plural(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def table(result: dict[str, Any]) -> list[str]:
    """The result as lines of a Markdown table; a ratio is the original's time over the contestant's."""
    lines = [f"{result['model']}, {result['weights']} weights, median of {result['rounds']} rounds, "
             f"{result['date']}, {result['machine']}", "",
             f"| component | contestant | {' | '.join(f'{plural(t)}, ms | ratio' for t in THREADS)} |",
             "|---|---|" + "---:|---:|" * len(THREADS)]
    medians = result["medians"]
    for name, measured in medians.items():
        work, contestant = name.split("/")
        original = medians[f"{work}/original"]
        cells = [f"{measured[str(t)]:.1f} | {original[str(t)] / measured[str(t)]:.2f}x" for t in THREADS]
        lines.append(f"| {work} | {contestant} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    parser = command.Parser(prog="scripts.bench", description=__doc__)
    parser.add_argument("--weights", default="seeded", choices=("seeded", "tiny", "custom"))
    parser.add_argument("models", nargs="*")
    asked = parser.parse_args()
    for model in asked.models or recipe.models(ROOT):
        result = bench(model, asked.weights)
        out = Path("build") / asked.weights / model / "bench"
        (ROOT / out).mkdir(exist_ok=True)
        (ROOT / out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
        (ROOT / out / "bench.md").write_text("\n".join(table(result)) + "\n")
        subprocess.run([ROOT / "scripts/in", "torch", "python", "-m", "scripts.chart", out / "bench.json",
                        out / "bench.png"], cwd=ROOT, check=True)
        print("\n".join(table(result)), f"\npicture: {out / 'bench.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
