"""A checkpoint's arrays held against those there must be, and what a sentence says of it (Python 3.7 and later)."""

from typing import List, Mapping, Tuple

Shapes = Mapping[str, Tuple[int, ...]]


def flaws(found: Shapes, known: Shapes) -> List[str]:
    """What is wrong with the shapes found, a line for each kind of flaw."""
    missing = [name for name in known if name not in found]
    extra = [name for name in found if name not in known]
    other = [f"{name} is {list(found[name])}, expected {list(shape)}" for name, shape in known.items()
             if found.get(name, shape) != shape]
    kinds = {"missing": missing, "unknown": extra, "of another shape": other}
    return [f"{len(names)} {kind}: {listed(names)}" for kind, names in kinds.items() if names]


def listed(names: List[str], most: int = 5) -> str:
    """The names, or the first of them and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
