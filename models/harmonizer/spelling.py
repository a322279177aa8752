"""How chords are written in a key: by its signature, or where there is none by the key that the melody tells of.

Notes lie on a line of fifths, F C G D A E B and on with sharps, back from F with flats. A key takes the twelve around
its own: five below and six above the tonic of a major key, and in minor those up to the leading note's.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import mido
import numpy as np

from models.harmonizer.beats import Beat
from models.harmonizer.chords import BEAT, NAMES, ROOTS
from models.harmonizer.rules import key_of
from scripts.tune import Tune

LETTERS = "FCGDAEB"  # C is at 0
FLATTEST, SHARPEST = -7, 11  # Cb and E#: of what is beyond, but in a key that has it, another name is read sooner
Ranked = TypeVar("Ranked", bound=NamedTuple)  # has a chord


class Key(NamedTuple):
    """A signature of so many sharps, or flats below 0, and whether it is a minor key's."""

    fifths: int
    minor: bool


def spelled(chord: str, key: Key) -> str:
    """A chord of NAMES as it is written in a key: C# in D flat major is Db. Another name stays."""
    if chord not in NAMES:
        return chord
    root = next(name for name in sorted(ROOTS, key=len, reverse=True) if chord.startswith(name))
    lowest = key.fifths - (3 if key.minor else 5)
    fifth = lowest + (7 * ROOTS.index(root) - lowest) % 12
    if not key.fifths - 1 <= fifth <= key.fifths + 5:  # no note of the scale
        fifth += 12 * (fifth < FLATTEST) - 12 * (fifth > SHARPEST)
    signs, letter = divmod(fifth + 1, 7)
    return LETTERS[letter] + ("#" * signs if signs > 0 else "b" * -signs) + chord.removeprefix(root)


def keys(tune: Tune, beats: Sequence[Beat]) -> list[Key]:
    """The key of each beat. A signature without any signs, as programs write that know none, tells nothing."""
    melody = tune.melody()
    tonic, mode = key_of(np.pad(melody, (0, -len(melody) % BEAT)))
    found = Key((7 * tonic - 3 * mode + 5) % 12 - 5, bool(mode))  # D flat major to F sharp major, and their minors
    signatures = [(sign.tick / tune.sixteenth, of_signature(sign.message)) for sign in tune.signs
                  if sign.message.type == "key_signature"]
    told = []
    for beat in beats:
        last = [key for step, key in signatures if step <= beat.start][-1:]
        told.append(last[0] if last and last[0] != Key(0, False) else found)
    return told


def of_signature(message: mido.MetaMessage) -> Key:
    """The key of a message, whose text is for instance Bbm."""
    tonic, minor = message.key.removesuffix("m"), message.key.endswith("m")
    fifths = LETTERS.index(tonic[0]) - 1 + 7 * (tonic.count("#") - tonic[1:].count("b"))
    return Key(fifths - 3 * minor, minor)


def in_key(tune: Tune, beats: Sequence[Beat], suggestions: Sequence[Sequence[Ranked]]) -> list[list[Ranked]]:
    """The suggestions of each beat with their chords spelled in its key."""
    return [[told._replace(chord=spelled(told.chord, key)) for told in ranked]
            for ranked, key in zip(suggestions, keys(tune, beats), strict=True)]
