"""What a stage is told and how it answers (runs on Python 3.7 and later).

The driver writes one JSON object to a stage's standard input: model, weights,
recipe, inputs (a folder for each stage that is read), out (the folder to fill)
and, for a user's own weights, checkpoint. The stage prints its progress, a line
at a time. A mistake of the user's becomes one sentence and exit status 2.
"""

import errno
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
REFUSED = 2


class Refusal(Exception):
    """Something the user can mend, said in one sentence: what, expected, found, remedy."""


class Job(NamedTuple):
    model: str
    weights: str
    recipe: Dict[str, Any]
    inputs: Dict[str, Path]
    out: Path
    checkpoint: Optional[Path]

    def module(self, name: str) -> Any:
        """The model's own module for this stage, for instance models/coconet/export.py."""
        return importlib.import_module(module_name(self.model, self.recipe, name))

    def components(self, stage: str) -> Dict[str, Any]:
        """The recipe's components that the given stage makes."""
        return {n: c for n, c in self.recipe["components"].items() if c["stage"] == stage}

    def variants(self, component: str) -> Dict[str, Any]:
        """The recipe's variants that a component, or a step of one, comes in."""
        return variants_of(self.recipe, component)

    def exported(self) -> Dict[str, Any]:
        """All that the export makes: its components, and the steps that are composed into others."""
        return dict(self.components("export"), **self.recipe.get("steps", {}))


def module_name(model: str, recipe: Dict[str, Any], name: str) -> str:
    """Of a model's module: its own folder's, or else that of the model it is like."""
    own = (ROOT / "models" / model / "{}.py".format(name)).is_file()
    return "models.{}.{}".format(model if own else recipe.get("like", model), name)


def variants_of(recipe: Dict[str, Any], component: str) -> Dict[str, Any]:
    """A recipe's variants by name: all of them, or those that the component names."""
    named = recipe["components"].get(component, {}).get("variants", recipe["variants"])
    return {name: recipe["variants"][name] for name in named}


def progress(line: str) -> None:
    """Show the user what is being done."""
    print(line, flush=True)


def run(stage: Callable[[Job], None]) -> None:
    """Run a stage's function on the job that comes in on standard input."""
    told = json.load(sys.stdin)
    job = Job(
        model=told["model"],
        weights=told["weights"],
        recipe=told["recipe"],
        inputs={name: Path(folder) for name, folder in told["inputs"].items()},
        out=Path(told["out"]),
        checkpoint=Path(told["checkpoint"]) if told["checkpoint"] else None,
    )
    try:
        stage(job)
    except Refusal as refusal:
        refuse(str(refusal))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        refuse("the disk is full: free some space and run make again")


def refuse(said: str) -> None:
    """End with a sentence, the last: frameworks would warn of this and that as the interpreter ends."""
    print(said, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(REFUSED)
