"""`make new MODEL=mine FROM=path TOOLCHAIN=legacy`: a model's folder in models/, made out of its weights.

legacy takes a SavedModel, torch a state_dict (.pth, .pt, .ckpt, .bin or .safetensors), jax Flax's parameters (.msgpack,
or a T5X checkpoint). What can be read of them (ports, names, shapes) is written into the recipe, the rest are starters
out of starter/, which convert what is a graph or a chain of dense layers as they are, and say what they miss of others.
The weights are copied to source/, where the recipe has them bundled. Nothing that is given is run.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from scripts import build, command, flax_params, source, torch_module
from scripts.arrays import listed
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent
STARTER = Path(__file__).parent / "starter"
NAME = r"[a-z][a-z0-9]*(_[a-z0-9]+)*"
PLAIN = r"\w[\w.=-]*"
SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")  # of a state_dict
LAYOUTS = {"legacy": "the folder of a SavedModel", "torch": f"a state_dict, {', '.join(SUFFIXES)}",
           "jax": "Flax's parameters, .msgpack, or a T5X checkpoint"}
OTHERS = {  # by what a file's name ends with, or what a folder holds: what it is, and the way to what make new takes
    "saved_model.pb": ("a SavedModel", "it goes with TOOLCHAIN=legacy, FROM= its folder"),
    ".msgpack": ("Flax's parameters", "they go with TOOLCHAIN=jax"),
    ".index.json": ("weights in several files", "write them into one, as safetensors.torch.save_file("
                    "{**load_file(one), **load_file(other)}, 'weights.safetensors') does"),
    **dict.fromkeys(SUFFIXES, ("a state_dict", "it goes with TOOLCHAIN=torch, FROM= the file")),
    **dict.fromkeys(("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt"), (
        "an Orbax checkpoint", "write its parameters as .msgpack, by the lines in docs/your-own-model.md")),
    ".index": ("a checkpoint of TensorFlow's, which holds no graph", "load it into its model in scripts/in legacy "
               "python, and save that with tf.saved_model.save"),
    **dict.fromkeys((".h5", ".hdf5"), (
        "a model of Keras'", "save it as a SavedModel first, by keras.models.load_model and save in scripts/in legacy "
        "python, where you trust it")),
    "checkpoint": ("a T5X checkpoint", "it goes with TOOLCHAIN=jax"),
    ".keras": ("a model of Keras'", "save it as a SavedModel first, by its export(folder) where it was trained"),
    ".npz": ("NumPy's arrays", "write them as safetensors.numpy.save_file(dict(numpy.load(path)), "
             "'weights.safetensors') does, for TOOLCHAIN=torch"),
    ".onnx": ("a graph in ONNX", "nothing has to be converted, make inspect ONNX=path says what runs it"),
    ".pb": ("a frozen graph", "save it as a SavedModel first, by tf.compat.v1.saved_model.simple_save in scripts/in "
            "legacy python; make inspect FROZEN=path says what is in it"),
    ".tflite": ("a model for TensorFlow Lite", "take the SavedModel that it was made of"),
    ".gguf": ("quantized weights of llama.cpp's", "take the weights that they were made of"),
}
OPSETS = {"legacy": 17, "torch": 20, "jax": 20}
METHODS = {  # of int8, by what a network is mostly made of
    "convolutions": ("static-qdq", "8-bit weights a channel and 8-bit activations, calibrated on made-up inputs"),
    "loops": ("dynamic-blocks", "8-bit weights, activations to 8 bits as they come; ONNX Runtime's own operators"),
    "products": ("dynamic-columns", "8-bit weights with a scale a column, activations to 8 bits as they come"),
}
Layer = tuple[str, int, int, bool]  # name, inputs, outputs, whether it has a bias


class Given(NamedTuple):
    """What is known of a model by its weights."""
    ports: Mapping[str, list[dict[str, Any]]]
    folder: Path
    files: list[str]  # in it
    kind: str = "products"
    layout: str = "files"
    layers: list[Layer] | None = None
    listed: str = ""  # its arrays, some of them
    signature: str = ""  # of a SavedModel, if it isn't the one that is taken by itself


def saved_model(path: Path, signature: str = "") -> Given:
    """A SavedModel's ports and files, by TensorFlow's own protobufs. Raises Refusal on what isn't one."""
    done = subprocess.run(["scripts/in", "legacy", "python", "-m", "scripts.saved_model", path, signature], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(done.stderr.strip().splitlines()[-1])
    told = json.loads(done.stdout.splitlines()[-1])
    return Given({kind: told[kind] for kind in ("inputs", "outputs")}, path, told["files"], told["kind"],
                 signature=signature)


def state_dict(path: Path) -> Given:
    arrays = torch_module.arrays(path)
    *_, names = ({name: name for name in arrays}, *(told for told in torch_module.renamed(arrays)
                                                    if all("." in name for name in told.values())))
    return of_arrays({names[name]: array for name, array in arrays.items()}, path.parent, [path.name], "weight", ".")


def parameters(path: Path) -> Given:
    if path.is_dir():
        folder = source.t5x_folder(path)
        files = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
        return of_arrays(flax_params.arrays(folder), folder, files, "kernel", "/")._replace(layout="t5x")
    return of_arrays(flax_params.arrays(path), path.parent, [path.name], "kernel", "/")


def of_arrays(arrays: Mapping[str, np.ndarray], folder: Path, files: list[str], matrix: str, joint: str) -> Given:
    """What arrays tell: a chain of dense layers by its sizes, or names and shapes alone."""
    layers = chain(arrays, matrix, joint)
    sizes = (layers[0][1], layers[-1][2]) if layers else (1, 1)
    ports = {kind: [{"name": name, "dtype": "float32", "shape": ["batch", size]}]
             for kind, name, size in (("inputs", "x", sizes[0]), ("outputs", "y", sizes[1]))}
    names = [f"{name} {list(array.shape)}" for name, array in arrays.items()]
    kind = "convolutions" if any(convolves(name, array.ndim, matrix) for name, array in arrays.items()) else "products"
    return Given(ports, folder, files, kind, layers=layers, listed=re.sub(r"[^\w./\[\], -]", "?", listed(names)))


def convolves(name: str, axes: int, matrix: str) -> bool:
    """Whether an array seems to be the kernel of a convolution; Flax's attention has such of three axes, too."""
    leaf = re.split("[./]", name)[-1]
    if matrix == "kernel":
        return leaf == matrix and (axes in (4, 5) or (axes == 3 and "conv" in name.lower()))
    return leaf in (matrix, "weight_v", "original1") and axes in (3, 4, 5)


def chain(arrays: Mapping[str, np.ndarray], matrix: str, joint: str) -> list[Layer] | None:
    """The dense layers that arrays make up, each as wide as the one before it is out; None where they don't, or where
    neither numbers in their names nor their widths tell which comes after which.

    matrix: the last part of a matrix' name, [inputs, outputs] where it is Flax's "kernel", else turned round.
    """
    layers: list[Layer] = []
    scopes = list(dict.fromkeys(name.rpartition(joint)[0] for name in arrays))
    numbers = {scope: tuple(map(int, re.findall(r"\d+", scope))) for scope in scopes}
    numbered = all(numbers.values()) and len(set(numbers.values())) == len(scopes)
    for scope in sorted(scopes, key=lambda one: numbers[one]) if numbered else scopes:
        own = {name.rpartition(joint)[2]: array for name, array in arrays.items() if name.rpartition(joint)[0] == scope}
        if not {matrix} <= own.keys() <= {matrix, "bias"} or own[matrix].ndim != 2 or not re.fullmatch(r"\w+", scope):
            return None
        width, wider = own[matrix].shape if matrix == "kernel" else own[matrix].shape[::-1]
        if own.get("bias", np.empty(wider)).shape != (wider,):
            return None
        layers.append((scope, width, wider, "bias" in own))
    orders = [layers] if numbered else list(itertools.islice(chains([], layers), 2))
    fits = all(one[2] == other[1] for one, other in itertools.pairwise(layers))
    return layers if layers and fits and len(orders) == 1 else None


def chains(begun: list[Layer], left: list[Layer]) -> Iterator[list[Layer]]:
    """Every order of layers, after those begun, in which each is as wide as the one before it is out."""
    if not left:
        yield begun
    for index, layer in enumerate(left):
        if not begun or begun[-1][2] == layer[1]:
            yield from chains([*begun, layer], left[:index] + left[index + 1:])


READERS = {"legacy": saved_model, "torch": state_dict, "jax": parameters}


def new(model: str, path: Path, toolchain: str, signature: str = "") -> tuple[Path, Given]:
    """Write models/<model>/ and return it, with what is known of the model.

    signature: of a SavedModel that has several. Raises Refusal on a name that is taken, or weights that can't be read.
    """
    verbs = {*re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE), *build.NAMES}
    if not re.fullmatch(NAME, model) or model in verbs:
        raise Refusal(f"MODEL={model}: expected a name of small letters, digits and single _ that is no verb of make, "
                      "found another: for instance MODEL=mine")
    folder = ROOT / "models" / model
    if folder.exists():
        raise Refusal(f"models/{model}: expected a new name, found a folder: name another with MODEL=, or remove it")
    if toolchain not in READERS:
        raise Refusal(f"TOOLCHAIN={toolchain}: expected {', '.join(READERS)}, found another: take the framework's that "
                      "the model was trained in")
    if not path.exists():
        raise Refusal(f"FROM={path}: expected {LAYOUTS[toolchain]}, found none: give its path")
    if signature and toolchain != "legacy":
        raise Refusal(f"SIGNATURE={signature}: expected none with TOOLCHAIN={toolchain}, found one: leave it out, as "
                      "SavedModels alone have signatures")
    if wrong := foreign(path, toolchain):
        raise Refusal(f"FROM={path}: expected {LAYOUTS[toolchain]}, found {wrong}")
    given = saved_model(path, signature) if signature else READERS[toolchain](path)
    names = [port["name"] for kind in given.ports.values() for port in kind]
    if twice := [name for name in names if names.count(name) > 1]:
        raise Refusal(f"FROM={path}: expected ports of different names, found {twice[0]} going in and out: save it "
                      "with another name for what comes out")
    names += [signature] if signature else []
    files = [part for file in given.files for part in Path(file).parts] if given.layout == "files" else []
    for name in names + files:  # they become code
        if not re.fullmatch(PLAIN, name):
            raise Refusal(f"FROM={path}: expected names of letters, digits, dots, dashes and =, found {name!r}: save "
                          "it with plain ones")
    shapes = [port["shape"] for port in given.ports["inputs"]]
    axes = list(dict.fromkeys(axis for shape in shapes for axis in shape if isinstance(axis, str)))
    method, about = METHODS[given.kind]
    told = {"model": model, "title": model.replace("_", " ").capitalize(), "task": "Say in a sentence what it does",
            "toolchain": toolchain, "opset": OPSETS[toolchain], "method": method, "about": about, "axes": axes,
            "integers": any(port["dtype"] == "int64" for port in given.ports["inputs"]), **given._asdict()}
    partial = ROOT / "build/.new.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for template in sorted([*STARTER.glob("*.jinja"), *(STARTER / toolchain).glob("*.jinja")]):
            write(partial / template.stem, template, told)
        for name in given.files:
            (partial / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(given.folder / name, partial / "source" / name)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder, given


def foreign(path: Path, toolchain: str) -> str | None:
    """What a path is that the toolchain doesn't take, and the way from there; None where it may be the right thing."""
    inside = [path.name] if path.is_file() else [one.name for place in ("*", "*/*") for one in path.glob(place)]
    found = [(name, *told) for end, told in OTHERS.items() for name in inside if name.endswith(end)]
    name, what, way = found[0] if found else ("", "", "")
    right = {"legacy": (path / "saved_model.pb").is_file(),
             "torch": path.is_file() and (path.suffix in SUFFIXES or (not found and zipfile.is_zipfile(path))),
             "jax": path.suffix == ".msgpack" if path.is_file() else what == OTHERS["checkpoint"][0]}
    if right[toolchain] or not (found or toolchain == "torch"):
        return None
    return f"{what} ({name}): {way}" if found else "something else: save model.state_dict()"


def write(path: Path, template: Path, told: Mapping[str, Any]) -> None:
    """Fill a starter in."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                                     keep_trailing_newline=True)
    environment.filters["shape"] = lambda port: str(tuple(port["shape"])).replace("'", "")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.from_string(template.read_text(encoding="utf-8")).render(told), encoding="utf-8")


def main() -> int:
    parser = command.Parser(prog="scripts.new", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--toolchain", required=True)
    parser.add_argument("--signature", default="")
    parser.add_argument("given", type=lambda path: Path(path).expanduser().resolve(), metavar="FROM")
    asked = parser.parse_args()
    folder, given = new(asked.model, asked.given, asked.toolchain, asked.signature)
    print(f"{folder.relative_to(ROOT)} is there: its recipe.toml says what goes in and out, source/ holds the weights")
    if given.layers:
        print(f"its network.py is a guess, a chain of {len(given.layers)} dense layers with ReLUs between: put the "
              "network that was trained there, and what it answered into answers.npz, which the build holds it against")
    elif asked.toolchain != "legacy":
        print("its network.py lacks the network that these weights are of: put it there, and its ports into "
              "recipe.toml and inputs.py")
    print(f"next: make {asked.model}, then make checksums MODELS={asked.model}; docs/your-own-model.md goes on from it")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
