"""A melody in from MIDI, on a grid of sixteenths, and parts out to MIDI.

Times of notes are in sixteenths from the file's start, pitches are MIDI numbers (60 is C4).
Notes come from every track and channel but the drums'. They are rounded to the grid of
sixteenths by ticks; tempo doesn't matter for it and is only kept. A note held a little into the
next, as a slur is played, ends where that begins. Of notes that begin together the highest is the
melody; a lower one that begins under a higher one is left out. A melody beyond a model's pitches is
moved by whole octaves, as few as bring all of it inside. Each of these is told in Tune.remarks, with
how many notes it changes. Dynamics aren't kept.
"""

import itertools
import math
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np

from scripts.job import Refusal
from scripts.midi import load, timed, track_of

LONGEST = 4096  # sixteenths: 256 bars of 4/4
SILENCE = 256  # sixteenths after the last note that are kept: what is farther is a stray event
DRUMS = 9
SIGNS = ("set_tempo", "time_signature", "key_signature")
VELOCITY = 80


class Note(NamedTuple):
    start: int
    end: int
    pitch: int


class Sign(NamedTuple):
    """A tempo, time signature or key signature."""

    tick: int
    message: mido.MetaMessage


class Tune(NamedTuple):
    """A melody on the grid: its notes never overlap, and rests lie between them."""

    notes: tuple[Note, ...]
    length: int  # sixteenths
    sixteenth: int  # ticks
    signs: tuple[Sign, ...]
    remarks: tuple[str, ...]  # what was changed on the way in, a sentence each

    def melody(self) -> np.ndarray:
        """The MIDI pitch of each sixteenth, int64 [time], 0 for a rest."""
        pitches = np.zeros(self.length, dtype=np.int64)
        for note in self.notes:
            pitches[note.start:note.end] = note.pitch
        return pitches


class Bar(NamedTuple):
    number: int  # 0 is an upbeat
    start: float  # sixteenths
    end: float


class Part(NamedTuple):
    """What one instrument plays, several notes at a time where it can."""

    name: str
    program: int  # General MIDI's, from 0
    notes: Sequence[Note]


def note_name(pitch: int) -> str:
    """For instance C4 for 60."""
    return ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"][pitch % 12] + str(pitch // 12 - 1)


