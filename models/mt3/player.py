"""Writes a recording down: WAV, FLAC, Ogg or MP3 in, MIDI or a picture out.

    python -m models.mt3.player recording.wav notes.mid --weights seeded

ONNX Runtime and NumPy alone compute; soundfile and soxr read sound, mido writes MIDI, matplotlib draws. The same
recording, decoding and variant give the same notes every time. Segments are cut as upstream cuts them
(mt3/colab/music_transcription_with_transformers.ipynb): frames of 128 samples, one more than they fill, each
segment heard alone, the last one filled up with 0 in the logarithm.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from tqdm import tqdm

from models.mt3 import decode, midi
from models.mt3.inputs import DEPTH, HEAD_DIM, HEADS, HOP, LAYERS, MOST, RATE
from models.mt3.notes import Segment, Transcription, transcribe
from models.mt3.vocabulary import CONFIGURATIONS
from scripts import audio, command
from scripts.job import Refusal, progress
from scripts.player import STAND_INS, Artifact, add_options, artifacts, check_out, load, require_verified, write_whole

OUT = (".mid", ".midi", ".png")
DECODINGS = ("beam", "greedy")
BATCH = 8  # segments decoded together
STATES = [f"{part}_{layer}" for part in ("keys", "values") for layer in range(LAYERS)]


class Transcriber:
    """MT3 out of a folder of artifacts: a build's, or a release's assets."""

    def __init__(self, folder: Path, model: str = "mt3", variant: str = "int8", decoding: str = "beam"):
        """decoding: beam, as the original does it, or greedy. Raises Refusal where the folder lacks an artifact."""
        if decoding not in DECODINGS:
            raise Refusal(f"DECODE={decoding}: expected {' or '.join(DECODINGS)}: name one of them")
        parts = ["encoder", "decoder"] if decoding == "beam" else ["transcriber"]
        self.frontend = load(folder, model, "frontend", "fp32").session
        loaded = [load(folder, model, part, variant) for part in parts]
        self.artifacts: list[Artifact] = loaded
        self.sessions = {part: artifact.session for part, artifact in zip(parts, loaded)}
        told = loaded[0].session.get_modelmeta().custom_metadata_map
        self.configuration = CONFIGURATIONS[told["configuration"]]
        self.decoding = decoding

    def transcribe(self, sound: Iterable[np.ndarray], heard: Callable[[float], None] = lambda seconds: None,
                   tokens: int = MOST) -> Transcription:
        """The notes of a recording.

        sound: float32 pieces of any length at 16 kHz, -1 to 1. heard: is told the seconds of each batch of
        segments that is done. tokens: the most a segment says.
        """
        samples = self.configuration.frames * HOP
        written, batch = [], []
        for number, segment in enumerate(segments(sound, samples)):
            batch.append(segment)
            if len(batch) == BATCH or len(segment) < samples:
                written += self.write(batch, number + 1 - len(batch), tokens)
                heard(sum(map(len, batch)) / RATE)
                batch = []
        return transcribe(written, self.configuration)

    def write(self, batch: list[np.ndarray], first: int, tokens: int) -> list[Segment]:
        """What segments say that are the first-th and those after it; the last may be shorter."""
        frames = self.configuration.frames
        mel = np.zeros((len(batch), frames, DEPTH), np.float32)
        whole = [segment for segment in batch if len(segment) == frames * HOP]
        if whole:
            mel[:len(whole)] = self.frontend.run(None, {"samples": np.stack(whole)})[0]
        if len(whole) < len(batch):
            mel[-1, :len(batch[-1]) // HOP] = self.frontend.run(None, {"samples": batch[-1][None]})[0][0]
        if self.decoding == "greedy":
            told = self.sessions["transcriber"].run(None, {"mel": mel, "length": np.array(tokens)})[0]
        else:
            told, _ = decode.beam(stepping(self.sessions["encoder"], self.sessions["decoder"], mel), len(batch), tokens)
        return [Segment(start(number, frames), row) for number, row in enumerate(told, first)]


def stepping(encoder: InferenceSession, decoder: InferenceSession, mel: np.ndarray) -> decode.Step:
    """The decoder's step for segments float32 [batch, frames, DEPTH], as decode.py takes it."""
    listened = encoder.run(None, {"mel": mel})
    cross = dict(zip((f"cross_{state}" for state in STATES), listened))
    past = {f"past_{state}": np.zeros((len(mel), HEADS, 0, HEAD_DIM), np.float32) for state in STATES}

    def step(tokens: np.ndarray) -> np.ndarray:
        logits, *states = decoder.run(None, {"tokens": tokens, **past, **cross})
        past.update(zip(past, states))
        return logits

    return step


