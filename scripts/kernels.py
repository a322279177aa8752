"""Sessions of ONNX Runtime, with the kernels of a model's own operators: the one place that knows them.

An operator of a recipe's [custom_ops] is a function of the same name in the model's kernels.py: NumPy arrays in, of the
dtypes that the recipe tells, an array or a tuple of them out; onnxruntime-extensions has ONNX Runtime call it.
"""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

from scripts.job import Refusal

NAMES = {"float32": "float", "float64": "double"}  # of dtypes, where onnxruntime-extensions has others
Kernel = Callable[..., Any]


def session(path: Path, model: str, recipe: dict[str, Any],
            options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU of a file of a model's, with what the recipe's own operators need."""
    options = options or onnxruntime.SessionOptions()
    if recipe.get("custom_ops"):
        options.register_custom_ops_library(library(recipe.get("like", model)))
        for op, (told, kernel) in of(model, recipe).items():
            register(f"{told['domain']}::{op}", tuple(told["inputs"]), tuple(told["outputs"]),
                     tuple(told.get("attributes", {}).items()), kernel)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def of(model: str, recipe: dict[str, Any]) -> dict[str, tuple[dict[str, Any], Kernel]]:
    """What the recipe tells of each operator of its own, and its kernel."""
    told = recipe.get("custom_ops", {})
    module = importlib.import_module(f"models.{recipe.get('like', model)}.kernels") if told else None
    return {op: (how, getattr(module, op)) for op, how in told.items()}


def library(model: str) -> str:
    """The library by which ONNX Runtime calls Python. Raises Refusal where it isn't installed."""
    try:
        import onnxruntime_extensions
    except ImportError as error:
        raise Refusal(f"{model}: expected onnxruntime-extensions, for the kernels in models/{model}/kernels.py, found "
                      "none: run it in the toolchain torch, or pip install onnxruntime-extensions") from error
    return onnxruntime_extensions.get_library_path()


@functools.cache
def register(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: tuple[tuple[str, str], ...],
             kernel: Kernel) -> None:
    """Make a kernel known under its domain and name, once: what is known stays so as long as the process lives."""
    from onnxruntime_extensions import PyCustomOpDef, onnx_op

    def dtypes(names: tuple[str, ...]) -> list[int]:
        return [getattr(PyCustomOpDef, f"dt_{NAMES.get(dtype, dtype)}") for dtype in names]

    keys = [key for key, _ in attributes]
    onnx_op(op_type=name, inputs=dtypes(inputs), outputs=dtypes(outputs),
            attrs=dict(zip(keys, dtypes(tuple(kind for _, kind in attributes)))))(kernel)
