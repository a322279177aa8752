"""`make graph ONNX=path OUT=graph.svg` and `make graph MODEL=coconet`: graphs as pictures, with every loop's body.

Of a model, each artifact's float32 graph and each step's go to build/<weights>/<model>/graph/<component>.svg.
"""

import sys
from pathlib import Path

from scripts import command, manifest, recipe
from scripts.drawing import draw
from scripts.inspection.onnx import opened
from scripts.job import Refusal, progress

ROOT = Path(__file__).resolve().parent.parent
VARIANT = "fp32"
DEEPEST = 30_000  # calls into each other: grandalf makes one for each box of a layer


def sources(model: str, weights: str) -> dict[str, Path]:
    """The graphs of a build by component, and of its steps. Raises Refusal where one isn't there yet."""
    told = recipe.read(ROOT, model)
    folder = ROOT / "build" / recipe.kind(told, weights) / model
    paths = {name: folder / "compose" / f"{model}-{name}-{VARIANT}.onnx" for name in told["components"]}
    paths |= {name: folder / "optimize" / f"{name}.onnx" for name in told.get("steps", {})}
    if missing := [path for path in paths.values() if not path.is_file()]:
        setting = "CHECKPOINT=path" if weights == "custom" else f"WEIGHTS={weights}"
        raise Refusal(f"{missing[0].relative_to(ROOT)}: expected a build's graph, found none: run make {model} "
                      f"{setting} first")
    return paths


def write(path: Path, out: Path, title: str) -> None:
    text = draw(opened(path), title)
    manifest.write_atomically(out, text)
    progress(f"wrote {out.relative_to(ROOT) if out.is_relative_to(ROOT) else out}: {len(text.encode()):,} bytes")


def main() -> int:
    parser = command.Parser(prog="scripts.graph", description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--weights", default="seeded")
    parser.add_argument("out", metavar="OUT", nargs="?", default="")
    asked = parser.parse_args()
    sys.setrecursionlimit(DEEPEST)
    if bool(asked.onnx) == bool(asked.model):
        raise Refusal(f"expected ONNX=path or MODEL=name, found {'both' if asked.onnx else 'neither'}: "
                      "for instance ONNX=model.onnx OUT=graph.svg")
    if asked.model:
        graphs = sources(asked.model, asked.weights)
        folder = ROOT / "build" / recipe.kind(recipe.read(ROOT, asked.model), asked.weights) / asked.model / "graph"
        folder.mkdir(exist_ok=True)
        for name, path in graphs.items():
            write(path, folder / f"{name}.svg", f"{asked.model} {name}")
        return 0
    path, out = Path(asked.onnx).expanduser().resolve(), Path(asked.out).expanduser().resolve()
    if not asked.out or out.suffix != ".svg" or out.is_dir() or not out.parent.is_dir():
        raise Refusal(f"OUT={asked.out}: expected a file to write that ends in .svg in a folder that is there, found "
                      f"{'a folder' if asked.out and out.is_dir() else 'none'}: for instance OUT=graph.svg")
    write(path, out, path.stem)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
