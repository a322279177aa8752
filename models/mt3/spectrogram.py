"""The log-mel spectrogram that MT3 hears, in float64.

After compute_logmel in mt3/spectrograms.py and mt3/spectral_ops.py: of 16 kHz, a frame of 2048 samples every 128,
zeros after the end of the segment, a periodic Hann window, magnitudes, 512 mel bands of HTK's scale from 20 to
7600 Hz (tf.signal.linear_to_mel_weight_matrix), and the logarithm, of 1e-5 where there is nothing.
"""

import numpy as np

from models.mt3.inputs import DEPTH, HOP, RATE

FRAME = 2048
LOWEST, HIGHEST = 20.0, 7600.0  # Hz
NOTHING = 1e-5


def window() -> np.ndarray:
    """Hann's, periodic, float64 [FRAME]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)


def mel_matrix() -> np.ndarray:
    """The share of each frequency in each band, float64 [FRAME / 2 + 1, DEPTH]: triangles on the mel scale, side by
    side; some of the lowest are narrower than a frequency's step and empty.
    """
    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(LOWEST), mel(HIGHEST), DEPTH + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bins = mel(np.arange(1, FRAME // 2 + 1) * (RATE / FRAME))[:, None]
    triangles = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre))
    return np.vstack([np.zeros(DEPTH), np.maximum(0.0, triangles)])  # the constant part of the sound counts nowhere


def log_mel(samples: np.ndarray) -> np.ndarray:
    """mel float32 [batch, samples / 128, 512] of samples [batch, samples], computed in float64."""
    padded = np.pad(samples.astype(np.float64), ((0, 0), (0, FRAME - HOP)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME, axis=1)[:, ::HOP]
    mel = np.abs(np.fft.rfft(frames * window())) @ mel_matrix()
    return np.log(np.where(mel <= 0, NOTHING, mel)).astype(np.float32)
