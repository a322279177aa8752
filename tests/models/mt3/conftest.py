"""Fixtures: this model's artifacts, and the network of the golden weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.mt3 import components
from models.mt3.notes import Note
from models.mt3.player import stepping
from scripts.recipe import read
from tests.conftest import ROOT, exact_session, made
from tests.models.mt3 import music
from tests.models.mt3.golden_weights import golden_arrays

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def cast(tiny: Path) -> Path:
    """This model's artifacts of a finished tiny build."""
    return ROOT / "build/tiny/mt3/compose"


@pytest.fixture(scope="session")
def full_cast(seeded: Path) -> Path:
    """The same at real size."""
    return ROOT / "build/seeded/mt3/compose"


@pytest.fixture(scope="session")
def released(golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts that a user with the authors' files makes: none misses a gate."""
    given = tmp_path_factory.mktemp("given")
    (given / "mt3").symlink_to((golden / "mt3/released").resolve())
    made("mt3", "WEIGHTS=released", f"SOURCES={given}")
    return ROOT / "build/released/mt3/compose"


@pytest.fixture(scope="session")
def played(golden) -> dict[str, list[Note]]:
    """The notes of every piece that there is a synthesizer for."""
    pieces = music.pieces(golden / "data/Jsb16thSeparated.npz")
    if not shutil.which("fluidsynth") or not music.FONT.is_file():
        pytest.skip("NO FLUIDSYNTH: install fluidsynth and fluidr3mono-gm-soundfont")
    return pieces


@pytest.fixture(scope="module")
def scores(heard, played) -> music.Table:
    """The means, which count, of what a module heard."""
    tables = music.scores_of(heard, played)
    print(music.report(tables, played))
    return music.mean(tables.values())


class Network:
    """Encoder and decoder as the export builds them, of golden weights, in ONNX Runtime."""

    def __init__(self, model: str, embedding: float = 1, end: float = 1):
        """embedding, end: what the golden data multiplies the embeddings and the end's column by."""
        recipe = read(ROOT, model)
        self.sizes = recipe["sources"]["seeded"]
        arrays = golden_arrays(self.sizes, embedding, end)
        self.models = {part: build(arrays, recipe["components"][part], recipe["opset"])
                       for part, build in (("encoder", components.encoder), ("decoder", components.decoder))}
        self.sessions = {part: exact_session(model.SerializeToString())
                         for part, model in self.models.items()}

    def step(self, mel: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The decoder's step for spectrograms, as decode.py takes it."""
        return stepping(self.sessions["encoder"], self.sessions["decoder"], mel)

    def taught(self, mel: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Logits [batch, time, vocabulary] after each of the tokens [batch, time]."""
        one = self.step(mel)
        return np.stack([one(tokens[:, index].astype(np.int64)) for index in range(tokens.shape[1])], axis=1)
