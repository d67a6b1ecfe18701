#!/usr/bin/env python3
"""Trains the dense demo model on stories and writes it as Q8_0 GGUF.

usage: train_dense.py OUT.gguf [--steps N] [--minutes M]
"""
import argparse
import math
import random
import sys
import time
from pathlib import Path

import gguf
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent.parent / "stories"))
import gguf_file
import vocab as vocabulary
from make_stories import GRAMMAR, prompts
from model import Config, Llama, greedy

BATCH = 32


def batches(vocab, rng):
    """Endless (inputs, targets) of whole stories, padded with the end token."""
    while True:
        rows = [vocab.encode(GRAMMAR.make(rng)) + [vocabulary.EOS] for _ in range(BATCH)]
        width = max(map(len, rows))
        targets = torch.tensor([row[1:] + [-100] * (width - len(row)) for row in rows])
        inputs = torch.tensor([row[:-1] + [vocabulary.EOS] * (width - len(row)) for row in rows])
        yield inputs, targets


def parse_rate(model, vocab, count, seed):
    """Share of greedy stories that parse, and the first that does not."""
    starts = prompts(count, seed)
    ids = [vocab.encode(start) for start in starts]
    stories = [vocab.decode(prompt + tail)
               for prompt, tail in zip(ids, greedy(model, ids, 160, vocabulary.EOS))]
    bad = [story for story in stories if not GRAMMAR.parses(story)]
    return 1 - len(bad) / count, bad[:1]


def train(model, vocab, steps, minutes, peak=3e-3, extra_loss=lambda model: 0):
    """AdamW with warm-up and cosine decay, by the clock or by steps, whichever ends first."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    data, start = batches(vocab, random.Random(1)), time.time()
    for step in range(steps):
        share = max(step / steps, (time.time() - start) / (60 * minutes))
        if share >= 1:
            break
        rate = peak * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = next(data)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=-100)
        loss = loss + extra_loss(model)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)
    return time.time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--minutes", type=float, default=20)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    texts = [GRAMMAR.make(random.Random(seed)) for seed in range(4000)]
    pieces, scores, types = vocabulary.train(texts, Config.vocab)
    pieces += [f"<pad{index}>" for index in range(Config.vocab - len(pieces))]
    types += [vocabulary.CONTROL] * (len(pieces) - len(types))
    scores += [-1e9] * (len(pieces) - len(scores))
    vocab = vocabulary.Vocab(pieces, scores)
    model = Llama(Config())
    seconds = train(model, vocab, arguments.steps, arguments.minutes)
    gguf_file.write(arguments.out, model, gguf.GGMLQuantizationType.Q8_0, "larder story",
                    (pieces, scores, types))
    rate, bad = parse_rate(gguf_file.read(arguments.out), vocab, 90, 7)
    print(f"trained {seconds:.0f} s; {rate:.1%} of 90 greedy stories parse; first that does not: {bad}")


if __name__ == "__main__":
    main()
