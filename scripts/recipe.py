"""Reads models/<model>/recipe.toml strictly: unknown keys, wrong types and missing ones are
errors with file and line.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from scripts.job import Refusal

PORT = {"name": str, "dtype": str, "shape": list, "about": str, "classes?": int, "written_where?": str,
        "decisions?": int, "each?": int}
PORTS = {"about": str, "inputs": [PORT], "outputs": [PORT]}
SCHEMA = {
    "title": str, "task": str, "version": int, "upstream": str, "code_licence": str, "weights_licence": str,
    "attribution": str, "toolchain": str, "exporter?": str, "opset": int, "routes?": [str],
    "like?": str, "signature?": str, "guessed?": bool,
    "metadata?": {"*": str},
    "sources": {"seeded?": {"*": object}, "tiny?": {"*": object}, "bundled?": {"about": str},
                "custom": {"files?": [str], "checkpoint?": str, "others?": [str],
                           "vocab_size?": int},
                "released?": {"source": str}},
    "components": {"*": {**PORTS, "stage": str, "variants?": [str], "loop_of?": [str]}},
    "together?": {"*": {**PORTS, "components": [str]}},
    "steps?": {"*": PORTS},
    "variants": {"*": {"method": str, "instead?": {"*": str}, "depthwise?": str, "about": str, "domain?": str}},
    "rewrites?": {"*": str},
    "custom_ops?": {"*": {"domain": str, "about": str, "inputs": [str], "outputs": [str], "attributes?": {"*": str}}},
    "lite?": {"*": {"components": [str], "method": str, "about": str}},
    "gates": [{"component?": str, "variant?": str, "format?": str, "port?": str, "case?": str, "metric": str,
               "at_most?": (int, float), "at_least?": (int, float)}],
}
DESCRIBED = ("components", "steps", "together")  # the tables whose entries have ports
ROUTES = ("tfjs",)  # of an export, besides the straight one
DTYPES = ("float32", "int64")
METHODS = ("none", "half-weights", "static-qdq", "byte-weights", "dynamic-columns", "dynamic-blocks")
KERNEL_DTYPES = ("float32", "float64", "int32", "int64", "bool")
ATTRIBUTE_KINDS = ("int64", "float32", "string")
DOMAIN = re.compile(r"(?!ai\.onnx\b|com\.microsoft\b|bellfoundry\.rewrites$)[a-z]\w*(\.[a-z]\w*)+")  # of one's own
LITE_METHODS = ("none", "dynamic-range")
FORMATS = ("onnx", "tflite")
CHECKPOINTS = ("tensorflow", "t5x", "tfjs")
EITHER = {"files", "checkpoint"}  # one of them tells how a user's own checkpoint lies
ARGMAX_METRICS = ("argmax_mismatches", "agreement", "agreement_above_median", "divergence")
DECISION_METRICS = ("decision_mismatches", "decision_agreement")
SIZES = ("bytes", "size_share")  # of an artifact, whatever its ports
METRICS = (*SIZES, "max_error", "mean_error", "p99_error", "noise_ratio", "snr_db", "equality", "loop_equality",
           "given_max_error", *ARGMAX_METRICS, *DECISION_METRICS)
Where = tuple[str | int, ...]


def models(root: Path) -> list[str]:
    """The models that have a recipe, by name."""
    return sorted(path.parent.name for path in root.glob("models/*/recipe.toml"))


def read(root: Path, model: str) -> dict[str, Any]:
    """The recipe of a model. Raises Refusal naming file, line and key for whatever is wrong in it."""
    path = root / "models" / model / "recipe.toml"
    if not path.is_file():
        raise Refusal(f"no model {model!r}: expected one of {', '.join(models(root))}")
    text = path.read_text(encoding="utf-8")
    try:
        recipe = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{path.relative_to(root)}: not TOML: {error}") from None
    other = recipe.get("like")
    if other == model or (other is not None and other not in models(root)):
        raise Refusal(f"{path.relative_to(root)}:{line_of(text, ('like',))}: no other model {other!r}")
    if other:
        recipe = merged(tomllib.loads((root / "models" / other / "recipe.toml").read_text(encoding="utf-8")), recipe)
    flaw = find_flaw(recipe, SCHEMA, ()) or find_contradiction(recipe, root) or find_unkernelled(
        recipe, root / "models" / recipe.get("like", model))
    if flaw:
        where, what = flaw
        raise Refusal(f"{path.relative_to(root)}:{line_of(text, where)}: {what}")
    for part in (part for table in DESCRIBED for part in recipe.get(table, {}).values()):
        for kind in ("inputs", "outputs"):
            part[kind] = [one for port in part[kind] for one in numbered(port)]
    return recipe


def kind(recipe: dict[str, Any], asked: str) -> str:
    """The kind of weights that a model is built from where `asked` is asked for: those, or else what is bundled."""
    bundled = asked not in recipe["sources"] and "bundled" in recipe["sources"]
    return "bundled" if bundled else asked


def merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A recipe that is like another but for its own values, table by table; where its own are files, the other's
    kind of checkpoint doesn't count, nor the other way round."""
    if not EITHER.isdisjoint(own):
        base = {key: value for key, value in base.items() if key not in EITHER}
    return {**base, **{key: merged(base[key], value) if isinstance(value, dict) and key in base else value
                       for key, value in own.items()}}


