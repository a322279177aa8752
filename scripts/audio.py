"""Recordings, read by soundfile and resampled by soxr, piece by piece: hours of sound never lie in memory at once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from scripts.job import Refusal

BLOCK = 1 << 16  # frames read at a time
SILENCE = 1e-4  # of full scale
CANCELLED = 1e-3  # of the channels' power is left where they cancel each other out
ENOUGH = 30  # seconds of channels that are looked at for that
READ = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".opus")
UNKNOWN = (0, 0xFFFFFFFF, 0xFFFFFFF0, 0x7FFFFFFF)  # sizes that programs write which don't know them yet


def duration(path: Path) -> float:
    """Seconds that a recording lasts. Raises Refusal where it isn't one, is empty, silent throughout, or where its
    channels cancel each other out when they are mixed."""
    if not path.is_file():
        raise Refusal(f"IN={path if path.name else ''}: expected a recording (WAV, FLAC, Ogg, MP3), found none: name a "
                      "file")
    seconds, loudest, mixed, apart = 0.0, 0.0, 0.0, 0.0
    for block, rate in blocks(path):
        seconds += len(block) / rate
        loudest = max(loudest, float(np.abs(block).max(initial=0)))
        mixed += float(np.square(block.mean(axis=1)).sum())
        apart += float(np.square(block).sum()) / block.shape[1]
        if loudest >= SILENCE and (block.shape[1] == 1 or seconds > ENOUGH):
            break
    if loudest < SILENCE:
        raise Refusal(f"{path}: expected sound, found " + (f"{seconds:.1f} seconds of silence: record it again, louder"
                                                           if seconds else nothing(path)))
    if mixed < CANCELLED * apart:
        raise Refusal(f"{path}: expected channels that can be mixed, found some that cancel each other out, as where "
                      "one is the other turned over: save one of them as mono")
    return soundfile.info(path).duration


def nothing(path: Path) -> str:
    """Why a recording holds no samples, with the remedy."""
    told, there = promised(path)
    if told == 0 and there:
        return (f"none in its header and {there} bytes after it, as where a recorder was cut off: open it as raw sound "
                "and save it again")
    return "an empty recording: record it again"


def remarks(path: Path) -> list[str]:
    """What a recording lacks of what it says that it holds, a sentence each."""
    told, there = promised(path)
    if not there or told - there <= 1 or told in UNKNOWN:  # a byte may fill up
        return []
    return [f"{path}: cut off: its header tells of {told:,} bytes of sound, and {there:,} are there"]


def promised(path: Path) -> tuple[int, int]:
    """How many bytes of samples a WAV says that it holds, and how many come after that; 0 and 0 of other files."""
    with path.open("rb") as file:
        if (head := file.read(12))[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0, 0
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return size, path.stat().st_size - file.tell()
            file.seek(size + size % 2, 1)
    return 0, 0


def read(path: Path, rate: int) -> Iterator[np.ndarray]:
    """A recording's channels mixed into one, float32 -1 to 1 at `rate` samples a second, in pieces of any length.

    Raises Refusal where it can't be read to its end, or holds what are no numbers.
    """
    stream = None
    for block, found in blocks(path):
        stream = stream or soxr.ResampleStream(found, rate, 1, dtype="float32")
        yield stream.resample_chunk(block.mean(axis=1))
    if stream:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def blocks(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """The samples as they are, float32 [samples, channels], a block after another, each with the samples a second."""
    done = 0
    try:
        with soundfile.SoundFile(path) as file:
            for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
                numbers = np.isfinite(block).all(axis=1)
                if not numbers.all():
                    raise Refusal(f"{path}: expected sound, found what are no numbers after "
                                  f"{(done + numbers.argmin()) / file.samplerate:.2f} seconds: save it again")
                done += len(block)
                yield block, file.samplerate
    except soundfile.SoundFileError as error:
        again = ("save it again" if path.suffix.lower() in READ
                 else f"convert it, for instance with ffmpeg -i {path.name} {path.stem}.wav")
        raise Refusal(f"{path}: expected a recording (WAV, FLAC, Ogg, MP3), found a file that can't be read"
                      + (" to its end" if done else "") + f": {again}") from error
