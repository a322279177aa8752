"""Drums out: the model's arrays as notes, and as a MIDI file."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np

from models.groovae.inputs import DRUMS, WINDOW
from models.groovae.taps import Tempo
from scripts.midi import track_of

KIT = ("Kick", "Snare", "Closed hi-hat", "Open hi-hat", "Low tom", "Mid tom", "High tom", "Crash", "Ride")
NOTES = (36, 38, 42, 46, 45, 48, 50, 49, 51)  # General MIDI
CHANNEL = 9  # of drums, from 0
TICKS = 480  # a quarter note
SIXTEENTH = TICKS // 4


class Stroke(NamedTuple):
    step: float  # when, in sixteenths from the start
    drum: int
    velocity: int  # 1 to 127


def strokes_of(drums: np.ndarray) -> list[Stroke]:
    """The strokes, in order of time, of drums float32 [windows, 32, 27] in a row.

    As GrooveConverter.from_tensors has it (magenta/models/music_vae/data.py): a stroke lies
    offset / 2 steps before its step. The very first may not begin before the file does.
    """
    hits, velocities, offsets = np.split(drums.reshape(-1, 3 * DRUMS).astype(np.float64), 3, axis=1)
    return sorted(
        Stroke(max(0.0, float(step - np.clip(offsets[step, drum] / 2, -0.5, 0.5))), int(drum),
               int(np.clip(np.round(127 * velocities[step, drum]), 1, 127)))
        for step, drum in zip(*np.nonzero(hits > 0.5)))


def write(path: Path, strokes: Sequence[Stroke], windows: int, tempos: Sequence[Tempo]) -> None:
    """MIDI of type 1: tempo and 4/4, then a track of drums on their channel; a note sounds a sixteenth at most."""
    end = windows * WINDOW * SIXTEENTH
    signs = [(0, mido.MetaMessage("time_signature", numerator=4, denominator=4))]
    signs += [(round(tempo.step * SIXTEENTH), mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo.beats)))
              for tempo in tempos if tempo.step * SIXTEENTH <= end]
    events = [(0, 0, mido.MetaMessage("track_name", name="Drums"))]
    for drum, note in enumerate(NOTES):
        # Of strokes that meet, one early and one late, the louder is heard.
        begun: dict[int, int] = {}
        for stroke in strokes:
            if stroke.drum == drum:
                tick = min(round(stroke.step * SIXTEENTH), end - 1)
                begun[tick] = max(stroke.velocity, begun.get(tick, 0))
        for tick, following in itertools.pairwise([*sorted(begun), end]):
            events.append((tick, 2, mido.Message("note_on", channel=CHANNEL, note=note, velocity=begun[tick])))
            events.append((min(tick + SIXTEENTH, following), 1, mido.Message("note_off", channel=CHANNEL, note=note)))
    events.sort(key=lambda event: event[:2])
    mido.MidiFile(type=1, ticks_per_beat=TICKS, tracks=[
        track_of(signs, end), track_of([(tick, message) for tick, _, message in events], end)]).save(path)
