"""Recordings, read by soundfile and resampled by soxr, piece by piece: hours of sound never lie in memory at once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from scripts.job import Refusal

BLOCK = 1 << 16  # frames read at a time
SILENCE = 1e-4  # of full scale


def duration(path: Path) -> float:
    """Seconds that a recording says it lasts. Raises Refusal where it isn't one, is empty, or silent throughout."""
    if not path.is_file():
        raise Refusal(f"IN={path if path.name else ''}: expected a recording (WAV, FLAC, Ogg, MP3), found none: name a "
                      "file")
    seconds, loudest = 0.0, 0.0
    for block, rate in blocks(path):
        seconds += len(block) / rate
        loudest = max(loudest, float(np.abs(block).max(initial=0)))
        if loudest >= SILENCE:
            return soundfile.info(path).duration
    raise Refusal(f"{path}: expected sound, found " + (f"{seconds:.1f} seconds of silence: record it again, louder"
                                                       if seconds else "an empty recording: record it again"))


def read(path: Path, rate: int) -> Iterator[np.ndarray]:
    """A recording's channels mixed into one, float32 -1 to 1 at `rate` samples a second, in pieces of any length.

    Raises Refusal where it can't be read to its end, or holds what are no numbers.
    """
    stream = None
    for block, found in blocks(path):
        stream = stream or soxr.ResampleStream(found, rate, 1, dtype="float32")
        yield stream.resample_chunk(block)
    if stream:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def blocks(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """The mixed channels as they are, a block after another, each with the samples a second."""
    done = 0
    try:
        with soundfile.SoundFile(path) as file:
            for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
                done += len(block)
                if not np.isfinite(block).all():
                    raise Refusal(f"{path}: expected sound, found what are no numbers after "
                                  f"{done / file.samplerate:.1f} seconds: save it again")
                yield block.mean(axis=1), file.samplerate
    except soundfile.SoundFileError as error:
        raise Refusal(f"{path}: expected a recording (WAV, FLAC, Ogg, MP3), found a file that can't be read"
                      + (" to its end" if done else "") + ": save it again") from error
