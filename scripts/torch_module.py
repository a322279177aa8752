"""A PyTorch module as a source: what it answers, and its graph as ONNX."""

import contextlib
import functools
import keyword
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from scripts import graphs
from scripts.arrays import listed
from scripts.inspection.pth import pth
from scripts.job import ROOT, Refusal, progress
from scripts.trace import Question

Arrays = dict[str, np.ndarray]
NESTS = {"state_dict", "model_state_dict", "model"}  # where training scripts keep the arrays
DEEPEST = 4  # nests in nests
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # of PyTorch's, in names
RESHAPED = re.compile(r"size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\) from checkpoint, "
                      r"the shape in current model is torch\.Size\((.*?)\)")  # as load_state_dict says it
FROZEN = re.compile(r"static shape of (\d+) for dimension inputs\['?(.*?)'?\]\.shape\[(\d+)\]")  # as torch.export does
LACKING = re.compile(r"No ONNX function found for <OpOverload\(op='(?:\w+\.)?(\w+)'")
UNSTEADY = 1e-4  # of the largest value, by which two answers to one question mustn't differ
MOST_LETTERS = 200  # of an error of PyTorch's
OTHERS = ("site-packages", str(Path(functools.__file__).parent), str(ROOT / "scripts"))  # no code of the user's


def arrays(path: Path) -> Arrays:
    """The arrays of a file of PyTorch's or of safetensors by name, opened without running any of it.

    Dtypes that NumPy hasn't, such as bfloat16, are widened to float32, exactly. Raises Refusal on a file that holds
    anything but arrays and plain values, or several state_dicts.
    """
    if path.suffix == ".safetensors":
        try:
            told = load_file(path)
        except Exception as error:  # safetensors' errors have no base of their own
            raise Refusal(f"{path}: expected safetensors, found a file that can't be read ({error}): save it "
                          "again") from error
    else:
        pth(path)
        told = state_dict(torch.load(path, map_location="cpu", weights_only=True), path)
    return {name: numbers(tensor, name, path) for name, tensor in told.items()}


def state_dict(told: Any, path: Path) -> dict[str, torch.Tensor]:
    """The arrays by name in what torch.save wrote: where training scripts keep them, or the only ones that are there.

    Raises Refusal where there are none, or several.
    """
    found = dict(nests(told, ()))
    if not found:
        what = f"a dictionary of {listed(list(map(str, told)))}" if isinstance(told, dict) else type(told).__name__
        raise Refusal(f"{path}: expected a state_dict, arrays by name, found {what}: save model.state_dict()")
    usual = [place for place in found if NESTS.issuperset(place)]
    [place, *others] = usual if len(usual) == 1 else found
    if others:
        keys = "".join(f"[{key!r}]" for key in place)
        raise Refusal(f"{path}: expected one state_dict, found several, {listed(list(map('.'.join, found)))}: save the "
                      f"one that you want, for instance torch.save(torch.load({path.name!r}, weights_only=True){keys}, "
                      f"'{place[-1]}.pth')")
    if left := [".".join(other) for other in found if other != place]:
        progress(f"the arrays are those under {'.'.join(place)}, not those under {listed(left)}")
    return found[place]


def nests(told: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """The dictionaries of arrays by name in what torch.save wrote, but an optimizer's, by the keys that lead there."""
    if not isinstance(told, dict) or not all(isinstance(key, str) for key in told) or len(place) > DEEPEST:
        return
    if told and all(isinstance(one, torch.Tensor) for one in told.values()):
        yield place, told
        return
    for key, one in told.items():
        if not key.startswith("optim"):
            yield from nests(one, (*place, key))


def numbers(tensor: torch.Tensor, name: str, path: Path) -> np.ndarray:
    """A tensor's numbers, widened where NumPy has no such dtype. Raises Refusal on a quantized or a sparse one."""
    try:
        narrow = tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64)
        return (tensor.float() if narrow else tensor).numpy(force=True)
    except (TypeError, RuntimeError) as error:
        raise Refusal(f"{path}: expected plain arrays, found {name}, {tensor.dtype}, {tensor.layout}: save what its "
                      "dequantize() or to_dense() returns") from error


