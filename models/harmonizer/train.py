"""Trains the network on Bach's chorales: `make train MODEL=harmonizer` (Python 3.7, TensorFlow 2.4.1).

    python -m models.harmonizer.train --data Jsb16thSeparated.npz --out folder

Writes harmonizer.h5, and training.json with what was measured on the test split. The same data and seed give
the same weights on one machine: one thread, and all that is drawn comes out of the seed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import tensorflow as tf

from models.harmonizer import evaluate, network, weights
from models.harmonizer.chords import BEAT, CHORDS, UNKNOWN
from models.harmonizer.dataset import Piece, read
from scripts.job import REFUSED, Refusal, progress

EPOCHS, PATIENCE = 100, 20
BATCH, EXCERPT = 32, 32  # excerpts, beats
RATE = 3e-3  # Adam's, which falls to 0 by half a cosine
DROPOUT, SMOOTHING, LARGEST = 0.2, 0.05, 1.0  # LARGEST is the norm to which gradients are clipped
KEYS = (-5, 6)  # semitones, the least and the most by which an excerpt is moved


def train(splits: Dict[str, List[Piece]], seed: int, epochs: int = EPOCHS) -> Tuple[tf.keras.Model, int]:
    """The network of the epoch that explains the valid split best, and the number of that epoch, from 1."""
    tf.random.set_seed(seed)
    drawn = np.random.Generator(np.random.Philox(seed))
    model = network.build(network.SIZES, DROPOUT)
    optimizer = tf.keras.optimizers.Adam(RATE)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None, None], tf.int64)])
    def step(melodies: tf.Tensor, chords: tf.Tensor) -> tf.Tensor:
        known = tf.cast(chords != UNKNOWN, tf.float32)
        wanted = tf.one_hot(chords, CHORDS) * (1 - SMOOTHING) + SMOOTHING / CHORDS
        with tf.GradientTape() as tape:
            losses = tf.nn.softmax_cross_entropy_with_logits(wanted, model(melodies, training=True))
            loss = tf.reduce_sum(losses * known) / tf.reduce_sum(known)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, model.trainable_variables), LARGEST)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    best, best_epoch, best_arrays = np.inf, 0, model.get_weights()
    for epoch in range(1, epochs + 1):
        optimizer.learning_rate = RATE * (1 + np.cos(np.pi * (epoch - 1) / epochs)) / 2
        loss = np.mean([step(*batch) for batch in batches(splits["train"], drawn)])
        told = evaluate.measure(evaluate.logits_of(model), splits["valid"])
        progress("epoch {:3}: loss {:.3f}, valid {:.3f}, top-1 {:.1%}, top-3 {:.1%}".format(
            epoch, loss, told["loss"], told["top1"], told["top3"]))
        if told["loss"] < best:
            best, best_epoch, best_arrays = told["loss"], epoch, model.get_weights()
        elif epoch - best_epoch >= PATIENCE:
            break
    model.set_weights(best_arrays)
    return model, best_epoch


def batches(pieces: Sequence[Piece], drawn: np.random.Generator) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """An epoch of excerpts, each in a key of its own: melodies int64 [32, 128] and chords int64 [32, 32].

    A piece comes as often as it is long; of one that is shorter than an excerpt the rest is silent and unknown.
    """
    lengths = np.array([len(piece.chords) for piece in pieces])
    for _ in range(max(1, lengths.sum() // (BATCH * EXCERPT))):
        melodies = np.zeros((BATCH, EXCERPT * BEAT), np.int64)
        chords = np.full((BATCH, EXCERPT), UNKNOWN)
        for row, number in enumerate(drawn.choice(len(pieces), BATCH, p=lengths / lengths.sum())):
            # Starts are drawn beyond both ends, so that the first and last beats come as often as others.
            start = int(drawn.integers(-EXCERPT // 2, max(1, lengths[number] - EXCERPT // 2)))
            start = max(0, min(start, lengths[number] - EXCERPT))
            moved = pieces[number].moved(int(drawn.integers(KEYS[0], KEYS[1] + 1)))
            heard = moved.chords[start:start + EXCERPT]
            chords[row, :len(heard)] = heard
            melodies[row, :len(heard) * BEAT] = moved.melody[start * BEAT:][:len(heard) * BEAT]
        yield melodies, chords


def main(arguments: Any = None) -> None:
    parser = argparse.ArgumentParser(prog="models.harmonizer.train", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="Jsb16thSeparated.npz")
    parser.add_argument("--out", type=Path, default=Path("build/train/harmonizer"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args(arguments)
    if not asked.data:
        raise Refusal("DATA: expected the file of chorales, none was named: give DATA=Jsb16thSeparated.npz")
    splits = read(Path(asked.data))
    asked.out.mkdir(parents=True, exist_ok=True)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model, epoch = train(splits, asked.seed, asked.epochs)
    weights.write(asked.out / weights.FILE, model)
    told = {"seed": asked.seed, "epochs": asked.epochs, "best_epoch": epoch, "parameters": model.count_params(),
            "test": evaluate.table(evaluate.logits_of(model), splits)}
    (asked.out / "training.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    progress("\n".join(evaluate.lines(told["test"])))
    progress("wrote {0}/{1} and {0}/training.json".format(asked.out, weights.FILE))


if __name__ == "__main__":
    try:
        main()
    except (Refusal, OSError) as error:
        print("error: {}".format(error), file=sys.stderr)
        sys.exit(REFUSED)
