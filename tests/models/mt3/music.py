"""Pieces whose notes are known, played by FluidSynth, written down by artifacts, and compared: as tables by

    ENGINE=venv scripts/in torch python -m tests.models.mt3.music FOLDER Jsb16thSeparated.npz

The sound font is FluidR3 (MIT) in mono, as Debian has it. No reverb, no chorus, one core: a sound is the same each
time. But one rendition is a noisy judge: a little softer, and the same network finds other notes. So each piece is
played at three loudnesses, fixed beforehand, and what counts is the mean of their F1.
"""

import datetime
import itertools
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from models.harmonizer.dataset import pieces_of
from models.mt3 import midi
from models.mt3.inputs import RATE
from models.mt3.notes import SHORTEST, Note, Transcription
from models.mt3.player import Transcriber
from scripts import audio
from scripts.bench import machine
from tests.conftest import ROOT, run

VARIANTS = ("fp32", "fp16", "int8")
LOUDNESS = (1.0, 0.9, 0.8)  # what a piece's velocities are multiplied by
FONT = Path("/usr/share/sounds/sf3/FluidR3Mono_GM.sf3")
PIANO, GUITAR, BASS, FINGERED, VIOLIN, CELLO, STRINGS, FLUTE = 0, 24, 32, 33, 40, 42, 48, 73  # General MIDI, from 0
DRUMS = {"k": 36, "s": 38, "h": 42, "o": 46, "c": 49, "t": 50, "m": 47, "f": 43}  # kick, snare, hi-hats, crash, toms
SCALE = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def pitch_of(name: str) -> int:
    """C4 is 60, F#3 54, Bb4 70."""
    return SCALE[name[0]] + name.count("#") - name.count("b") + 12 * (int(name[-1]) + 1)


def line(words: str, beat: float, program: int, velocity: int = 90, held: float = 0.92) -> list[Note]:
    """A voice: a word a beat, two with ":2" after it; "+" joins what sounds together, "r" is a rest.

    beat: seconds. held: the share of its time that a note sounds.
    """
    notes, now = [], 0.0
    for word in words.split():
        names, _, count = word.partition(":")
        seconds = beat * float(count or 1)
        notes += [Note(pitch_of(name), velocity, now, now + held * seconds, program, False)
                  for name in names.split("+") if name != "r"]
        now += seconds
    return notes


def broken(chords: Iterable[str], order: str, beat: float, program: int, velocity: int = 90) -> list[Note]:
    """Chords broken in the order of their notes, from 0; each note sounds until its chord ends or it comes again."""
    notes: list[Note] = []
    for number, chord in enumerate(chords):
        names, begins = chord.split("+"), number * len(order) * beat
        for place, index in enumerate(order):
            again = order.find(index, place + 1)
            ends = begins + (again if again > 0 else len(order)) * beat
            notes.append(Note(pitch_of(names[int(index)]), velocity, begins + place * beat, ends - 0.04, program,
                              False))
    return notes


def beaten(bars: Iterable[str], beat: float) -> list[Note]:
    """Drums: a word a beat, whose letters sound together; louder on every fourth."""
    hits = [(number, hit) for number, word in enumerate(" ".join(bars).split()) for hit in word if hit != "."]
    return [Note(DRUMS[hit], 110 if number % 4 == 0 else 85, number * beat, number * beat + SHORTEST, 0, True)
            for number, hit in hits]


def chorale(path: Path, number: int, sixteenths: int, seconds: float, programs: Sequence[int],
            velocity: int = 90) -> list[Note]:
    """The beginning of a chorale by Bach, of the test split; seconds: of a sixteenth. programs: of the four voices.

    What two voices of a program sing together is one note.
    """
    with zipfile.ZipFile(path) as archive:
        sung = pieces_of(archive, "test")[number][:sixteenths].astype(int)
    notes: dict[tuple[int, int, int], int] = {}
    for voice, program in zip(sung.T, programs):
        starts = [0, *np.flatnonzero(np.diff(voice)) + 1, len(voice)]
        for start, end in itertools.pairwise(starts):
            key = (start, int(voice[start]), program)
            notes[key] = max(end, notes.get(key, 0))
    return [Note(pitch, velocity, start * seconds, end * seconds - 0.03, program, False)
            for (start, pitch, program), end in sorted(notes.items())]


