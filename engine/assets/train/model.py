"""A llama, or a qwen3-moe, in float32: RMSNorm, rotary positions over halves, grouped heads,
SwiGLU, tied head; with experts also norms on the heads of q and k.

Shapes: B sequences, T tokens, D residual, H heads, K KV heads, E elements of a head.
Source: Touvron et al., LLaMA, 2023; Su et al., RoFormer, 2021; Ainslie et al., GQA, 2023.
"""
import dataclasses

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass
class Config:
    vocab: int = 512
    dim: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 1
    head_dim: int = 32
    ffn: int = 512
    context: int = 512
    eps: float = 1e-5
    theta: float = 10000.0
    tied: bool = True
    # Experts of width `ffn`, and how many of them a token picks; 0 is a dense model.
    experts: int = 0
    picks: int = 0


class Norm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def angles(config, length, device=None):
    """cos and sin, (T, E/2)."""
    half = torch.arange(0, config.head_dim, 2, device=device).float() / config.head_dim
    turns = torch.arange(length, device=device).float()[:, None] * (1.0 / config.theta ** half)
    return turns.cos(), turns.sin()


def rotate(x, cos, sin):
    """x (B, heads, T, E): pairs element i with element i + E/2."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q = nn.Linear(c.dim, c.heads * c.head_dim, bias=False)
        self.k = nn.Linear(c.dim, c.kv_heads * c.head_dim, bias=False)
        self.v = nn.Linear(c.dim, c.kv_heads * c.head_dim, bias=False)
        self.o = nn.Linear(c.heads * c.head_dim, c.dim, bias=False)
        self.q_norm = Norm(c.head_dim, c.eps) if c.experts else nn.Identity()
        self.k_norm = Norm(c.head_dim, c.eps) if c.experts else nn.Identity()

    def forward(self, x, cos, sin):
        c, (batch, length, _) = self.c, x.shape
        split = lambda y, heads: y.view(batch, length, heads, c.head_dim).transpose(1, 2)
        q = rotate(self.q_norm(split(self.q(x), c.heads)), cos, sin)
        k = rotate(self.k_norm(split(self.k(x), c.kv_heads)), cos, sin)
        k = k.repeat_interleave(c.heads // c.kv_heads, 1)
        v = split(self.v(x), c.kv_heads).repeat_interleave(c.heads // c.kv_heads, 1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(out.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate = nn.Linear(c.dim, c.ffn, bias=False)
        self.up = nn.Linear(c.dim, c.ffn, bias=False)
        self.down = nn.Linear(c.ffn, c.dim, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Softmax over all experts, the best `picks` renormalised, their outputs summed.

    Every expert is evaluated for every token: for so few and small ones that is quicker than
    sorting tokens. `shares` and `picked` of the last call stay for the balance loss and for the
    statistics. Source: Yang et al., Qwen3 technical report, 2025.
    """

    def __init__(self, c):
        super().__init__()
        self.c, width = c, c.ffn * c.experts
        self.router = nn.Linear(c.dim, c.experts, bias=False)
        self.gate = nn.Linear(c.dim, width, bias=False)
        self.up = nn.Linear(c.dim, width, bias=False)
        self.down = nn.Linear(width, c.dim, bias=False)
        self.shares = self.picked = None

    def forward(self, x):
        self.shares = self.router(x).softmax(-1)
        best, self.picked = self.shares.topk(self.c.picks, -1)
        weight = torch.zeros_like(self.shares)
        weight = weight.scatter(-1, self.picked, best / best.sum(-1, keepdim=True))
        hidden = (F.silu(self.gate(x)) * self.up(x)).unflatten(-1, (self.c.experts, self.c.ffn))
        return self.down((hidden * weight.unsqueeze(-1)).flatten(-2))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attention_norm, self.ffn_norm = Norm(c.dim, c.eps), Norm(c.dim, c.eps)
        self.attention, self.ffn = Attention(c), Experts(c) if c.experts else FeedForward(c)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.ffn(self.ffn_norm(x))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embedding = nn.Embedding(c.vocab, c.dim)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = Norm(c.dim, c.eps)
        self.head = None if c.tied else nn.Linear(c.dim, c.vocab, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02 if "embedding" in name else weight.shape[1] ** -0.5)

    def forward(self, ids):
        """Logits (B, T, V) of ids (B, T)."""
        cos, sin = angles(self.c, ids.shape[1], ids.device)
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        x = self.norm(x)
        return x @ self.embedding.weight.T if self.head is None else self.head(x)


@torch.no_grad()
def greedy(model, prompts, count, stop):
    """Greedy ids after prompts (all in one batch, grouped by length); ends at `stop`."""
    outputs = [None] * len(prompts)
    groups = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(index)
    for members in groups.values():
        ids = torch.tensor([prompts[index] for index in members])
        start = ids.shape[1]
        for _ in range(count):
            ids = torch.cat([ids, model(ids)[:, -1].argmax(-1, keepdim=True)], 1)
            if bool((ids[:, start:] == stop).any(1).all()):
                break
        for row, index in zip(ids[:, start:].tolist(), members):
            outputs[index] = row[: row.index(stop)] if stop in row else row
    return outputs
