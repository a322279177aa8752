"""reference.npz: what was fed to the original and what it returned, as `<component>/<case>/<port>` (Python 3.7+)."""

from pathlib import Path
from typing import Dict

import numpy as np

Cases = Dict[str, Dict[str, np.ndarray]]


def read(path: Path) -> Dict[str, Cases]:
    """Its arrays by component, case and port."""
    told: Dict[str, Cases] = {}
    with np.load(str(path)) as arrays:
        for key in arrays:
            component, case, port = key.split("/")
            told.setdefault(component, {}).setdefault(case, {})[port] = arrays[key]
    return told