def renamed(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """What a file's names may be in a module, by those in the file: as they are, and without what PyTorch's wrappers
    put into them; each also without the parts that all of them begin with."""
    own = {name: name for name in names}
    bare = {name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in own}
    for told in [own, bare] if bare != own and len({*bare.values()} - {""}) == len(own) else [own]:
        yield told
        while len({name.partition(".")[0] for name in told.values()}) == 1 and all(
                "." in name for name in told.values()):
            told = {name: inner.partition(".")[2] for name, inner in told.items()}
            yield told


def loaded(module: torch.nn.Module, found: Arrays, path: Path) -> torch.nn.Module:
    """The module with these arrays, each of them, in the mode in which it is used.

    Its own strict load_state_dict takes them, with its hooks, by the file's names or one of renamed; of arrays that the
    module ties one is enough. Raises Refusal naming those that don't fit, or aren't finite.
    """
    own = {name: numbers(tensor.clone(), name, path) for name, tensor in tensors(module).items()}
    ties, wrong = tied(module), []
    for names in renamed(found):
        named = with_ties({names[name]: array for name, array in found.items()}, ties)
        wrong.append(misfits(module, named))
        if not wrong[-1]:
            break
    else:
        raise unfit(own, found, min(wrong, key=lambda flaws: sum(map(len, flaws.values()))), path)
    if apart := [name for first, *others in ties for name in others if {first, name} <= named.keys()
                 and not np.array_equal(named[name], named[first])]:
        raise Refusal(f"{path}: expected equal arrays where the module in network.py has one, found another in "
                      f"{listed(apart)}: give the module one of its own there")
    masks = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    if damaged := [name for name, array in named.items() if not sound(array, own.get(name) if name in masks else None)]:
        raise Refusal(f"{path}: expected finite numbers, and -inf in masks alone, found others in {listed(damaged)}: "
                      "its training went astray, give an earlier checkpoint")
    if hooked := [name for name in named if name not in own]:
        progress(f"the module's own hooks took {listed(hooked)}")
    return module.eval()


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's arrays by name, without what else it keeps in its state."""
    return {name: told for name, told in module.state_dict().items() if isinstance(told, torch.Tensor)}


def tied(module: torch.nn.Module) -> list[list[str]]:
    """The names of arrays that are one in the module, a list each."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in tensors(module).items():
        if tensor.numel():
            groups.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def with_ties(named: Arrays, ties: list[list[str]]) -> Arrays:
    """The arrays, and for each that one of them is tied to that one again, as files of safetensors hold it once."""
    for group in ties:
        if given := [name for name in group if name in named]:
            named = dict.fromkeys(group, named[given[0]]) | named
    return named


def misfits(module: torch.nn.Module, named: Arrays) -> dict[str, list[str]]:
    """Load arrays as the module's own strict load_state_dict does; what it has against them, names by kind of flaw."""
    keys: list[Any] = []
    handle = module.register_load_state_dict_post_hook(lambda _, told: keys.append(told))
    try:
        module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in named.items()})
    except Exception as error:  # hooks of the module's own raise whatever they do
        flaws = {"missing": keys[-1].missing_keys, "unknown": keys[-1].unexpected_keys} if keys else {}
        flaws["of another shape"] = [f"{name} is {shape}, expected {other}"
                                     for name, shape, other in RESHAPED.findall(str(error))]
        return {kind: list(names) for kind, names in flaws.items() if names} or {"refused": [brief(error)]}
    finally:
        handle.remove()
    return {}


def unfit(own: Arrays, found: Arrays, wrong: Mapping[str, list[str]], path: Path) -> Refusal:
    """The sentence about arrays that aren't the module's, or are but for others in the file."""
    for scope in dict.fromkeys(name.partition(".")[0] + "." for name in found):
        inner = {name.removeprefix(scope) for name in found if name.startswith(scope)}
        if inner == own.keys():
            return Refusal(f"{path}: expected the arrays of the module in network.py alone, found them under {scope} "
                           f"and {len(found) - len(inner)} others: save them alone, torch.save({{name.removeprefix"
                           f"('{scope}'): array for name, array in arrays.items() if name.startswith('{scope}')}}, …)")
    told = [f"{len(names)} {kind}: {listed(names)}" for kind, names in wrong.items()]
    return Refusal(f"{path}: expected the arrays of the module in network.py, found {'; '.join(told)}: change the "
                   "module, or give the checkpoint that is its own")


