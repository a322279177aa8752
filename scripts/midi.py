"""MIDI files, read and written by mido: what every player needs of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import mido

from scripts.job import Refusal

FINEST = 32767  # ticks a quarter note that a MIDI header can say


def load(path: Path, example: str) -> mido.MidiFile:
    """Raises Refusal on anything but MIDI whose tracks run together and are timed in ticks a quarter note.

    example: a file that could be named instead, for the advice where there is none.
    """
    if not path.is_file():
        raise Refusal(f"{path}: expected a MIDI file, found none: name one, for instance IN={example}")
    try:
        file = mido.MidiFile(path)
    except Exception as error:  # mido raises whatever a damaged file leads it into
        raise Refusal(f"{path}: expected a MIDI file, found one that can't be read "
                      f"({str(error) or type(error).__name__}): save it again as MIDI") from error
    if file.type not in (0, 1):
        raise Refusal(f"{path}: expected MIDI of type 0 or 1, found type {file.type}: save it as type 1")
    if file.ticks_per_beat <= 0:
        raise Refusal(f"{path}: expected times in ticks a quarter note, found SMPTE frames or none: "
                      "save it with musical time")
    if file.ticks_per_beat % 4 and file.ticks_per_beat > FINEST // 4:
        raise Refusal(f"{path}: expected ticks a quarter note that 4 divides, found {file.ticks_per_beat}: "
                      "save it with another resolution, for instance 480")
    return file


def timed(track: mido.MidiTrack, finer: int) -> Iterator[tuple[int, mido.Message]]:
    """A track's messages, each with its tick from the file's start, counted `finer` times as finely."""
    tick = 0
    for message in track:
        tick += message.time * finer
        yield tick, message


def track_of(events: Sequence[tuple[int, mido.Message]], end: int) -> mido.MidiTrack:
    """A track from messages with ticks from the start, in order; it ends at the given tick."""
    track, now = mido.MidiTrack(), 0
    for tick, message in [*events, (end, mido.MetaMessage("end_of_track"))]:
        track.append(message.copy(time=tick - now))
        now = tick
    return track
