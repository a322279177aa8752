"""What is kept of the music and what is written anew: VampNet's mask controls (mask.py in vampnet).

A mask is int64 [codebooks, time]: 1 is written anew, 0 is kept. A step is one frame of the codec. Some controls are
alike in each codebook, and come as int64 [time]. All chance comes in as Draws, so that equal draws give equal masks.
"""

from typing import NamedTuple

import numpy as np

from scripts.job import Refusal
from scripts.seeded import seeded_unit


class Draws(NamedTuple):
    roll: int  # steps that the prompt is moved by, 0 to below its period; 0 where there is no prompt
    dropped: np.ndarray  # int64 [int(time * dropout)]: steps that dropout hits, some perhaps more than once
    uniforms: np.ndarray  # float32 [codebooks, time], in [0, 1): a place is masked where it is below the intensity


def draw(seed: int, codebooks: int, time: int, periodic_prompt: int, dropout: float) -> Draws:
    """Draws for build; another seed, another mask. Each of the three has a stream to itself.

    Raises Refusal on a period below 0 and on a dropout outside of 0 to 1.
    """
    check_period(periodic_prompt)
    check_dropout(dropout)
    stream = f"vampnet/mask/{seed}/"
    # A float32 draw just below 1 could be rounded up to the bound itself; in float64 none is.
    roll = int(seeded_unit(stream + "roll", ()).astype(np.float64) * periodic_prompt)
    dropped = seeded_unit(stream + "dropped", (int(time * dropout),)).astype(np.float64) * time
    return Draws(roll, dropped.astype(np.int64), seeded_unit(stream + "uniforms", (codebooks, time)))


def build(codebooks: int, time: int, *, periodic_prompt: int = 7, periodic_prompt_width: int = 1,
          upper_codebook_mask: int = 3, prefix: int = 0, suffix: int = 0, dropout: float = 0.0,
          rand_mask_intensity: float = 1.0, ncc: int = 0, draws: Draws) -> np.ndarray:
    """The mask of all controls together, in the order of build_mask in vampnet/interface.py: the last one wins.

    periodic_prompt, periodic_prompt_width: each how many steps some are kept, and how many; a period of 0 keeps none.
    upper_codebook_mask: the first codebook that is masked throughout, whatever the others say.
    prefix, suffix: steps that are kept at the start and at the end.
    dropout: the share of steps that draws.dropped masks after all.
    rand_mask_intensity: the share of what isn't kept otherwise that is masked.
    ncc: the first codebooks that are kept throughout.
    draws: made by draw for the same codebooks, time, periodic_prompt and dropout.
    Returns int64 [codebooks, time]. Raises Refusal on a value out of its range.
    """
    check_period(periodic_prompt)
    check("periodic_prompt_width", periodic_prompt_width, 1, np.inf, "1 keeps single steps")
    check("UPPER", upper_codebook_mask, 0, codebooks, f"{codebooks} leaves all to the other controls")
    check("PREFIX", prefix, 0, np.inf, "0 keeps nothing of the start")
    check("SUFFIX", suffix, 0, np.inf, "0 keeps nothing of the end")
    check_dropout(dropout)
    check("rand_mask_intensity", rand_mask_intensity, 0, 1, "1 masks all that isn't kept otherwise")
    check("ncc", ncc, 0, codebooks, "0 keeps no codebook throughout")

    mask = at_random(draws.uniforms, rand_mask_intensity)
    mask = mask & inpaint(time, prefix, suffix) & periodic(time, periodic_prompt, periodic_prompt_width, draws.roll)
    mask = drop(mask, draws.dropped)
    mask = keep_codebooks(mask, ncc)
    return mask_codebooks(mask, upper_codebook_mask)


def at_random(uniforms: np.ndarray, intensity: float) -> np.ndarray:
    """int64 of the uniforms' shape: masked where they are below the intensity, so never at 0 and always at 1.

    linear_random in mask.py.
    """
    return (uniforms < np.float32(intensity)).astype(np.int64)


def inpaint(time: int, prefix: int, suffix: int) -> np.ndarray:
    """int64 [time]: masked between prefix and suffix, which may cover all; inpaint in mask.py."""
    steps = np.arange(time)
    return ((steps >= prefix) & (steps < time - suffix)).astype(np.int64)


def periodic(time: int, period: int, width: int, roll: int) -> np.ndarray:
    """int64 [time]: kept around each multiple of the period, then rolled to the right, the end coming in at the start.

    periodic_mask in mask.py: width // 2 steps on both sides are kept, so an even width keeps as much as the next odd
    one; of multiples from time on nothing is seen. A period of 0 masks all.
    """
    if period == 0:
        return np.ones(time, np.int64)
    steps = np.arange(time)
    since, until = steps % period, -steps % period
    kept = (since <= width // 2) | ((until <= width // 2) & (steps + until < time))
    return np.roll((~kept).astype(np.int64), roll)


def drop(mask: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """The mask with the dropped steps masked in every codebook, prompt or not; dropout in mask.py."""
    mask = mask.copy()
    mask[:, dropped] = 1
    return mask


def keep_codebooks(mask: np.ndarray, count: int) -> np.ndarray:
    """The mask with the first codebooks kept throughout; codebook_unmask in mask.py."""
    mask = mask.copy()
    mask[:count] = 0
    return mask


def mask_codebooks(mask: np.ndarray, first: int) -> np.ndarray:
    """The mask with the codebooks from the given one on masked throughout; codebook_mask in mask.py."""
    mask = mask.copy()
    mask[first:] = 1
    return mask


def check_period(period: int) -> None:
    check("PERIODIC", period, 0, np.inf, "0 gives no prompt")


def check_dropout(share: float) -> None:
    check("DROPOUT", share, 0, 1, "0 drops nothing")


def check(name: str, value: float, least: float, most: float, remedy: str) -> None:
    """Raises Refusal where the value isn't from least to most; NaN never is."""
    if not least <= value <= most:
        expected = f"{least} or more" if most == np.inf else f"{least} to {most}"
        raise Refusal(f"{name}={value}: expected {expected}, found {value}: {remedy}")
