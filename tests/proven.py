"""`make golden-verify`: models cast from golden weights at the real size give the golden outputs; checksums/golden.toml
says with which inputs.

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


TESTS = {  # at the real size, by what is in their names
    "coconet": "golden_weights",
    "groovae": "golden_weights or rounded_variants or interpreter",
    "vampnet": "real",
}


def key(model: str) -> str:
    """What decides whether a model's golden weights give the golden outputs: its recipe, the code of all stages that
    its artifacts come from and of the tests, the toolchains, and the data that the repository has.
    """
    told = recipe.read(ROOT, model)
    stages = [stage for stage in build.STAGES if stage.name not in ("ask", "verify")]
    modules = [module for stage in stages for module in (
        f"scripts.{stage.name}", *(module_name(model, told, own) for own in stage.own))]
    names = ("test_golden", "write_golden", "cast_golden", "golden_weights", "interpret")
    files = [path for path in sorted((ROOT / "tests/models" / model).glob("*.py")) if path.stem in names]
    files += [ROOT / "images" / name / "requirements.lock" for name in sorted({told["toolchain"], "torch"})]
    files += [ROOT / "tests/proven.py", *sorted((ROOT / "tests/golden" / model).iterdir())]
    return manifest.key({
        "recipe": {name: part for name, part in told.items() if name != "gates"},
        "code": manifest.code(ROOT, modules),
        "files": {str(path.relative_to(ROOT)): manifest.sha256(path) for path in files}})


def recorded() -> dict[str, str]:
    """The key of each model's proof."""
    path = ROOT / RECORD
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def skip_where_proven(model: str) -> None:
    """Skip what is on record of today's inputs."""
    if not FULL and recorded().get(model) == key(model):
        pytest.skip(f"ON RECORD of today's inputs in {RECORD}: golden weights at the real size; FULL=1 casts them anew")


def main() -> int:
    parser = command.Parser(prog="tests.proven", description=__doc__)
    parser.add_argument("models", nargs="*", help="all of these when none is named")
    for model in [model for model in parser.parse_args().models or TESTS if model in TESTS]:
        words = [sys.executable, "-m", "pytest", "-q", "-n0", f"tests/models/{model}/test_golden.py",
                 "-k", TESTS[model]]
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
