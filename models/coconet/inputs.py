"""The pianorolls that a build makes by itself: to calibrate int8, and to ask the original.

No dataset is needed: calibration uses chord progressions drawn from a fixed stream, in
every key and with every share of hidden notes that the Gibbs chain visits; the
reference also uses the hand-set chorales of chorales.json. Rolls are float32
[batch, time, 46, 4]: one-hot over pitch (0 is MIDI 36), soprano, alto, tenor, bass.
"""

import json
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import numpy as np

from scripts.seeded import seeded_unit

LOWEST, PITCHES, VOICES = 36, 46, 4
RANGES = ((60, 81), (55, 74), (48, 67), (40, 60))  # of the voices, soprano first
SCALE = (0, 2, 4, 5, 7, 9, 11)
DEGREES = (0, 0, 3, 4, 4, 5, 1)  # tonic and dominant twice as often


def to_rolls(pitches: np.ndarray) -> np.ndarray:
    """One-hot float32 [batch, time, 46, 4] from MIDI pitches [batch, time, 4]."""
    return np.eye(PITCHES, dtype=np.float32)[pitches - LOWEST].transpose(0, 1, 3, 2)


def progressions(name: str, batch: int, time: int) -> np.ndarray:
    """MIDI pitches [batch, time, 4]: a triad each quarter note, each voice near its last note."""
    pitches = np.zeros((batch, time, VOICES), dtype=np.int64)
    draws = seeded_unit("coconet/progressions/" + name, (batch, time, 2 + VOICES))
    for piece in range(batch):
        key = int(draws[piece, 0, 0] * 12)
        sung = [(low + high) // 2 for low, high in RANGES]
        for step in range(time):
            if step % 4 == 0:
                degree = DEGREES[int(draws[piece, step, 1] * len(DEGREES))]
                triad = {(key + SCALE[(degree + third) % 7]) % 12 for third in (0, 2, 4)}
                for voice, (low, high) in enumerate(RANGES):
                    near = sorted((p for p in range(low, high + 1) if p % 12 in triad),
                                  key=lambda pitch: (abs(pitch - sung[voice]), pitch))
                    sung[voice] = near[int(draws[piece, step, 2 + voice] * 3)]
            pitches[piece, step] = sung
    return pitches


def chorales(time: int) -> np.ndarray:
    """MIDI pitches [batch, time, 4] of the hand-set chorales, cut into pieces of the given length."""
    pieces: List[np.ndarray] = []
    for chorale in json.loads((Path(__file__).parent / "chorales.json").read_text(encoding="utf-8")).values():
        voices = np.stack([np.repeat(chorale[voice], np.multiply(4, chorale["quarters"]))
                           for voice in ("soprano", "alto", "tenor", "bass")], axis=1)
        pieces += [voices[start:start + time] for start in range(0, len(voices) - time + 1, time)]
    return np.stack(pieces)


def hide_lower_voices(rolls: np.ndarray) -> np.ndarray:
    """The masks [batch, time, 46, 4] of a harmonization: all voices hidden but the soprano."""
    masks = np.ones_like(rolls)
    masks[..., 0] = 0
    return masks


def hide_some(rolls: np.ndarray, name: str) -> np.ndarray:
    """Masks [batch, time, 46, 4] as inside the Gibbs chain: in each piece another share is hidden."""
    batch, time = rolls.shape[:2]
    share = np.linspace(0.1, 0.9, batch, dtype=np.float32)[:, None, None, None]
    hidden = seeded_unit("coconet/masks/" + name, (batch, time, 1, VOICES)) < share
    return np.broadcast_to(hidden, rolls.shape).astype(np.float32)


def calibration(component: str) -> Iterator[Dict[str, np.ndarray]]:
    """Feeds for the denoiser, two pieces of 32 sixteenths at a time."""
    assert component == "denoiser", component
    rolls = to_rolls(progressions("calibration", 16, 32))
    masks = hide_some(rolls, "calibration")
    masks[::4] = hide_lower_voices(rolls[::4])
    for start in range(0, len(rolls), 2):
        yield {"pianorolls": rolls[start:start + 2], "masks": masks[start:start + 2]}


def reference() -> Dict[str, Dict[str, np.ndarray]]:
    """Feeds for the denoiser by case: two shapes of made rolls, and the chorales twice over."""
    made, short, sung = (to_rolls(p) for p in (
        progressions("reference", 2, 32), progressions("short", 3, 20), chorales(32)))
    twice = np.concatenate([sung, sung])
    return {
        "made": {"pianorolls": made, "masks": hide_lower_voices(made)},
        "short": {"pianorolls": short, "masks": hide_some(short, "short")},
        "chorales": {
            "pianorolls": twice,
            "masks": np.concatenate([hide_lower_voices(sung), hide_some(sung, "chorales")]),
        },
    }


def chains() -> Dict[str, Tuple[np.ndarray, int]]:
    """For the harmonizer, by case: MIDI pitches [batch, time, 4], and the Gibbs steps after the first guess."""
    return {"guess": (chorales(32), 0), "chain": (progressions("chain", 2, 24), 12)}


def bench() -> Dict[str, Dict[str, np.ndarray]]:
    """What the bench feeds each component: one melody of 32 sixteenths; 4 Gibbs steps."""
    rolls, steps = to_rolls(progressions("bench", 1, 32)), 4
    harmonization = {"pianorolls": rolls, "masks": hide_lower_voices(rolls)}
    return {
        "denoiser": harmonization,
        "harmonizer": dict(
            harmonization,
            uniforms=seeded_unit("coconet/bench", (steps + 1, 2, 1, 32, VOICES)),
            temperature=np.array(1, np.float32),
            steps=np.array(steps, np.int64),
        ),
    }