def pieces(chorales: Path) -> dict[str, list[Note]]:
    """Every piece by its name. chorales: Jsb16thSeparated.npz."""
    return {
        "chorale, piano": chorale(chorales, 1, 112, 0.125, [PIANO] * 4),
        "prelude, piano": broken(
            ["C3+G3+E4+G4+C5", "C3+A3+D4+F4+C5", "B2+G3+D4+F4+B4", "C3+G3+E4+G4+C5", "C3+A3+E4+A4+E5",
             "D3+F#3+A3+D4+A4", "B2+G3+D4+G4+D5", "C3+G3+E4+G4+C5"], "0123423401234234", 0.1, PIANO),
        "study, piano, fast": [
            *line("C4 D4 E4 F4 G4 A4 B4 C5 D5 E5 F5 G5 A5 G5 F5 E5 D5 C5 B4 A4 G4 F4 E4 D4 "
                  "E4 G4 F4 A4 G4 B4 A4 C5 B4 D5 C5 E5 D5 F5 E5 G5 F5 A5 G5 F5 E5 D5 C5 B4 "
                  "C5 G4 A4 B4 C5 D5 E5 F5 G5 D5 E5 F#5 G5 A5 B5 C6 B5 A5 G5 F5 E5 D5 C5 B4 C5:4", 0.085, PIANO, 95),
            *line("C3 G3 C3 G3 C3 G3 F2 C3 F2 C3 G2 D3 C3 G3 D3 A3 E3 B3 F3 C4 G3 D4 G2 D3 "
                  "C3 G3 A2 E3 G2 D3 B2 G3 C3 G3 G2 D3 C2+C3:2", 0.17, PIANO, 80)],
        "song, piano, soft": [
            *line("E5:2 D5 C5 D5:2 G4:2 A4:2 B4 C5 D5:4 E5:2 F5 E5 D5:2 C5:2 B4:2 D5 G4 E5:4 A4:2 B4 C5 B4:4 C5:4",
                  0.3, PIANO, 42),
            *broken(["C3+E3+G3", "B2+D3+G3", "F2+A2+C3", "G2+B2+D3", "C3+E3+G3", "F2+A2+C3", "G2+B2+F3", "A2+C3+E3",
                     "F2+A2+C3", "G2+D3+F3", "C3+E3+G3"], "02120212", 0.15, PIANO, 32)],
        "chords, guitar": broken(
            ["C3+E3+G3+C4+E4", "A2+E3+A3+C4+E4", "D3+A3+D4+F4", "G2+D3+G3+B3+G4", "E2+B2+E3+G3+B3", "F2+C3+F3+A3+C4",
             "G2+D3+G3+B3+F4", "C3+E3+G3+C4+E4"], "0123213201232132", 0.11, GUITAR),
        "chorale, strings": chorale(chorales, 3, 96, 0.15, [STRINGS] * 4),
        "chorale, ensemble": chorale(chorales, 5, 112, 0.125, [FLUTE, GUITAR, CELLO, BASS]),
        "duet, violin and piano": [
            *line("A4:2 C5 E5 D5:3 C5 B4:2 G4:2 A4:4 E5:2 F5 G5 F5:2 E5 D5 C5 B4 A4 G#4 A4:4", 0.28, VIOLIN, 95),
            *broken(["A2+E3+C4", "D3+A3+F4", "G2+D3+B3", "A2+E3+C4", "C3+G3+E4", "D3+A3+F4", "E2+B2+G#3", "A2+E3+C4"],
                    "01212121", 0.14, PIANO, 75)],
        "groove, drums": beaten(
            ["ck h sh h  kh kh sh h ", "kh h sh kh h  kh sh o ", "kh h sh h  kh kh sh h ", "kh h sh kh kh s  tt mm"] * 2
            + ["ck h sh h  kh kh sh kh", "kh t t  m  m  f  f  ck"], 0.16),
        "band": [
            *beaten(["ck h sh h  kh kh sh h ", "kh h sh kh h  kh sh h "] * 4, 0.2),
            *line("C2 C2 G2 C2 A1 A1 E2 A1 F1 F1 C2 F1 G1 G1 D2 G1 C2 C2 G2 C2 A1 A1 E2 A1 F1 F1 G1 G1 C2 G1 C2 r", 0.4,
                  FINGERED, 100),
            *line("r C4+E4+G4 r C4+E4+G4 r C4+E4+A4 r C4+E4+A4 r C4+F4+A4 r C4+F4+A4 r B3+D4+G4 r B3+D4+G4 r C4+E4+G4 "
                  "r C4+E4+G4 r C4+E4+A4 r C4+E4+A4 r C4+F4+A4 r B3+D4+F4 r B3+D4+G4 C4+E4+G4:2", 0.4, PIANO, 80,
                  0.5)],
    }


