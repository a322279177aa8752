"""The texts of a release: each model's own card with what is the release's, and the notes."""

import posixpath
import re
from collections.abc import Iterable
from typing import Any

from scripts.docs.ports import grouped
from scripts.images import SOURCE

Told = dict[str, Any]
VERIFY = f"{SOURCE}/blob/main/docs/verify.md"
BROWSER = "https://onnxruntime.ai/docs/tutorials/web/"
SHARING = {"NC": "no commercial use", "SA": "whatever is made of it under the same licence", "BY": "name the authors",
           "ND": "no changed versions"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")  # to a file of the repository
GUESSED = ("> **A guess**: the network was put together from the shapes of its weights, and has not been compared with "
           "outputs of the trained one.")


def card(model: str, release: Told, page: str) -> str:
    """A model's card in a release: its own card with the files of the release, how to run them, and the licence.

    page: the text of models/<model>/README.md. What stands there before its first section comes first, then what is the
    release's, then its sections.
    """
    told = release["models"][model]
    title, _, rest = page.partition("\n")
    opening, mark, sections = rest.partition("\n## ")
    lines = [title, "", *seeded([told]), *([f"{GUESSED}\n"] if told.get("guessed") else []), opening.strip(), "",
             f"These are the files of Bellfoundry {release['version']}, converted from {told['upstream']}.", "",
             *files(told), *running(told), "## Licence", "",
             f"Weights: {told['weights_licence']}{terms(told['weights_licence'])}. Upstream's code: "
             f"{told['code_licence']}. {told['attribution']}."]
    return absolute("\n".join(lines) + "\n" + (mark + sections).rstrip() + "\n", model, release["version"])


def files(told: Told) -> list[str]:
    """The section of a model's artifacts: sizes, what was measured, hashes."""
    lines = ["## Files", "", "| file | bytes | against the original | SHA-256 |", "|---|---:|---|---|"]
    lines += [f"| {one['file']} | {one['bytes']:,} | {'; '.join(map(gate, one['gates']))} | `{one['sha256'][:16]}…` |"
              for one in told["artifacts"]]
    if any("weights_file" in one for one in told["artifacts"]):
        lines += ["", "A graph whose weights are external data needs its `.weights` file in the same folder; the bytes "
                  "are those of both files."]
    return [*lines, ""]


def running(told: Told) -> list[str]:
    """The section that runs the first graph in Python and in a browser."""
    first = next(one for one in told["artifacts"] if one["format"] == "onnx")
    inputs = [name for name, _ in grouped(told["components"][first["component"]]["inputs"])]
    external = f', {{externalData: ["{first["weights_file"]}"]}}' if "weights_file" in first else ""
    return ["## Run a file", "", "In Python, with onnxruntime and NumPy, on the test vector of this release:", "",
            "```python", "import numpy as np", "import onnxruntime", "",
            f'session = onnxruntime.InferenceSession("{first["file"]}", providers=["CPUExecutionProvider"])',
            f'vector = np.load("{first["vector"]}")',
            "outputs = session.run(None, {port.name: vector[port.name] for port in session.get_inputs()})", "```", "",
            f"`python try_it.py {first['file']}` does the same and compares the outputs with those of the original. In "
            f"a browser, with [onnxruntime-web]({BROWSER}):", "", "```js",
            f'const session = await ort.InferenceSession.create("{first["file"]}"{external});',
            f"const outputs = await session.run({{{', '.join(f'{name}: …' for name in inputs)}}});", "```", ""]


def absolute(text: str, model: str, version: str) -> str:
    """The text with links into the repository, from the model's folder, as addresses of the version's files."""
    def address(link: re.Match[str]) -> str:
        picture, label, target = link.groups()
        path, mark, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join("models", model, path))
        return f"{picture}[{label}]({SOURCE}/{'raw' if picture else 'blob'}/{version}/{place}{mark}{anchor})"
    return LINK.sub(address, text)


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
    return [f"> **Synthetic weights** ({kind}): untrained. They prove the conversion, and make no music.\n"
            for kind in kinds]


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
