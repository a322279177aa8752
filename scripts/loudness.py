"""How loud a mono recording is, after ITU-R BS.1770-4, and the gain that makes it as loud as wanted.

The numbers are those of audiotools' AudioSignal.loudness() (github.com/hugofloresgarcia/audiotools at 54eecf6,
audiotools/core/loudness.py): pyloudnorm's filters; a recording under half a second filled up with zeros; and a last
block filled up with zeros too, which the standard would drop. What is kept grows by 10 numbers a second.
"""

import copy
import math

import numpy as np
from scipy.signal import lfilter

BLOCK = 0.4  # seconds
STEP = 0.25  # of a block, from the start of one to the next
SHORTEST = 0.5  # seconds
FLOOR = -70.0  # LUFS: the absolute gate, and the least that is told
GATE = 10.0  # LU below the mean of what passes the absolute gate
OFFSET = -0.691  # dB: takes back what the filters add at 997 Hz
Biquad = tuple[np.ndarray, np.ndarray]


class Meter:
    """Hears a recording piece by piece, and says how loud it was until now."""

    def __init__(self, rate: int):
        """rate: samples a second."""
        self.rate = rate
        self.block, self.step = int(BLOCK * rate), int(BLOCK * rate * STEP)
        self.filters = [high_shelf(rate), high_pass(rate)]
        self.states = [np.zeros(2), np.zeros(2)]
        self.samples = 0
        self.energies: list[float] = []  # of each whole block
        self.rest = np.zeros(0)  # the weighted samples' squares from where the next block starts

    def add(self, piece: np.ndarray) -> None:
        """Hear on. piece: float32 [samples], of any length, full scale is -1 to 1; finite."""
        if not len(piece):
            return  # lfilter would return a state of arbitrary numbers
        weighted = piece.astype(np.float64)
        for number, (b, a) in enumerate(self.filters):
            weighted, self.states[number] = lfilter(b, a, weighted, zi=self.states[number])
        self.samples += len(piece)
        squares = np.concatenate([self.rest, weighted**2])
        ends = range(self.block, len(squares) + 1, self.step)
        self.energies += [self.energy(squares[end - self.block:end]) for end in ends]
        self.rest = squares[len(ends) * self.step:].copy()  # a view would keep them all

    def energy(self, squares: np.ndarray) -> float:
        """The mean square of a block, of which zeros at the end may be left out (BS.1770-4, equation 3)."""
        return float(squares.sum()) / (BLOCK * self.rate)

    def loudness(self) -> float:
        """Integrated loudness in LUFS of all that was added, at least -70. More can be added afterwards."""
        filled = copy.deepcopy(self)
        filled.add(np.zeros(max(0, int((SHORTEST - self.samples / self.rate) * self.rate)), np.float32))
        if len(filled.rest) > self.block - self.step:  # samples that no whole block holds
            filled.energies.append(self.energy(filled.rest))
        return gated(np.array(filled.energies))


def gated(energies: np.ndarray) -> float:
    """Loudness in LUFS, at least -70, of blocks' mean squares, float64 [blocks] (BS.1770-4, equations 4 to 7)."""
    loud = energies[energies > 10 ** ((FLOOR - OFFSET) / 10)]
    if not len(loud):
        return FLOOR
    loud = loud[loud > loud.mean() / 10 ** (GATE / 10)]
    return float(OFFSET + 10 * np.log10(loud.mean()))


def gain(loudness: float, target: float) -> float:
    """The factor that takes a recording from one loudness to another, both in LUFS (audiotools' normalize)."""
    return 10 ** ((target - loudness) / 20)


def high_shelf(rate: int) -> Biquad:
    """What a head adds to treble: 4 dB from 1500 Hz, Q 1/sqrt(2). Coefficients b and a, each float64 [3].

    highShelf of R. Bristow-Johnson's Audio EQ Cookbook, as in pyloudnorm's iirfilter.py.
    """
    a, w = 10 ** (4 / 40), 2 * math.pi * 1500 / rate
    cos, slope = math.cos(w), 2 * math.sqrt(a) * math.sin(w) / math.sqrt(2)
    b0 = a * ((a + 1) + (a - 1) * cos + slope)
    b1 = -2 * a * ((a - 1) + (a + 1) * cos)
    b2 = a * ((a + 1) + (a - 1) * cos - slope)
    a0 = (a + 1) - (a - 1) * cos + slope
    a1 = 2 * ((a - 1) - (a + 1) * cos)
    a2 = (a + 1) - (a - 1) * cos - slope
    return np.array([b0, b1, b2]) / a0, np.array([a0, a1, a2]) / a0


def high_pass(rate: int) -> Biquad:
    """What an ear drops of the lowest bass: 38 Hz, Q 0.5. Coefficients b and a, each float64 [3].

    HPF of the Audio EQ Cookbook, as in pyloudnorm's iirfilter.py.
    """
    w = 2 * math.pi * 38 / rate
    cos, alpha = math.cos(w), math.sin(w)  # alpha is sin(w) / (2 Q)
    return np.array([0.5, -1, 0.5]) * (1 + cos) / (1 + alpha), np.array([1 + alpha, -2 * cos, 1 - alpha]) / (1 + alpha)