def sound(array: np.ndarray, mask: np.ndarray | None) -> bool:
    """Whether an array is finite, or has infinities where a mask has them: the module's own, or one of 0 and -inf."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return True
    return mask is not None and (np.array_equal(array, mask) or bool(((array == 0) | (array == -np.inf)).all()))


@torch.inference_mode()
def answered(module: torch.nn.Module, described: Mapping[str, Any], feed: Arrays) -> Arrays:
    """What a module returns, by port. Raises Refusal where it doesn't take the feed, or returns something else."""
    try:
        returned = module(*(torch.from_numpy(feed[port["name"]]) for port in described["inputs"]))
    except Exception as error:  # it is the user's code
        shapes = ", ".join(f"{port['name']} {list(feed[port['name']].shape)}" for port in described["inputs"])
        raise Refusal(f"{blamed(error)}: expected an answer to {shapes}, found {type(error).__name__}: {brief(error)}: "
                      "mend it, or the ports in recipe.toml and what inputs.py feeds them") from error
    return {name: tensor.numpy() for name, tensor in by_port(returned, described).items()}


def by_port(returned: Any, described: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What a module returned, by the recipe's outputs and in their dtypes: a dictionary by its names, else in order,
    what is nested too. Raises Refusal where it doesn't fit."""
    names = [port["name"] for port in described["outputs"]]
    told = returned._asdict() if hasattr(returned, "_asdict") and {*names} <= {*returned._fields} else returned
    if isinstance(told, Mapping):
        found, what = [told[name] for name in names if name in told], f"a dictionary of {', '.join(map(str, told))}"
    else:
        found = torch.utils._pytree.tree_leaves(told)
        what = str(len(found))
    if len(found) != len(names):
        raise Refusal(f"network.py: expected the recipe's outputs {', '.join(names)}, found {what}: name what it "
                      "returns in recipe.toml, in that order")
    for port, tensor in zip(described["outputs"], found, strict=True):
        if not isinstance(tensor, torch.Tensor) or tensor.is_complex() or (
                tensor.is_floating_point() != (port["dtype"] == "float32")):
            raise Refusal(f"network.py: expected {port['name']} as {port['dtype']}, as recipe.toml has it, found "
                          f"{getattr(tensor, 'dtype', type(tensor).__name__)}: return it so (complex numbers by "
                          "torch.view_as_real), or change the dtype there")
    return {port["name"]: tensor if tensor.dtype == getattr(torch, port["dtype"]) else
            tensor.to(getattr(torch, port["dtype"])) for port, tensor in zip(described["outputs"], found, strict=True)}


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
    """Write <component>.onnx, by torch.export, its symbolic axes those of the recipe.

    Raises Refusal on a module that doesn't answer the same twice, or that has no graph for all that it may be asked.
    """
    described = recipe["components"][component]
    axes = [{number: torch.export.Dim.DYNAMIC for number, axis in enumerate(port["shape"]) if isinstance(axis, str)}
            for port in described["inputs"]]
    require_steady(module, described, feed)
    progress("exporting the module")
    graphs.mend_rules()
    with kept(module):
        forward = module.forward

        @functools.wraps(forward)
        def named(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(by_port(forward(*given), described).values())

        module.forward = named
        try:
            program = torch.onnx.export(
                module, tuple(torch.from_numpy(feed[port["name"]]) for port in described["inputs"]), dynamo=True,
                verbose=False, dynamic_shapes=tuple(axes), opset_version=recipe["opset"],
                input_names=[port["name"] for port in described["inputs"]],
                output_names=[port["name"] for port in described["outputs"]])
        except Exception as error:  # of the user's code, of torch.export, or of its way to ONNX
            raise unexportable(error) from error
    program.save(out / f"{component}.onnx")


def require_steady(module: torch.nn.Module, described: Mapping[str, Any], feed: Arrays) -> None:
    """Raises Refusal on a module that is in the mode for training, or answers one question differently each time, and
    on names that torch.export can't write code with.
    """
    if words := [name for name, _ in module.named_modules() if any(map(keyword.iskeyword, name.split(".")))]:
        raise Refusal(f"network.py: expected parts whose names aren't Python's own words, found {listed(words)}: name "
                      "them otherwise, and have load give their arrays that name")
    if training := [name or "all of it" for name, part in module.named_modules() if part.training]:
        raise Refusal(f"network.py: expected a module in the mode in which it is used, found {listed(training)} in "
                      "that for training: end load with return module.eval()")
    progress("asking the module the same twice")
    with kept(module):
        once, again = answered(module, described, feed), answered(module, described, feed)
    for name, first in once.items():
        allowed = UNSTEADY * np.abs(first).max(initial=0) if first.dtype.kind == "f" else 0
        if first.shape != again[name].shape or not np.allclose(first, again[name], 0, allowed, equal_nan=True):
            raise Refusal(f"network.py: expected one answer to one question, found another {name} at the second time: "
                          "leave out dropout that is on and noise, or make the noise an input, and keep nothing from "
                          "one call to the next")


@contextlib.contextmanager
def kept(module: torch.nn.Module) -> Iterator[None]:
    """Undo what calls put into the attributes of a module or its parts, such as a table that the first one makes."""
    attributes = [(part, dict(vars(part))) for part in module.modules()]
    try:
        yield
    finally:
        for part, own in attributes:
            vars(part).clear()
            vars(part).update(own)


def unexportable(error: Exception) -> Refusal:
    """The sentence about why a module has no graph, out of what torch.export says."""
    causes = [error]
    while isinstance(cause := causes[-1].__cause__ or causes[-1].__context__, Exception):
        causes.append(cause)
    if refusal := next((cause for cause in causes if isinstance(cause, Refusal)), None):
        return refusal
    said = "\n".join(map(str, causes))
    place = next((place for place in map(blamed, causes) if place != "network.py"), "network.py")
    if any("DataDependent" in type(cause).__name__ for cause in causes):
        return Refusal(f"{place}: expected a graph that is the same for all values, found that the code goes by one of "
                       "them: compute both ways and choose with torch.where")
    if frozen := FROZEN.findall(said):
        sizes = ", ".join(f"axis {axis} of its {name} {size}" for size, name, axis in dict.fromkeys(frozen))
        return Refusal(f"network.py: expected a graph for every size of the recipe's axes, found that forward makes "
                       f"{sizes}: take sizes from shape, or write that number into recipe.toml and inputs.py")
    if lacking := LACKING.search(said):
        return Refusal(f"network.py: expected operations that ONNX has, found {lacking[1]}, which has no way there: "
                       "write it in others")
    return Refusal(f"{place}: expected code that torch.export takes, found {type(causes[-1]).__name__}: "
                   f"{brief(causes[-1])}: write it otherwise")


def blamed(error: BaseException) -> str:
    """The file, the line and the code of the user's that an error came out of, or else network.py."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.line and not any(other in frame.filename for other in OTHERS)]
    if not frames:
        return "network.py"
    path = Path(frames[-1].filename)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}, line {frames[-1].lineno}, `{frames[-1].line}`"


def brief(error: BaseException) -> str:
    """What an error says, on one line."""
    said = " ".join(str(error).split())
    return said if len(said) <= MOST_LETTERS else f"{said[:MOST_LETTERS]}…"


@torch.inference_mode()
def trace(module: torch.nn.Module, described: Mapping[str, Any], question: Question) -> Arrays:
    """What the module's layers return: those whose weights, all of them, one node of the graph reads."""
    returned: dict[frozenset[str], np.ndarray] = {}  # by the names of a layer's weights

    def record(name: str, layer: torch.nn.Module) -> None:
        weights = frozenset(f"{name}.{part}" for part in layer.state_dict())
        layer.register_forward_hook(lambda _, given, output: returned.update(
            {weights: output.numpy()} if isinstance(output, torch.Tensor) else {}))

    for name, layer in module.named_modules():
        if layer.state_dict() and not list(layer.children()):
            record(name, layer)
    answered(module, described, question.feed)
    found = {tensor: frozenset(weights) for tensor, weights in question.tensors.items()}
    return {tensor: returned[weights] for tensor, weights in found.items() if weights in returned}
