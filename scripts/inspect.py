"""Prints what a model holds and what it takes to convert it: `make inspect ONNX=path`, and of other kinds.

Each kind has a reader, a process of its own that runs nothing of what it reads and answers with tables
(scripts/inspection/report.py); here they are asked and printed, or rendered as one HTML file.
"""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from models.mt3 import weights
from models.mt3.inputs import HEAD_DIM
from scripts import command, manifest, source, t5x
from scripts.arrays import Shapes, flaws
from scripts.inspection.report import Report, report, section
from scripts.job import REFUSED, Refusal

ROOT = Path(__file__).resolve().parent.parent
TENSORFLOW = ("scripts/in", "legacy", "python", "-m", "scripts.inspection.tensorflow")
READERS = {
    "SAVED_MODEL": (*TENSORFLOW, "saved_model"), "H5": (*TENSORFLOW, "h5"), "FROZEN": (*TENSORFLOW, "frozen"),
    "TFJS": (*TENSORFLOW, "tfjs"), "PTH": (sys.executable, "-m", "scripts.inspection.weights"),
    "ONNX": (sys.executable, "-m", "scripts.inspection.onnx"),
}
MOST_SECONDS = 300
MOST_CELL = 160  # characters
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>body{font:16px/1.5 sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}
th,td{text-align:left;padding:.2rem .8rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}.number{text-align:right}
pre{white-space:pre-wrap}</style>
<h1>{{ title }}</h1>
<pre>{% for line in lines %}{{ line }}
{% endfor %}</pre>
{% if next %}<h2>What to do next</h2>{% for sentence in next %}<p>{{ sentence }}</p>{% endfor %}{% endif %}
{% for part in sections %}<h2>{{ part.title }}</h2>
<table><tr>{% for name in part.columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in part.rows %}<tr>{% for cell in row %}<td{% if loop.index0 in part.numbers %} class="number"{% endif %}>
{{- cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endfor %}</html>
"""


def ask(kind: str, path: Path) -> Report:
    """The report of the reader of this kind. Raises Refusal with the reader's own sentence, or on its end."""
    try:
        done = subprocess.run([*READERS[kind], str(path)], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Refusal(f"{path}: expected a file that can be read in {MOST_SECONDS} s, found one that takes longer: it "
                      "may be made to, don't use it") from error
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or ["nothing"]
    if done.returncode == REFUSED:
        raise Refusal(said[-1])
    if done.returncode:
        raise Refusal(f"{path}: expected a file that its framework's reader takes, found one that ends it with status "
                      f"{done.returncode} ({said[-1][:200]}): it is damaged or made to, don't use it")
    return json.loads(said[-1])


def t5x_report(path: Path) -> Report:
    """What a T5X checkpoint holds."""
    leaves = t5x.leaves(source.t5x_folder(path))
    arrays = [(name, "×".join(map(str, leaf.shape)), leaf.dtype.name, "folder" if leaf.folder else "inline")
              for name, leaf in leaves.items()]
    return report([section("", ("array", "shape", "dtype", "stored"), arrays)],
                  [totals(leaves), *network({name: leaf.shape for name, leaf in leaves.items()})])


def totals(leaves: Mapping[str, t5x.Leaf]) -> str:
    """How much the arrays are together."""
    parameters = [math.prod(leaf.shape) for leaf in leaves.values()]
    size = sum(count * leaf.dtype.itemsize for count, leaf in zip(parameters, leaves.values(), strict=True))
    inline = sum(leaf.folder is None for leaf in leaves.values())
    return (f"{len(leaves)} arrays, {inline} of them in the file checkpoint: {sum(parameters):,} parameters, "
            f"{size:,} bytes")


def network(shapes: Shapes) -> list[str]:
    """The network that the shapes tell of, and what contradicts it; a line each."""
    try:
        sizes = weights.sizes_of(shapes, HEAD_DIM)
        heads = f"{sizes['num_heads']} heads, if they are {HEAD_DIM} wide as MT3's: no shape tells"
    except Refusal:
        try:
            sizes = weights.sizes_of(shapes, 1)
        except Refusal as refusal:
            return [f"no network of MT3's: {refusal}"]
        heads = f"heads cannot be seen: attentions are not a multiple of {HEAD_DIM} wide"
    owner = weights.CONFIGURATIONS.get(sizes["vocab_size"], "neither mt3 nor ismir2021")
    return [f"layers       {sizes['num_encoder_layers']} of the encoder, {sizes['num_decoder_layers']} of the decoder",
            f"width        {sizes['emb_dim']}, of mel bands {sizes['input_depth']}, of the MLP {sizes['mlp_dim']}",
            f"attention    {sizes['num_heads'] * sizes['head_dim']} wide; {heads}",
            f"vocabulary   {sizes['vocab_size']}: {owner}",
            *(f"contradicted by {flaw}" for flaw in flaws(shapes, weights.expected(sizes)))]


def plain(text: str) -> str:
    """A text of a file's, without what a terminal would obey."""
    safe = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return safe if len(safe) <= MOST_CELL else f"{safe[:MOST_CELL]}…"


def show(told: Report) -> None:
    """Print a report."""
    for part in told["sections"]:
        if part["title"]:
            print(part["title"], end="\n\n")
        command.table([tuple(part["columns"]), *(tuple(map(plain, row)) for row in part["rows"])], part["numbers"])
        print()
    for line in [*told["lines"], *(["", "what to do next:", *told["next"]] if told["next"] else [])]:
        print("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line))


def render(told: Report, title: str) -> str:
    """The report as one page; nothing of the file's is taken for HTML."""
    return jinja2.Environment(autoescape=True).from_string(PAGE).render(title=title, **told)


def main() -> int:
    parser = command.Parser(description="What a model holds, and what it takes to convert it.")
    for kind in READERS:
        parser.add_argument(f"--{kind.lower().replace('_', '-')}", dest=kind, metavar=kind)
    parser.add_argument("--html", metavar="HTML", type=lambda path: Path(path).expanduser().resolve())
    parser.add_argument("t5x", metavar="T5X", nargs="?", default="")
    told = vars(parser.parse_args())
    given: dict[str, Any] = {kind: told[kind] for kind in READERS if told[kind]} | (
        {"T5X": told["t5x"]} if told["t5x"] else {})
    if len(given) != 1:
        raise Refusal(f"expected one of {', '.join([*READERS, 'T5X'])}, found {', '.join(given) or 'none'}: name one "
                      "file or folder, for instance ONNX=model.onnx")
    [(kind, name)] = given.items()
    path = Path(name).expanduser().resolve()
    answer = t5x_report(path) if kind == "T5X" else ask(kind, path)
    show(answer)
    if told["html"]:
        manifest.write_atomically(told["html"], render(answer, f"{kind}={name}"))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
