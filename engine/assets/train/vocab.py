"""The vocabulary of the demo models: pieces of words with a score, and bytes for the rest.

Encoding is the SPM rule: start from characters, and merge the neighbours whose piece has the
highest score until none is left. Scores fall with the order in which training merged them.
"""
import collections

SPACE = "\u2581"
UNK, BOS, EOS = 0, 1, 2
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def words(text):
    """Words of a text, each with the mark of the space before it."""
    return [SPACE + word for word in text.split(" ")]


def train(texts, size):
    """Pieces and scores: specials, bytes, characters, then merges by frequency."""
    counts = collections.Counter(word for text in texts for word in words(text))
    splits = {word: list(word) for word in counts}
    characters = sorted({c for word in counts for c in word})
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + characters
    merges = []
    while len(pieces) + len(merges) < size:
        pairs = collections.Counter()
        for word, split in splits.items():
            for pair in zip(split, split[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        (left, right), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
        merges.append(left + right)
        for word, split in splits.items():
            splits[word] = merge(split, left + right)
    first = len(pieces)
    pieces += merges
    scores = [0.0] * 259 + [-1e6] * len(characters)
    scores += [-float(index - first + 1) for index in range(first, len(pieces))]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (len(pieces) - 259)
    return pieces, scores, types


def merge(split, piece):
    """Joins neighbours that make `piece`, from the left."""
    out = []
    for part in split:
        if out and out[-1] + part == piece:
            out[-1] = piece
        else:
            out.append(part)
    return out


class Vocab:
    """Encodes and decodes."""

    def __init__(self, pieces, scores):
        self.pieces = pieces
        self.ids = {piece: index for index, piece in enumerate(pieces)}
        self.scores = scores
        self.cache = {}

    def encode_word(self, word):
        if word not in self.cache:
            split = list(word)
            while True:
                best = max(
                    ((self.scores[self.ids[a + b]], -at) for at, (a, b) in
                     enumerate(zip(split, split[1:])) if a + b in self.ids),
                    default=None)
                if best is None:
                    break
                at = -best[1]
                split[at:at + 2] = [split[at] + split[at + 1]]
            ids = []
            for part in split:
                if part in self.ids:
                    ids.append(self.ids[part])
                else:
                    ids += [3 + byte for byte in part.encode("utf-8")]
            self.cache[word] = ids
        return self.cache[word]

    def encode(self, text):
        """Ids of a text, with the begin token."""
        return [BOS] + [token for word in words(text) for token in self.encode_word(word)]

    def decode(self, ids):
        """Text of ids, without specials and without the first space."""
        text = "".join(self.pieces[token] for token in ids if token > 258)
        return text.replace(SPACE, " ").removeprefix(" ")
