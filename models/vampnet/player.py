"""Vamps on a recording: WAV, FLAC, Ogg or MP3 in, WAV, FLAC or a picture out.

    python -m models.vampnet.player loop.wav vamp.wav --weights seeded

ONNX Runtime and NumPy alone compute; soundfile and soxr read sound, SciPy's filters hear how loud it is, matplotlib
draws. The same recording, settings and variant give the same music every time. The codec hears it at -24 LUFS, as
upstream's does; the vamp is as long and as loud as the recording. Hours are read, coded and written piece by piece.
"""

import argparse
import io
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from models.vampnet import chunks, codec, masks, sound
from models.vampnet.inputs import COARSE, CODEBOOKS, HOP, RATE, VOCABULARY
from models.vampnet.sampling import Controls, feed
from models.vampnet.sound import Level, Sound
from scripts import audio, command
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

OUT = (".wav", ".flac", ".png")
LOUDNESS = -24.0  # LUFS (Interface in vampnet/interface.py)
STEPS = 36  # as app.py takes
COLDEST = 1e-3  # the least temperature; below, the likeliest codes are taken
LONGEST = 24 * 60 * 60  # seconds
PARTS = {"coarse": ("coarse-sampler", COARSE, chunks.COARSE_OVERLAP),
         "fine": ("c2f-sampler", CODEBOOKS - COARSE, chunks.FINE_OVERLAP)}  # the artifact, and codebooks it writes

Played = tuple[np.ndarray, Sound]  # the mask, and the vamp
Told = Callable[[str, float], None]  # is told what is done with how many more seconds


class Settings(NamedTuple):
    """What a user can turn."""

    periodic_prompt: int = 7  # of so many frames one is kept; 0 keeps none
    upper_codebook_mask: int = 3  # the first codebook that is written throughout
    prefix: float = 0.0  # seconds that are kept at the start
    suffix: float = 0.0  # and at the end
    dropout: float = 0.0  # the share of frames that are written after all
    steps: int = STEPS  # in which the coarse codes are written
    temperature: float = 1.0  # of the coarse codes: less is safer, 0 takes the likeliest
    typical_mass: float = 1.0  # below 1, only typical coarse codes that make up this probability come, and 64 at least
    seed: int = 0  # another one, another mask and other music


# Upstream always writes the fine codes like that (vamp in vampnet/interface.py).
FINE = Settings(steps=2)


