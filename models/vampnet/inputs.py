"""The sounds and codes that a build makes by itself, for the original and for the bench; and VampNet's fixed sizes."""

import numpy as np

from scripts.seeded import seeded_unit

RATE = 44100  # samples a second
HOP = 768  # samples a frame
CODEBOOKS = 14
COARSE = 4  # of them are the coarse transformer's; c2f writes the others
VOCABULARY = 1024  # codes of a codebook
LATENT = 8  # numbers a code stands for
MASK = VOCABULARY  # stands for a code that is to be written
SHARE = 0.6  # of the codes are masked where a transformer is asked about one step
WRITTEN = {"coarse": (COARSE, COARSE), "c2f": (CODEBOOKS, CODEBOOKS - COARSE)}  # codebooks in, and written


def sounds(name: str, batch: int, samples: int) -> np.ndarray:
    """Notes in noise, as loud as VampNet hears music, float32 [batch, samples]."""
    noise = seeded_unit(f"vampnet/sound/{name}", (batch, samples)).astype(np.float64) - 0.5
    time = np.arange(samples) / RATE
    pitches = 110 * 2 ** (np.arange(1, batch + 1)[:, None] * 5 / 12)
    notes = sum(np.sin(2 * np.pi * pitches * partial * time) / partial for partial in (1, 2, 3, 5))
    return (np.round((0.1 * notes * np.exp(-3 * (time % 0.5)) + 0.02 * noise) * 32767) / 32768).astype(np.float32)


def codes(name: str, batch: int, codebooks: int, time: int) -> np.ndarray:
    """Codes of nothing in particular, int64 [batch, codebooks, time]."""
    drawn = seeded_unit(f"vampnet/codes/{name}", (batch, codebooks, time))
    return np.floor(drawn.astype(np.float64) * VOCABULARY).astype(np.int64)


def masks(name: str, part: str, batch: int, time: int) -> np.ndarray:
    """A mask for a transformer's codes, int64 [batch, codebooks, time]: 1 is written anew, SHARE of what it writes."""
    codebooks, written = WRITTEN[part]
    mask = (seeded_unit(f"vampnet/mask/{name}", (batch, codebooks, time)) < SHARE).astype(np.int64)
    mask[:, :codebooks - written] = 0
    return mask


def masked(name: str, part: str, batch: int, time: int) -> np.ndarray:
    """Codes as a transformer's step gets them, int64 [batch, codebooks, time]."""
    return np.where(masks(name, part, batch, time) == 1, MASK, codes(name, batch, WRITTEN[part][0], time))


def sampling(name: str, part: str, batch: int, time: int, steps: int, temperature: float = 1.0,
             typical_mass: float = 1.0) -> dict[str, np.ndarray]:
    """What a sampler is fed, by its ports."""
    return {"codes": codes(name, batch, WRITTEN[part][0], time), "mask": masks(name, part, batch, time),
            "uniforms": seeded_unit(f"vampnet/uniforms/{name}", (steps, 2, batch, WRITTEN[part][1], time)),
            "steps": np.array(steps), "temperature": np.array(temperature, np.float32),
            "mask_temperature": np.array(10.5, np.float32), "sample_cutoff": np.array(1, np.float32),
            "typical_mass": np.array(typical_mass, np.float32), "typical_min_tokens": np.array(64)}


def bench() -> dict[str, dict[str, np.ndarray]]:
    """What the bench feeds, by work: a second of sound, about 2 and 10 seconds of codes, and a vamp of 3 seconds."""
    second = -(-RATE // HOP)
    return {"encoder": {"audio": sounds("bench", 1, RATE)}, "decoder": {"codes": codes("bench", 1, CODEBOOKS, second)},
            **{f"{part}, {time} frames": {"codes": masked(f"bench {time}", part, 1, time)}
               for part in WRITTEN for time in (100, 575)},
            "coarse-sampler, 3 s": sampling("bench", "coarse", 1, 173, 12),
            "c2f-sampler, 3 s": sampling("bench", "c2f", 1, 173, 2)}
