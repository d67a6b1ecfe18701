#!/usr/bin/env python3
"""Trains the demo model with experts, in the vocabulary of the dense one, and writes it as Q8_0.

usage: train_moe.py OUT.gguf DENSE.gguf [--steps N] [--minutes M]
"""
import argparse
import math
import random

import gguf
import torch
from torch.nn import functional as F

import gguf_file
import vocab as vocabulary
from make_golden import read_vocab
from model import Config, Experts, Llama
from train_dense import GRAMMAR, parse_rate, train

CONFIG = Config(dim=128, layers=4, heads=4, kv_heads=2, ffn=32, experts=24, picks=4, eps=1e-6)
BALANCE = 0.02


def routers(model):
    return [layer.ffn for layer in model.layers if isinstance(layer.ffn, Experts)]


def balance_loss(model):
    """Share of picks times share of probability, summed: least when every expert is used alike.

    Source: Fedus et al., Switch Transformers, 2021.
    """
    total = 0.0
    for router in routers(model):
        picks = F.one_hot(router.picked, router.c.experts).float().mean((0, 1, 2))
        total = total + router.c.experts * (picks * router.shares.mean((0, 1))).sum()
    return BALANCE * total


@torch.no_grad()
def statistics(model, texts):
    """Per layer: entropy of the picks in bits, share of the hottest quarter, overlap of the picks
    of neighbouring tokens."""
    seen = [[] for _ in routers(model)]
    for ids in texts:
        model(torch.tensor([ids]))
        for picks, router in zip(seen, routers(model)):
            picks.append(F.one_hot(router.picked[0], router.c.experts).sum(-2))
    rows = []
    for picks, router in zip(seen, routers(model)):
        share = torch.cat(picks).sum(0).double()
        share /= share.sum()
        common = torch.cat([(one[1:] * one[:-1]).sum(-1) for one in picks]).double()
        rows.append((-float((share * share.clamp_min(1e-12).log2()).sum()),
                     float(share.topk(router.c.experts // 4).values.sum()),
                     float(common.mean()) / router.c.picks))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("dense")
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--minutes", type=float, default=20)
    arguments = parser.parse_args()
    torch.manual_seed(2)
    pieces, scores, types = read_vocab(arguments.dense)
    vocab = vocabulary.Vocab(pieces, scores)
    model = Llama(CONFIG)
    seconds = train(model, vocab, arguments.steps, arguments.minutes, 4e-3, balance_loss)
    gguf_file.write(arguments.out, model, gguf.GGMLQuantizationType.Q8_0, "larder story moe",
                    (pieces, scores, types))
    stored = gguf_file.read(arguments.out)
    rate, bad = parse_rate(stored, vocab, 90, 7)
    print(f"trained {seconds:.0f} s; {rate:.1%} of 90 greedy stories parse; first bad: {bad}")
    texts = [vocab.encode(GRAMMAR.make(random.Random(seed))) for seed in range(9000, 9100)]
    for layer, (entropy, hottest, overlap) in enumerate(statistics(stored, texts)):
        print(f"layer {layer}: entropy {entropy:.3f} of {math.log2(CONFIG.experts):.3f} bits, "
              f"hottest quarter {hottest:.3f} of picks, neighbours share {overlap:.3f}")


if __name__ == "__main__":
    main()
