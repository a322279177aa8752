"""Notes as a MIDI file: a track an instrument, named as General MIDI names it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import mido

from models.mt3.notes import Note
from scripts.midi import track_of

TICKS = 500  # a quarter note, of which there are two a second: a tick is a millisecond
DRUMS = 9  # the channel of drums, from 0
CHANNELS = [channel for channel in range(16) if channel != DRUMS]
PROGRAMS: list[str] = json.loads((Path(__file__).parent / "programs.json").read_text(encoding="utf-8"))


def instruments(notes: Sequence[Note]) -> dict[str, list[Note]]:
    """The notes of each instrument by its name, in the order of their first onsets, drums last."""
    found: dict[str, list[Note]] = {}
    for note in sorted(notes, key=lambda note: (note.is_drum, note.onset, note.program, note.pitch)):
        found.setdefault("Drums" if note.is_drum else PROGRAMS[note.program], []).append(note)
    return found


def ports(by_name: Mapping[str, Sequence[Note]]) -> int:
    """How many MIDI ports the instruments need: one has fifteen channels beside the drums'."""
    return -(-sum(not played[0].is_drum for played in by_name.values()) // len(CHANNELS))


def write(path: Path, notes: Sequence[Note]) -> None:
    """MIDI of type 1: a track of the tempo, then one an instrument, each on a channel of its own, drums on theirs.

    From the sixteenth instrument on they are of a port of their own, as a device with sixteen more channels is. Where
    there are so many, each note says its program, for whatever plays all ports on one.
    """
    end = round(1000 * max((note.offset for note in notes), default=0))
    tracks = [track_of([(0, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(120)))], end)]
    by_name = instruments(notes)
    crowded = ports(by_name) > 1
    for number, (name, played) in enumerate(by_name.items()):
        is_drum = played[0].is_drum
        port, place = (0, 0) if is_drum else divmod(number, len(CHANNELS))
        channel = DRUMS if is_drum else CHANNELS[place]
        program = mido.Message("program_change", channel=channel, program=played[0].program)
        events = [(0, 0, mido.MetaMessage("track_name", name=name)), (0, 1, program)]
        if crowded:
            events.append((0, 0, mido.MetaMessage("midi_port", port=port)))
        for note in played:
            begins, ends = round(1000 * note.onset), round(1000 * note.offset)
            if crowded and not is_drum:
                events.append((begins, 3, program))
            key = {"channel": channel, "note": note.pitch}
            events.append((begins, 4, mido.Message("note_on", **key, velocity=note.velocity)))
            events.append((ends, 2, mido.Message("note_off", **key)))
        events.sort(key=lambda event: event[:2])
        tracks.append(track_of([(tick, message) for tick, _, message in events], end))
    mido.MidiFile(type=1, ticks_per_beat=TICKS, tracks=tracks).save(path)