def numbered(port: dict[str, Any]) -> list[dict[str, Any]]:
    """The ports that one with `each` stands for, of that number; their group is its name."""
    told = {key: value for key, value in port.items() if key != "each"}
    if "each" not in port:
        return [told]
    return [dict(told, name=f"{port['name']}_{number}", group=port["name"]) for number in range(port["each"])]


def find_flaw(value: Any, schema: Any, where: Where) -> tuple[Where, str] | None:
    """The first place where a value doesn't fit a schema, and what is wrong there."""
    name = ".".join(map(str, where)) or "the recipe"
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return where, f"{name} must be a table, found {value!r}"
        if "*" not in schema:
            known = {key.rstrip("?"): inner for key, inner in schema.items()}
            if unknown := [key for key in value if key not in known]:
                return (*where, unknown[0]), (f"unknown key {unknown[0]!r} in {name}; "
                                              f"known are {', '.join(known)}")
            if missing := [key for key in schema if not key.endswith("?") and key not in value]:
                return where, f"{name} lacks the key {missing[0]!r}"
        else:
            known = dict.fromkeys(value, schema["*"])
        flaws = (find_flaw(inner, known[key], (*where, key)) for key, inner in value.items())
    elif isinstance(schema, list):
        if not isinstance(value, list):
            return where, f"{name} must be a list, found {value!r}"
        flaws = (find_flaw(inner, schema[0], (*where, index)) for index, inner in enumerate(value))
    else:
        fits = isinstance(value, schema) and not (isinstance(value, bool) and schema not in (bool, object))
        expected = "number" if isinstance(schema, tuple) else schema.__name__
        return None if fits else (where, f"{name} must be of type {expected}, found {value!r}")
    return next(filter(None, flaws), None)


def find_contradiction(recipe: dict[str, Any], root: Path) -> tuple[Where, str] | None:
    """The first place where a well-formed recipe names something that isn't there."""
    for key in ("toolchain", "exporter"):
        if key in recipe and not (root / "images" / recipe[key] / "requirements.lock").is_file():
            return (key,), f"no toolchain {recipe[key]!r} in images/"
    if unknown := [route for route in recipe.get("routes", []) if route not in ROUTES]:
        return ("routes",), f"unknown route {unknown[0]!r}; known are {', '.join(ROUTES)}"
    for name, variant in recipe["variants"].items():
        for method in (variant["method"], *variant.get("instead", {}).values(), variant.get("depthwise", "none")):
            if method not in METHODS:
                return ("variants", name, "method"), f"unknown method {method!r}; known are {', '.join(METHODS)}"
    for name, variant in recipe.get("lite", {}).items():
        if variant["method"] not in LITE_METHODS:
            return ("lite", name, "method"), (f"unknown method {variant['method']!r}; "
                                              f"known are {', '.join(LITE_METHODS)}")
        if unknown := [one for one in variant["components"] if one not in recipe["components"]]:
            return ("lite", name, "components"), f"{unknown[0]!r} is none of the components"
    if not {"seeded", "bundled"} & recipe["sources"].keys():
        return ("sources",), "the recipe needs sources.seeded, or sources.bundled with files in the model's source/"
    custom = recipe["sources"]["custom"]
    if ("files" in custom) == ("checkpoint" in custom):
        return ("sources", "custom"), "sources.custom needs files or checkpoint, one of them"
    if custom.get("checkpoint", CHECKPOINTS[0]) not in CHECKPOINTS:
        return ("sources", "custom", "checkpoint"), (f"unknown kind {custom['checkpoint']!r}; "
                                                     f"known are {', '.join(CHECKPOINTS)}")
    for name, component in recipe["components"].items():
        if component["stage"] not in ("export", "compose"):
            return ("components", name, "stage"), f"{component['stage']!r} makes no components: export or compose does"
        if unknown := [one for one in component.get("variants", []) if one not in recipe["variants"]]:
            return ("components", name, "variants"), f"{unknown[0]!r} is none of the variants"
        if unknown := [one for one in component.get("loop_of", []) if one not in recipe["components"]]:
            return ("components", name, "loop_of"), f"{unknown[0]!r} is none of the components"
    for name, part in recipe.get("together", {}).items():
        if name in recipe["components"]:
            return ("together", name), f"{name} is a component already: choose another name"
        if unknown := [one for one in part["components"] if one not in recipe["components"]]:
            return ("together", name, "components"), f"{unknown[0]!r} is none of the components"
    parts = [(table, name, part) for table in DESCRIBED for name, part in recipe.get(table, {}).items()]
    for table, name, part in parts:
        inputs = [port["name"] for port in part["inputs"]]
        names = [*inputs, *(port["name"] for port in part["outputs"])]
        if twice := [one for index, one in enumerate(names) if one in names[:index]]:
            return (table, name), f"{name} has two ports {twice[0]!r}: name a state's old and new value differently"
        for kind in ("inputs", "outputs"):
            for index, port in enumerate(part[kind]):
                where = (table, name, kind, index)
                if port["dtype"] not in DTYPES:
                    return (*where, "dtype"), f"unknown dtype {port['dtype']!r}; known are {', '.join(DTYPES)}"
                if not all(isinstance(axis, str) or (type(axis) is int and axis > 0) for axis in port["shape"]):
                    return (*where, "shape"), f"a shape holds names and positive integers, found {port['shape']}"
                if not 0 <= port.get("classes", 0) <= max(0, len(port["shape"]) - 1):
                    return (*where, "classes"), f"{port['classes']} is no axis of {port['shape']}"
                last = port["shape"][-1] if port["shape"] else 0
                if "decisions" in port and not (type(last) is int and 0 < port["decisions"] <= last):
                    return (*where, "decisions"), f"{port['decisions']} aren't among the last axis of {port['shape']}"
                if port.get("written_where", inputs[0]) not in inputs:
                    return (*where, "written_where"), f"{port['written_where']!r} is no input of {name}"
    for index, gate in enumerate(recipe["gates"]):
        where = ("gates", index)
        variants = recipe["variants"] if gate.get("format", "onnx") == "onnx" else recipe.get("lite", {})
        judged = recipe["components"] | recipe.get("together", {})
        for key, known in (("component", judged), ("format", FORMATS), ("variant", variants),
                           ("metric", METRICS)):
            if key in gate and gate[key] not in known:
                return (*where, key), f"unknown {key} {gate[key]!r}; known are {', '.join(known)}"
        if ("at_most" in gate) == ("at_least" in gate):
            return where, "a gate needs at_most or at_least, one of them"
        if gate["metric"] == "size_share" and (gate.get("format", "onnx") != "onnx" or any(
                "fp32" not in part.get("variants", recipe["variants"]) for name, part in recipe["components"].items()
                if gate.get("component", name) == name)):
            return (*where, "metric"), "size_share needs the format onnx, and a variant fp32 to be a share of"
        if gate["metric"] not in SIZES:
            if "component" not in gate:
                return where, f"a gate on {gate['metric']} needs a component"
            ports = {port["name"]: port for port in judged[gate["component"]]["outputs"]}
            if gate.get("port") not in ports:
                return where, f"{gate.get('port')!r} is no output of {gate['component']}; those are {', '.join(ports)}"
            if gate["metric"] in ARGMAX_METRICS and "classes" not in ports[gate["port"]]:
                return (*where, "metric"), f"{gate['metric']} needs classes on the port {gate['port']}"
            if gate["metric"] in DECISION_METRICS and "decisions" not in ports[gate["port"]]:
                return (*where, "metric"), f"{gate['metric']} needs decisions on the port {gate['port']}"
            if gate["metric"] == "loop_equality" and "loop_of" not in judged[gate["component"]]:
                return (*where, "metric"), f"loop_equality needs loop_of at {gate['component']}"
            if gate["metric"] == "given_max_error" and "written_where" not in ports[gate["port"]]:
                return (*where, "metric"), f"{gate['metric']} needs written_where on the port {gate['port']}"
    return None


