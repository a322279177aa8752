"""The network of Coconet's edition for browsers: its layers, and what arrays they have (Python 3.7 and later).

After DEFAULT_SPEC and its network in magenta-js, music/src/coconet/model.ts, and equal to the layers of Magenta's own
`dilated` architecture with pieces of 32 steps (lib_hparams.py). A manifest of weights says nothing of dilations; how
many blocks and filters there are, its shapes tell.
"""

import re
from collections import Counter
from typing import Dict, List, Mapping, NamedTuple, Tuple

from scripts.job import Refusal

BLOCK = ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (16, 32))  # dilations of a block's layers, of time and pitch
SPLIT_EVERY, SPLITS = 17, 4
INPUTS, OUTPUTS = 8, 4  # channels: the voices and what is known of them; the voices
EPSILON = 1e-7  # of batch normalization
LAYER = re.compile(r"model/conv(\d{1,3})/")
Shapes = Mapping[str, Tuple[int, ...]]


class Layer(NamedTuple):
    """A convolution of each channel by itself, then a product over the channels, batch-normalized."""
    index: int
    kernel: int  # of time and of pitch
    dilation: Tuple[int, int]
    inputs: int
    outputs: int
    splits: int  # equal parts of the channels, with a product each

    @property
    def name(self) -> str:
        return "model/conv{}".format(self.index)

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """The shape of each array by its name, in the order of the upstream's code."""
        found = {"SeparableConv2d/depthwise_weights": (self.kernel, self.kernel, self.inputs, 1)}
        if self.splits == 1:
            found["SeparableConv2d/pointwise_weights"] = (1, 1, self.inputs, self.outputs)
            found["SeparableConv2d/biases"] = (self.outputs,)
        else:
            for part in range(self.splits):
                name = "split_{}_{}".format(self.index, part)
                found[name + "/kernel"] = (self.inputs // self.splits, self.outputs // self.splits)
                found[name + "/bias"] = (self.outputs // self.splits,)
        found.update(dict.fromkeys(("gamma", "popmean", "popvariance"), (1, 1, 1, self.outputs)))
        found["beta"] = (self.outputs,)
        return {"{}/{}".format(self.name, name): shape for name, shape in found.items()}


def layers(blocks: int, filters: int) -> List[Layer]:
    """The layers: 33 of five blocks. The input of each odd one is added to the next one's result, but the last's."""
    found = [Layer(0, 3, (1, 1), INPUTS, filters, 1)]
    for index, dilation in enumerate(BLOCK * blocks, 1):
        found.append(Layer(index, 3, dilation, filters, filters, 1 if index % SPLIT_EVERY else SPLITS))
    found.append(Layer(len(found), 2, (1, 1), filters, filters, 1))
    found.append(Layer(len(found), 2, (1, 1), filters, OUTPUTS, 1))
    return found


def sizes(shapes: Shapes) -> Tuple[int, int]:
    """How many blocks and filters arrays of such shapes are of. Raises Refusal where they are of no such network."""
    found = [int(LAYER.match(name).group(1)) for name in shapes if LAYER.match(name)]
    blocks, rest = divmod(max(found, default=0) - 2, len(BLOCK))
    widths = Counter(shape[0] for name, shape in shapes.items() if name.endswith("/beta") and len(shape) == 1)
    if rest or blocks < 1 or not widths:
        raise Refusal("expected arrays of Coconet's edition for browsers, model/conv0/… and so on, three layers and {} "
                      "for each block, found {} layers: give the weights of this network".format(
                          len(BLOCK), len(set(found))))
    return blocks, widths.most_common(1)[0][0]


def told(layers: List[Layer]) -> str:
    """The architecture in words, as models/coconet/hyperparameters.py has it of the same layers in Magenta's Python."""
    return "dilated-{}-{}, separable convolutions, {} pointwise splits in every layer of {}".format(
        len(layers), layers[0].outputs, SPLITS, SPLIT_EVERY)