def read_tune(path: Path, pitches: range, example: str) -> Tune:
    """The melody of a MIDI file of type 0 or 1, within a model's pitches. Raises Refusal on a file without one.

    example: a file that could be named instead, for the advice where there is none.
    """
    file, remarks = load(path, example)
    # Ticks are counted so finely that a sixteenth is a whole number of them.
    finer = 4 // math.gcd(file.ticks_per_beat, 4)
    sixteenth = file.ticks_per_beat * finer // 4
    tracks = [list(timed(track, finer)) for track in file.tracks]
    channels = [notes for track in tracks for notes in sounding(track)]
    if not channels:
        raise Refusal(f"{path}: expected a melody, found no notes (drums don't count): give a file with notes")
    spans = [note for notes in channels for note in detached(notes, sixteenth)]
    rounded = [Note(nearest(note.start, sixteenth), nearest(note.end, sixteenth), note.pitch) for note in spans]
    held = sum(nearest(note.end, sixteenth) > one.end
               for note, one in zip((note for notes in channels for note in notes), rounded))
    last_tick = max(track[-1][0] for track in tracks if track)
    sung = max(max(note.end, note.start + 1) for note in rounded)
    length = max(-(-last_tick // sixteenth), sung)
    if length - sung > SILENCE:
        remarks.append(f"{path}: left out {length - sung} silent sixteenths after the last note")
        length = sung
    if length > LONGEST:
        raise Refusal(f"{path}: expected at most {LONGEST} sixteenths, found {length}: split it into shorter files")
    notes, left_out, cut = highest(rounded)
    octaves = octaves_into_range(path, notes, pitches)

    if held:
        remarks.append(f"{path}: {held} of {len(spans)} notes are held into the next one and end where it begins")
    if left_out or cut:
        remarks.append(f"{path} is polyphonic: of notes together the highest is kept, {left_out} of {len(spans)} notes "
                       f"are left out and {cut} end where a higher one begins")
    if off := sum(3 * abs(was.start - on.start * sixteenth) >= sixteenth for was, on in zip(spans, rounded)):
        remarks.append(f"{path}: rounded to sixteenths, {off} of {len(spans)} notes by a third of one or more")
    if octaves:
        remarks.append(f"{path}: moved {abs(octaves)} octave{'s'[:abs(octaves) - 1]} {'up' if octaves > 0 else 'down'} "
                       f"into {note_name(pitches[0])} to {note_name(pitches[-1])}")
    signs = [Sign(tick, message) for track in tracks for tick, message in track
             if message.type in SIGNS and tick <= length * sixteenth]
    return Tune(
        notes=tuple(note._replace(pitch=note.pitch + 12 * octaves) for note in notes),
        length=length,
        sixteenth=sixteenth,
        signs=tuple(sorted(signs, key=lambda sign: sign.tick)),
        remarks=tuple(remarks),
    )


def bars_of(tune: Tune) -> list[Bar]:
    """The tune's bars by its time signatures; where it says none, 4/4."""
    # No bar is shorter than a sixteenth, whatever nonsense a file says.
    sizes = {0.0: 16.0} | {sign.tick / tune.sixteenth: max(1.0, 16 * sign.message.numerator / sign.message.denominator)
                           for sign in tune.signs if sign.message.type == "time_signature"}
    changes = sorted(sizes)
    edges = [float(start) for change, until in zip(changes, [*changes[1:], tune.length])
             for start in np.arange(change, min(until, tune.length), sizes[change])] + [float(tune.length)]
    upbeat = len(edges) > 2 and edges[1] - edges[0] < min(16.0, edges[2] - edges[1])
    return [Bar(number, *pair) for number, pair in enumerate(itertools.pairwise(edges), start=0 if upbeat else 1)]


def sounding(track: Sequence[tuple[int, mido.Message]]) -> list[list[Note]]:
    """A track's notes in ticks by their starts, a list a channel that has any; of equal notes the first begun ends
    first, at the latest with the track.
    """
    begun: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    found: dict[int, list[Note]] = defaultdict(list)
    for tick, message in track:
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        starts = begun[message.channel, message.note]
        if message.type == "note_on" and message.velocity > 0:
            starts.append(tick)
        elif starts:
            found[message.channel].append(Note(starts.popleft(), tick, message.note))
    for (channel, pitch), starts in begun.items():
        found[channel] += [Note(start, track[-1][0], pitch) for start in starts]
    return [sorted(notes) for notes in found.values() if notes]


def nearest(tick: int, sixteenth: int) -> int:
    """The nearest sixteenth, the later one from the middle on."""
    return (2 * tick + sixteenth) // (2 * sixteenth)


def detached(notes: Sequence[Note], sixteenth: int) -> list[Note]:
    """A channel's notes in ticks, those held into the next as a slur does ending where that begins.

    They are if they overlap it by less than a sixteenth, or by less than a quarter of themselves, and it then sounds on
    for as long at least; in a line, none of whose notes overlap by a sixteenth, whatever the next does.
    """
    line = all(earlier.end - later.start < sixteenth and later.start > earlier.start
               for index, earlier in enumerate(notes) for later in following(notes, index))

    def slurred(earlier: Note, later: Note) -> bool:
        overlap = earlier.end - later.start
        short = overlap < max(sixteenth, (earlier.end - earlier.start) / 4)
        return later.start > earlier.start and short and (line or later.end - earlier.end >= overlap)

    return [note._replace(end=min([later.start for later in following(notes, index) if slurred(note, later)],
                                  default=note.end)) for index, note in enumerate(notes)]


def following(notes: Sequence[Note], index: int) -> Iterator[Note]:
    """The notes after that of an index which begin before it ends; notes: in the order of their starts."""
    return itertools.takewhile(lambda later: later.start < notes[index].end, notes[index + 1:])


def highest(notes: Sequence[Note]) -> tuple[list[Note], int, int]:
    """One note at a time, each from its own start on, how many were left out, and how many were cut short.

    Of notes that begin together the highest counts. One that begins under a higher one is left out, and a higher or
    equal one ends what sounds. A note too short for the grid lasts a sixteenth, but gives way to every other: a grace
    note doesn't replace what it graces.
    """
    kept: list[Note] = []
    left_out = cut = 0
    for start, group in itertools.groupby(sorted(notes), key=lambda note: note.start):
        together = list(group)
        best = max(together, key=lambda note: (note.end > note.start, note.pitch, note.end))
        left_out += sum(note.pitch != best.pitch for note in together)
        last = kept[-1] if kept and kept[-1].end > start else None
        if last and (best.end == start or best.pitch < last.pitch):
            left_out += 1
            continue
        if last:
            kept[-1] = last._replace(end=start)
            cut += 1
        kept.append(best._replace(end=max(best.end, start + 1)))
    return kept, left_out, cut


def octaves_into_range(path: Path, notes: Sequence[Note], pitches: range) -> int:
    """The fewest octaves, up if positive, that bring every note within the model's pitches."""
    def told(pitch: int) -> str:
        return f"{note_name(pitch)} ({pitch})"

    low, high = min(note.pitch for note in notes), max(note.pitch for note in notes)
    for octaves in sorted(range(-10, 11), key=abs):
        if low + 12 * octaves in pitches and high + 12 * octaves in pitches:
            return octaves
    raise Refusal(f"{path}: expected a melody that whole octaves bring between {told(pitches[0])} and "
                  f"{told(pitches[-1])}, found {told(low)} to {told(high)}: narrow its range")


def write_parts(path: Path, tune: Tune, parts: Sequence[Part]) -> None:
    """MIDI of type 1: a track of the tune's signs, then a track and channel a part, all of the tune's length."""
    file = mido.MidiFile(type=1, ticks_per_beat=4 * tune.sixteenth)
    end = tune.length * tune.sixteenth
    file.tracks.append(track_of([(sign.tick, sign.message) for sign in tune.signs], end))
    for channel, part in enumerate(parts):
        # Of what happens at one tick, notes end before others begin.
        struck = sorted((step * tune.sixteenth, kind, note.pitch) for note in part.notes
                        for kind, step in (("note_off", note.end), ("note_on", note.start)))
        file.tracks.append(track_of([
            (0, mido.MetaMessage("track_name", name=part.name)),
            (0, mido.Message("program_change", channel=channel, program=part.program)),
            *((tick, mido.Message(kind, channel=channel, note=pitch, velocity=VELOCITY))
              for tick, kind, pitch in struck)], end))
    file.save(path)
