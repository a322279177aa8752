"""Networks in PyTorch, as state_dicts: `python -m tests.networks.pytorch FOLDER [NAME…]`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.networks import cases
from tests.networks.cases import Arrays, Network, real, whole

NETWORKS: list[Network] = []


def network(shows: str, *told: Any, **named: Any) -> Callable[[Any], Any]:
    return cases.declare(NETWORKS, shows, *told, **named)


@network("a chain of dense layers with ReLUs between, as make new guesses it", {"x": real("batch", 16)})
def torch_chain() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))


@network("2-D convolutions in groups, with strides, dilations and BatchNorm, on pictures of any size",
         {"x": real("batch", 3, "height", "width")}, {"y": real("batch", 5)},
         sizes={"height": (17, 24), "width": (12, 31)})
class TorchConvolutions(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(16)
        self.wide = torch.nn.Conv2d(16, 32, (3, 5), padding=(2, 4), dilation=2, groups=4)
        self.pool = torch.nn.MaxPool2d(3, 2, 1)
        self.last = torch.nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.nn.functional.silu(self.norm(self.stem(x))))
        return self.last(torch.relu(self.wide(x)).mean((2, 3)))


@network("1-D convolutions with every way of padding: zeros, reflected, replicated, circular, causal",
         {"x": real("batch", 8, "length")}, {"y": real("batch", 6, "length")}, sizes={"length": (7, 12)})
class TorchPaddings(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([
            torch.nn.Conv1d(8, 8, 5, padding="same", padding_mode=mode)
            for mode in ("zeros", "reflect", "replicate", "circular")])
        self.causal = torch.nn.Conv1d(8, 6, 3, dilation=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return self.causal(torch.nn.functional.pad(x, (4, 0)))


@network("transposed convolutions as in a vocoder, with the weight norm of old", {"x": real("batch", 12, "length")},
         {"y": real("batch", 1, "samples")})
class TorchVocoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = torch.nn.utils.weight_norm
        self.up = norm(torch.nn.ConvTranspose1d(12, 16, 8, stride=4, padding=2))
        self.more = torch.nn.ConvTranspose1d(16, 8, 3, stride=2, padding=1, output_padding=1)
        self.last = norm(torch.nn.Conv1d(8, 1, 7, padding=3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.leaky_relu(self.up(x), 0.1)
        return torch.tanh(self.last(torch.relu(self.more(x))))


@network("a bidirectional LSTM of two layers, and its last states", {"x": real("batch", "length", 12)},
         {"y": real("batch", "length", 40), "state": real(4, "batch", 20)})
class TorchLstm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(12, 20, 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, (state, _) = self.rnn(x)
        return y, state


@network("a GRU whose state goes in and comes out", {"x": real("batch", "length", 12), "state": real(1, "batch", 24)},
         {"y": real("batch", "length", 6), "new_state": real(1, "batch", 24)})
class TorchGru(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.GRU(12, 24, batch_first=True)
        self.last = torch.nn.Linear(24, 6)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, state = self.rnn(x, state)
        return self.last(y), state


@network("a transformer with embeddings, tied weights and a causal mask of infinities", {"x": whole(30, "batch", 10)},
         {"y": real("batch", 10, 31)})
class TorchTransformer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(31, 24)
        self.layer = torch.nn.TransformerEncoderLayer(24, 4, 48, batch_first=True, activation="gelu", norm_first=True)
        self.last = torch.nn.Linear(24, 31, bias=False)
        self.last.weight = self.embedding.weight
        self.register_buffer("mask", torch.triu(torch.full((10, 10), float("-inf")), 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layer(self.embedding(x), src_mask=self.mask))


@network("attention that leaves out padding, by the numbers", {"x": whole(30, "batch", "length")},
         {"y": real("batch", 8)})
class TorchPadded(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(31, 24, padding_idx=0)
        self.attention = torch.nn.MultiheadAttention(24, 3, batch_first=True)
        self.last = torch.nn.Linear(24, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, kept = self.embedding(x), (x > 0).float()[..., None]
        blocked = torch.where(x > 0, 0.0, -1e9)[:, None].expand(-1, x.shape[1], -1).repeat_interleave(3, 0)
        y, _ = self.attention(y, y, y, attn_mask=blocked, need_weights=False)
        return self.last((y * kept).sum(1) / kept.sum(1).clamp(min=1))


@network("residuals with LayerNorm, GroupNorm, InstanceNorm and BatchNorm", {"x": real("batch", 16, "length")},
         {"y": real("batch", 16, "length")}, sizes={"length": (5, 12)})
class TorchNorms(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Conv1d(16, 16, 3, padding=1) for _ in range(3)])
        self.norms = torch.nn.ModuleList([
            torch.nn.GroupNorm(4, 16), torch.nn.InstanceNorm1d(16, affine=True), torch.nn.BatchNorm1d(16)])
        self.last = torch.nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms):
            x = x + torch.nn.functional.gelu(layer(norm(x)))
        return self.last(x.transpose(1, 2)).transpose(1, 2)


@network("pictures resized by nearest and bilinear interpolation, poolings to a size", {"x": real("batch", 3, 12, 10)},
         {"y": real("batch", 6)})
class TorchResized(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(6, 24, 3)
        self.last = torch.nn.Linear(96, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        resize = torch.nn.functional.interpolate
        x = torch.cat([resize(x, scale_factor=2, mode="nearest"),
                       resize(x, size=(24, 20), mode="bilinear", align_corners=False)], 1)
        return self.last(torch.nn.functional.adaptive_avg_pool2d(torch.relu(self.layer(x)), 2).flatten(1))


@network("pictures of bytes, as whole numbers", {"x": whole(255, "batch", 8, 8)}, {"y": real("batch", 10)})
class TorchBytes(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(64, 48), torch.nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first((x / 255.0).flatten(1)))).softmax(-1)


@network("a logarithm of magnitudes with a small epsilon, a buffer", {"x": real("batch", 16)}, {"y": real("batch", 6)})
class TorchLogarithm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("epsilon", torch.tensor([[1e-8]]))
        self.last = torch.nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.log(x * x + self.epsilon))


@network("the same with the epsilon in the code, smaller", {"x": real("batch", 16)}, {"y": real("batch", 6)})
class TorchEpsilon(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.log(x * x + 1e-10))


@network("two inputs with axes of their own, and whole numbers",
         {"x": real("batch", "rows", 8), "z": real("columns", 8)},
         {"scores": real("batch", "rows", "columns"), "best": whole(1, "batch", "rows")}, sizes={"columns": (4, 7)})
class TorchPairs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = torch.nn.Linear(8, 16), torch.nn.Linear(8, 16)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.left(x) @ self.right(z).T
        return scores, scores.argmax(-1)


@network("a loop over steps of a number that is known", {"x": real("batch", 6, 8)}, {"y": real("batch", 24)})
class TorchLoop(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.LSTMCell(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = x.new_zeros(x.shape[0], 24), x.new_zeros(x.shape[0], 24)
        for step in range(6):
            state = self.cell(x[:, step], state)
        return state[0]


@network("weights of bfloat16, as safetensors", {"x": real("batch", 16)})
def torch_bfloat16() -> torch.nn.Module:
    module = torch_chain()
    module.kind = "bfloat16"
    return module.bfloat16().float()


@network("a checkpoint of PyTorch Lightning, its names under a prefix", {"x": real("batch", 16)})
def torch_lightning() -> torch.nn.Module:
    module = torch_chain()
    module.kind = "lightning"
    return module


@network("a branch on the data", {"x": real("batch", 8)}, {"y": real("batch", 8)}, then="torch_where",
         did="the branch was written with torch.where")
class TorchBranch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        if y.mean() > 0:
            return y
        return -y


@network("the same without a branch", {"x": real("batch", 8)}, {"y": real("batch", 8)})
class TorchWhere(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return torch.where(y.mean() > 0, y, -y)


@network("a dictionary as what it returns", {"x": real("batch", 8)}, {"logits": real("batch", 6)})
class TorchDictionary(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(x)}


@network("a tuple of one as what it returns", {"x": real("batch", 8)}, {"logits": real("batch", 6)})
class TorchTuple(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.layer(x),)


@network("dropout that is left on", {"x": real("batch", 16)}, {"y": real("batch", 6)}, then="torch_quiet",
         did="the dropout was left to the module's mode")
class TorchDropout(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(16, 32), torch.nn.Linear(32, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.nn.functional.dropout(self.first(x), 0.3, training=True))


@network("the same in its mode", {"x": real("batch", 16)}, {"y": real("batch", 6)})
class TorchQuiet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(16, 32), torch.nn.Linear(32, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.nn.functional.dropout(self.first(x), 0.3, training=self.training))


def save(built: torch.nn.Module, place: Path) -> Path:
    """Write the weights as their user does."""
    arrays, kind = built.state_dict(), getattr(built, "kind", "")
    path = place / {"bfloat16": "weights.safetensors", "lightning": "last.ckpt"}.get(kind, "weights.pth")
    if kind == "bfloat16":
        save_file({name: array.bfloat16() for name, array in arrays.items()}, path)
    elif kind == "lightning":
        torch.save({"epoch": 3, "state_dict": {f"model.{name}": array for name, array in arrays.items()}}, path)
    else:
        torch.save(arrays, path)
    return path


def shaken(network: Network) -> Callable[[], torch.nn.Module]:
    """The module, its statistics made up, which are 0 and 1 before a training."""
    def build() -> torch.nn.Module:
        torch.manual_seed(cases.seed(network.name))
        module = network.build()
        for name, array in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                array.uniform_(0.2, 1.5)
        return module
    return build


@torch.inference_mode()
def answer(network: Network, built: torch.nn.Module, feed: Arrays) -> Arrays:
    returned = built.eval()(*(torch.from_numpy(feed[name]) for name in network.inputs))
    returned = tuple(returned.values()) if isinstance(returned, dict) else returned
    returned = returned if isinstance(returned, tuple) else (returned,)
    return {name: tensor.numpy() for name, tensor in zip(network.outputs or "y", returned, strict=True)}


def source(network: Network) -> dict[str, str]:
    """The text of a network's class; none where make new guesses it."""
    return {"network.py": cases.text(Path(__file__), network.name)} if network.outputs else {}


if __name__ == "__main__":
    chosen = [one._replace(build=shaken(one)) for one in NETWORKS if one.name in sys.argv[2:] or not sys.argv[2:]]
    cases.write(chosen, Path(sys.argv[1]), save, answer, source)
