"""The grid through the onsets of a recording.

How well a period fits onsets is told by the length of the mean of their phases as unit vectors
(vector strength; K. V. Mardia, P. E. Jupp, Directional Statistics, 2000): 1 where all lie on one grid.
"""

import numpy as np

TEMPOS = np.arange(70, 180, 0.1)  # quarter notes a minute
USUAL, SPREAD = 110, 0.5  # the tempo that is likeliest, and its standard deviation in octaves
BEAT = 0.5  # how much a fit of the quarters counts, besides that of the sixteenths


def strength_of(times: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """How well each period, in seconds, fits the times: 0 to 1."""
    return np.abs(np.exp(2j * np.pi * times[:, None] / periods).mean(axis=0))


def estimate_tempo(times: np.ndarray) -> float:
    """Quarter notes a minute: those whose sixteenths, and quarters, fit the times best, usual ones preferred."""
    sixteenths = 15 / TEMPOS
    fit = strength_of(times, sixteenths) + BEAT * strength_of(times, 4 * sixteenths)
    likely = np.exp(-0.5 * (np.log2(TEMPOS / USUAL) / SPREAD) ** 2)
    return float(TEMPOS[np.argmax(fit * likely)])


def on_grid(times: np.ndarray, tempo: float) -> np.ndarray:
    """The times in sixteenths, the first near 0, all shifted by half of one at most, so as to lie near the grid."""
    steps = (times - times[0]) * tempo / 15
    return steps - np.angle(np.exp(2j * np.pi * steps).mean()) / (2 * np.pi)
