"""Calibration whose result is the same on every CPU: the range of each activation, in float64.

In float32 a convolution's last bits follow the CPU's vector width and the number of
threads, and so would every scale of a quantized file. Here the graph is run in float64
by the ONNX reference evaluator (convolutions and pools by PyTorch), where that noise is a billion
times smaller than the grid that the ranges are then put on.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_average_pool as average_pool
from onnx.reference.ops import op_max_pool as max_pool

from scripts import graphs

GRID_BITS = 8
CUTS = np.arange(20, 9, -1) / 20  # 1, 0.95 … 0.5 of the largest values seen
EVERY, WHOLE = 16, 65_536  # share of an array's values that chooses the cut, and how many do at least
GOLDEN = 2_654_435_769  # 2 ** 32 times the golden section: multiples of it, modulo 2 ** 32, lie evenly everywhere


class Conv(OpRun):
    """A convolution in the dtype it is given; the reference evaluator's own is much slower."""

    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None,
             strides=None):
        rank = w.ndim - 2
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        sides = margins(x.shape[2:], auto_pad, pads, w.shape[2:], strides, dilations)
        x, w, b = (None if array is None else torch.from_numpy(np.array(array)) for array in (x, w, b))
        convolve = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[rank - 1]
        result = convolve(torch.nn.functional.pad(x, sides), w, b, tuple(strides), 0, tuple(dilations), group or 1)
        return (result.numpy(),)


class MaxPool(max_pool.MaxPool):
    """The largest numbers of windows; the reference evaluator's own is much slower."""

    op_domain = ""

    def _run(self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None, strides=None,
             storage_order=None):
        rank = len(kernel_shape)
        if ceil_mode or len(self.onnx_node.output) > 1 or rank > 3 or x.dtype.kind != "f":
            return super()._run(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, storage_order, strides)
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        sides = margins(x.shape[2:], auto_pad, pads, kernel_shape, strides, dilations)
        padded = torch.nn.functional.pad(torch.from_numpy(np.array(x)), sides, value=-np.inf)
        largest = (torch.nn.functional.max_pool1d, torch.nn.functional.max_pool2d, torch.nn.functional.max_pool3d)
        return (largest[rank - 1](padded, tuple(kernel_shape), tuple(strides), 0, tuple(dilations)).numpy(),)


class AveragePool(average_pool.AveragePool_19):
    """The means of windows; the reference evaluator's own is much slower."""

    op_domain = ""

    def _run(self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None, strides=None,
             count_include_pad=None):
        rank = len(kernel_shape)
        if ceil_mode or rank > 3 or max(dilations or [1]) > 1:
            return super()._run(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides, count_include_pad)
        strides = strides or [1] * rank
        sides = margins(x.shape[2:], auto_pad, pads, kernel_shape, strides, [1] * rank)
        mean = (torch.nn.functional.avg_pool1d, torch.nn.functional.avg_pool2d, torch.nn.functional.avg_pool3d)
        x, padding = torch.from_numpy(np.array(x)), torch.nn.functional.pad
        found, counted = (mean[rank - 1](padding(array, sides, value=value), tuple(kernel_shape), tuple(strides))
                          for array, value in ((x, 0), (torch.ones_like(x), int(bool(count_include_pad)))))
        return ((found / counted).numpy(),)


