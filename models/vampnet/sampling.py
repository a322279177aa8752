"""A step of VampNet's masked decoding, in NumPy: what the samplers' graphs do in a loop (compose.py).

After VampNet.generate, sample_from_logits, mask_by_random_topk and typical_filter in vampnet/modules/transformer.py,
and _gamma in vampnet/mask.py. All masked codes are drawn at once; those that were drawn with the least confidence are
masked again, fewer at each step, along a cosine. Unlike there, noise is given as uniforms: one chooses the code, one
makes the Gumbel noise on its confidence; and typical filtering filters, where upstream drops its result. As there, a
batch shares one schedule: the masked codes of all its items are counted together.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from models.vampnet.inputs import MASK

SMALLEST = np.float32(1e-20)  # of the uniforms that become Gumbel noise (gumbel_noise_like)


class Controls(NamedTuple):
    """What a user can turn; upstream's defaults."""

    temperature: float = 1.0  # of the codes; at 0 and below as at 1, as upstream has it
    mask_temperature: float = 10.5  # of the confidence
    sample_cutoff: float = 1.0  # the share of the steps after which the likeliest code is taken instead
    typical_mass: float = 1.0  # below 1, only typical codes that make up this probability may come
    typical_min_tokens: int = 64  # that may come in any case


Step = Callable[[np.ndarray], np.ndarray]  # codes [batch, codebooks, time] → logits [batch, written, time, vocabulary]


def generate(step: Step, codes: np.ndarray, mask: np.ndarray, uniforms: np.ndarray, controls: Controls) -> np.ndarray:
    """The codes int64 [batch, codebooks, time] with the masked ones written, in as many steps as there are uniforms.

    mask: 1 where a code is to be written, of the shape of codes. uniforms: float32 [steps, 2, batch, written, time],
    0 to 1; the last codebooks are those that are written, those before them condition.
    """
    kept = codes.shape[1] - uniforms.shape[3]
    current = np.where(mask == 1, MASK, codes)
    masked_at_start = int((current == MASK).sum())
    for number, noise in enumerate(uniforms):
        written, confidence = draw(step(current), current[:, kept:], noise, number, len(uniforms), controls)
        again = masked_again(confidence, number, len(uniforms), masked_at_start)
        current = np.concatenate([current[:, :kept], np.where(again, MASK, written)], axis=1)
    return current


def feed(codes: np.ndarray, mask: np.ndarray, uniforms: np.ndarray, controls: Controls) -> dict[str, np.ndarray]:
    """What a sampler's graph is fed to do the same as generate, by its ports."""
    return {"codes": codes, "mask": mask, "uniforms": uniforms, "steps": np.array(len(uniforms)),
            "temperature": np.array(controls.temperature, np.float32),
            "mask_temperature": np.array(controls.mask_temperature, np.float32),
            "sample_cutoff": np.array(controls.sample_cutoff, np.float32),
            "typical_mass": np.array(controls.typical_mass, np.float32),
            "typical_min_tokens": np.array(controls.typical_min_tokens)}


def draw(logits: np.ndarray, current: np.ndarray, noise: np.ndarray, number: int, steps: int, controls: Controls
         ) -> tuple[np.ndarray, np.ndarray]:
    """The codes of a step [batch, written, time], and how sure each is; infinitely where it was not masked."""
    if controls.typical_mass < 1:
        logits = typical(logits, controls.typical_mass, controls.typical_min_tokens)
    heat = np.float32(controls.temperature if controls.temperature > 0 else 1)
    scaled = logits / heat
    scaled -= scaled.max(-1, keepdims=True)
    cumulative = np.exp(scaled).cumsum(-1, dtype=np.float32)
    total = cumulative[..., -1:]
    drawn = (cumulative <= noise[0][..., None] * total).sum(-1)
    code = drawn if np.float32(number / steps) <= np.float32(controls.sample_cutoff) else logits.argmax(-1)
    logarithm = np.take_along_axis(scaled, code[..., None], -1)[..., 0] - np.log(total[..., 0])
    gumbel = -np.log(-np.log(np.maximum(noise[1], SMALLEST)))
    spread = np.float32(controls.mask_temperature) * (1 - np.float32((number + 1) / steps))
    masked = current == MASK
    return np.where(masked, code, current), np.where(masked, logarithm + spread * gumbel, np.float32(np.inf))


def masked_again(confidence: np.ndarray, number: int, steps: int, masked_at_start: int) -> np.ndarray:
    """Which of the codes of a step are masked again, bool of confidence's shape: those below the one at the cut-off."""
    batch = len(confidence)
    count = scheduled(number, steps, masked_at_start)
    counts = np.full(batch, count)
    if number + 1 < steps:
        masked = np.isfinite(confidence).reshape(batch, -1).sum(1)
        counts = np.maximum(1, np.minimum(masked - 1, count))
    ordered = np.sort(confidence.reshape(batch, -1), axis=1)
    return confidence < ordered[np.arange(batch), counts].reshape(batch, 1, 1)


def scheduled(number: int, steps: int, masked_at_start: int) -> int:
    """How many codes are to be masked after a step, all items of the batch together; 0 after the last.

    In float32 as upstream, whose rounding decides at two thirds of the way.
    """
    share = np.float32((number + 1) / steps)
    gamma = np.float32(np.cos(np.float64(share * np.float32(np.pi) / 2)))
    return int(np.floor(np.clip(gamma, np.float32(1e-10), np.float32(1)) * np.float32(masked_at_start)))


def typical(logits: np.ndarray, mass: float, least: int) -> np.ndarray:
    """The logits with all but typical codes at -infinity (C. Meister et al., "Locally Typical Sampling", 2022).

    A code is the more typical, the nearer its information is to the entropy: the most typical ones stay that make up
    the mass, and `least` of them in any case.
    """
    shifted = logits - logits.max(-1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    probabilities = np.exp(logarithms)
    entropy = -(logarithms * probabilities).sum(-1, keepdims=True)
    distance = np.abs(-logarithms - entropy)
    order = np.argsort(distance, -1, kind="stable")
    ordered = np.take_along_axis(distance, order, -1)
    before = np.take_along_axis(probabilities, order, -1).cumsum(-1) < np.float32(mass)
    last = np.minimum(before.sum(-1, keepdims=True), logits.shape[-1] - 1)
    farthest = np.maximum(np.take_along_axis(ordered, last, -1), ordered[..., max(least, 1) - 1:max(least, 1)])
    return np.where(distance > farthest, np.float32(-np.inf), logits)
