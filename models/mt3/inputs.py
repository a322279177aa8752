"""The sounds and tokens that a build makes by itself, to ask the original and for the bench; and MT3's fixed sizes."""

import numpy as np

from scripts.seeded import seeded_uniform

RATE = 16000  # samples a second
HOP = 128  # samples a frame
DEPTH = 512  # mel bands
SEGMENT = 256  # frames that upstream hears at once
LAYERS = 8  # of the encoder, and of the decoder
HEADS, HEAD_DIM = 6, 64  # of every attention
END = 1  # the token that ends a sequence
MOST = 1024  # tokens that a segment may have, and upstream's cache holds (TASK_FEATURE_LENGTHS in its gin files)
# Works of the bench that end where the sound is written down, which only trained weights do.
TRAINED = ("transcriber, 2 s of sound", "transcriber, 8 x 2 s of sound")


def mels(name: str, batch: int, frames: int) -> np.ndarray:
    """Spectrograms of nothing in particular, float32 [batch, frames, DEPTH], -8 to 0."""
    return np.float32(4) * seeded_uniform("mt3/mel/" + name, (batch, frames, DEPTH)) - np.float32(4)


def sounds(name: str, batch: int, frames: int) -> np.ndarray:
    """Notes in noise as 16-bit sound has them, float32 [batch, frames * HOP]."""
    noise = seeded_uniform("mt3/sound/" + name, (batch, frames * HOP)).astype(np.float64)
    time = np.arange(frames * HOP) / RATE
    pitches = 110 * 2 ** (np.arange(1, batch + 1)[:, None] * 7 / 12)
    notes = sum(np.sin(2 * np.pi * pitches * partial * time) / partial for partial in (1, 2, 3, 4))
    return (np.round((0.2 * notes * np.exp(-3 * (time % 0.5)) + 0.01 * noise) * 32767) / 32768).astype(np.float32)


def bench() -> dict[str, dict[str, np.ndarray]]:
    """What the bench feeds, by work: a segment, eight of them, one that much is to be written of, and sound."""
    from models.mt3.spectrogram import log_mel  # which takes its sizes from here

    def work(batch: int, length: int) -> dict[str, np.ndarray]:
        return {"mel": mels("bench 0", batch, SEGMENT), "length": np.array(length)}

    def heard(batch: int) -> dict[str, np.ndarray]:
        return {"mel": log_mel(sounds("bench", batch, SEGMENT)), "length": np.array(MOST)}

    return {"frontend": {"samples": sounds("bench", 1, SEGMENT)}, "encoder": {"mel": mels("bench 0", 1, SEGMENT)},
            "transcriber, 200 tokens": work(1, 200), "transcriber, 800 tokens": work(1, 800),
            "transcriber, 8 x 100 tokens": work(8, 100), **dict(zip(TRAINED, (heard(1), heard(8))))}


def tokens(name: str, batch: int, time: int, vocabulary: int) -> np.ndarray:
    """Tokens to be taught, int64 [batch, time], the first 0."""
    drawn = (seeded_uniform("mt3/tokens/" + name, (batch, time)).astype(np.float64) + 1) / 2
    told = 3 + np.floor(drawn * (vocabulary - 3)).astype(np.int64)
    told[:, 0] = 0
    return told
