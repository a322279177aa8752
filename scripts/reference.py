"""reference.npz: what was fed to the original and what it returned, as `<component>/<case>/<port>` (Python 3.7+).

Where its framework computes in float64 too, `<component>/<case>/<port>.exact` is what the original returns there, of
the same inputs and weights: how far the original in float32 is from that is the noise that bounds are relative to.
"""

from pathlib import Path
from typing import Dict

import numpy as np

EXACT = ".exact"
Cases = Dict[str, Dict[str, np.ndarray]]


def read(path: Path) -> Dict[str, Cases]:
    """Its arrays by component, case and port."""
    told: Dict[str, Cases] = {}
    with np.load(str(path)) as arrays:
        for key in arrays:
            component, case, port = key.split("/")
            told.setdefault(component, {}).setdefault(case, {})[port] = arrays[key]
    return told
