"""The architecture of the bundled model: a small Llama. Tensors and hyperparameters have the names used in GGUF."""

import dataclasses
import math

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass
class Shape:
    n_vocab: int = 1536
    n_layer: int = 6
    n_embd: int = 128
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 32
    n_ff: int = 320
    rope_base: float = 500_000.0
    norm_eps: float = 1e-5


def rotate(x, cos, sin):
    """Rotates adjacent pairs of values, as GGUF's llama architecture expects. x: [batch, head, token, head_dim]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        q, kv = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim
        self.attn_norm = nn.RMSNorm(shape.n_embd, eps=shape.norm_eps)
        self.attn_qkv = nn.Linear(shape.n_embd, q + 2 * kv, bias=False)
        self.attn_output = nn.Linear(q, shape.n_embd, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.n_embd, eps=shape.norm_eps)
        self.ffn_gate_up = nn.Linear(shape.n_embd, 2 * shape.n_ff, bias=False)
        self.ffn_down = nn.Linear(shape.n_ff, shape.n_embd, bias=False)

    def forward(self, x, cos, sin):
        s = self.shape
        batch, n, _ = x.shape
        qkv = self.attn_qkv(self.attn_norm(x)).view(batch, n, s.n_head + 2 * s.n_head_kv, s.head_dim).transpose(1, 2)
        q, k, v = qkv.split((s.n_head, s.n_head_kv, s.n_head_kv), dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        repeat = s.n_head // s.n_head_kv
        k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(a.transpose(1, 2).reshape(batch, n, -1))
        gate, up = self.ffn_gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.ffn_down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)  # also the output matrix
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.n_layer))
        self.output_norm = nn.RMSNorm(shape.n_embd, eps=shape.norm_eps)
        for name, p in self.named_parameters():
            if p.dim() < 2:
                continue
            std = 0.02 if name == "token_embd.weight" else 1 / math.sqrt(p.shape[1])
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                std /= math.sqrt(2 * shape.n_layer)
            nn.init.normal_(p, std=std)

    def hidden(self, tokens):
        """Maps token ids [batch, n] to normalised hidden states [batch, n, n_embd]."""
        s = self.shape
        inverse = s.rope_base ** (-torch.arange(0, s.head_dim, 2, dtype=torch.float32) / s.head_dim)
        angles = torch.arange(tokens.shape[1], dtype=torch.float32)[:, None] * inverse
        cos, sin = angles.cos(), angles.sin()
        x = self.token_embd(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.output_norm(x)

    def loss(self, tokens, weights):
        """Weighted mean cross-entropy of the next tokens. weights: [batch, n - 1], 0 for tokens not to be learned."""
        hidden = self.hidden(tokens[:, :-1])
        chosen = weights > 0
        logits = hidden[chosen] @ self.token_embd.weight.T
        losses = F.cross_entropy(logits.float(), tokens[:, 1:][chosen], reduction="none")
        w = weights[chosen]
        return (losses * w).sum() / w.sum()
