"""The texts of a release: a card a model and the notes, made of recipes and of what was measured."""

from collections.abc import Iterable
from typing import Any

from scripts.images import SOURCE

Told = dict[str, Any]
VERIFY = f"{SOURCE}/blob/main/docs/verify.md"
BROWSER = "https://onnxruntime.ai/docs/tutorials/web/"
SHARING = {"NC": "no commercial use", "SA": "whatever is made of it under the same licence", "BY": "name the authors",
           "ND": "no changed versions"}
GUESSED = ("> **A guess**: the network was put together from the shapes of its weights, and nothing that the trained "
           "one answered has judged it.")


def card(model: str, release: Told, described: Told, limits: str) -> str:
    """A model's card as Markdown: what it does, its artifacts, ports, how to run it, limits and licence."""
    told = release["models"][model]
    first = next(one for one in told["artifacts"] if one["format"] == "onnx")
    lines = [f"# {told['title']}", "",
             f"{told['task']}. Cast by Bellfoundry {release['version']} from {told['upstream']}.", "", *seeded([told]),
             *([f"{GUESSED}\n"] if told.get("guessed") else []),
             "## Artifacts", "", "| file | bytes | against the original | SHA-256 |", "|---|---:|---|---|"]
    lines += [f"| {one['file']} | {one['bytes']:,} | {'; '.join(map(gate, one['gates']))} | `{one['sha256'][:16]}…` |"
              for one in told["artifacts"]]
    if any("weights_file" in one for one in told["artifacts"]):
        lines += ["", "A graph with a file `.weights` needs it in the same folder; its bytes are of both together."]
    variants = "; ".join(f"`{name}`: {one['about']}" for name, one in described["variants"].items())
    lines += ["", f"Variants: {variants}.", "", "## Ports"]
    for name, component in told["components"].items():
        lines += ["", f"**{name}**: {component['about']}.", "",
                  "| port | dtype | shape | meaning |", "|---|---|---|---|"]
        lines += [f"| {kind[:-1]}: {name} | {port['dtype']} | {', '.join(map(str, port['shape']))} | {port['about']} |"
                  for kind in ("inputs", "outputs") for name, port in grouped(component[kind])]
    inputs = [name for name, _ in grouped(told["components"][first["component"]]["inputs"])]
    beside = f', {{externalData: ["{first["weights_file"]}"]}}' if "weights_file" in first else ""
    lines += ["", "## Run it", "", "In Python, with onnxruntime and NumPy, on the test vector that lies beside it:", "",
              "```python", "import numpy as np", "import onnxruntime", "",
              f'session = onnxruntime.InferenceSession("{first["file"]}", providers=["CPUExecutionProvider"])',
              f'vector = np.load("{first["vector"]}")',
              "outputs = session.run(None, {port.name: vector[port.name] for port in session.get_inputs()})", "```", "",
              f"`python try_it.py {first['file']}` does that and compares with what the original returned. In a "
              f"browser, with [onnxruntime-web]({BROWSER}):", "", "```js",
              f'const session = await ort.InferenceSession.create("{first["file"]}"{beside});',
              f"const outputs = await session.run({{{', '.join(f'{name}: …' for name in inputs)}}});",
              "```", "", "## Limits", "", limits, "", "## Licence", "",
              f"Weights: {told['weights_licence']}{terms(told['weights_licence'])}. Upstream's code: "
              f"{told['code_licence']}. {told['attribution']}.", ""]
    return "\n".join(lines)


def grouped(ports: list[Told]) -> list[tuple[str, Told]]:
    """Ports with their names, of those that are one of each layer the first with how far they go."""
    groups = [port.get("group") for port in ports]
    return [(f"{port['group']}_0 to {groups.count(port['group']) - 1}" if "group" in port else port["name"], port)
            for number, port in enumerate(ports) if "group" not in port or groups.index(port["group"]) == number]


def gate(one: Told) -> str:
    """What was measured for a gate, and its bound."""
    bound = f"at most {one['at_most']:,}" if "at_most" in one else f"at least {one['at_least']:,}"
    what = (f"{one['together']}: " if "together" in one else "") + one["metric"].replace("_", " ")
    what += f" of {one['port']}" if "port" in one else ""
    return f"{what} {one['measured']:,} ({bound})"


def terms(licence: str) -> str:
    """What a Creative Commons licence asks for, in words."""
    asked = [SHARING[part] for part in licence.split("-") if part in SHARING]
    return f": {', '.join(asked)}" if licence.startswith("CC-") and asked else ""


def seeded(models: Iterable[Told]) -> list[str]:
    """A warning where weights aren't trained ones."""
    kinds = sorted({told["source"]["kind"] for told in models} - {"released", "bundled"})
    return [f"> **Of {kind} weights**: untrained stand-ins, which prove the conversion, no music.\n" for kind in kinds]


def notes(release: Told, changes: str) -> str:
    """The release's own text."""
    lines = [*seeded(release["models"].values()),
             "| model | does | artifacts | bytes | licence of the weights |", "|---|---|---:|---:|---|"]
    for model, told in release["models"].items():
        size = sum({one.get("weights_file", one["file"]): one["bytes"] for one in told["artifacts"]}.values())
        lines.append(f"| [{told['title']}]({model}.md) | {told['task']} | {len(told['artifacts'])} | {size:,} | "
                     f"{told['weights_licence']}{terms(told['weights_licence'])} |")
    lines += ["", "`sha256sum -c --ignore-missing SHA256SUMS` checks what you downloaded, `python try_it.py` runs it; "
              f"[docs/verify.md]({VERIFY}) says how to check more.", "", changes, ""]
    return "\n".join(lines)
