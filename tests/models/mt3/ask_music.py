"""What Flax writes of what a player heard, in the jax toolchain: ask_music.py SOURCE FEED.npz [ALONE…]

The feed has CASE/mel [segments, frames, 512] and CASE/fed [segments, steps], the tokens that the player's decoder was
fed one by one; a case begins with "beam " or "greedy ". JSON tells for each case what Flax writes, a row a segment,
null where it leaves what was fed, and the smallest lead of a token that decided something, in logits. A segment that
Flax leaves in float32 it is asked of in float64, too, where two tokens that are as likely may come in the other order;
"exactly" counts those.

Flax needs no call for each token: it is taught all that was fed at once, and where each of its own decisions is what
was fed next, it would by itself have come to where it is taught. The cases named ALONE it decodes by itself indeed.
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from models.mt3 import ask, decode, original
from models.mt3.weights import read

BATCH = 8  # segments taught together
TOKENS = 1024  # the most that a segment can say, as the player has it


class Left(Exception):
    """What was fed isn't what Flax would feed next."""


def written(decoding: str, fed: np.ndarray, logits: np.ndarray) -> tuple[list[int] | None, float]:
    """A segment's tokens by Flax's own decisions: fed [steps], logits [steps, vocabulary] after each of them."""
    leads: list[float] = []

    def step(tokens: np.ndarray) -> np.ndarray:
        index = len(leads)
        if index == len(fed) or tokens[0] != fed[index]:
            raise Left
        second, first = np.partition(logits[index], -2)[-2:]
        leads.append(float(first - second))
        return logits[index:index + 1]

    try:
        tokens = decode.beam(step, 1, TOKENS)[0] if decoding == "beam" else decode.greedy(step, 1, TOKENS)
    except Left:
        return None, leads[-1]
    return tokens[0].tolist(), min(leads)


def main(source: Path, feed: Path, alone: list[str]) -> None:
    arrays, sizes = read(source)
    told = dict(np.load(feed))
    rows = [(case, number) for case in sorted({name.rpartition("/")[0] for name in told})
            for number in range(len(told[f"{case}/mel"]))]
    rows.sort(key=lambda row: told[f"{row[0]}/fed"].shape[1])
    found: dict[str, dict[int, tuple[list[int] | None, float]]] = {}
    doubted: Counter[str] = Counter()
    for start in range(0, len(rows), BATCH):
        batch = rows[start:start + BATCH]
        steps = 64 * math.ceil(told[f"{batch[-1][0]}/fed"].shape[1] / 64)  # few lengths, each compiled once
        mel = np.zeros((BATCH, *told[f"{batch[0][0]}/mel"].shape[1:]), np.float32)
        taught = np.zeros((BATCH, steps), np.int32)
        for place, (case, number) in enumerate(batch):
            fed = told[f"{case}/fed"][number]
            mel[place], taught[place, :len(fed)] = told[f"{case}/mel"][number], fed
        logits = np.asarray(original.decode(arrays, sizes, original.encode(arrays, sizes, mel), taught))
        for place, (case, number) in enumerate(batch):
            decoding, fed = case.partition(" ")[0], told[f"{case}/fed"][number]
            tokens, lead = written(decoding, fed, logits[place])
            if tokens is None:
                [exact] = ask.exactly(ask.taught_tokens, arrays, sizes, mel[place:place + 1], taught[place:place + 1])
                tokens, lead = written(decoding, fed, exact)
                doubted[case] += 1
            found.setdefault(case, {})[number] = tokens, lead
    answers = {case: {"tokens": [row[number][0] for number in sorted(row)], "exactly": doubted[case],
                      "lead": min(lead for _, lead in row.values())} for case, row in found.items()}
    for case in alone:
        encoded = original.encode(arrays, sizes, told[f"{case}/mel"])
        tokens, _ = original.beam(sizes, TOKENS)(original.parameters(arrays, "decoder"), encoded)
        answers[f"alone {case}"] = {"tokens": np.asarray(tokens).tolist()}
    print(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
