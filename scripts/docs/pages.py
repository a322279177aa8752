"""Fills in what is generated of the Markdown files, and draws the benchmarks.

A block is generated between the lines `<!-- docs: NAME -->` and `<!-- /docs -->`; what stands around it is written by
hand. NAME is one of TABLES, `benchmark MODEL`, or, in a model's card, `ports`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from scripts import chart
from scripts.docs import artifacts, benchmarks, downloads, models, ports, verbs
from scripts.job import Refusal

PAGES = ("README.md", "docs/*.md", "models/*/README.md")
MARK = re.compile(r"<!-- (/?)docs(?:: ([\w -]+?))? -->")
BLOCK = re.compile(r"(<!-- docs: ([\w -]+?) -->\n).*?(<!-- /docs -->)", re.DOTALL)
TABLES: dict[str, Callable[[Path], list[str]]] = {
    "models": models.table, "summary of artifacts": artifacts.summary, "artifacts": artifacts.sections,
    "addresses": downloads.addresses, "files": downloads.files, "verbs": verbs.table,
}


def render(root: Path) -> dict[Path, str]:
    """The text of every file that is generated, or partly so, by its path from the root."""
    found = sorted(page for place in PAGES for page in root.glob(place))
    files = {page.relative_to(root): text(root, page.relative_to(root)) for page in found
             if MARK.search(page.read_text(encoding="utf-8"))}
    return files | {benchmarks.picture(name): chart.draw(result) for name, result in benchmarks.read(root).items()}


def text(root: Path, page: Path) -> str:
    """The text of a page with its blocks written anew. Raises Refusal for a block that isn't known or doesn't end."""
    old = (root / page).read_text(encoding="utf-8")
    marks = [end for end, _ in MARK.findall(old)]
    if marks != ["", "/"] * (len(marks) // 2):
        raise Refusal(f"{page}: expected <!-- docs: NAME --> and <!-- /docs --> in turn, found {len(marks)} such "
                      "marks: put the missing one back")
    return BLOCK.sub(lambda block: block[1] + "\n".join(lines(root, page, block[2])) + "\n" + block[3], old)


def lines(root: Path, page: Path, name: str) -> list[str]:
    """The lines of a block."""
    kind, _, model = name.partition(" ")
    if name == "ports" and page.parts[0] == "models":
        return ports.tables(root, page.parent.name)
    if kind == "benchmark" and model:
        return benchmarks.section(root, model)
    if name in TABLES:
        return TABLES[name](root)
    raise Refusal(f"{page}: no generated block {name!r}: expected one of {', '.join(TABLES)}, ports in "
                  "a model's card, or benchmark MODEL")
