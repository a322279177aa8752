"""VampNet's transformers and its codec in PyTorch, as vampnet/modules/transformer.py and lac/model/lac.py have them.

Arrays have upstream's names; adapters (LoRA) and weight norms are folded into the weights before (weights.py). The
transformers are T5's encoder with one table of relative positions for all layers, gated tanh-gelu and no biases but
at their ends, computed operation by operation as upstream computes them. The codec is a convolutional autoencoder
with periodic activations (Snake) and a residual quantizer of normalized codes; its decoder adds up residual blocks
of several widths, as HiFi-GAN does.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6  # RMSNorm in vampnet/modules/transformer.py
BUCKETS, FARTHEST = 32, 128  # of relative positions
Sizes = Mapping[str, Any]  # by upstream's names, from a file's own metadata


def buckets(distance: Tensor) -> Tensor:
    """The row of the table of positions for each key's distance from its query, int64 of any shape.

    Near ones have a row each, farther ones share rows that widen with the logarithm; those to the right have the
    second half (_relative_position_bucket in vampnet/modules/transformer.py). Rows change at powers of two, whose
    logarithms to base 2 are exact on every CPU.
    """
    half, exact = BUCKETS // 2, BUCKETS // 4
    near = distance.abs()
    far = exact + (torch.log2(near.double() / exact) / math.log2(FARTHEST / exact) * (half - exact)).to(torch.int64)
    return (distance > 0) * half + torch.where(near < exact, near, far.clamp(max=half - 1))


class Norm(nn.Module):
    """T5's, by the root of the mean square (RMSNorm in vampnet/modules/transformer.py)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON))


class Embedding(nn.Module):
    """The codec's vectors of codes, and one more for the mask, side by side and projected."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.special = nn.ParameterDict({"MASK": torch.empty(sizes["n_codebooks"], sizes["latent_dim"])})
        self.out_proj = nn.Conv1d(sizes["n_codebooks"] * sizes["latent_dim"], sizes["embedding_dim"], 1)

    def forward(self, codes: Tensor, codebooks: Tensor) -> Tensor:
        """codes int64 [batch, codebooks, time], codebooks float32 [codebooks, vocabulary, latent] →
        [batch, time, width]
        """
        tables = torch.cat([codebooks, self.special["MASK"][:, None]], 1)
        latents = torch.cat([functional.embedding(codes[:, number], table) for number, table in enumerate(tables)], -1)
        return self.out_proj(latents.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, sizes: Sizes, positions: bool):
        super().__init__()
        width, self.heads = sizes["embedding_dim"], sizes["n_heads"]
        self.w_qs, self.w_ks, self.w_vs, self.fc = (nn.Linear(width, width, bias=False) for _ in range(4))
        if positions:
            self.relative_attention_bias = nn.Embedding(BUCKETS, self.heads)

    def bias(self, length: int) -> Tensor:
        """What is added to the scores [heads, queries, keys]."""
        places = torch.arange(length)
        return self.relative_attention_bias(buckets(places[None] - places[:, None])).permute(2, 0, 1)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                             for project in (self.w_qs, self.w_ks, self.w_vs))
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]) + bias
        return self.fc((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


def gelu(x: Tensor) -> Tensor:
    """In its tanh form (NewGELU in vampnet/modules/activations.py)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))


class FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(width, 4 * width, bias=False), nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.w_1(x).chunk(2, -1)
        return self.w_2(value * gelu(gate))


class Layer(nn.Module):
    def __init__(self, sizes: Sizes, positions: bool):
        super().__init__()
        width = sizes["embedding_dim"]
        self.norm_1, self.norm_3 = Norm(width), Norm(width)
        self.self_attn, self.feed_forward = Attention(sizes, positions), FeedForward(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm_1(x), bias)
        return x + self.feed_forward(self.norm_3(x))


class Stack(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.layers = nn.ModuleList(Layer(sizes, number == 0) for number in range(sizes["n_layers"]))
        self.norm = Norm(sizes["embedding_dim"])

    def forward(self, x: Tensor) -> Tensor:
        bias = self.layers[0].self_attn.bias(x.shape[1])
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x)


