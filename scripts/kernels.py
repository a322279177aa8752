"""Sessions of ONNX Runtime, exact on every processor, with the kernels of a model's own operators.

An operator of a recipe's [custom_ops] is a function of the same name in the model's kernels.py: NumPy arrays in, of the
dtypes that the recipe tells, an array or a tuple of them out; onnxruntime-extensions has ONNX Runtime call it.
"""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from scripts.job import Refusal, module_name

NAMES = {"float32": "float", "float64": "double"}  # of dtypes, where onnxruntime-extensions has others
Kernel = Callable[..., Any]
_flaws: list[str] = []
# y = MatMulInteger(a, b) of uint8 [m, k] and int8 [k, n], as onnx.parser serializes it.
PRODUCT = (b'\x08\x08:d\n\x1a\n\x01a\n\x01b\x12\x01y"\rMatMulInteger:\x00\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\x02'
           b'\x12\n\n\x03\x12\x01m\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01y'
           b'\x12\x10\n\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\x11')


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime gets a product of uint8 and int8 wrong here, as on x86 without VNNI, where it sums pairs of
    products in 16 bits.
    """
    session = onnxruntime.InferenceSession(PRODUCT, providers=["CPUExecutionProvider"])
    [product] = session.run(None, {"a": np.full((1, 4), 255, np.uint8), "b": np.full((4, 1), 127, np.int8)})
    return product.item() != 4 * 255 * 127


def exact_options() -> onnxruntime.SessionOptions:
    """Options for a session whose 8-bit products are exact: where they would saturate, weights are made unsigned, which
    takes longer. Without them an int8 artifact may be 20 dB worse on such a processor.
    """
    options = onnxruntime.SessionOptions()
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


class Session(onnxruntime.InferenceSession):
    """One that says which kernel failed: an exception that left a kernel would end the process without a word."""

    def run(self, *given: Any, **named: Any) -> list[Any]:
        """As its parent's. Raises Refusal where a kernel raised something or returned what the recipe doesn't tell."""
        _flaws.clear()
        try:
            return super().run(*given, **named)
        finally:
            if _flaws:
                raise Refusal(_flaws[0])


def session(path: Path, model: str, recipe: dict[str, Any],
            options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU of a file of a model's, with what the recipe's own operators need.

    options: those of exact_options with what else is wanted; new ones, as they are told of the operators.
    """
    options = options or exact_options()
    if recipe.get("custom_ops"):
        place = library(recipe.get("like", model))
        for op, (told, kernel) in of(model, recipe).items():
            register(f"{told['domain']}::{op}", tuple(told["inputs"]), tuple(told["outputs"]),
                     tuple(told.get("attributes", {}).items()), kernel)
        options.register_custom_ops_library(place)  # which tells ONNX Runtime of those that it knows by then
    return Session(path, options, providers=["CPUExecutionProvider"])


def of(model: str, recipe: dict[str, Any]) -> dict[str, tuple[dict[str, Any], Kernel]]:
    """What the recipe tells of each operator of its own, and its kernel."""
    told = recipe.get("custom_ops", {})
    module = importlib.import_module(module_name(model, recipe, "kernels")) if told else None
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
            attrs=dict(zip(keys, dtypes(tuple(kind for _, kind in attributes)))))(checked(name, outputs, kernel))


def checked(name: str, outputs: tuple[str, ...], kernel: Kernel) -> Kernel:
    """The kernel, what is wrong with its answers written down; then it answers with arrays of no elements."""
    def call(*arrays: np.ndarray, **attributes: Any) -> tuple[np.ndarray, ...]:
        try:
            returned = kernel(*arrays, **attributes)
            answers = tuple(map(np.asarray, returned if isinstance(returned, tuple) else (returned,)))
            if (found := tuple(answer.dtype.name for answer in answers)) == outputs:
                return answers
            flaw = f"found {', '.join(found)}"
        except Exception as error:
            flaw = f"found {type(error).__name__}: {error}"
        _flaws.append(f"the kernel of {name}: expected it to return {', '.join(outputs)}, {flaw}: correct it in the "
                      "model's kernels.py, or the recipe's custom_ops")
        return tuple(np.zeros(0, dtype) for dtype in outputs)
    return call
