"""Writing on: a recurrent model that has read four sonnets by Shakespeare, and is asked to go on after two words.

Characters are drawn one after the other. A low temperature, or top-p, keeps to what the model thinks likely. Four
sonnets teach it letters that go together, and little English. How much, a sonnet it has not read tells: the bits that
each next character takes, beside what their frequencies alone come to. The picture shows that sonnet, each character
the darker the less it was expected.

    python examples/text_generation.py [FOLDER FOR THE PICTURE]
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

import inference
import zoo
from zoo.datasets import text

PREFIX = "Shall I"
STEPS = 64  # characters in a sequence


def main(out: Path = Path("out")) -> float:
    sonnets = text.sonnets()
    cut = sonnets.rindex("\n\n") + 2
    read, unread = sonnets[:cut], sonnets[cut:].strip()
    pair = zoo.create("recurrent", alphabet=text.alphabet(sonnets), hidden=64, steps=STEPS)
    print(inference.fit(pair, read, steps=150, batch_size=16, lr=1e-2, compile="off", progress=False))

    for options in ({"temperature": 1.0}, {"temperature": 0.5}, {"temperature": 1.0, "top_p": 0.7}):
        words = ", ".join(f"{name} {value}" for name, value in options.items())
        print(f"\n{words}:\n{inference.write(pair, prompt=PREFIX, length=120, **options)[0]}")

    found = inference.perplexity(pair, unread)
    mean, alone = found.bits_per_character, frequencies(read, unread, pair.alphabet)
    print(f"\nA sonnet it has not read: {mean:.2f} bits per character; by their frequencies alone: {alone:.2f}.")
    out.mkdir(parents=True, exist_ok=True)
    picture(unread, torch.cat(found.steps) / math.log(2)).savefig(out / "text_generation.png", dpi=150)
    print(f"Can it be believed? {inference.check(pair, unread)}")
    assert mean < 0.85 * alone, f"expected well below {alone:.2f} bits per character, got {mean:.2f}"
    return mean


def frequencies(read: str, unread: str, letters: str) -> float:
    """Bits per character of a text, if characters stood by themselves, as often as in another text (and once more)."""
    count = Counter(read + letters)
    return sum(-math.log2(count[letter] / count.total()) for letter in unread) / len(unread)


def picture(unread: str, surprise: Tensor) -> Figure:
    """The text, each character on a ground that is the darker the more bits it took."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    line, column = 0, 0
    for letter, value in zip(unread, surprise.tolist(), strict=True):
        if letter == "\n":
            line, column = line + 1, 0
            continue
        share = min(value / 8, 1.0)
        axes.add_patch(Rectangle((column, line), 1, 1, color=colormaps["Oranges"](0.75 * share), linewidth=0))
        axes.text(column + 0.5, line + 0.5, letter, ha="center", va="center", family="monospace", fontsize=9)
        column += 1
    axes.set(xlim=(0, max(map(len, unread.split("\n")))), ylim=(line + 1, 0))
    axes.set_title("what a model of four sonnets did not expect of a fifth (dark: 8 bits or more)", fontsize=10)
    axes.axis("off")
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:2]))