class Classifier(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        written = sizes["n_codebooks"] - sizes["n_conditioning_codebooks"]
        self.layers = nn.ModuleList([nn.Conv1d(sizes["embedding_dim"], sizes["vocab_size"] * written, 1)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x.transpose(1, 2))


class Transformer(nn.Module):
    """Coarse or c2f: what each masked code could be."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.vocabulary = sizes["vocab_size"]
        self.embedding, self.transformer, self.classifier = Embedding(sizes), Stack(sizes), Classifier(sizes)

    def forward(self, codes: Tensor, codebooks: Tensor) -> Tensor:
        """Logits float32 [batch, written, time, vocabulary].

        codes: int64 [batch, n_codebooks, time], of which `vocab_size` stands for a masked one. codebooks: float32
        [n_codebooks, vocab_size, latent_dim], the codec's. The classifier's channels are vocabulary by written.
        """
        logits = self.classifier(self.transformer(self.embedding(codes, codebooks)))
        return logits.unflatten(1, (self.vocabulary, -1)).permute(0, 2, 3, 1)


class Snake(nn.Module):
    """x + sin²(αx) / α, an α a channel (snake in lac/nn/layers.py)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).pow(2)


def convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    """One that keeps the length."""
    return nn.Conv1d(inputs, outputs, kernel, padding=(kernel - 1) * dilation // 2, dilation=dilation)


class EncoderLayer(nn.Module):
    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.block = nn.Sequential(Snake(channels), convolution(channels, channels, 7, dilation),
                                   Snake(channels), convolution(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class EncoderBlock(nn.Module):
    def __init__(self, channels: int, rate: int):
        super().__init__()
        self.block = nn.Sequential(*(EncoderLayer(channels, dilation) for dilation in (1, 3, 9)), Snake(channels),
                                   nn.Conv1d(channels, 2 * channels, 2 * rate, rate, rate // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Encoder(nn.Module):
    def __init__(self, channels: int, rates: Sequence[int]):
        super().__init__()
        widths = [channels * 2**number for number in range(len(rates) + 1)]
        self.block = nn.Sequential(convolution(1, channels, 7), *map(EncoderBlock, widths, rates),
                                   Snake(widths[-1]), convolution(widths[-1], widths[-1], 3))

    def forward(self, audio: Tensor) -> Tensor:
        return self.block(audio)


class Quantizer(nn.Module):
    """One codebook: the nearest of its vectors once both are of length 1."""

    def __init__(self, channels: int, size: int, width: int):
        super().__init__()
        self.in_proj, self.out_proj = nn.Conv1d(channels, width, 1), nn.Conv1d(width, channels, 1)
        self.codebook = nn.Embedding(size, width)

    def code(self, z: Tensor) -> Tensor:
        """z [batch, channels, time] → int64 [batch, time]"""
        vectors = functional.normalize(self.in_proj(z).transpose(1, 2), dim=2)
        table = functional.normalize(self.codebook.weight)
        distance = vectors.pow(2).sum(2, keepdim=True) - 2 * vectors @ table.t() + table.pow(2).sum(1)
        return distance.argmin(2)

    def value(self, codes: Tensor) -> Tensor:
        """codes [batch, time] → [batch, channels, time]"""
        return self.out_proj(self.codebook(codes).transpose(1, 2))


class Quantizers(nn.Module):
    """Codebooks one after another: each codes what those before it left over."""

    def __init__(self, channels: int, sizes: Sizes):
        super().__init__()
        self.quantizers = nn.ModuleList(Quantizer(channels, sizes["codebook_size"], sizes["codebook_dim"])
                                        for _ in range(sizes["n_codebooks"]))

    def codes(self, z: Tensor) -> Tensor:
        """z [batch, channels, time] → int64 [batch, codebooks, time]"""
        found = []
        for quantizer in self.quantizers:
            found.append(quantizer.code(z))
            z = z - quantizer.value(found[-1])
        return torch.stack(found, 1)

    def values(self, codes: Tensor) -> Tensor:
        """codes [batch, codebooks, time] → [batch, channels, time]"""
        return sum(quantizer.value(codes[:, number]) for number, quantizer in enumerate(self.quantizers))


class ResidualLayer(nn.Module):
    def __init__(self, channels: int, kernel: int, dilation: int):
        super().__init__()
        self.layer = nn.Sequential(Snake(channels), convolution(channels, channels, kernel, dilation),
                                   Snake(channels), convolution(channels, channels, kernel))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.block = nn.Sequential(*(ResidualLayer(channels, kernel, dilation) for dilation in (1, 3, 5)))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class ResidualBlocks(nn.Module):
    """The mean of blocks of several widths."""

    def __init__(self, channels: int):
        super().__init__()
        self.mrf_blocks = nn.ModuleList(ResidualBlock(channels, kernel) for kernel in (3, 7, 11))

    def forward(self, x: Tensor) -> Tensor:
        return sum(block(x) for block in self.mrf_blocks) / len(self.mrf_blocks)


class DecoderBlock(nn.Module):
    def __init__(self, channels: int, rate: int):
        super().__init__()
        self.block = nn.Sequential(Snake(channels),
                                   nn.ConvTranspose1d(channels, channels // 2, 2 * rate, rate, rate // 2),
                                   ResidualBlocks(channels // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Decoder(nn.Module):
    def __init__(self, inputs: int, channels: int, rates: Sequence[int]):
        super().__init__()
        widths = [channels // 2**number for number in range(len(rates) + 1)]
        self.model = nn.Sequential(convolution(inputs, channels, 7), *map(DecoderBlock, widths, rates),
                                   Snake(widths[-1]), convolution(widths[-1], 1, 7), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z)


class Codec(nn.Module):
    """Sound to codes and back."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.hop = math.prod(sizes["encoder_rates"])
        channels = sizes["encoder_dim"] * 2 ** len(sizes["encoder_rates"])
        self.encoder = Encoder(sizes["encoder_dim"], sizes["encoder_rates"])
        self.quantizer = Quantizers(channels, sizes)
        self.decoder = Decoder(channels, sizes["decoder_dim"], sizes["decoder_rates"])

    def encode(self, audio: Tensor) -> Tensor:
        """audio float32 [batch, samples], filled up with 0 to whole frames → codes int64 [batch, codebooks, frames]"""
        padded = functional.pad(audio, (0, -audio.shape[-1] % self.hop))
        return self.quantizer.codes(self.encoder(padded[:, None]))

    def decode(self, codes: Tensor) -> Tensor:
        """codes int64 [batch, codebooks, frames] → audio float32 [batch, frames * hop]"""
        return self.decoder(self.quantizer.values(codes))[:, 0]
