"""`make matrix`: the models and the toolchains that each needs, as one line of JSON for GitHub Actions.

It is what `strategy.matrix` takes: {"include": [{"model": "coconet", "toolchains": "legacy torch"}, …]}, an entry a
recipe. Runs on the machine's own Python 3.11 with the standard library alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

from scripts import command, recipe

ROOT = Path(__file__).resolve().parent.parent
FINISHING = "torch"  # whatever toolchain exports a model, this one brings it to its end


def matrix(root: Path) -> dict[str, list[dict[str, str]]]:
    """A job a model, by name."""
    return {"include": [{"model": model, "toolchains": " ".join(toolchains(recipe.read(root, model)))}
                        for model in recipe.models(root)]}


def toolchains(described: dict[str, Any]) -> list[str]:
    """The toolchains that a recipe's build runs in."""
    return sorted({described["toolchain"], described.get("exporter", FINISHING), FINISHING})


def main() -> int:
    command.Parser(prog="scripts.matrix", description=__doc__).parse_args()
    print(json.dumps(matrix(ROOT)))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
