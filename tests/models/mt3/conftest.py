"""Fixtures: this model's artifacts, and the network of the golden weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.mt3 import components
from models.mt3.player import STATES
from models.mt3.weights import expected
from scripts.recipe import read
from scripts.seeded import seeded_uniform
from tests.conftest import ROOT

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def cast(tiny: Path) -> Path:
    """This model's artifacts of a finished tiny build."""
    return ROOT / "build/tiny/mt3/compose"


@pytest.fixture(scope="session")
def full_cast(seeded: Path) -> Path:
    """The same at real size."""
    return ROOT / "build/seeded/mt3/compose"


def golden_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of the golden data, float32, by the rule in its README."""
    uniform = seeded_uniform("golden-public/mt3/" + name, shape)
    if name.endswith("scale"):
        return 1 + np.float32(0.2) * uniform
    return uniform * (np.float32(0.05) if name.endswith("embedding") else np.float32(np.sqrt(3 / shape[0])))


class Network:
    """Encoder and decoder as the export builds them, of golden weights, in ONNX Runtime."""

    def __init__(self, model: str, embedding: float = 1, end: float = 1):
        """embedding, end: what the golden data multiplies the embeddings and the end's column by."""
        recipe = read(ROOT, model)
        self.sizes = recipe["sources"]["seeded"]
        arrays = {name: golden_weight(name, shape) for name, shape in expected(self.sizes).items()}
        arrays["decoder/token_embedder/embedding"] *= np.float32(embedding)
        arrays["decoder/logits_dense/kernel"][:, 1] *= np.float32(end)
        self.models = {part: build(arrays, recipe["components"][part], recipe["opset"])
                       for part, build in (("encoder", components.encoder), ("decoder", components.decoder))}
        self.sessions = {part: onnxruntime.InferenceSession(model.SerializeToString())
                         for part, model in self.models.items()}

    def step(self, mel: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The decoder's step for spectrograms, as decode.py takes it."""
        return step(self.sessions["encoder"], self.sessions["decoder"], mel)

    def taught(self, mel: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Logits [batch, time, vocabulary] after each of the tokens [batch, time]."""
        one = self.step(mel)
        return np.stack([one(tokens[:, index].astype(np.int64)) for index in range(tokens.shape[1])], axis=1)


def step(encoder: onnxruntime.InferenceSession, decoder: onnxruntime.InferenceSession,
         mel: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    listened = encoder.run(None, {"mel": mel})
    cross = dict(zip((f"cross_{state}" for state in STATES), listened))
    past = {f"past_{state}": np.zeros((len(mel), 6, 0, 64), np.float32) for state in STATES}

    def one(tokens: np.ndarray) -> np.ndarray:
        logits, *states = decoder.run(None, {"tokens": tokens, **past, **cross})
        past.update(zip(past, states))
        return logits

    return one
