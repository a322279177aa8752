"""Reads a PyTorch checkpoint as data for `make inspect`: arrays, plain values, and the names of what it would run."""

import math
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from scripts.arrays import listed
from scripts.inspection.report import Report, checked, look, refusal, report, section, shape_text, totals
from scripts.job import Refusal

EXPECTED = "a checkpoint as torch.save writes it"
MOST_PICKLE = 2**28  # bytes
MOST_VALUE = 80  # characters that are shown of a value
Array = tuple[str, tuple[int, ...], str, int]  # name, shape, dtype, bytes
NEXT = ("Weights hold no ops: make new MODEL=mine FROM=path TOOLCHAIN={} makes a folder for them, and the network that "
        "they are of goes into its network.py.")


def pth(path: Path) -> Report:
    """The arrays of a checkpoint by their paths in it, with its plain values.

    Raises Refusal naming what opening it would run, and on a file that isn't one.
    """
    start = checked(path, EXPECTED, most=2**40)
    if start.startswith(b"\x80"):
        raise Refusal(f"{path}: expected {EXPECTED}, a zip archive, found a bare pickle, as PyTorch wrote before 1.6: "
                      f"save it again, torch.save(torch.load({path.name!r}, weights_only=True), 'again.pth')")
    if not start.startswith(b"PK\3\4"):
        raise refusal(path, EXPECTED, look(start))
    members(path)
    try:
        if foreign := get_unsafe_globals_in_checkpoint(path):
            raise Refusal(f"{path}: expected arrays and plain values, found that opening it would run: "
                          f"{listed(sorted(foreign))}: get a file that holds weights alone, or save the state_dict of "
                          "this one as such where you trust it")
        told = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError,
            AssertionError) as error:
        if "QuantizedMeta" in str(error):
            raise Refusal(f"{path}: expected {EXPECTED} with plain arrays, found quantized ones: save what their "
                          "dequantize() returns") from error
        raise refusal(path, EXPECTED, f"one that can't be read ({type(error).__name__}: "
                      f"{' '.join(str(error).split())[:160]})") from error
    found = list(leaves(told))
    arrays = [(name, tuple(leaf.shape), str(leaf.dtype).removeprefix("torch."), leaf.numel() * leaf.element_size())
              for name, leaf in found if isinstance(leaf, torch.Tensor)]
    return of_arrays(arrays, [(name, leaf) for name, leaf in found if not isinstance(leaf, torch.Tensor)], "torch")


def of_arrays(arrays: Sequence[Array], values: Iterable[tuple[str, Any]], toolchain: str) -> Report:
    """The report on weights, and which toolchain make new takes them to."""
    return report(
        [section("arrays", ("array", "shape", "dtype"), ((name, shape_text(shape), dtype) for name, shape, dtype, _ in
                                                         arrays)),
         section("values", ("value", ""), ((name, f"{value!r:.{MOST_VALUE}}") for name, value in values))],
        [totals("arrays", len(arrays), sum(math.prod(shape) for _, shape, _, _ in arrays),
                sum(size for *_, size in arrays))],
        [NEXT.format(toolchain)])


def members(path: Path) -> None:
    """Raises Refusal on an archive that is no checkpoint: packed, encrypted, a program, or with a huge pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            told = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeError) as error:
        raise refusal(path, EXPECTED, f"a zip archive that can't be read ({error})") from error
    pickles = [member for member in told if member.filename.endswith("/data.pkl")]
    encrypted = any(member.flag_bits & 0x41 for member in told)
    if not encrypted and any("/code/" in member.filename for member in told):
        raise Refusal(f"{path}: expected {EXPECTED}, found a program of TorchScript's: save its weights, where you "
                      f"trust it, torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')")
    flaw = ("an encrypted zip archive" if encrypted else
            "a zip archive without its data.pkl" if len(pickles) != 1 else
            "packed members" if any(member.compress_type != zipfile.ZIP_STORED for member in told) else
            f"a pickle of {pickles[0].file_size:,} bytes" if pickles[0].file_size > MOST_PICKLE else "")
    if flaw:
        raise refusal(path, EXPECTED, flaw)


def leaves(told: Any, joint: str = ".") -> Iterator[tuple[str, Any]]:
    """What isn't a dictionary or a list, with its path; what is in several places comes once."""
    waiting, seen = [("", told)], set()
    while waiting:
        name, thing = waiting.pop()
        children = list(thing.items()) if isinstance(thing, dict) else list(enumerate(thing)) if isinstance(
            thing, (list, tuple)) and not isinstance(thing, torch.Size) else None
        if children is None or not children:
            yield name or "the whole", thing
        elif id(thing) not in seen:
            seen.add(id(thing))
            waiting += [(f"{name}{joint}{key}" if name else str(key), child) for key, child in reversed(children)]
