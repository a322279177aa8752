"""What the networks of flax.py are in PyTorch, by the same names."""

import torch


class FlaxNormed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Dense_0, self.BatchNorm_0 = torch.nn.Linear(12, 32), torch.nn.BatchNorm1d(32)
        self.Dense_1 = torch.nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Dense_1(torch.relu(self.BatchNorm_0(self.Dense_0(x))))


class FlaxConvolutions(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(3, 16, (3, 5), padding=(1, 2), bias=False)
        self.BatchNorm_0 = torch.nn.BatchNorm2d(16)
        self.Conv_1 = torch.nn.Conv2d(16, 24, 3, stride=2, padding=1, groups=2)
        self.Dense_0 = torch.nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.BatchNorm_0(self.Conv_0(x.permute(0, 3, 1, 2))))
        x = torch.relu(self.Conv_1(torch.nn.functional.avg_pool2d(x, 2)))
        return self.Dense_0(x.mean((2, 3)))


class FlaxCausal(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Conv_0 = torch.nn.Conv1d(8, 16, 1)
        for number in (1, 2, 3):
            setattr(self, f"Conv_{number}", torch.nn.Conv1d(16, 32, 2, dilation=2 ** (number - 1)))
        self.Dense_0 = torch.nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.Conv_0(x.transpose(1, 2))
        for number in (1, 2, 3):
            layer = getattr(self, f"Conv_{number}")
            y = layer(torch.nn.functional.pad(x, (layer.dilation[0], 0)))
            x = x + torch.tanh(y[:, :16]) * torch.sigmoid(y[:, 16:])
        return self.Dense_0(x.transpose(1, 2))


class FlaxEmbedding(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Embed_0, self.LayerNorm_0 = torch.nn.Embedding(31, 24), torch.nn.LayerNorm(24, eps=1e-6)
        self.Dense_0, self.Dense_1 = torch.nn.Linear(24, 48), torch.nn.Linear(48, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.Embed_0(x)
        y = y + self.Dense_1(torch.nn.functional.gelu(self.Dense_0(self.LayerNorm_0(y))))
        return y @ self.Embed_0.weight.T


class FlaxAttention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(16, 16) for _ in range(3))
        self.out = torch.nn.Linear(16, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 4
        scores = scores.masked_fill(~torch.ones(scores.shape[1:], dtype=torch.bool).tril(), -1e9)
        return self.out(x + scores.softmax(-1) @ self.value(x))


class FlaxGru(torch.nn.Module):
    """Flax has a matrix for each gate of a GRU; PyTorch has those of all gates above each other."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.ModuleDict({
            name: torch.nn.Linear(8 if name[0] == "i" else 24, 24, bias=name not in ("hr", "hz"))
            for name in ("ir", "iz", "in", "hr", "hz", "hn")})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cell = self.cell
        weights = [torch.cat([cell[kind + gate].weight for gate in "rzn"]) for kind in "ih"]
        none = torch.zeros(48)
        biases = [torch.cat([cell["i" + gate].bias for gate in "rzn"]), torch.cat([none, cell["hn"].bias])]
        state = x.new_zeros(1, x.shape[0], 24)
        return torch.gru(x, state, [*weights, *biases], True, 1, 0.0, False, False, True)[0]


class FlaxRenamed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.ModuleDict({
            f"gate_{name}": torch.nn.Linear(8 if name[0] == "i" else 24, 24, bias=name not in ("hr", "hz"))
            for name in ("ir", "iz", "in", "hr", "hz", "hn")})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cell = self.cell
        weights = [torch.cat([cell[f"gate_{kind}{gate}"].weight for gate in "rzn"]) for kind in "ih"]
        none = torch.zeros(48)
        biases = [torch.cat([cell[f"gate_i{gate}"].bias for gate in "rzn"]), torch.cat([none, cell["gate_hn"].bias])]
        state = x.new_zeros(1, x.shape[0], 24)
        return torch.gru(x, state, [*weights, *biases], True, 1, 0.0, False, False, True)[0]


class FlaxDropout(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Dense_0, self.Dense_1 = torch.nn.Linear(16, 32), torch.nn.Linear(32, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Dense_1(torch.nn.functional.dropout(torch.relu(self.Dense_0(x)), 0.3, training=True))


class FlaxQuiet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Dense_0, self.Dense_1 = torch.nn.Linear(16, 32), torch.nn.Linear(32, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Dense_1(torch.relu(self.Dense_0(x)))
