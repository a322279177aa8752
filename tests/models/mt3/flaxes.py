"""What Flax writes of what artifacts heard (ask_music.py)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.mt3.notes import Segment, Transcription, transcribe
from models.mt3.player import start
from models.mt3.vocabulary import CONFIGURATIONS
from tests.conftest import run
from tests.models.mt3.conftest import HERE
from tests.models.mt3.music import Heard


def by_flax(cast: Path, folder: Path, cases: Mapping[str, Heard], *alone: str) -> dict[str, Any]:
    """What Flax writes of the same, by case: ask_music.py tells how.

    cast: the folder of the artifacts. folder: for what goes to Flax.
    """
    np.savez(folder / "feed.npz", **{f"{case}/{part}": array for case, heard in cases.items()
                                     for part, array in (("mel", heard.mel), ("fed", heard.fed))})
    done = run("scripts/in", "jax", "python", HERE / "ask_music.py", cast.parent / "fetch", folder / "feed.npz", *alone)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def notes_of(rows: Sequence[Sequence[int] | None]) -> Transcription | None:
    """What segments say; nothing where one of them isn't known."""
    if any(row is None for row in rows):
        return None
    configuration = CONFIGURATIONS["mt3"]
    return transcribe([Segment(start(number, configuration.frames), row) for number, row in enumerate(rows)],
                      configuration)


def not_flaxes(cast: Path, folder: Path, heard: Mapping[str, Heard], *alone: str) -> list[str]:
    """Which pieces have other notes than Flax writes of them; those named alone it decodes by itself, too."""
    told = by_flax(cast, folder, {f"beam {piece}": found for piece, found in heard.items()},
                   *(f"beam {piece}" for piece in alone))
    for piece in heard:
        answer = told[f"beam {piece}"]
        print(f"{piece}: what decided led by {answer['lead']:.2g} at least; {answer['exactly']} segments as in float64")
    return [case for case, answer in told.items()
            if notes_of(answer["tokens"]) != heard[case.partition("beam ")[2]].written]
