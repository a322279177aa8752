"""The network: a melody in, a chord for each beat out (Python 3.7, TensorFlow 2.4.1).

An LSTM of both directions hears the melody, a sixteenth a step; another walks over the beats and, at each,
looks back and ahead over the whole melody by additive attention (Bahdanau, Cho and Bengio, "Neural Machine
Translation by Jointly Learning to Align and Translate", ICLR 2015).
"""

from typing import Any, Dict, Sequence

import tensorflow as tf

from models.harmonizer.chords import BEAT, CHORDS

PITCHES = 128  # MIDI's; 0 is a rest
SIZES = {"embedding": 32, "encoder": 128, "decoder": 128, "attention": 64}
layers = tf.keras.layers


class AdditiveAttention(layers.Layer):
    """Weighs the steps of a memory by how well each fits a query: softmax of v · tanh(query W + memory U + b).

    Takes queries [batch, beats, size] and memory [batch, time, size]; returns the weighted means of the
    memory [batch, beats, size].
    """

    def __init__(self, units: int, **settings: Any):
        super().__init__(**settings)
        self.units = units

    def build(self, shapes: Sequence[Any]) -> None:
        queries, memory = shapes
        self.query_kernel = self.add_weight("query_kernel", (queries[-1], self.units))
        self.memory_kernel = self.add_weight("memory_kernel", (memory[-1], self.units))
        self.bias = self.add_weight("bias", (self.units,), initializer="zeros")
        self.score_kernel = self.add_weight("score_kernel", (self.units, 1))

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        queries, memory = inputs
        asked = tf.expand_dims(tf.matmul(queries, self.query_kernel) + self.bias, 2)
        offered = tf.expand_dims(tf.matmul(memory, self.memory_kernel), 1)
        scores = tf.squeeze(tf.matmul(tf.tanh(asked + offered), self.score_kernel), -1)
        return tf.matmul(tf.nn.softmax(scores), memory)


class Beats(layers.Layer):
    """The mean of each beat's four sixteenths: [batch, beats * 4, size] to [batch, beats, size]."""

    def call(self, steps: tf.Tensor) -> tf.Tensor:
        size = steps.shape[-1]
        shape = tf.shape(steps)
        return tf.reduce_mean(tf.reshape(steps, [shape[0], shape[1] // BEAT, BEAT, size]), axis=2)


def build(sizes: Dict[str, int], dropout: float = 0.0) -> tf.keras.Model:
    """melody, MIDI pitches int64 [batch, beats * 4] → logits over the chords, float32 [batch, beats, 60].

    sizes: of the embedding, and the units of encoder (each direction), decoder and attention.
    """
    melody = tf.keras.Input([None], dtype=tf.int64, name="melody")
    sung = layers.Embedding(PITCHES, sizes["embedding"], name="embedding")(melody)
    heard = layers.Bidirectional(layers.LSTM(sizes["encoder"], return_sequences=True, name="lstm"), name="encoder")(
        layers.Dropout(dropout)(sung))
    heard = layers.Dropout(dropout)(heard)
    walked = layers.LSTM(sizes["decoder"], return_sequences=True, name="decoder")(Beats(name="beats")(heard))
    seen = AdditiveAttention(sizes["attention"], name="attention")([walked, heard])
    known = layers.Dropout(dropout)(layers.Concatenate(name="known")([walked, seen]))
    return tf.keras.Model(melody, layers.Dense(CHORDS, name="chords")(known), name="harmonizer")
