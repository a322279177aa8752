"""`make docs`: writes what is generated in README.md, docs/ and the models' cards.

First it records what is new in build/: the figures of verified builds go to docs/measured.json, those of make bench to
docs/benchmarks.json. Then it writes every table and picture anew, from these two files, the recipes, the Makefile and
checksums/sources.toml alone, so that a tree without builds gives the same text.
"""

import sys
from pathlib import Path

from scripts import command, manifest
from scripts.docs import benchmarks, measured, pages

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    command.Parser(prog="scripts.docs", description=__doc__).parse_args()
    for line in (*measured.record(ROOT), *benchmarks.record(ROOT)):
        print(line)
    count = 0
    for path, text in pages.render(ROOT).items():
        if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != text:
            manifest.write_atomically(ROOT / path, text)
            print(f"wrote {path}")
            count += 1
    if not count:
        print("all generated pages are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