def find_unkernelled(recipe: dict[str, Any], folder: Path) -> tuple[Where, str] | None:
    """The first place where a recipe's operators of its own don't fit the kernels in the model's folder."""
    kernels = folder / "kernels.py"
    text = kernels.read_text(encoding="utf-8") if kernels.is_file() else ""
    functions = re.findall(r"^def (\w+)\(", text, re.MULTILINE)
    for op, told in recipe.get("custom_ops", {}).items():
        where = ("custom_ops", op)
        if op in recipe.get("rewrites", {}):
            return where, f"{op} has a text under [rewrites] too: leave one of them out"
        if not DOMAIN.fullmatch(told["domain"]):
            return (*where, "domain"), (f"expected a domain of your own, two words or more with a dot between them, "
                                        f"found {told['domain']!r}: for instance bellfoundry.ops")
        for key, known in (("inputs", KERNEL_DTYPES), ("outputs", KERNEL_DTYPES), ("attributes", ATTRIBUTE_KINDS)):
            named = told.get(key, [])
            if unknown := [one for one in (named.values() if isinstance(named, dict) else named) if one not in known]:
                return (*where, key), f"unknown dtype {unknown[0]!r}; known are {', '.join(known)}"
        if op not in functions:
            return where, (f"expected a kernel, the function {op} of models/{folder.name}/kernels.py, found "
                           f"{', '.join(functions) or 'none'}: write def {op}({', '.join(told['inputs'])})")
    return None


def line_of(text: str, where: Where) -> int:
    """The line of a TOML text where a key stands, or the nearest table above it."""
    found, table, counts = 1, (), {}
    text = re.sub(r'("""|\'\'\').*?\1', lambda string: "\n" * string[0].count("\n"), text, flags=re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", line):
            table = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            here = table
        elif key := re.match(r"\s*([\w-]+)\s*=", line):
            here = (*table, key[1])
        else:
            continue
        if here == where:
            return number
        if table and table == where[:len(table)]:
            found = max(found, number) if here == table else found
    return found
