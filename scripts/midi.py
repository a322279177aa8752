"""MIDI files, read and written by mido: what every player needs of them."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import mido

from scripts.job import Refusal

FINEST = 32767  # ticks a quarter note that a MIDI header can say
NOTES = (0x80, 0x90)  # statuses
TEMPO, METER, KEY, END = 0x51, 0x58, 0x59, 0x2F  # the meta events that are read
SIZES = {TEMPO: 3, METER: 4, KEY: 2, END: 0}
LARGEST = 64  # the denominator of a meter
LOUDEST = 127


def load(path: Path, example: str) -> tuple[mido.MidiFile, list[str]]:
    """The notes, tempos and signatures of a MIDI file, and what of these was passed over, a sentence each.

    Raises Refusal on anything but MIDI whose tracks run together and are timed in ticks a quarter note.
    example: a file that could be named instead, for the advice where there is none.
    """
    if not path.is_file():
        raise Refusal(f"{path}: expected a MIDI file, found none: name one, for instance IN={example}")
    try:
        content, wrong = plain(unwrapped(path.read_bytes()))
        file = mido.MidiFile(file=io.BytesIO(content))
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
    return file, [f"{path}: {count} {what}" for what, count in sorted(wrong.items())]


def unwrapped(content: bytes) -> bytes:
    """The MIDI file in a RIFF file, as Windows writes them, or what was given."""
    if content[:4] == b"RIFF" and content[8:12] == b"RMID":
        return next((chunk for name, chunk in chunks(content[12:], "little", 2) if name == b"data"), content)
    return content


def chunks(content: bytes, order: Literal["little", "big"], even: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a file with their names. even: what their lengths are filled up to.

    Raises IndexError where one is cut off.
    """
    place = 0
    while place < len(content):
        size = int.from_bytes(cut(content, place, 8)[4:], order)
        yield content[place:place + 4], cut(content, place + 8, size)
        place += 8 + size + -size % even


def plain(content: bytes) -> tuple[bytes, Counter[str]]:
    """A MIDI file's bytes with nothing in it but tracks, and in them notes, tempos, signatures and ends; and how many
    of these had to be changed, by what was done.

    So one bad byte in an event that nobody reads is in nobody's way. What can't be followed stays as it is, for mido to
    complain of.
    """
    told, changed = b"", Counter[str]()
    try:
        for name, chunk in chunks(content, "big", 1):
            if name == b"MTrk":
                chunk, wrong = plain_track(chunk)
                changed += wrong
            if name in (b"MThd", b"MTrk"):
                told += name + len(chunk).to_bytes(4, "big") + chunk
    except (IndexError, ValueError):
        return content, Counter()
    return told, changed


def plain_track(events: bytes) -> tuple[bytes, Counter[str]]:
    """The same of a track. Raises IndexError where an event is cut off, ValueError on a status that is none."""
    kept, changed, place, waited, status = bytearray(), Counter[str](), 0, 0, 0
    while place < len(events):
        delta, place = number(events, place)
        waited += delta
        if events[place] >= 0x80:
            running, place = events[place], place + 1
            if running < 0xF0:
                status = running
        else:
            running = status
        if running == 0xFF:
            kind = events[place]
            size, place = number(events, place + 1)
            data, place = cut(events, place, size), place + size
            if kind not in SIZES:
                continue
            if not sound(kind, data):
                changed["tempos or signatures aren't any and are passed over"] += 1
                continue
            kept += variable(waited) + bytes([0xFF, kind, SIZES[kind]]) + data[:SIZES[kind]]
        elif running in (0xF0, 0xF7):
            size, place = number(events, place)
            place += len(cut(events, place, size))
            continue
        elif 0x80 <= running < 0xF0:
            size = 1 if 0xC0 <= running < 0xE0 else 2
            data, place = cut(events, place, size), place + size
            if running & 0xF0 not in NOTES:
                continue
            if data[1] > LOUDEST:
                changed["notes are louder than MIDI can say and count as the loudest"] += 1
                data = bytes([data[0], LOUDEST])
            kept += variable(waited) + bytes([running]) + data
        else:
            raise ValueError(running)
        waited = 0
    return bytes(kept), changed


def sound(kind: int, data: bytes) -> bool:
    """Whether the data of a meta event that is read are of one."""
    if len(data) < SIZES[kind]:
        return False
    if kind == METER:
        return data[0] > 0 and 2 ** data[1] <= LARGEST
    if kind == KEY:
        return abs((data[0] + 128) % 256 - 128) <= 7 and data[1] <= 1
    return kind != TEMPO or any(data[:3])


def cut(events: bytes, place: int, size: int) -> bytes:
    if place + size > len(events):
        raise IndexError("it is cut off")
    return events[place:place + size]


def number(events: bytes, place: int) -> tuple[int, int]:
    """The number of variable length at a place, and the place after it."""
    value = 0
    while True:
        value = value << 7 | events[place] & 0x7F
        place += 1
        if events[place - 1] < 0x80:
            return value, place


def variable(value: int) -> bytes:
    """A number as number reads it."""
    told = [value & 0x7F]
    while value := value >> 7:
        told.append(value & 0x7F | 0x80)
    return bytes(reversed(told))


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
