"""Recordings of any length through VampNet's samplers, which write a few seconds at a time.

After coarse_vamp and coarse_to_fine in vampnet/interface.py, which they equal with an overlap of 0. There each chunk is
written on its own. With an overlap each begins with the last steps of the one before, given as they were written, and
goes on from them: nothing has to be stitched.

Codes are int64 [codebooks, time]; a mask is int64 of the same shape, 1 where a code is written anew and 0 where it is
kept.
"""

from collections.abc import Callable

import numpy as np

from models.vampnet.inputs import COARSE

COARSE_CHUNK = 575  # frames: 10 seconds
FINE_CHUNK = 173  # 3 seconds
COARSE_OVERLAP = 144  # 2.5 seconds
FINE_OVERLAP = 43  # 0.75 seconds

# Codes and mask int64 [1, codebooks, time], and the number of the chunk → the codes with the masked ones written
Write = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def coarse(codes: np.ndarray, mask: np.ndarray, write: Write, overlap: int = COARSE_OVERLAP) -> np.ndarray:
    """The codes of 14 codebooks with the masked ones of the first 4 written, but for those that pinned keeps.

    write: is given the first 4 codebooks, 575 steps at a time; the last time may be fewer.
    """
    vamped = codes.copy()
    vamped[:COARSE] = chunked(codes[:COARSE], pinned(mask[:COARSE], overlap), write, COARSE_CHUNK, overlap)
    return vamped


def fine(codes: np.ndarray, mask: np.ndarray, write: Write, overlap: int = FINE_OVERLAP) -> np.ndarray:
    """The codes of 14 codebooks with the masked ones of the last 10 written; the first 4 condition.

    write: is given all codebooks, 173 steps each time; the last are filled up with code 0, to be written.
    """
    time = codes.shape[1]
    filling = ((0, 0), (0, spans(time, FINE_CHUNK, overlap)[-1][0] + FINE_CHUNK - time))
    conditioned = np.pad(mask, filling, constant_values=1)
    conditioned[:COARSE] = 0
    return chunked(np.pad(codes, filling), conditioned, write, FINE_CHUNK, overlap)[:, :time]


def chunked(codes: np.ndarray, mask: np.ndarray, write: Write, length: int, overlap: int) -> np.ndarray:
    """The codes as they are once each chunk is written after the other."""
    written = codes.copy()
    for number, (start, end) in enumerate(spans(codes.shape[1], length, overlap)):
        anew = mask[:, start:end].copy()
        if number:
            anew[:, :overlap] = 0
        written[:, start:end] = write(written[None, :, start:end], anew[None], number)[0]
    return written


def pinned(mask: np.ndarray, overlap: int = COARSE_OVERLAP) -> np.ndarray:
    """The coarse codebooks' mask with the ends kept, so that the music goes on from what was there.

    As in coarse_vamp, the first and the last step of each chunk that has any place to keep; a chunk that is masked
    throughout stays so. With an overlap a chunk goes on from the one before: only the whole's two ends are kept.
    """
    pins, time = mask.copy(), mask.shape[1]
    for start, end in spans(time, COARSE_CHUNK, overlap):
        if not mask[:, start:end].all():
            ends = {start, end - 1} if overlap == 0 else {start, end - 1} & {0, time - 1}
            pins[:, list(ends)] = 0
    return pins


def spans(time: int, length: int, overlap: int) -> list[tuple[int, int]]:
    """Where each chunk starts and ends: the overlap before the end of the one before. At least one, perhaps short."""
    return [(start, min(start + length, time)) for start in range(0, max(1, time - overlap), length - overlap)]
