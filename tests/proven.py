"""`make golden-verify`: at the real size, models cast from golden weights give the golden outputs, and MT3 of the
authors' weights writes down what instruments play; checksums/golden.toml says with which inputs.

It takes minutes, so those tests run only where the record is of other inputs, and all of them with FULL=1.
"""

import os
import subprocess
import sys
import tomllib

import pytest

from scripts import build, command, manifest, recipe
from scripts.job import Refusal, module_name
from tests.conftest import FULL, ROOT

RECORD = "checksums/golden.toml"


TESTS = {  # files, and what is in the names of those of their tests, or in the files' own
    "coconet": (("test_golden",), "golden_weights"),
    "groovae": (("test_golden",), "golden_weights or rounded_variants or interpreter"),
    "mt3": (("test_golden", "test_music", "test_instruments"),
            "taught or 1024 or spectrogram_hears or instruments or music"),
    "vampnet": (("test_golden",), "real"),
}


def key(model: str) -> str:
    """What decides whether a model's tests at the real size pass: its recipe, the code of all stages that its artifacts
    come from, of its player and of the tests, the toolchains, and the data that the repository has.
    """
    told = recipe.read(ROOT, model)
    stages = [stage for stage in build.STAGES if stage.name not in ("ask", "verify")]
    modules = [module for stage in stages for module in (
        f"scripts.{stage.name}", *(module_name(model, told, own) for own in stage.own))]
    modules.append(module_name(model, told, "player"))
    files = [path for path in sorted((ROOT / "tests/models" / model).glob("*.py"))
             if path.stem in TESTS[model][0] or not path.stem.startswith("test_")]
    files += [path for path in [ROOT / f"checksums/sources/{model}.sha256"] if path.is_file()]
    files += [ROOT / "images" / name / "requirements.lock" for name in sorted({told["toolchain"], "torch"})]
    files += [ROOT / "tests/proven.py",
              *sorted(path for path in (ROOT / "tests/golden" / model).rglob("*") if path.is_file())]
    return manifest.key({
        "recipe": {name: part for name, part in told.items() if name != "gates"},
        "code": manifest.code(ROOT, modules),
        "files": {str(path.relative_to(ROOT)): manifest.sha256(path) for path in files}})


def recorded() -> dict[str, str]:
    """The key of each model's proof."""
    path = ROOT / RECORD
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def on_record(model: str) -> bool:
    """Whether a model's tests at the real size were seen to pass with today's inputs, and aren't asked for anew."""
    return not FULL and recorded().get(model) == key(model)


def skip_where_proven(model: str) -> None:
    """Skip what is on record of today's inputs."""
    if on_record(model):
        pytest.skip(f"ON RECORD of today's inputs in {RECORD}: what takes minutes at real size; FULL=1 does it anew")


def main() -> int:
    parser = command.Parser(prog="tests.proven", description=__doc__)
    parser.add_argument("models", nargs="*", help="all of these when none is named")
    for model in [model for model in parser.parse_args().models or TESTS if model in TESTS]:
        names, chosen = TESTS[model]
        words = [sys.executable, "-m", "pytest", "-q", "-n0", "-k", chosen,
                 *(f"tests/models/{model}/{name}.py" for name in names)]
        done = subprocess.run(words, cwd=ROOT, env={**os.environ, "FULL": "1"}, text=True, stdout=subprocess.PIPE,
                              check=False)
        print(done.stdout)
        if done.returncode or "skipped" in done.stdout:
            raise Refusal(f"{model}: expected its golden weights to give the golden outputs, found what is said above: "
                          "mend the cast, or set GOLDEN to the folder that holds the data")
        proofs = {**recorded(), model: key(model)}
        lines = ["# The inputs with which each model's golden weights were last seen to give the golden outputs.",
                 "# Written by make golden-verify.", *(f'{one} = "{proofs[one]}"' for one in sorted(proofs))]
        manifest.write_atomically(ROOT / RECORD, "\n".join(lines) + "\n")
        print(f"{model}: its golden weights give the golden outputs; {RECORD} says so", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
