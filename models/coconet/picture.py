"""A piano roll of four voices as a PNG."""

from collections.abc import Sequence
from pathlib import Path

from models.coconet.midi import VOICES
from scripts import pianoroll
from scripts.tune import Note, Tune

COLOURS = ("#d1495b", "#e3a02c", "#3a8f74", "#2f5d8c")
HEIGHTS = (0.94, 0.84, 0.72, 0.58)


def draw(path: Path, tune: Tune, voices: Sequence[Sequence[Note]], title: str, subtitle: str) -> None:
    """Write the PNG; the voices are soprano, alto, tenor, bass."""
    pianoroll.draw(path, tune, [pianoroll.Voice(*voice) for voice in zip(VOICES, COLOURS, HEIGHTS, voices)],
                   title, subtitle)
