"""Magenta's own GrooVAE code (Python 3.7, TensorFlow 2.4.1, magenta 2.1.4, note-seq 0.0.3).

The packages import more than is used here: magenta/__init__.py every pipeline, note_seq and
music_vae's data module readers of audio, notebooks and datasets. magenta is entered without
running its __init__, and empty modules stand in for the rest.
"""

import copy
import importlib.util
import sys
import types
from typing import Any, Dict
from unittest import mock

import tensorflow.compat.v1 as tf

from models.groovae.inputs import DRUMS

UNUSED = ("IPython", "IPython.display", "bokeh", "bokeh.plotting", "librosa", "pandas", "pydub", "scipy", "scipy.io",
          "scipy.io.wavfile", "scipy.linalg", "tensorflow_datasets")

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)
sys.modules.setdefault("magenta", importlib.util.module_from_spec(importlib.util.find_spec("magenta")))
for _name in UNUSED:
    _parent, _, _child = _name.rpartition(".")
    _module = sys.modules.setdefault(_name, types.ModuleType(_name))
    if _parent:
        setattr(sys.modules[_parent], _child, _module)

from magenta.models.music_vae import base_model, configs, lstm_models  # noqa: E402  (only after the lines above)
from tensorflow_probability.python.distributions import bernoulli  # noqa: E402

__all__ = ["CONFIGURATION", "build", "configs"]

CONFIGURATION = "groovae_2bar_tap_fixed_velocity"


class Drummer(lstm_models.GrooveLstmDecoder):
    """Magenta's decoder, unchanged but for where its Bernoulli draws take their uniform numbers from: an input."""

    uniforms: tf.Tensor  # [batch, time, 9]

    def _decode(self, z, helper, input_shape, max_length=None):
        sample = helper._sample_fn

        def sample_with(time, outputs, state):
            def given(shape, **_):
                return tf.reshape(self.uniforms[:, time], shape)

            with mock.patch.object(bernoulli.samplers, "uniform", given):
                return sample(time, outputs, state)

        helper._sample_fn = sample_with
        return super()._decode(z, helper, input_shape, max_length)


def build(sizes: Dict[str, Any], batch: int) -> None:
    """Build the way from taps to drums in the current graph, for a number of grooves that Magenta's code fixes.

    sizes: the hyperparameters enc_rnn_size, dec_rnn_size and z_size. The graph's nodes are named
    as the recipe's ports: taps [batch, time, 27] → mu, sigma [batch, z_size]; z = mu + sigma * eps,
    which may be fed itself; with uniforms [batch, time, 9] and temperature [] → raw [batch, time, 27],
    the network's outputs, and drums [batch, time, 27], what they mean.
    """
    depth = configs.CONFIG_MAP[CONFIGURATION].data_converter.output_depth
    decoder = Drummer()
    model = base_model.MusicVAE(lstm_models.BidirectionalLstmEncoder(), decoder)
    hparams = copy.deepcopy(configs.CONFIG_MAP[CONFIGURATION].hparams).override_from_dict(sizes)
    model.build(hparams, depth, is_training=False)

    taps = tf.placeholder(tf.float32, [batch, None, depth], "taps")
    posterior = model.encode(taps, tf.fill([batch], tf.shape(taps)[1]))
    mu, sigma = tf.identity(posterior.loc, "mu"), tf.identity(posterior.scale.diag, "sigma")
    eps = tf.placeholder(tf.float32, mu.shape, "eps")
    z = tf.placeholder_with_default(mu + sigma * eps, mu.shape, "z")

    decoder.uniforms = tf.placeholder(tf.float32, [batch, None, DRUMS], "uniforms")
    temperature = tf.placeholder(tf.float32, [], "temperature")
    drums, details = model.sample(batch, max_length=tf.shape(decoder.uniforms)[1], z=z, temperature=temperature)
    tf.identity(details.rnn_output, "raw")
    tf.identity(drums, "drums")
