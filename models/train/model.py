"""The architecture of the bundled model, a small Llama, and of its hybrid variant, a small LFM2, in which most layers have a
short convolution instead of attention. Tensors and hyperparameters have the names used in GGUF."""

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
    attention_every: int = 1  # more than 1: only the last of so many layers has attention
    n_conv: int = 3           # tokens that a short convolution covers

    @property
    def hybrid(self):
        return self.attention_every > 1

    def has_attention(self, layer):
        return (layer + 1) % self.attention_every == 0


HYBRID = Shape(n_layer=8, attention_every=4)


def rotate(x, cos, sin, hybrid):
    """Rotates adjacent pairs of values, as GGUF's llama architecture expects, or pairs of the two halves, as its lfm2
    architecture does. x: [batch, head, token, head_dim]."""
    if hybrid:
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class ShortConvolution(nn.Module):
    """Mixes each token with the few before it; two gates depend on the token."""

    def __init__(self, shape):
        super().__init__()
        self.n_conv = shape.n_conv
        self.in_proj = nn.Linear(shape.n_embd, 3 * shape.n_embd, bias=False)
        self.conv = nn.Parameter(torch.empty(shape.n_embd, shape.n_conv))
        self.out_proj = nn.Linear(shape.n_embd, shape.n_embd, bias=False)

    def forward(self, x, cos, sin):
        before, after, x = self.in_proj(x).chunk(3, dim=-1)
        padded = F.pad(before * x, (0, 0, self.n_conv - 1, 0))
        n = x.shape[1]
        mixed = sum(padded[:, i:i + n] * self.conv[:, i] for i in range(self.n_conv))
        return self.out_proj(after * mixed)


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        q, kv = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim
        self.attn_qkv = nn.Linear(shape.n_embd, q + 2 * kv, bias=False)
        self.attn_output = nn.Linear(q, shape.n_embd, bias=False)
        if shape.hybrid:
            self.attn_q_norm = nn.RMSNorm(shape.head_dim, eps=shape.norm_eps)
            self.attn_k_norm = nn.RMSNorm(shape.head_dim, eps=shape.norm_eps)

    def forward(self, x, cos, sin):
        s = self.shape
        batch, n, _ = x.shape
        qkv = self.attn_qkv(x).view(batch, n, s.n_head + 2 * s.n_head_kv, s.head_dim).transpose(1, 2)
        q, k, v = qkv.split((s.n_head, s.n_head_kv, s.n_head_kv), dim=1)
        if s.hybrid:
            q, k = self.attn_q_norm(q), self.attn_k_norm(k)
        q, k = rotate(q, cos, sin, s.hybrid), rotate(k, cos, sin, s.hybrid)
        repeat = s.n_head // s.n_head_kv
        k, v = (t.repeat_interleave(repeat, dim=1) for t in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attn_output(a.transpose(1, 2).reshape(batch, n, -1))


class Layer(nn.Module):
    def __init__(self, shape, index):
        super().__init__()
        self.attn_norm = nn.RMSNorm(shape.n_embd, eps=shape.norm_eps)
        self.mixer = Attention(shape) if shape.has_attention(index) else ShortConvolution(shape)
        self.ffn_norm = nn.RMSNorm(shape.n_embd, eps=shape.norm_eps)
        self.ffn_gate_up = nn.Linear(shape.n_embd, 2 * shape.n_ff, bias=False)
        self.ffn_down = nn.Linear(shape.n_ff, shape.n_embd, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.mixer(self.attn_norm(x), cos, sin)
        gate, up = self.ffn_gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.ffn_down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)  # also the output matrix
        self.layers = nn.ModuleList(Layer(shape, i) for i in range(shape.n_layer))
        self.output_norm = nn.RMSNorm(shape.n_embd, eps=shape.norm_eps)
        for name, p in self.named_parameters():
            if p.dim() < 2:
                continue
            std = 0.02 if name == "token_embd.weight" else 1 / math.sqrt(p.shape[1])
            if name.endswith(("attn_output.weight", "out_proj.weight", "ffn_down.weight")):
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
