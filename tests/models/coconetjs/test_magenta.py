"""The judge of the edition for browsers: magenta-js itself, on weights served as they are published."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.coconet import inputs
from models.coconetjs.export import export
from scripts import recipe
from tests.conftest import ROOT, made, npm_installed, run

HERE = Path(__file__).resolve().parent
MOST = 1e-5  # of probabilities
TOY = {"numLayers": 21, "numFilters": 16}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *told):
        pass


def predicted(weights: Path, feed: dict[str, np.ndarray], spec: dict[str, int]) -> np.ndarray:
    """Probabilities [batch, time, 46, 4] as magenta-js' Coconet predicts them."""
    installed = npm_installed(HERE, "magenta-js")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=weights)) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        asked = json.dumps({"spec": spec, **{name: array.tolist() for name, array in feed.items()}})
        done = run("node", HERE / "magenta.mjs", installed, f"http://127.0.0.1:{host.server_port}", told=asked)
        host.shutdown()
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1])["predictions"], np.float32)


def cast(weights: Path, out: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The same by our graph."""
    export(weights, out, recipe.read(ROOT, "coconetjs"))
    session = onnxruntime.InferenceSession(out / "denoiser.onnx", providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], feed)[0]


def test_the_toy_answers_as_magenta_js_does(stand_in, tmp_path):
    feed = inputs.reference()["short"]
    assert np.abs(predicted(stand_in, feed, TOY) - cast(stand_in, tmp_path, feed)).max() <= MOST


def test_the_whole_network_answers_as_magenta_js_does(tmp_path):
    made("fetch", "MODELS=coconetjs")
    weights = ROOT / "build/seeded/coconetjs/fetch"
    feed = {name: array[:1] for name, array in inputs.reference()["made"].items()}
    assert np.abs(predicted(weights, feed, {}) - cast(weights, tmp_path, feed)).max() <= MOST


@pytest.mark.parametrize("change", [{"dilation": [[1, 1]] * 18}, {"batchNormVarianceEpsilon": 0.1}])
def test_another_network_is_told_apart(stand_in, tmp_path, change):
    """Where magenta-js is told of other dilations, or another epsilon, the comparison sees it."""
    feed = inputs.reference()["short"]
    assert np.abs(predicted(stand_in, feed, TOY | change) - cast(stand_in, tmp_path, feed)).max() > 100 * MOST