def is_piano(notes: Iterable[Note]) -> bool:
    return all(note.program == PIANO and not note.is_drum for note in notes)


def several(notes: Iterable[Note]) -> bool:
    """Whether more than one instrument plays."""
    return len({(note.program, note.is_drum) for note in notes}) > 1


def measures(notes: Iterable[Note]) -> tuple[str, ...]:
    """What is counted of a piece (score.py): instruments where there are several."""
    return ("onset", "offset", "program") if several(notes) else ("onset", "offset")


def sound(notes: Sequence[Note], wav: Path, loudness: float = 1.0) -> np.ndarray:
    """Have FluidSynth play notes into a file; float32 [samples] of it as a player reads it, to half a second after the
    last note's end.
    """
    score = wav.with_suffix(".mid")
    midi.write(score, [note._replace(velocity=round(note.velocity * loudness)) for note in notes])
    done = run("fluidsynth", "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "1", "-r", "44100", "-T", "wav", "-O", "s16",
               "-o", "synth.cpu-cores=1", "-o", "synth.dynamic-sample-loading=1", "-F", wav, FONT, score)
    assert done.returncode == 0, done.stderr
    last = max(note.offset for note in notes) + 0.5
    return np.concatenate(list(audio.read(wav, RATE)))[:round(last * RATE)]


Rendition = tuple[str, float]  # a piece and a loudness


def renditions(played: Mapping[str, Sequence[Note]], folder: Path) -> dict[Rendition, np.ndarray]:
    """The sound of every piece at every loudness."""
    return {(piece, loudness): sound(notes, folder / f"{piece} {loudness}.wav", loudness)
            for piece, notes in played.items() for loudness in LOUDNESS}


class Heard(NamedTuple):
    written: Transcription
    mel: np.ndarray  # what the encoder heard, float32 [segments, frames, 512]
    fed: np.ndarray  # what the decoder was fed, int64 [segments, steps]