def margins(sizes: Sequence[int], auto_pad: str | None, pads: Sequence[int] | None, kernel: Sequence[int],
            strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """What is to be put before and behind each axis of these sizes, the last one first, as PyTorch has it.

    With SAME_UPPER or SAME_LOWER as much as ceil(size / stride) windows need
    (https://onnx.ai/onnx/operators/onnx__Conv.html).
    """
    rank = len(sizes)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        lacking = [max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
                   for size, width, stride, dilation in zip(sizes, kernel, strides, dilations)]
        before = [lack // 2 if auto_pad == "SAME_UPPER" else lack - lack // 2 for lack in lacking]
        pads = [*before, *(lack - half for lack, half in zip(lacking, before))]
    pads = pads or [0] * 2 * rank
    return [side for axis in reversed(range(rank)) for side in (pads[axis], pads[axis + rank])]


def operator(name: str, told: dict[str, Any], kernel: Callable[..., Any]) -> type[OpRun]:
    """An operator of the model's own for the evaluator; its kernel gets the dtypes that it is written for."""
    def run(self, *arrays, **attributes):
        returned = kernel(*(array.astype(dtype) for array, dtype in zip(arrays, told["inputs"])), **attributes)
        returned = returned if isinstance(returned, tuple) else (returned,)
        return tuple(np.asarray(array, np.float64 if dtype == "float32" else dtype)
                     for array, dtype in zip(returned, told["outputs"]))

    return type(name, (OpRun,), {"op_domain": told["domain"], "_run": run})


def ranges(model: onnx.ModelProto, batches: Sequence[dict[str, np.ndarray]],
           progress: Callable[[str], None], operators: Sequence[type[OpRun]] = ()) -> dict[str, tuple[float, float]]:
    """The range (lowest, highest) to quantize for each activation of a float32 model.

    operators: those of the model's own, for the evaluator.
    Each is the range seen, cut to the fraction that loses least squared error over 255
    levels, and put on a grid of GRID_BITS significant bits. Zero always lies inside. What masks of -inf go into has
    no end.
    """
    evaluator = ReferenceEvaluator(in_float64(model), new_ops=[Conv, MaxPool, AveragePool, *operators])
    names = {name for node in model.graph.node for name in (*node.input, *node.output) if name}
    names -= {tensor.name for tensor in model.graph.initializer}
    lowest, highest = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    sampled: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number, batch in enumerate(batches, 1):
        feed = {name: array.astype(np.float64) for name, array in batch.items()}
        for name, array in evaluator.run(None, feed, intermediate=True).items():
            if name in names and array.dtype == np.float64:
                lowest[name] = min(lowest[name], array.min())
                highest[name] = max(highest[name], array.max())
                sampled[name].append(sample(array))
        progress(f"calibrated {number} of {len(batches)}")
    seen = {name: np.concatenate(arrays) for name, arrays in sampled.items() if arrays}
    return {name: on_grid(best_cut(array, lowest[name], highest[name])) for name, array in sorted(seen.items())}


def sample(array: np.ndarray) -> np.ndarray:
    """Some of an array's values, or all of a small one's: no shape's rows, columns or channels are preferred."""
    values = array.reshape(-1)
    if values.size <= WHOLE:
        return values
    numbers = np.arange(max(WHOLE, values.size // EVERY), dtype=np.uint64)
    return values[(numbers * np.uint64(GOLDEN) % np.uint64(2**32) * np.uint64(values.size)) >> np.uint64(32)]


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float32 model that computes in float64."""
    wide = onnx.ModelProto.FromString(model.SerializeToString())
    tensors = list(graphs.arrays(wide))
    for node in [node for part in (wide.graph, *graphs.inner_graphs(wide.graph)) for node in part.node]:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append(attribute.t)
            elif (node.op_type, attribute.name, attribute.i) == ("Cast", "to", onnx.TensorProto.FLOAT):
                attribute.i = onnx.TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                array = np.array(onnx.helper.get_attribute_value(attribute), np.float64)
                attribute.CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(array)))
    for tensor in tensors:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for port in (*wide.graph.input, *wide.graph.output):
        if port.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            port.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return wide


def best_cut(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range low..high, cut so that rounding to 255 levels and clipping lose least together."""
    if low == high or not np.isfinite([low, high]).all():
        return low, high

    def squared_error(cut: float) -> float:
        scale = (high - low) * cut / 255
        levels = np.clip(np.round(values / scale), np.round(low * cut / scale), np.round(high * cut / scale))
        return float(np.square(levels * scale - values).sum())

    cut = min(CUTS, key=squared_error)
    return low * cut, high * cut


def on_grid(bounds: Iterable[float]) -> tuple[float, ...]:
    """Each bound moved outwards to the next number of GRID_BITS significant bits."""
    fractions, exponents = np.frexp(list(bounds))
    outwards = np.copysign(np.ceil(np.abs(fractions) * 2**GRID_BITS) / 2**GRID_BITS, fractions)
    return tuple(float(bound) for bound in np.ldexp(outwards, exponents))


