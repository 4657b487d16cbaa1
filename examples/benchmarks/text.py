"""Bits per character of text: `recurrent` beside an interpolated 5-gram on the same split.

    python examples/benchmarks/text.py [--quick] [--steps S] [--hidden H]

Text: the help topics of the Python that is running (`zoo.datasets.text.python_topics`), the last tenth held out. The
5-gram is interpolated after Witten & Bell (1991): P(c | h) = (n(h, c) + t(h) P(c | h')) / (n(h) + t(h)), t(h) distinct
characters seen after h, h' without its first character, down to equal probabilities. It knows what stands before each
character of the held-out text; `recurrent` starts anew every 256 characters, which can only cost it. One thread.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict

import torch

import inference
import zoo
from zoo.datasets import text

ORDER = 5


def ngram(train, test, letters, order=ORDER):
    """Bits per character of the interpolated n-gram."""
    counts = [defaultdict(lambda: defaultdict(int)) for _ in range(order)]
    for at, letter in enumerate(train):
        for n in range(min(order, at + 1)):
            counts[n][train[at - n : at]][letter] += 1
    bits = 0.0
    for at, letter in enumerate(test):
        probability = 1 / len(letters)
        for n in range(min(order, at + 1)):
            after = counts[n].get(test[at - n : at])
            if after is None:
                break
            total, kinds = sum(after.values()), len(after)
            probability = (after.get(letter, 0) + kinds * probability) / (total + kinds)
        bits -= math.log2(probability)
    return bits / len(test)


def recurrent(train, test, letters, steps, hidden):
    """Bits per character of `recurrent`, a GRU."""
    torch.manual_seed(0)
    pair = zoo.create("recurrent", alphabet=letters, hidden=hidden, steps=128)
    print(inference.fit(pair, train, steps=steps, batch_size=32, lr=5e-3, compile="off", progress=False), flush=True)
    held_out = text.windows(test, letters, 256)
    scores = inference.log_likelihood(pair, inference.Posterior({}, size=1), held_out)
    return -float(scores.sum()) / len(test) / math.log(2)


def main(arguments=None):
    """Print both numbers and return them by name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="five steps on a tenth of the text")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--hidden", type=int, default=256)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    whole = text.python_topics()
    whole = whole[: len(whole) // 10] if options.quick else whole
    letters = text.alphabet(whole)
    cut = len(whole) - len(whole) // 10
    train, test = whole[:cut], whole[cut:]
    found = {f"{ORDER}-gram": ngram(train, test, letters)}
    print(found, flush=True)
    found["recurrent"] = recurrent(train, test, letters, 5 if options.quick else options.steps, options.hidden)
    print(f"{len(train):,} characters learnt, {len(test):,} held out; bits per character:")
    for name, value in found.items():
        print(f"  {name}: {value:.3f}")
    return found


if __name__ == "__main__":
    main()
