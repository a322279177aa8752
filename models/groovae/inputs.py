"""The tapped rhythms and the noise that a build makes by itself: to ask the original, and for the bench.

Drums are float32 [batch, time, 27], a sixteenth note a step: nine hits (0 or 1), nine velocities
(0 to 1), nine offsets (-1 to 1, half a step early or late: an onset lies offset / 2 steps before
its step). Taps are drums with all hits on the open hi-hat and no velocities, as Magenta's
GrooveConverter makes them (magenta/models/music_vae/data.py, tapify and fixed_velocities).
"""

from typing import Dict

import numpy as np

from scripts.seeded import seeded_uniform, seeded_unit

DRUMS = 9
DEPTH = 3 * DRUMS
LATENT = 256
WINDOW = 32  # steps: the two bars of 4/4 that the model was trained on
OPEN_HI_HAT = 3  # the drum that stands for a tap
STRENGTHS = np.array([0.9, 0.15, 0.5, 0.2], np.float32)  # how likely a tap is on a quarter, and on the sixteenths after


def taps_of(hits: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Taps float32 [..., time, 27] from hits (0 or 1) and offsets (-1 to 1) of the shape [..., time]."""
    taps = np.zeros((*hits.shape, DEPTH), np.float32)
    taps[..., OPEN_HI_HAT] = hits
    taps[..., 2 * DRUMS + OPEN_HI_HAT] = hits * offsets
    return taps


def rhythms(name: str, batch: int, time: int) -> np.ndarray:
    """Taps that lie mostly on the beat and a little beside the grid."""
    drawn = seeded_unit("groovae/rhythms/" + name, (batch, time))
    likely = np.tile(STRENGTHS, -(-time // 4))[:time]
    return taps_of((drawn < likely).astype(np.float32), seeded_uniform("groovae/timing/" + name, (batch, time)))


def neutral(batch: int, time: int) -> Dict[str, np.ndarray]:
    """No noise: the mean z and, of hit and rest, the more probable."""
    return {"eps": np.zeros((batch, LATENT), np.float32), "uniforms": np.full((batch, time, DRUMS), 0.5, np.float32),
            "temperature": np.array(1, np.float32)}


def noise(name: str, batch: int, time: int, temperature: float) -> Dict[str, np.ndarray]:
    """What makes a groove one of many: eps normally distributed (Box and Muller 1958), uniforms in [0, 1)."""
    radius, angle = seeded_unit("groovae/eps/" + name, (2, batch, LATENT)).astype(np.float64)
    eps = np.sqrt(-2 * np.log(1 - radius)) * np.cos(2 * np.pi * angle)
    return {"eps": eps.astype(np.float32), "uniforms": seeded_unit("groovae/uniforms/" + name, (batch, time, DRUMS)),
            "temperature": np.array(temperature, np.float32)}


def reference() -> Dict[str, Dict[str, np.ndarray]]:
    """Feeds for the whole way by case: neutral, one groove alone, drawn, and of other lengths than two bars."""
    return {
        "neutral": dict(neutral(8, WINDOW), taps=rhythms("neutral", 8, WINDOW)),
        "alone": dict(noise("alone", 1, WINDOW, 1.0), taps=rhythms("alone", 1, WINDOW)),
        "drawn": dict(noise("drawn", 8, WINDOW, 0.8), taps=rhythms("drawn", 8, WINDOW)),
        "long": dict(noise("long", 2, 80, 1.2), taps=rhythms("long", 2, 80)),
    }


def bench() -> Dict[str, Dict[str, np.ndarray]]:
    """What the bench feeds each component: one groove of two bars."""
    feed = dict(noise("bench", 1, WINDOW, 1.0), taps=rhythms("bench", 1, WINDOW))
    eps, uniforms, temperature, taps = (feed[name] for name in ("eps", "uniforms", "temperature", "taps"))
    return {"encoder": {"taps": taps}, "decoder": {"z": eps, "uniforms": uniforms, "temperature": temperature},
            "groove": feed}
