"""Magenta's hyperparameters out of a checkpoint's config, those that shape the network checked (Python 3.7).

Which there are, and what they do, is fixed by magenta/models/coconet/lib_hparams.py. Keys that a config lacks came to
Magenta after it was written, and have Magenta's defaults: as if they weren't there.
"""

import math
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

from models.coconet import inputs
from models.coconet.original import lib_hparams
from scripts.job import Refusal

PORTS = {"min_pitch": inputs.LOWEST, "max_pitch": inputs.LOWEST + inputs.PITCHES - 1,
         "num_instruments": inputs.VOICES, "separate_instruments": True}
SWITCHES = ("batch_norm", "use_residual", "mask_indicates_context", "use_sep_conv", "dilate_time_only",
            "repeat_last_dilation_level")
COUNTS = {"num_filters": (1, 4096), "num_initial_regular_conv_layers": (0, 999),
          "sep_conv_depth_multiplier": (1, 64)}  # least and most
COUNTS_OF: Dict[str, Dict[str, Tuple[int, int]]] = {  # by architecture
    "straight": {"num_layers": (4, 999), "num_pointwise_splits": (1, 1)},
    "dilated": {"num_dilation_blocks": (1, 99), "crop_piece_len": (2, 65536), "num_pointwise_splits": (1, 4096),
                "interleave_split_every_n_layers": (0, 999)},
}


def read(source: Path) -> Any:
    """Magenta's Hyperparameters from the source's config.

    Raises Refusal naming each key whose value is none, or gives a network that the recipe has no ports for.
    """
    place = source / "config"
    try:
        hparams = lib_hparams.load_hparams(str(source))
    except Exception as error:  # whatever a text leads Magenta and YAML into
        raise Refusal("{} is not readable as Coconet hyperparameters: {}".format(
            place, " ".join(str(error).split())[:300])) from error
    wrong = list(flaws(hparams))
    if wrong:
        raise Refusal("{}: expected {}: correct it if it isn't what the checkpoint was trained with, no other network "
                      "can be cast".format(place, "; ".join(wrong)))
    return hparams


def flaws(hparams: Any) -> Iterator[str]:
    """What is wrong with the values of keys, a part of a sentence each."""
    def other(key: str, expected: Any) -> str:
        return "{} {}, found {!r:.80}".format(key, expected, getattr(hparams, key))

    if hparams.architecture not in COUNTS_OF:
        yield other("architecture", " or ".join(COUNTS_OF))
        return
    for key, value in PORTS.items():
        if type(getattr(hparams, key)) is not type(value) or getattr(hparams, key) != value:
            yield other(key, "{}, as the recipe's ports have it".format(value))
    for key in SWITCHES:
        if type(getattr(hparams, key)) is not bool:
            yield other(key, "true or false")
    wrong = False
    for key, (least, most) in {**COUNTS, **COUNTS_OF[hparams.architecture]}.items():
        if type(getattr(hparams, key)) is not int or not least <= getattr(hparams, key) <= most:
            wrong = True
            yield other(key, "an integer from {} to {}".format(least, most) if least < most else
                        "{} with architecture {}".format(most, hparams.architecture))
    epsilon = hparams.batch_norm_variance_epsilon
    if type(epsilon) not in (int, float) or not 0 <= epsilon < math.inf:
        yield other("batch_norm_variance_epsilon", "a number from 0 up")
    splits = hparams.num_pointwise_splits
    if not wrong and hparams.use_sep_conv and hparams.num_filters % splits:
        yield other("num_pointwise_splits", "a divisor of num_filters, {}".format(hparams.num_filters))


def described(hparams: Any) -> str:
    """The architecture in words, by Magenta's own name for its kind, layers and filters: "straight-64-128"."""
    told = [hparams.get_conv_arch().name]
    dilated = hparams.architecture == "dilated"
    if dilated and hparams.dilate_time_only:
        told.append("dilated in time alone")
    if hparams.use_sep_conv:
        regular = hparams.num_initial_regular_conv_layers
        told.append("separable convolutions" + (" from layer {}".format(regular) if regular else ""))
        if hparams.sep_conv_depth_multiplier > 1:
            told.append("depth multiplier {}".format(hparams.sep_conv_depth_multiplier))
        if dilated and hparams.num_pointwise_splits > 1:
            told.append("{} pointwise splits in every layer of {}".format(
                hparams.num_pointwise_splits, hparams.interleave_split_every_n_layers + 1))
    told += [words for key, words in (("use_residual", "no residuals"), ("batch_norm", "no batch norm"),
                                      ("mask_indicates_context", "masks of what is hidden"))
             if not getattr(hparams, key)]
    return ", ".join(told)
