#!/usr/bin/env python3
"""Makes and checks stories under grammar.txt (standard library only).

usage: make_stories.py COUNT [SEED]     prints that many stories
       make_stories.py --check FILE     says how many lines of FILE are stories
"""
import random
import re
import sys
from pathlib import Path

TOKEN = re.compile(r"\{(\w+)\}|(\$\w+)")


def pieces(text):
    """Cuts an alternative into ('text', s), ('rule', name) and ('variable', name)."""
    out, at = [], 0
    for match in TOKEN.finditer(text):
        if match.start() > at:
            out.append(("text", text[at:match.start()]))
        out.append(("rule", match[1]) if match[1] else ("variable", match[2]))
        at = match.end()
    if at < len(text):
        out.append(("text", text[at:]))
    return out


class Grammar:
    """Alternatives by rule and by variable."""

    def __init__(self, path):
        self.alternatives = {}
        name = None
        for line in Path(path).read_text(encoding="ascii").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith(" "):
                self.alternatives[name].append(pieces(line.strip()))
            else:
                name = line.strip().rstrip(":")
                self.alternatives[name] = []

    def make(self, rng, rule="story", bound=None):
        """One random expansion; `bound` collects the variables."""
        bound = {} if bound is None else bound
        out = []
        for kind, value in rng.choice(self.alternatives[rule]):
            if kind == "text":
                out.append(value)
            elif kind == "rule":
                out.append(self.make(rng, value, bound))
            else:
                if value not in bound:
                    bound[value] = rng.choice(self.alternatives[value])[0][1]
                out.append(bound[value])
        return "".join(out)

    def parses(self, text):
        """Whether `text` is a story."""
        return any(rest == "" for rest, _ in self._match([("rule", "story")], text, {}))

    def _match(self, symbols, text, bound):
        """Every way to consume `symbols` from the front of `text`: (rest, variables)."""
        if not symbols:
            yield text, bound
            return
        (kind, value), rest = symbols[0], symbols[1:]
        if kind == "text":
            if text.startswith(value):
                yield from self._match(rest, text[len(value):], bound)
        elif kind == "variable" and value in bound:
            yield from self._match([("text", bound[value])] + rest, text, bound)
        else:
            for alternative in self.alternatives[value]:
                now = bound
                if kind == "variable":
                    now = {**bound, value: alternative[0][1]}
                yield from self._match(alternative + rest, text, now)


GRAMMAR = Grammar(Path(__file__).with_name("grammar.txt"))


def prompts(count, seed):
    """Beginnings of `count` distinct stories: one, two or three sentences."""
    rng, seen = random.Random(seed), []
    while len(seen) < count:
        bound = {}
        names = ["opening", "wish", "lack"][: 1 + len(seen) % 3]
        text = " ".join(GRAMMAR.make(rng, name, bound) for name in names)
        if text not in seen:
            seen.append(text)
    return seen


def main(arguments):
    if arguments[:1] == ["--check"]:
        lines = Path(arguments[1]).read_text(encoding="utf-8").splitlines()
        good = sum(GRAMMAR.parses(line) for line in lines)
        print(f"{good} of {len(lines)} lines are stories")
        return 0 if good == len(lines) else 1
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    rng = random.Random(int(arguments[1]) if len(arguments) > 1 else 1)
    for _ in range(int(arguments[0])):
        print(GRAMMAR.make(rng))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
