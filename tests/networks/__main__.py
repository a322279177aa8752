"""`make supported`: every network of this folder is converted, and docs/supported.md says what became of each."""

import sys
import tempfile
from pathlib import Path

from scripts import command, manifest
from tests.networks import page

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = page.outcomes(Path(folder))
    manifest.write_atomically(ROOT / page.PAGE, page.text(found))
    print(f"{page.PAGE} is written: {len(found)} networks")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
