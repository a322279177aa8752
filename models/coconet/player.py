"""Harmonizes a melody: MIDI in, four voices out, as MIDI or as a picture.

    python -m models.coconet.player melody.mid chorale.mid --weights seeded

ONNX Runtime and NumPy alone compute; mido reads and writes MIDI, matplotlib draws. The same
melody, seed, temperature, steps and variant give the same music every time. A rest in the
melody stays a rest: there the model doesn't see the soprano, what it writes for it is
dropped, and the lower voices sound on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.coconet.inputs import LOWEST, VOICES, hide_lower_voices, to_rolls
from models.coconet.midi import HIGHEST, read_tune, voices_of, write_chorale
from scripts import command
from scripts.job import Refusal, progress
from scripts.player import (
    STAND_INS,
    Artifact,
    add_options,
    artifacts,
    check_out,
    load,
    require_verified,
    ticking,
    write_whole,
)
from scripts.seeded import seeded_unit
from scripts.tune import LONGEST, Tune

STEPS = 96  # Gibbs steps after the first guess, as Magenta.js takes
MOST_STEPS = 1000


class Harmonizer:
    """Coconet's harmonizer out of a folder of artifacts: a build's compose folder, or a release's assets."""

    def __init__(self, folder: Path, variant: str = "int8", model: str = "coconet"):
        """model: coconet or coconetjs. Raises Refusal where the folder holds no such artifact."""
        self.artifact = load(folder, model, "harmonizer", variant)
        self.session = self.artifact.session

    def harmonize(self, melody: np.ndarray, seed: int = 0, temperature: float = 0.99, steps: int = STEPS) -> np.ndarray:
        """Write alto, tenor and bass under a melody.

        melody: MIDI pitches 36 to 81, a sixteenth note each, int [time]; 0 is a rest.
        temperature: 1 samples as trained, less is safer, 0 takes the most probable pitch.
        steps: how often a share of the notes is rewritten after the first guess.
        Returns MIDI pitches, int64 [time, 4]: the melody as given, alto, tenor, bass.
        Raises Refusal on a value outside of these.
        """
        melody = checked(melody)
        if not 0 <= temperature < np.inf:
            raise Refusal(f"temperature: expected a number from 0 up, found {temperature}: 0.99 is the default")
        if not 0 <= steps <= MOST_STEPS:
            raise Refusal(f"steps: expected 0 to {MOST_STEPS}, found {steps}: {STEPS} is the default")
        rests = melody == 0
        given = np.full((1, len(melody), VOICES), LOWEST)
        given[0, ~rests, 0] = melody[~rests]
        rolls = to_rolls(given)
        masks = hide_lower_voices(rolls)
        masks[0, rests] = 1
        [harmonized] = self.session.run(["harmonized"], {
            "pianorolls": rolls,
            "masks": masks,
            "uniforms": seeded_unit(f"coconet/play/{seed}", (steps + 1, 2, 1, len(melody), VOICES)),
            "temperature": np.array(temperature, dtype=np.float32),
            "steps": np.array(steps, dtype=np.int64),
        })
        pitches = harmonized[0].argmax(axis=1) + LOWEST
        pitches[rests, 0] = 0
        return pitches


def checked(melody: np.ndarray) -> np.ndarray:
    """The melody as int64 [time]. Raises Refusal on another shape, kind, length or pitch."""
    melody = np.asarray(melody)
    if melody.ndim != 1 or melody.dtype.kind not in "iu" or not 0 < len(melody) <= LONGEST:
        raise Refusal(f"melody: expected 1 to {LONGEST} integers in a row, found {melody.dtype} of shape "
                      f"{list(melody.shape)}: give the MIDI pitch of each sixteenth")
    wrong = melody[(melody != 0) & ((melody < LOWEST) | (melody > HIGHEST))]
    if len(wrong):
        raise Refusal(f"melody: expected MIDI pitches {LOWEST} to {HIGHEST} or 0 for a rest, found {wrong[0]}: "
                      "move it by octaves")
    return melody.astype(np.int64)


def play(asked: argparse.Namespace) -> int:
    if not asked.melody.name:
        raise Refusal("IN: expected a MIDI file, none was named: "
                      "for instance IN=models/coconet/samples/old-hundredth.mid")
    check_out(asked.melody, asked.out, (".mid", ".midi", ".png"), "chorale.mid")
    tune = read_tune(asked.melody)
    for remark in tune.remarks:
        print(f"note: {remark}", file=sys.stderr)
    harmonizer = Harmonizer(artifacts(asked.model, asked), asked.variant, asked.model)
    artifact = harmonizer.artifact
    require_verified(asked.model, asked, artifact)
    progress(f"harmonizing {tune.length} sixteenths in {asked.steps} steps with {artifact.told()}")
    if artifact.weights in STAND_INS:
        progress(f"its {artifact.weights} weights are an untrained stand-in: expect notes, not Bach")
    with tqdm(bar_format="harmonizing, {elapsed}", leave=False, delay=1, miniters=0, disable=None) as clock:
        pitches = ticking(lambda: harmonizer.harmonize(tune.melody(), asked.seed, asked.temperature, asked.steps),
                          lambda: clock.update(0))

    voices = voices_of(tune, pitches)
    if asked.out.suffix.lower() != ".png":
        write_whole(asked.out, lambda path: write_chorale(path, tune, voices))
    if asked.plot or asked.out.suffix.lower() == ".png":
        write_whole(asked.out.with_suffix(".png"), lambda path: draw(path, tune, voices, asked, artifact))
    return 0


def draw(path: Path, tune: Tune, voices: list, asked: argparse.Namespace, artifact: Artifact) -> None:
    from models.coconet import picture  # matplotlib is slow to import, and needed for a picture alone

    told = [artifact.told(), f"seed {asked.seed}", f"temperature {asked.temperature:g}", f"{asked.steps} steps"]
    if artifact.weights in STAND_INS:
        told.append(f"{artifact.weights} weights: an untrained stand-in")
    picture.draw(path, tune, voices, asked.melody.name, " · ".join(told))


def main(arguments: Sequence[str] | None = None, model: str = "coconet") -> int:
    parser = command.Parser(prog=f"models.{model}.player", description=__doc__.splitlines()[0])
    parser.add_argument("melody", type=Path, metavar="IN", help="a MIDI file")
    parser.add_argument("out", type=Path, metavar="OUT", help="chorale.mid, or chorale.png for a picture alone")
    add_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="another one, other music (default %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.99, help="less is safer (default %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="Gibbs steps (default %(default)s)")
    parser.add_argument("--plot", action="store_true", help="also draw OUT as a PNG beside it")
    parser.set_defaults(model=model)
    return command.run(lambda: play(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