def segments(sound: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """The pieces put together and cut into segments of so many samples; the last is filled up to a frame.

    As upstream's notebook does, frames are filled up even where nothing is missing.
    """
    held = np.zeros(0, np.float32)
    for piece in sound:
        held = np.concatenate([held, piece])
        while len(held) >= samples:
            yield held[:samples]
            held = held[samples:]
    yield np.pad(held, (0, HOP - len(held) % HOP))


def start(number: int, frames: int) -> float:
    """Seconds at which a segment begins, as upstream rounds them down to a step."""
    seconds = number * frames * HOP / RATE
    return seconds - seconds % 0.01


def play(asked: argparse.Namespace) -> int:
    check_out(asked.recording, asked.out, OUT, "notes.mid")
    transcriber = Transcriber(artifacts(asked.model, asked), asked.model, asked.variant, asked.decode)
    for artifact in transcriber.artifacts:
        require_verified(asked.model, asked, artifact)
    seconds = audio.duration(asked.recording)
    for remark in audio.remarks(asked.recording):
        print(f"note: {remark}", file=sys.stderr)
    told = " and ".join(artifact.told() for artifact in transcriber.artifacts)
    progress(f"listening to {seconds:.1f} seconds with {told}")
    weights = transcriber.artifacts[0].weights
    if weights in STAND_INS:
        progress(f"its {weights} weights are an untrained stand-in: expect notes, not music")
    with tqdm(total=round(seconds, 1), unit="s", desc="heard", leave=False,
              disable=None) as bar:  # on a terminal alone
        found = transcriber.transcribe(audio.read(asked.recording, RATE), bar.update)
    played = midi.instruments(found.notes)
    progress(f"{len(found.notes)} notes of {len(played)} instrument{'s' * (len(played) != 1)}"
             + (f": {', '.join(played)}" if 0 < len(played) <= 16 else "")
             + f"; of what was written {found.invalid} events can't be, {found.dropped} come too late")
    if (ports := midi.ports(played)) > 1:
        progress(f"{asked.out}: more instruments than the fifteen channels of a MIDI port: they lie on {ports} ports, "
                 "and what plays them all on one may end a note where another instrument's of its pitch ends")
    if asked.out.suffix.lower() != ".png":
        write_whole(asked.out, lambda path: midi.write(path, found.notes))
    if asked.plot or asked.out.suffix.lower() == ".png":
        from models.mt3 import picture  # matplotlib is slow to import, and needed for a picture alone

        subtitle = f"{told} · {asked.decode}" + (f" · {weights} weights: an untrained stand-in" if weights in STAND_INS
                                                 else "")
        write_whole(asked.out.with_suffix(".png"), lambda path: picture.draw(
            path, found.notes, seconds, asked.recording.name, subtitle))
    return 0


def main(arguments: Sequence[str] | None = None, model: str = "mt3") -> int:
    parser = command.Parser(prog=f"models.{model}.player", description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, metavar="IN", help="WAV, FLAC, Ogg or MP3")
    parser.add_argument("out", type=Path, metavar="OUT", help="notes.mid, or notes.png for a picture alone")
    add_options(parser)
    parser.add_argument("--decode", default="beam", help="beam, as the original does, or greedy (default %(default)s)")
    parser.add_argument("--plot", action="store_true", help="also draw OUT as a PNG beside it")
    parser.set_defaults(model=model)
    return command.run(lambda: play(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
