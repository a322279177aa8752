"""Turns a T5X checkpoint into a folder that PyTorch reads, every array accounted for: `make convert`.

The folder holds model.safetensors, on request model.pth with the same arrays, config.json with the network's
sizes, and mapping.tsv, which tells of each array its name and shape in T5X and in PyTorch and whether it was
transposed. Equal checkpoints give equal bytes.
"""

import importlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from scripts import command, recipe
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent


def convert(checkpoint: Path, out: Path, told: dict[str, Any], pickled: bool = False) -> int:
    """Fill the folder `out`, which must be new or empty; returns how many arrays went there.

    told: the model's recipe; pickled: whether to write model.pth too. Raises Refusal on a bad checkpoint.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"OUT={out}: expected a new or an empty folder, found another: name one, or remove this")
    weights, port = (importlib.import_module(f"models.{told.get('like', told['model'])}.{name}")
                     for name in ("weights", "port"))
    vocab_size = told["sources"]["custom"]["vocab_size"]
    arrays, sizes = weights.read(checkpoint, vocab_size)
    state = port.load(arrays, sizes).state_dict()
    rows = [("T5X", "shape", "PyTorch", "shape", "transposed")]
    rows += [(name, str(list(arrays[name].shape)), place.name, str(list(state[place.name].shape)),
              "yes" if place.transposed else "no") for name, place in port.mapping(sizes).items()]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / "model.safetensors").write_bytes(save(state, {"format": "pt"}))
        if pickled:
            buffer = io.BytesIO()  # torch.save writes a file's name into it
            torch.save(state, buffer)
            (partial / "model.pth").write_bytes(buffer.getbuffer())
        (partial / "config.json").write_text(json.dumps({"model": told["model"], **sizes}, indent=1, sort_keys=True)
                                             + "\n", encoding="utf-8")
        (partial / "mapping.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(arrays)


def main() -> int:
    parser = command.Parser(description="A T5X checkpoint becomes a folder that PyTorch reads.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--checkpoint", required=True, type=lambda path: Path(path).expanduser().resolve())
    parser.add_argument("--pth", action="store_true")
    parser.add_argument("out", type=lambda path: Path(path).expanduser().resolve())
    asked = parser.parse_args()
    told = recipe.read(ROOT, asked.model)
    if told["sources"]["custom"].get("checkpoint") != "t5x":
        raise Refusal(f"MODEL={asked.model}: expected a model with T5X checkpoints, found one of another kind: "
                      "name mt3 or ismir2021")
    count = convert(asked.checkpoint, asked.out, {**told, "model": asked.model}, asked.pth)
    print(f"{count} arrays of {asked.checkpoint} are in {asked.out}; its mapping.tsv tells where each went")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