def listen(transcriber: Transcriber, sounds: Mapping[Rendition, np.ndarray]) -> dict[Rendition, Heard]:
    """What a transcriber writes of each sound, with what went into its network. None may be longer than a batch."""
    kept: dict[str, list[np.ndarray]] = {}

    def keeping(session: Any) -> SimpleNamespace:
        def answer(outputs: Sequence[str] | None, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            found = session.run(outputs, feed)
            for name in {"mel", "tokens"} & feed.keys():
                kept.setdefault(name, []).append(feed[name])
            kept["written"] = [found[0]]
            return found
        return SimpleNamespace(run=answer)

    transcriber.sessions = {part: keeping(session) for part, session in transcriber.sessions.items()}
    told = {}
    for rendition, samples in sounds.items():
        kept.clear()
        written = transcriber.transcribe([samples])
        [mel] = kept["mel"]
        told[rendition] = Heard(written, mel, np.stack(kept["tokens"], axis=1) if "tokens" in kept
                                else np.pad(kept["written"][0], ((0, 0), (1, 0)))[:, :-1])
    return told


Scores = Mapping[str, float]  # F1 by measure: onset, offset, program
Table = Mapping[str, Mapping[str, Scores]]  # by piece and variant


def compared(pairs: Mapping[str, tuple[Sequence[Note], Sequence[Note]]]) -> dict[str, Scores]:
    """What mir_eval says of notes that were played and found, by name (score.py)."""
    done = run("scripts/in", "checks", "python", "-m", "tests.models.mt3.score", told=json.dumps(pairs))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def scores_of(heard: Mapping[str, Mapping[Rendition, Heard]], played: Mapping[str, Sequence[Note]]
              ) -> dict[float, Table]:
    """By loudness, of what variants heard."""
    found = compared({f"{variant} {loudness} {piece}": (played[piece], one.written.notes)
                      for variant, of in heard.items() for (piece, loudness), one in of.items()})
    rows = list(next(iter(heard.values())))
    return {loudness: {piece: {variant: found[f"{variant} {loudness} {piece}"] for variant in heard}
                       for piece, other in rows if other == loudness}
            for loudness in sorted({loudness for _, loudness in rows}, reverse=True)}


def mean(tables: Iterable[Table]) -> Table:
    """Of the F1 of several renditions."""
    told = list(tables)
    return {piece: {variant: {measure: float(np.mean([one[piece][variant][measure] for one in told]))
                              for measure in scores} for variant, scores in by_variant.items()}
            for piece, by_variant in told[0].items()}


def missed(scores: Table, played: Mapping[str, Sequence[Note]]) -> list[str]:
    """Where a lossy variant is worse than fp32 by more than 0.01 on pianos, 0.02 elsewhere, or a piano's onsets
    below 0.97.
    """
    found = []
    for piece, by_variant in scores.items():
        allowed = 0.01 if is_piano(played[piece]) else 0.02
        found += [f"{piece}, {variant}: {measure} F1 {told[measure]:.3f}, fp32 has {by_variant['fp32'][measure]:.3f}"
                  for variant, told in by_variant.items() for measure in measures(played[piece])
                  if told[measure] < by_variant["fp32"][measure] - allowed]
        found += [f"{piece}, {variant}: onset F1 {told['onset']:.3f}" for variant, told in by_variant.items()
                  if is_piano(played[piece]) and told["onset"] < 0.97]
    return found


def shown(scores: Table, played: Mapping[str, Sequence[Note]]) -> str:
    """Scores by piece and variant, as Markdown: onsets, with offsets, and for several instruments with programs."""
    variants = list(next(iter(scores.values())))
    lines = [f"| piece | notes | {' | '.join(variants)} |", f"|---|---:|{'---|' * len(variants)}"]
    for piece, by_variant in scores.items():
        cells = [" / ".join(f"{told[measure]:.3f}" for measure in measures(played[piece]))
                 for told in by_variant.values()]
        lines.append(f"| {piece} | {len(played[piece])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(tables: Mapping[float, Table], played: Mapping[str, Sequence[Note]]) -> str:
    """The means, and after them each rendition's."""
    parts = [f"Means of {len(tables)} renditions, {datetime.date.today().isoformat()}, {machine()}, sound font "
             f"{FONT.stem}:", shown(mean(tables.values()), played)]
    for loudness, table in tables.items():
        parts += [f"Velocities times {loudness}:", shown(table, played)]
    return "\n\n".join(parts)


def on_card() -> dict[str, tuple[int, list[list[float]]]]:
    """The table on the model's card: how many notes a piece has, and by variant its F1."""
    [told] = re.findall("<!-- music -->(.*?)<!-- /music -->", (ROOT / "models/mt3/README.md").read_text(), re.DOTALL)
    rows = [re.split(r" *\| *", line.strip("| ")) for line in told.splitlines() if re.search(r"\d / \d", line)]
    return {piece: (int(count), [[float(f1) for f1 in cell.split(" / ")] for cell in cells])
            for piece, count, *cells in rows}


def hold_to_card(scores: Table, played: Mapping[str, Sequence[Note]]) -> None:
    """Asserts that the card tells the scores, but for what another processor rounds otherwise."""
    for piece, by_variant in scores.items():
        notes, told = on_card()[piece]
        found = [[by_variant[variant][measure] for measure in measures(played[piece])] for variant in VARIANTS]
        assert notes == len(played[piece])
        np.testing.assert_allclose(told, found, atol=0.05, err_msg=piece)


def main(folder: Path, chorales: Path) -> None:
    played = pieces(chorales)
    with tempfile.TemporaryDirectory() as place:
        sounds = renditions(played, Path(place))
    heard = {variant: listen(Transcriber(folder, "mt3", variant), sounds) for variant in VARIANTS}
    tables = scores_of(heard, played)
    print(report(tables, played))
    for line in missed(mean(tables.values()), played):
        print(f"MISSED: {line}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