class VampNet:
    """VampNet out of a folder of artifacts: a build's, or a release's assets."""

    def __init__(self, folder: Path, variant: str = "int8"):
        """The encoder is always fp32, whose codes are the original's; the decoder is fp16 beside int8.

        Raises Refusal where the folder lacks an artifact.
        """
        parts = {"coarse-sampler": variant, "c2f-sampler": variant, "encoder": "fp32",
                 "decoder": "fp32" if variant == "fp32" else "fp16"}
        loaded = {part: load(folder, "vampnet", part, kind) for part, kind in parts.items()}
        self.artifacts: list[Artifact] = list(loaded.values())
        self.sessions = {part: artifact.session for part, artifact in loaded.items()}

    def process(self, audio: np.ndarray, sample_rate: int, periodic_prompt: int = 7, upper_codebook_mask: int = 3, *,
                prefix: float = 0.0, suffix: float = 0.0, dropout: float = 0.0, steps: int = STEPS,
                temperature: float = 1.0, typical_mass: float = 1.0, seed: int = 0,
                told: Told = lambda done, seconds: None) -> np.ndarray:
        """A vamp on a recording, as long and as loud.

        audio: float [samples] or [samples, channels], full scale is -1 to 1. sample_rate: samples a second.
        From periodic_prompt to seed: what Settings says. told: is told what is done with how many more seconds.
        Returns float32 [samples] at 44.1 kHz. Raises Refusal on a value outside of these.
        """
        settings = checked(Settings(periodic_prompt, upper_codebook_mask, prefix, suffix, dropout, steps, temperature,
                                    typical_mass, seed))
        _, vamp = self.run(sound.from_array(audio, sample_rate), settings, io.BytesIO(), told)
        return np.concatenate(list(vamp()))

    def encode(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """The codes int64 [14, frames] of a recording, as process takes it and hears it; 768 samples a frame."""
        return self.listen(sound.from_array(audio, sample_rate))[0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The sound float32 [frames * 768] at 44.1 kHz of codes, integers 0 to 1023 [14, frames], as loud as they are.

        Raises Refusal on other codes.
        """
        return np.concatenate(list(codec.decode(self.sessions["decoder"], checked_codes(codes))))

    def vamp(self, codes: np.ndarray, mask: np.ndarray, *, steps: int = STEPS, temperature: float = 1.0,
             typical_mass: float = 1.0, seed: int = 0, told: Told = lambda done, seconds: None) -> np.ndarray:
        """The codes int64 [14, frames] with those where the mask is 1 written anew, but for the ends (chunks.pinned).

        codes: integers 0 to 1023. mask: 0 or 1, of the same shape. The rest is as process has it.
        Raises Refusal on a value outside of these.
        """
        settings = checked(Settings(steps=steps, temperature=temperature, typical_mass=typical_mass, seed=seed))
        codes, mask = checked_codes(codes), np.asarray(mask)
        if mask.shape != codes.shape or not np.isin(mask, (0, 1)).all():
            raise Refusal(f"mask: expected 0 or 1 in the codes' shape {list(codes.shape)}, found {mask.dtype} of shape "
                          f"{list(mask.shape)}: make it with masks.build")
        return self.write(codes, mask.astype(np.int64), settings, told)

    def run(self, heard: Sound, settings: Settings, store: BinaryIO, told: Told) -> Played:
        """The mask int64 [14, frames] that the settings mean, and the vamp, which is kept in the store."""
        codes, level = self.listen(heard, told)
        mask = prompt(codes.shape[1], settings)
        vamped = self.write(codes, mask, settings, told)
        decoded = counted(codec.decode(self.sessions["decoder"], vamped), "decoded", told)
        return mask, sound.made_loud(sound.beginning(decoded, level.samples), level.loudness, store)

    def listen(self, heard: Sound, told: Told = lambda done, seconds: None) -> tuple[np.ndarray, Level]:
        """The codes int64 [14, frames] of a sound at -24 LUFS, and what was measured of it as it is."""
        level = sound.measure(counted(heard(), "heard", told))
        if not level.samples:
            raise Refusal("IN: expected sound, found less than a sample at 44.1 kHz: record it again")
        gain = level.gain(LOUDNESS)
        found = []
        for window in codec.encode(self.sessions["encoder"], (gain * piece for piece in heard())):
            found.append(window)
            told("encoded", window.shape[1] * HOP / RATE)
        return np.concatenate(found, axis=1), level

    def write(self, codes: np.ndarray, mask: np.ndarray, settings: Settings, told: Told) -> np.ndarray:
        """The codes with the masked ones written: the coarse ones, then the others."""
        vamped = chunks.coarse(codes, mask, self.writing("coarse", settings, settings.seed, told))
        return chunks.fine(vamped, mask, self.writing("fine", FINE, settings.seed, told))

    def writing(self, part: str, settings: Settings, seed: int, told: Told) -> chunks.Write:
        """Has chunks written by the sampler of the coarse or the fine codes, each by chance of its own."""
        sampler, written, overlap = PARTS[part]
        cold = settings.temperature < COLDEST
        controls = Controls(temperature=1 if cold else settings.temperature, sample_cutoff=-1 if cold else 1,
                            typical_mass=settings.typical_mass)

        def write(codes: np.ndarray, mask: np.ndarray, number: int) -> np.ndarray:
            time = codes.shape[2]
            uniforms = seeded_unit(f"vampnet/play/{seed}/{part}/{number}", (settings.steps, 2, 1, written, time))
            [vamped] = self.sessions[sampler].run(["vamped"], feed(codes, mask, uniforms, controls))
            told(f"{part} codes written", (time - overlap * (number > 0)) * HOP / RATE)
            return vamped

        return write


def checked(settings: Settings) -> Settings:
    """The settings as they are. Raises Refusal on one out of its range, by the name of make's variable."""
    for name, value, least, most, remedy in (
            ("PERIODIC", settings.periodic_prompt, 0, 10**6, "7 is the default, 0 keeps nothing"),
            ("UPPER", settings.upper_codebook_mask, 0, CODEBOOKS, "3 is the default"),
            ("PREFIX", settings.prefix, 0, LONGEST, "say how many seconds are kept at the start"),
            ("SUFFIX", settings.suffix, 0, LONGEST, "say how many seconds are kept at the end"),
            ("DROPOUT", settings.dropout, 0, 1, "say which share of the frames is written after all"),
            ("STEPS", settings.steps, 1, 1000, f"{STEPS} is the default"),
            ("TEMPERATURE", settings.temperature, 0, 100, "1 is the default, 0 takes the likeliest codes"),
            ("TYPICAL", settings.typical_mass, 0, 1, "1 is the default, which lets every code come")):
        masks.check(name, value, least, most, remedy)
    return settings


def checked_codes(codes: np.ndarray) -> np.ndarray:
    """The codes as int64. Raises Refusal on another shape, kind or range."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or len(codes) != CODEBOOKS or codes.dtype.kind not in "iu" or not codes.size:
        raise Refusal(f"codes: expected integers of shape [{CODEBOOKS}, frames], found {codes.dtype} of shape "
                      f"{list(codes.shape)}: make them with encode")
    if codes.min() < 0 or codes.max() >= VOCABULARY:
        raise Refusal(f"codes: expected 0 to {VOCABULARY - 1}, found {codes.min()} to {codes.max()}: "
                      "make them with encode")
    return codes.astype(np.int64)


def prompt(frames: int, settings: Settings) -> np.ndarray:
    """The mask int64 [14, frames] that the settings mean: 1 is written anew."""
    draws = masks.draw(settings.seed, CODEBOOKS, frames, settings.periodic_prompt, settings.dropout)
    prefix, suffix = (math.ceil(seconds * RATE / HOP) for seconds in (settings.prefix, settings.suffix))
    return masks.build(CODEBOOKS, frames, periodic_prompt=settings.periodic_prompt, prefix=prefix, suffix=suffix,
                       upper_codebook_mask=settings.upper_codebook_mask, dropout=settings.dropout, draws=draws)


def counted(pieces: Iterable[np.ndarray], done: str, told: Told) -> Iterator[np.ndarray]:
    for piece in pieces:
        told(done, len(piece) / RATE)
        yield piece


def play(asked: argparse.Namespace) -> int:
    settings = checked(Settings(**{name: getattr(asked, name) for name in Settings._fields}))
    check_out(asked.recording, asked.out, OUT, "vamp.wav")
    seconds = audio.duration(asked.recording)
    for remark in audio.remarks(asked.recording):
        print(f"note: {remark}", file=sys.stderr)
    vampnet = VampNet(artifacts("vampnet", asked), asked.variant)
    for artifact in vampnet.artifacts:
        require_verified("vampnet", asked, artifact)
    progress(f"vamping on {seconds:.1f} seconds with {', '.join(artifact.told() for artifact in vampnet.artifacts)}")
    weights = vampnet.artifacts[0].weights
    if weights in STAND_INS:
        progress(f"its {weights} weights are an untrained stand-in: expect sound, not music")

    def heard() -> Iterator[np.ndarray]:
        return audio.read(asked.recording, RATE)

    with beside(asked.out) as store:
        with tqdm(total=round(seconds, 1), unit="s", leave=False, disable=None) as bar:  # on a terminal alone
            mask, vamp = ticking(lambda: vampnet.run(heard, settings, store, telling(bar)), bar.refresh)
        progress(f"{mask.mean():.1%} of {mask.size} codes were to be written anew, the others kept")
        if asked.out.suffix.lower() != ".png":
            write_whole(asked.out, lambda path: sound.write(path, vamp(), asked.out.suffix[1:].upper()))
        if asked.plot or asked.out.suffix.lower() == ".png":
            write_whole(asked.out.with_suffix(".png"), lambda path: draw(
                path, heard(), mask, vamp(), asked, vampnet.artifacts[0]))
    return 0


def beside(out: Path) -> BinaryIO:
    """A file without a name on the disk of OUT, which is gone whatever happens."""
    try:
        return tempfile.TemporaryFile(dir=out.parent)
    except OSError as error:
        raise Refusal(f"OUT={out}: can't be written ({error.strerror}): name another OUT or free the way") from error


def telling(bar: tqdm) -> Told:
    """Shows on the bar what is done, each thing from its start."""
    shown = ""

    def told(done: str, seconds: float) -> None:
        nonlocal shown
        if done != shown:
            shown = done
            bar.reset()
            bar.set_description(done)
        bar.update(min(seconds, bar.total - bar.n))  # the last chunk is filled up

    return told


def draw(path: Path, heard: Iterable[np.ndarray], mask: np.ndarray, vamped: Iterable[np.ndarray],
         asked: argparse.Namespace, artifact: Artifact) -> None:
    from models.vampnet import picture  # matplotlib is slow to import, and needed for a picture alone

    above, below = (np.concatenate(list(sound.beginning(pieces, picture.SECONDS * RATE))) for pieces in (heard, vamped))
    kept = np.concatenate([chunks.pinned(mask[:COARSE]), mask[COARSE:]])
    told = [artifact.told(), f"seed {asked.seed}", f"temperature {asked.temperature:g}", f"{asked.steps} steps"]
    if artifact.weights in STAND_INS:
        told.append(f"{artifact.weights} weights: an untrained stand-in")
    picture.draw(path, above, kept, below, asked.recording.name, " · ".join(told))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.Parser(prog="models.vampnet.player", description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, metavar="IN", help="WAV, FLAC, Ogg or MP3")
    parser.add_argument("out", type=Path, metavar="OUT", help="vamp.wav or vamp.flac, or vamp.png for a picture alone")
    add_options(parser)
    for flag, name, told in (
            ("periodic", "periodic_prompt", "of so many frames one is kept"),
            ("upper", "upper_codebook_mask", "the first codebook that is written throughout"),
            ("prefix", "prefix", "seconds that are kept at the start"),
            ("suffix", "suffix", "seconds that are kept at the end"),
            ("dropout", "dropout", "the share of frames that are written after all"),
            ("steps", "steps", "in which the coarse codes are written"),
            ("temperature", "temperature", "less is safer, 0 takes the likeliest codes"),
            ("typical", "typical_mass", "the probability of the typical codes that come, 1 lets all"),
            ("seed", "seed", "another one, other music")):
        value = getattr(Settings(), name)
        parser.add_argument(f"--{flag}", dest=name, type=type(value), default=value, metavar=flag.upper(),
                            help=f"{told} (default %(default)s)")
    parser.add_argument("--plot", action="store_true", help="also draw OUT as a PNG beside it")
    return command.run(lambda: play(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
