"""What artifacts of one variant do together, for the stage verify: sessions by component, arrays by port."""

from collections.abc import Mapping

import numpy as np
from onnxruntime import InferenceSession

from models.vampnet import sampling

Sessions, Arrays = Mapping[str, InferenceSession], Mapping[str, np.ndarray]


def sampler(part: str, sessions: Sessions, feed: Arrays) -> Arrays:
    """What a sampler's graph does, its loop in Python."""
    def step(codes: np.ndarray) -> np.ndarray:
        return sessions[part].run(["logits"], {"codes": codes})[0]

    controls = sampling.Controls(*(feed[name].item() for name in sampling.Controls._fields))
    return {"vamped": sampling.generate(step, feed["codes"], feed["mask"], feed["uniforms"], controls)}


def coarse_sampler(sessions: Sessions, feed: Arrays) -> Arrays:
    return sampler("coarse", sessions, feed)


def c2f_sampler(sessions: Sessions, feed: Arrays) -> Arrays:
    return sampler("c2f", sessions, feed)
