"""What an artifact says of itself, whatever its format (runs on Python 3.7 and later)."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Iterable

from scripts.job import Job


def identity(task: Job, component: str, variant: str) -> Dict[str, str]:
    """The metadata by which an artifact can be told apart from any other, but for its source's hash."""
    return {
        **task.recipe.get("metadata", {}),
        **of_source(task.inputs["export"]),
        "model": task.model,
        "component": component,
        "variant": variant,
        "weights": task.weights,
        **({"route": task.recipe["route"]} if "route" in task.recipe else {}),
        "recipe_version": str(task.recipe["version"]),
        "licence": task.recipe["weights_licence"],
        "attribution": task.recipe["attribution"],
    }


def of_source(export: Path) -> Dict[str, str]:
    """What a model's export has told of its source, such as the architecture, where checkpoints differ in it."""
    told = export / "metadata.json"
    return json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}


def operators(task: Job, opsets: Iterable[Any]) -> Dict[str, str]:
    """What an artifact with these opset imports says of the operators that aren't ONNX's, but the recipe's own."""
    own = {told["domain"] for told in task.recipe.get("custom_ops", {}).values()}
    needed = sorted(own & {opset.domain for opset in opsets})
    return {"operators": "{} from models/{}/kernels.py, by onnxruntime-extensions".format(
        ", ".join(needed), task.recipe.get("like", task.model))} if needed else {}


def source_hash(folder: Path) -> str:
    """One SHA-256 for a source: over the names and hashes in the manifest of its fetch stage."""
    outputs = json.loads((folder / "manifest.json").read_text())["outputs"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()
