"""MT3's network in PyTorch, as mt3/network.py and mt3/layers.py have it.

T5 1.1 with its own ends: a projection of mel frames instead of an embedding of text, fixed sinusoids instead of
relative positions, logits apart from the embedding. RMS norms, gated gelu in its tanh form, no biases, attention
without 1/sqrt(d). Nothing masks the encoder: padding is heard, as upstream has it.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.mt3.weights import Sizes

EPSILON = 1e-6  # LayerNorm in mt3/layers.py
State = tuple[Tensor, Tensor]  # keys, values: [batch, heads, time, head_dim]


def sinusoids(length: int, width: int) -> Tensor:
    """The fixed positions, float32 [length, width]: sines, then cosines (sinusoidal in mt3/layers.py)."""
    half = width // 2
    periods = np.exp(np.arange(half) * (-np.log(10000.0) / (half - 1)))
    angles = np.arange(length)[:, None] * periods
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32))


def dense(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def norm(width: int) -> nn.RMSNorm:
    return nn.RMSNorm(width, eps=EPSILON)


class Attention(nn.Module):
    """Queries to keys and values, in heads side by side."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        width = sizes["num_heads"] * sizes["head_dim"]
        self.head_dim = sizes["head_dim"]
        self.query, self.key, self.value = (dense(sizes["emb_dim"], width) for _ in range(3))
        self.out = dense(width, sizes["emb_dim"])

    def heads(self, x: Tensor) -> Tensor:
        """[batch, time, width] → [batch, heads, time, head_dim]"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def state(self, seen: Tensor) -> State:
        """The keys and values of what is seen [batch, time, emb_dim]."""
        return self.heads(self.key(seen)), self.heads(self.value(seen))

    def forward(self, x: Tensor, state: State, causal: bool = False) -> Tensor:
        query = self.heads(self.query(x))
        attended = functional.scaled_dot_product_attention(query, *state, is_causal=causal, scale=1.0)
        return self.out(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.wi_0, self.wi_1 = (dense(sizes["emb_dim"], sizes["mlp_dim"]) for _ in range(2))
        self.wo = dense(sizes["mlp_dim"], sizes["emb_dim"])

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(functional.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class EncoderLayer(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.pre_attention_layer_norm, self.pre_mlp_layer_norm = norm(sizes["emb_dim"]), norm(sizes["emb_dim"])
        self.attention, self.mlp = Attention(sizes), FeedForward(sizes)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.pre_attention_layer_norm(x)
        x = x + self.attention(normed, self.attention.state(normed))
        return x + self.mlp(self.pre_mlp_layer_norm(x))


class DecoderLayer(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.pre_self_attention_layer_norm, self.self_attention = norm(sizes["emb_dim"]), Attention(sizes)
        self.pre_cross_attention_layer_norm, self.encoder_decoder_attention = norm(sizes["emb_dim"]), Attention(sizes)
        self.pre_mlp_layer_norm, self.mlp = norm(sizes["emb_dim"]), FeedForward(sizes)

    def forward(self, x: Tensor, heard: State, past: State | None = None) -> tuple[Tensor, State]:
        """All tokens at once, or one that follows the past; with the keys and values of all tokens so far."""
        normed = self.pre_self_attention_layer_norm(x)
        state = self.self_attention.state(normed)
        if past is not None:
            state = torch.cat([past[0], state[0]], 2), torch.cat([past[1], state[1]], 2)
        x = x + self.self_attention(normed, state, causal=past is None)
        x = x + self.encoder_decoder_attention(self.pre_cross_attention_layer_norm(x), heard)
        return x + self.mlp(self.pre_mlp_layer_norm(x)), state


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.continuous_inputs_projection = dense(sizes["input_depth"], sizes["emb_dim"])
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes["num_encoder_layers"]))
        self.encoder_norm = norm(sizes["emb_dim"])

    def forward(self, mel: Tensor) -> Tensor:
        x = self.continuous_inputs_projection(mel)
        x = x + sinusoids(*x.shape[1:])
        for layer in self.layers:
            x = layer(x)
        return self.encoder_norm(x)


class Decoder(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.token_embedder = nn.Embedding(sizes["vocab_size"], sizes["emb_dim"])
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes["num_decoder_layers"]))
        self.decoder_norm = norm(sizes["emb_dim"])
        self.logits_dense = dense(sizes["emb_dim"], sizes["vocab_size"])

    def hear(self, encoded: Tensor) -> list[State]:
        """Each layer's keys and values of the encoder's output."""
        return [layer.encoder_decoder_attention.state(encoded) for layer in self.layers]

    def forward(self, tokens: Tensor, positions: Tensor, heard: list[State], past: list[State] | None = None
                ) -> tuple[Tensor, list[State]]:
        x = self.token_embedder(tokens) + positions
        states = []
        for number, layer in enumerate(self.layers):
            x, state = layer(x, heard[number], past[number] if past else None)
            states.append(state)
        return self.logits_dense(self.decoder_norm(x)), states


class Transcriber(nn.Module):
    """The network, of which encode and decode are the two halves."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.encoder, self.decoder = Encoder(sizes), Decoder(sizes)
        self.emb_dim = sizes["emb_dim"]

    def encode(self, mel: Tensor) -> Tensor:
        """Log-mel frames float32 [batch, frames, input_depth] → [batch, frames, emb_dim]"""
        return self.encoder(mel)

    def decode(self, tokens: Tensor, encoded: Tensor) -> Tensor:
        """Logits float32 [batch, time, vocab_size] after each of the tokens int64 [batch, time], which begin with 0."""
        positions = sinusoids(tokens.shape[1], self.emb_dim)
        return self.decoder(tokens, positions, self.decoder.hear(encoded))[0]

    @torch.inference_mode()
    def generate(self, mel: Tensor, length: int) -> Tensor:
        """The likeliest token after those before it, `length` times: int64 [batch, length].

        What follows 1, the end of a row, means nothing. mel: float32 [batch, frames, input_depth].
        temperature_sample in t5x/decoding.py, at temperature 0.
        """
        heard = self.decoder.hear(self.encode(mel))
        positions = sinusoids(length, self.emb_dim)
        tokens, past = [torch.zeros(len(mel), dtype=torch.int64)], None
        for position in positions:
            logits, past = self.decoder(tokens[-1][:, None], position, heard, past)
            tokens.append(logits[:, -1].argmax(-1))
        return torch.stack(tokens[1:], 1)
