"""How often a ranking of chords has Bach's, beside what counts and a rule achieve (Python 3.7 and later).

    python -m models.harmonizer.evaluate Jsb16thSeparated.npz artifact.onnx

Prints the table for an artifact, in ONNX Runtime; training writes the same of the network into training.json.
"""

import sys
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Sequence

import numpy as np

from models.harmonizer import rules
from models.harmonizer.chords import UNKNOWN, hits
from models.harmonizer.dataset import Piece, read
from scripts.job import REFUSED, Refusal

Network = Callable[[np.ndarray], np.ndarray]  # a melody int64 [beats * 4] → logits [beats, 60]


def logits_of(model: Callable) -> Network:
    """A Keras model as such a network."""
    import tensorflow as tf  # only where it is trained

    call = tf.function(lambda melody: model(melody, training=False),
                       input_signature=[tf.TensorSpec([None, None], tf.int64)])
    return lambda melody: call(melody[None]).numpy()[0]


def measure(network: Network, pieces: Sequence[Piece]) -> Dict[str, float]:
    """The mean cross entropy in nats, and top-1 and top-3, over the beats of whole pieces."""
    logits = np.concatenate([network(piece.melody) for piece in pieces]).astype(np.float64)
    chords = np.concatenate([piece.chords for piece in pieces])
    known = chords != UNKNOWN
    total = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)) + logits.max(axis=1)
    loss = (total - logits[np.arange(len(chords)), chords])[known].mean()
    top1, top3 = hits(rules.ranked(logits), chords)
    return {"loss": float(loss), "top1": top1, "top3": top3}


def table(network: Network, splits: Dict[str, List[Piece]]) -> Dict[str, Dict[str, float]]:
    """Top-1 and top-3 on the test split, of the network as "model" and of each way in rules.py."""
    chords = np.concatenate([piece.chords for piece in splits["test"]])
    ways = dict(rules.rankings(splits["train"]), model=lambda melody: rules.ranked(network(melody)))
    told = {}
    for name, rank in ways.items():
        top1, top3 = hits(np.concatenate([rank(piece.melody) for piece in splits["test"]]), chords)
        told[name] = {"top1": round(top1, 4), "top3": round(top3, 4)}
    return told


def lines(told: Dict[str, Dict[str, float]]) -> Iterator[str]:
    """A table's rows as Markdown."""
    yield "| chords | top-1 | top-3 |\n|---|---:|---:|"
    for name, share in told.items():
        yield "| {} | {:.1%} | {:.1%} |".format(name, share["top1"], share["top3"])


def main() -> None:
    import onnxruntime  # where it is trained, there is none

    from scripts.kernels import exact_options

    if len(sys.argv) != 3:
        raise Refusal("expected Jsb16thSeparated.npz and an artifact, found {} arguments".format(len(sys.argv) - 1))
    session = onnxruntime.InferenceSession(sys.argv[2], exact_options(), providers=["CPUExecutionProvider"])
    told = table(lambda melody: session.run(["logits"], {"melody": melody[None]})[0][0], read(Path(sys.argv[1])))
    print("\n".join(lines(told)))


if __name__ == "__main__":
    try:
        main()
    except (Refusal, OSError) as error:
        print("error: {}".format(error), file=sys.stderr)
        sys.exit(REFUSED)
