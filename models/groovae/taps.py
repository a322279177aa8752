"""A tapped rhythm in, from MIDI or a recording: where each tap lies on the grid of sixteenths.

From MIDI every note is a tap, whatever its pitch; of notes in one sixteenth the loudest counts,
of equally loud ones the first in Magenta's order of drums (GrooveConverter.to_tensors in
magenta/models/music_vae/data.py, tapify). The file's own bars are kept, and its tempo, which
doesn't matter for the grid. A recording's first tap is beat 1 of bar 1 (see recording.py).
"""

from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np

from models.groovae.inputs import WINDOW, taps_of
from models.groovae.tempo import estimate_tempo, on_grid
from scripts.job import Refusal
from scripts.midi import load, timed

BAR = 16  # sixteenths, of 4/4
LONGEST = 256  # bars
MIDI = (".mid", ".midi")
EXAMPLE = "models/groovae/samples/clave.mid"
SLOWEST, FASTEST = 20, 400  # quarter notes a minute
# General MIDI's percussion by the model's drums, kick first, as note_seq/drums_encoder_decoder.py has it.
PITCHES = (
    (36, 35),
    (38, 27, 28, 31, 32, 33, 34, 37, 39, 40, 56, 65, 66, 75, 85),
    (42, 44, 54, 68, 69, 70, 71, 73, 78, 80, 22),
    (46, 67, 72, 74, 79, 81, 26),
    (45, 29, 41, 43, 61, 64, 84),
    (48, 47, 60, 63, 77, 86, 87),
    (50, 30, 62, 76, 83),
    (49, 52, 55, 57, 58),
    (51, 53, 59, 82),
)
DRUM_OF = {pitch: drum for drum, pitches in enumerate(PITCHES) for pitch in pitches}


class Tempo(NamedTuple):
    step: float  # from where on, in sixteenths
    beats: float  # quarter notes a minute


class Taps(NamedTuple):
    steps: np.ndarray  # float64 [taps]: where each lies, in sixteenths from the start, one a sixteenth, in order
    tempos: tuple[Tempo, ...]
    remarks: tuple[str, ...]  # what was made of the input, a sentence each

    def windows(self) -> np.ndarray:
        """The model's input, float32 [windows, 32, 27]: two bars each, the last filled up with rests."""
        grid = nearest(self.steps)
        length = WINDOW * (int(grid.max()) // WINDOW + 1)
        hits, offsets = np.zeros(length, np.float32), np.zeros(length, np.float32)
        hits[grid], offsets[grid] = 1, 2 * (grid - self.steps)
        return taps_of(hits, offsets).reshape(-1, WINDOW, 27)


def nearest(steps: np.ndarray) -> np.ndarray:
    """The nearest sixteenth, int64, the later one from the middle on."""
    return np.floor(steps + 0.5).astype(np.int64)


def read(path: Path, tempo: float | None) -> Taps:
    """The taps of a MIDI file or a recording; tempo, quarter notes a minute, is of a recording alone.

    Raises Refusal where there are none, or more than LONGEST bars, and where they can't be read.
    """
    if tempo is not None and not SLOWEST <= tempo <= FASTEST:
        raise Refusal(f"TEMPO={tempo:g}: expected {SLOWEST} to {FASTEST} quarter notes a minute: name another")
    if not path.is_file():
        raise Refusal(f"IN={path if path.name else ''}: expected taps as MIDI or as a recording, found none: name a "
                      f"file, for instance IN={EXAMPLE}")
    if path.suffix.lower() in MIDI:
        if tempo is not None:
            raise Refusal(f"TEMPO={tempo:g}: expected none with MIDI, which says its own: leave it out")
        taps = read_midi(path)
    else:
        from models.groovae import recording  # its readers are slow to import, and needed for sound alone
        from scripts import audio

        times, loudness = recording.onsets(path)
        beats = tempo or estimate_tempo(times)
        steps = on_grid(times, beats)
        how = "as told" if tempo else "estimated; TEMPO= tells another"
        heard = f"{len(times)} taps at {beats:.1f} quarter notes a minute, {how}"
        steps, remarks = loudest(steps, loudness, np.zeros(len(steps)))
        said = (*audio.remarks(path), *(f"{path}: {remark}" for remark in (heard, *remarks)))
        taps = Taps(steps, (Tempo(0, beats),), said)
    last = int(nearest(taps.steps).max())
    if last and last % WINDOW == 0 and taps.steps.max() < last:
        early = f"{path}: the last tap is a little ahead of bar {last // BAR + 1}, where it counts, for two more bars"
        taps = taps._replace(remarks=(*taps.remarks, early))
    if last >= LONGEST * BAR:
        raise Refusal(f"{path}: expected at most {LONGEST} bars, found {int(taps.steps.max()) // BAR + 1}: "
                      "split it into shorter files")
    return taps


def read_midi(path: Path) -> Taps:
    file, passed_over = load(path, EXAMPLE)
    sixteenth = file.ticks_per_beat / 4
    messages = [(tick, message) for track in file.tracks for tick, message in timed(track, 1)]
    for tick, message in messages:
        if message.type == "time_signature" and 16 * message.numerator != BAR * message.denominator:
            raise Refusal(f"{path}: expected 4/4 throughout, found {message.numerator}/{message.denominator} at beat "
                          f"{tick / file.ticks_per_beat + 1:g}: the model was trained on bars of four quarters")
    notes = [(tick, message) for tick, message in messages if message.type == "note_on" and message.velocity > 0]
    if not notes:
        raise Refusal(f"{path}: expected taps, found no notes: give a file with some")
    steps, remarks = loudest(np.array([tick / sixteenth for tick, _ in notes]),
                             np.array([message.velocity for _, message in notes], float),
                             np.array([DRUM_OF.get(message.note, len(PITCHES)) for _, message in notes], float))
    tempos = sorted(Tempo(tick / sixteenth, mido.tempo2bpm(message.tempo))
                    for tick, message in messages if message.type == "set_tempo" and message.tempo)
    if not tempos or tempos[0].step > 0:
        tempos.insert(0, Tempo(0, 120))
    return Taps(steps, tuple(tempos), (*passed_over, *(f"{path}: {remark}" for remark in remarks)))


def loudest(steps: np.ndarray, loudness: np.ndarray, drums: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """One tap a sixteenth, in order: the loudest, of equals the lower drum, of equals the first."""
    order = np.lexsort((np.arange(len(steps)), drums, -loudness, nearest(steps)))
    _, first = np.unique(nearest(steps)[order], return_index=True)
    dropped = len(steps) - len(first)
    remarks = (f"of {len(steps)} notes, {dropped} share a sixteenth with a louder one",) if dropped else ()
    return steps[order][first], remarks
