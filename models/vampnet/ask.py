"""What the original answers, for reference.npz: its modules in PyTorch, and its decoding step by step; in float32, and
in float64 with the same weights.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.vampnet import inputs, sampling
from models.vampnet.weights import Arrays, codebooks, load, read
from scripts.job import progress
from scripts.reference import EXACT

LENGTHS = (1, 57, 173, 512)  # frames that a transformer is asked about
CHAINS = {"short": (2, 16, 4, 1.0, 1.0), "typical": (1, 40, 6, 0.8, 0.3)}  # batch, frames, steps, temperature, mass
SOUNDS = {"frames": (1, 60 * inputs.HOP), "odd": (2, 13 * inputs.HOP - 100), "click": (1, 441)}  # batch, samples
Answers = Iterator[tuple[str, Mapping[str, np.ndarray]]]


@torch.inference_mode()
def ask(source: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write reference.npz. Raises Refusal on a bad checkpoint."""
    codec, sizes = read(source, "codec")
    progress("asking the original: the codec")
    answers = dict(of_codec(load(codec, "codec", sizes), load(codec, "codec", sizes).double()))
    for part in inputs.WRITTEN:
        progress(f"asking the original: {part}")
        answers |= of_transformer(part, stepping(source, part, codec), stepping(source, part, codec, torch.float64))
    np.savez(out / "reference.npz", **{f"{case}/{port}": array for case, ports in answers.items()
                                       for port, array in ports.items()})


def stepping(source: Path, part: str, codec: Arrays, dtype: torch.dtype = torch.float32) -> sampling.Step:
    """The original's step: codes to logits, of that dtype."""
    arrays, sizes = read(source, part)
    network = load(arrays, part, sizes).to(dtype)
    tables = torch.from_numpy(codebooks(codec, inputs.WRITTEN[part][0])).to(dtype)
    return lambda codes: network(torch.from_numpy(codes), tables).numpy()


def of_codec(codec: torch.nn.Module, exact: torch.nn.Module) -> Answers:
    for case, (batch, samples) in SOUNDS.items():
        audio = torch.from_numpy(inputs.sounds(case, batch, samples))
        codes = codec.encode(audio)
        yield f"encoder/{case}", {"audio": audio.numpy(), "codes": codes.numpy(),
                                  "codes" + EXACT: exact.encode(audio.double()).numpy()}
        yield f"decoder/{case}", {"codes": codes.numpy(), "audio": codec.decode(codes).numpy(),
                                  "audio" + EXACT: exact.decode(codes).numpy()}


def of_transformer(part: str, step: sampling.Step, exact: sampling.Step) -> Answers:
    for time in LENGTHS:
        codes = inputs.masked(f"{part} {time}", part, 2 if time == 57 else 1, time)
        yield f"{part}/{time} frames", {"codes": codes, "logits": step(codes), "logits" + EXACT: exact(codes)}
    for case, (batch, time, steps, temperature, mass) in CHAINS.items():
        feed = inputs.sampling(f"{part} {case}", part, batch, time, steps, temperature, mass)
        controls = sampling.Controls(temperature=temperature, typical_mass=mass)
        vamped = sampling.generate(step, feed["codes"], feed["mask"], feed["uniforms"], controls)
        yield f"{part}-sampler/{case}", {**feed, "vamped": vamped}
