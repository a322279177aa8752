"""Plays drums to a tapped rhythm: MIDI or a recording in, MIDI or a picture out.

    python -m models.groovae.player taps.wav drums.mid --weights seeded

ONNX Runtime and NumPy alone compute; mido reads and writes MIDI, soundfile and librosa hear a
recording's taps, matplotlib draws. Without a seed the drums are the likeliest, with one they
are drawn; the same taps, seed, temperature and variant give the same music every time.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.groovae import drums, taps
from models.groovae.inputs import DEPTH, neutral, noise
from scripts import command
from scripts.job import Refusal, progress
from scripts.player import STAND_INS, Artifact, add_options, artifacts, check_out, load, require_verified, write_whole

OUT = (".mid", ".midi", ".png")


class Drummer:
    """GrooVAE's whole way from taps to drums out of a folder of artifacts: a build's, or a release's assets."""

    def __init__(self, folder: Path, variant: str = "int8"):
        """Raises Refusal where the folder holds no such artifact."""
        self.artifact = load(folder, "groovae", "groove", variant)
        self.session = self.artifact.session

    def drum(self, tapped: np.ndarray, seed: int | None = None, temperature: float = 1.0) -> np.ndarray:
        """Drums for tapped windows, each on its own.

        tapped: float32 [windows, time, 27], a sixteenth a step, as taps.Taps.windows makes them.
        seed: another one, another groove; None for the likeliest.
        temperature: of what is drawn: 1 as trained, less is safer, 0 takes the likelier of hit and rest.
        Returns float32 of the same shape: nine hits (0 or 1), velocities (0 to 1) and offsets (-1 to 1).
        Raises Refusal on a value outside of these.
        """
        tapped = np.asarray(tapped, np.float32)
        if tapped.ndim != 3 or tapped.shape[2] != DEPTH or not tapped.size or not np.isfinite(tapped).all():
            raise Refusal(f"taps: expected finite numbers of shape [windows, time, {DEPTH}], found {tapped.shape}: "
                          "make them with Taps.windows")
        if not 0 <= temperature < np.inf:
            raise Refusal(f"temperature: expected a number from 0 up, found {temperature}: 1 is the default")
        windows, time = tapped.shape[:2]
        drawn = neutral(windows, time) if seed is None else noise(f"play/{seed}", windows, time, temperature)
        return self.session.run(["drums"], {"taps": tapped, **drawn})[0]


def play(asked: argparse.Namespace) -> int:
    check_out(asked.taps, asked.out, OUT, "drums.mid")
    tapped = taps.read(asked.taps, asked.tempo)
    for remark in tapped.remarks:
        print(f"note: {remark}", file=sys.stderr)
    drummer = Drummer(artifacts("groovae", asked), asked.variant)
    require_verified("groovae", asked, drummer.artifact)
    windows = tapped.windows()
    progress(f"drumming {2 * len(windows)} bars to {len(tapped.steps)} taps with {drummer.artifact.told()}")
    if drummer.artifact.weights in STAND_INS:
        progress(f"its {drummer.artifact.weights} weights are an untrained stand-in: expect hits, not a groove")
    strokes = drums.strokes_of(drummer.drum(windows, asked.seed, asked.temperature))

    if asked.out.suffix.lower() != ".png":
        write_whole(asked.out, lambda path: drums.write(path, strokes, len(windows), tapped.tempos))
    if asked.plot or asked.out.suffix.lower() == ".png":
        write_whole(asked.out.with_suffix(".png"), lambda path: draw(path, tapped, strokes, asked, drummer.artifact))
    return 0


def draw(path: Path, tapped: taps.Taps, strokes: Sequence[drums.Stroke], asked: argparse.Namespace,
         artifact: Artifact) -> None:
    from models.groovae import picture  # matplotlib is slow to import, and needed for a picture alone

    told = [artifact.told(), "the likeliest drums" if asked.seed is None else
            f"seed {asked.seed} · temperature {asked.temperature:g}"]
    if artifact.weights in STAND_INS:
        told.append(f"{artifact.weights} weights: an untrained stand-in")
    picture.draw(path, tapped, strokes, asked.taps.name, " · ".join(told))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.Parser(prog="models.groovae.player", description=__doc__.splitlines()[0])
    parser.add_argument("taps", type=Path, metavar="IN", help="a MIDI file or a recording")
    parser.add_argument("out", type=Path, metavar="OUT", help="drums.mid, or drums.png for a picture alone")
    add_options(parser)
    parser.add_argument("--seed", type=int, help="another one, another groove; without, the likeliest one")
    parser.add_argument("--temperature", type=float, default=1.0, help="less is safer (default %(default)s)")
    parser.add_argument("--tempo", type=float, help="of a recording, quarter notes a minute; without, it is estimated")
    parser.add_argument("--plot", action="store_true", help="also draw OUT as a PNG beside it")
    return command.run(lambda: play(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
