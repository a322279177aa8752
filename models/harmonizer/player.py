"""Suggests chords to a melody: MIDI in, chords out as MIDI, as a chart in text or as a picture.

    python -m models.harmonizer.player melody.mid chords.mid --weights bundled

ONNX Runtime and NumPy alone compute; mido reads and writes MIDI, matplotlib draws. The same melody and variant
give the same chords every time. A beat of the melody is a quarter note, or a dotted one where the meter is compound,
counted from each bar's start; a rest at its end is added where the last beat isn't whole.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.harmonizer import chart, spelling
from models.harmonizer.beats import Beat, beats_of
from models.harmonizer.chords import BEAT, CHORDS, NAMES
from models.harmonizer.voicing import voiced
from scripts import command
from scripts.job import Refusal, progress
from scripts.player import Artifact, add_options, artifacts, check_out, load, require_verified, write_whole
from scripts.tune import Note, Part, Tune, read_tune, write_parts

PITCHES = range(55, 88)  # in which the training moved the melodies
EXAMPLE = "models/coconet/samples/old-hundredth.mid"
WINDOW, MARGIN = 128, 32  # beats heard at once, and of these before and after those that are answered
SHOWN = 3
VOICES = ("Melody", "Chords")
PROGRAMS = (68, 0)  # oboe, piano
COLOURS, HEIGHTS = ("#d1495b", "#8fa9c4"), (0.94, 0.6)


class Suggestion(NamedTuple):
    """A chord and the probability that the model gives it."""

    chord: str
    probability: float


class Harmonizer:
    """The chord suggestions out of a folder of artifacts: a build's compose folder, or a release's assets."""

    def __init__(self, folder: Path, variant: str = "int8"):
        """Raises Refusal where the folder holds no such artifact."""
        self.artifact = load(folder, "harmonizer", "chords", variant)

    def suggest(self, melody: np.ndarray, count: int = SHOWN,
                beats: Sequence[Beat] | None = None) -> list[list[Suggestion]]:
        """The likeliest chords of each beat, the likeliest first.

        melody: MIDI pitches 55 to 87, a sixteenth note each, int [time]; 0 is a rest. Any length: a last quarter that
        isn't whole rests at its end. count: how many chords a beat, 1 to 60. beats: those of a tune, or the melody's
        quarters. Raises Refusal on a value outside of these.
        """
        if not 1 <= count <= CHORDS:
            raise Refusal(f"count: expected 1 to {CHORDS}, found {count}: {SHOWN} is the default")
        melody = checked(melody)
        probabilities = self.probabilities(melody) if beats is None else self.of_beats(melody, beats)
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
        return [[Suggestion(NAMES[chord], float(row[chord])) for chord in best]
                for row, best in zip(probabilities, ranked)]

    def of_beats(self, melody: np.ndarray, beats: Sequence[Beat]) -> np.ndarray:
        """Of every chord for each of a tune's beats, float64 [beats, 60]: the geometric mean of what the model, which
        hears quarters, says of those inside the beat, the first of which begins with it.
        """
        answers = np.empty((len(beats), CHORDS))
        for phase in sorted({beat.heard % BEAT for beat in beats}):
            lead = -phase % BEAT
            quarters = np.log(self.probabilities(checked(np.pad(melody, (lead, 0)))))
            for number, beat in enumerate(beats):
                if beat.heard % BEAT == phase:
                    first, last = (beat.heard + lead) // BEAT, -(-(beat.end + lead) // BEAT)
                    starts = np.arange(first, last) * BEAT - lead
                    inside = np.minimum(starts + BEAT, beat.end) - np.maximum(starts, beat.start)
                    answers[number] = np.average(quarters[first:last], axis=0, weights=inside)
        return normalized(answers)

    def probabilities(self, melody: np.ndarray) -> np.ndarray:
        """Of every chord for each quarter, float64 [quarters, 60], of a melody int64 [quarters * 4].

        A long melody is heard in windows, each with its neighbours' beats around those that it answers.
        """
        beats = len(melody) // BEAT
        step = WINDOW - 2 * MARGIN if beats > WINDOW else beats
        answers = []
        for start in range(0, beats, step):
            first = max(0, start - MARGIN)
            heard = melody[None, first * BEAT:(start + step + MARGIN) * BEAT]
            [logits] = self.artifact.session.run(["logits"], {"melody": heard})
            answers.append(logits[0, start - first:][:step])
        return normalized(np.concatenate(answers).astype(np.float64))


def normalized(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, float64 [beats, 60]."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def checked(melody: np.ndarray) -> np.ndarray:
    """The melody as int64 [beats * 4]. Raises Refusal on another shape, kind or pitch."""
    melody = np.asarray(melody)
    if melody.ndim != 1 or melody.dtype.kind not in "iu" or not len(melody):
        raise Refusal(f"melody: expected integers in a row, found {melody.dtype} of shape {list(melody.shape)}: "
                      "give the MIDI pitch of each sixteenth")
    wrong = melody[(melody != 0) & ~np.isin(melody, PITCHES)]
    if len(wrong):
        raise Refusal(f"melody: expected MIDI pitches {PITCHES[0]} to {PITCHES[-1]} or 0 for a rest, found {wrong[0]}: "
                      "move it by octaves")
    return np.pad(melody, (0, -len(melody) % BEAT)).astype(np.int64)


def spans(beats: Sequence[Beat], suggestions: Sequence[Sequence[Suggestion]]) -> list[tuple[int, int, str]]:
    """Start and end in sixteenths and name of each first chord, equal ones in a row joined."""
    told = [(beat, best[0].chord) for beat, best in zip(beats, suggestions, strict=True)]
    runs = [(name, [beat for beat, _ in run]) for name, run in itertools.groupby(told, key=lambda one: one[1])]
    return [(run[0].start, run[-1].end, name) for name, run in runs]


def chord_notes(chords: Sequence[tuple[int, int, str]]) -> list[Note]:
    """The spans as block chords."""
    pitches = voiced([name for _, _, name in chords])
    return [Note(start, end, pitch) for (start, end, _), sounding in zip(chords, pitches) for pitch in sounding]


def play(asked: argparse.Namespace) -> int:
    if not asked.melody.name:
        raise Refusal(f"IN: expected a MIDI file, none was named: for instance IN={EXAMPLE}")
    check_out(asked.melody, asked.out, (".mid", ".midi", ".txt", ".png"), "chords.mid")
    tune = read_tune(asked.melody, PITCHES, EXAMPLE)
    for remark in tune.remarks:
        print(f"note: {remark}", file=sys.stderr)
    harmonizer = Harmonizer(artifacts("harmonizer", asked), asked.variant)
    artifact = harmonizer.artifact
    require_verified("harmonizer", asked, artifact)
    progress(f"suggesting chords to {tune.length} sixteenths with {artifact.told()}")
    beats = beats_of(tune)
    suggestions = harmonizer.suggest(tune.melody(), beats=beats)
    written = spelling.in_key(tune, beats, suggestions)
    chords, names = spans(beats, suggestions), spans(beats, written)

    if asked.out.suffix.lower() == ".txt":
        title = f"{asked.melody.name}, {artifact.told()}"
        text = "\n".join(chart.lines(beats, written, title)) + "\n"
        write_whole(asked.out, lambda path: path.write_text(text, encoding="utf-8"))
    elif asked.out.suffix.lower() != ".png":
        parts = [Part(*part) for part in zip(VOICES, PROGRAMS, (tune.notes, chord_notes(chords)))]
        write_whole(asked.out, lambda path: write_parts(path, tune, parts))
    if asked.plot or asked.out.suffix.lower() == ".png":
        write_whole(asked.out.with_suffix(".png"),
                    lambda path: draw(path, tune, chords, names, asked.melody.name, artifact))
    return 0


def draw(path: Path, tune: Tune, chords: Sequence[tuple[int, int, str]], names: Sequence[tuple[int, int, str]],
         title: str, artifact: Artifact) -> None:
    """The melody and the chords as a piano roll, the chords' names above as they are written in the key."""
    from scripts import pianoroll  # matplotlib is slow to import, and needed for a picture alone

    voices = [pianoroll.Voice(*voice) for voice in zip(VOICES, COLOURS, HEIGHTS, (tune.notes, chord_notes(chords)))]
    pianoroll.draw(path, tune, voices, title, artifact.told(), [(start, chord) for start, _, chord in names])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.Parser(prog="models.harmonizer.player", description=__doc__.splitlines()[0])
    parser.add_argument("melody", type=Path, metavar="IN", help="a MIDI file")
    parser.add_argument("out", type=Path, metavar="OUT", help="chords.mid, chords.txt for a chart or chords.png")
    add_options(parser, "bundled")
    parser.add_argument("--plot", action="store_true", help="also draw OUT as a PNG beside it")
    return command.run(lambda: play(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
