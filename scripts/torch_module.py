"""A PyTorch module as a source: what it answers, and its graph as ONNX."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from scripts.arrays import flaws
from scripts.inspection.pth import pth
from scripts.job import Refusal, progress
from scripts.trace import Question

Arrays = dict[str, np.ndarray]
NESTS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the arrays


def arrays(path: Path) -> Arrays:
    """The arrays of a .pth or .safetensors file by name, opened without running any of it.

    Raises Refusal on a file that holds anything but arrays and plain values.
    """
    if path.suffix == ".safetensors":
        try:
            return {name: tensor.numpy() for name, tensor in load_file(path).items()}
        except Exception as error:  # safetensors' errors have no base of their own
            raise Refusal(f"{path}: expected safetensors, found a file that can't be read ({error}): save it "
                          "again") from error
    pth(path)
    told = torch.load(path, map_location="cpu", weights_only=True)
    for nest in NESTS:
        if isinstance(told, dict) and isinstance(told.get(nest), dict):
            told = told[nest]
    if not isinstance(told, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in told.values()):
        raise Refusal(f"{path}: expected a state_dict, arrays by name, found something else: save model.state_dict()")
    return {name: tensor.numpy() for name, tensor in told.items()}


def loaded(module: torch.nn.Module, found: Arrays, path: Path) -> torch.nn.Module:
    """The module with these arrays, each exactly once. Raises Refusal naming those that don't fit."""
    known = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    wrong = flaws({name: array.shape for name, array in found.items()}, known)
    wrong += [f"{name} isn't finite" for name, array in found.items() if not np.isfinite(array).all()]
    if wrong:
        raise Refusal(f"{path}: expected the arrays of the module in network.py, found {'; '.join(wrong)}: change the "
                      "module, or give the checkpoint that is its own")
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in found.items()})
    return module.eval()


@torch.inference_mode()
def answered(module: torch.nn.Module, described: Mapping[str, Any], feed: Arrays) -> Arrays:
    """What a module returns, by port."""
    returned = module(*(torch.from_numpy(feed[port["name"]]) for port in described["inputs"]))
    returned = returned if isinstance(returned, (tuple, list)) else (returned,)
    names = [port["name"] for port in described["outputs"]]
    if len(returned) != len(names):
        raise Refusal(f"network.py: expected the recipe's outputs {', '.join(names)}, found {len(returned)}: name what "
                      "it returns in recipe.toml, in that order")
    return {port["name"]: tensor.numpy().astype(port["dtype"])
            for port, tensor in zip(described["outputs"], returned, strict=True)}


def write_reference(component: str, feeds: Mapping[str, Arrays],
                    answer: Callable[[Arrays], Mapping[str, np.ndarray]], out: Path) -> None:
    """Write reference.npz: each feed by case, and what was answered to it."""
    told: Arrays = {}
    for case, feed in feeds.items():
        progress(f"asking the original: {case}")
        for name, array in {**feed, **answer(feed)}.items():
            told[f"{component}/{case}/{name}"] = np.asarray(array)
    np.savez(out / "reference.npz", **told)


def export(module: torch.nn.Module, component: str, recipe: Mapping[str, Any], feed: Arrays, out: Path) -> None:
    """Write <component>.onnx, by torch.export, its symbolic axes those of the recipe."""
    described = recipe["components"][component]
    axes = [{number: torch.export.Dim.DYNAMIC for number, axis in enumerate(port["shape"]) if isinstance(axis, str)}
            for port in described["inputs"]]
    progress("exporting the module")
    program = torch.onnx.export(
        module, tuple(torch.from_numpy(feed[port["name"]]) for port in described["inputs"]), dynamo=True, verbose=False,
        dynamic_shapes=tuple(axes), opset_version=recipe["opset"],
        input_names=[port["name"] for port in described["inputs"]],
        output_names=[port["name"] for port in described["outputs"]])
    program.save(out / f"{component}.onnx")


@torch.inference_mode()
def trace(module: torch.nn.Module, described: Mapping[str, Any], question: Question) -> Arrays:
    """What the module's layers return: those whose weights, all of them, one node of the graph reads."""
    returned: dict[frozenset[str], np.ndarray] = {}  # by the names of a layer's weights

    def record(name: str, layer: torch.nn.Module) -> None:
        weights = frozenset(f"{name}.{part}" for part in layer.state_dict())
        layer.register_forward_hook(lambda _, given, output: returned.update({weights: output.numpy()}))

    for name, layer in module.named_modules():
        if layer.state_dict() and not list(layer.children()):
            record(name, layer)
    answered(module, described, question.feed)
    found = {tensor: frozenset(weights) for tensor, weights in question.tensors.items()}
    return {tensor: returned[weights] for tensor, weights in found.items() if weights in returned}
