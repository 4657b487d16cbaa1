"""Text as sequences of codes: the characters of an alphabet are 0, 1, ..., in its order.

>>> letters = alphabet("hello")
>>> letters
'ehlo'
>>> decode(encode("hole", letters), letters)
'hole'
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from importlib import resources

import torch
from torch import Tensor

from zoo.batch import Batch

_SHOWN = 12  # characters of context in a message


def alphabet(text: str) -> str:
    """The characters of a text, each once, in the order of their code points.

    Raises:
        ValueError: an empty text, or one of blanks alone.
    """
    if not text:
        raise ValueError("the text is empty: it has no alphabet")
    check_blank(text)
    return "".join(sorted(set(text)))


def check_blank(text: str) -> None:
    """Refuse a text of nothing but blanks, of which there is nothing to learn or to say.

    Raises:
        ValueError: with their number.
    """
    if text and not text.strip():
        raise ValueError(f"the text is blank: {len(text):,} character{'s' * (len(text) > 1)}, all of them white space")


def encode(text: str, letters: str) -> Tensor:
    """Codes of a text's characters, (T,).

    Raises:
        ValueError: an empty text, or a character that the alphabet lacks, with its place.
    """
    if not text:
        raise ValueError("the text is empty")
    code = {letter: i for i, letter in enumerate(letters)}
    try:
        return torch.tensor([code[letter] for letter in text])
    except KeyError as unknown:
        letter = unknown.args[0]
        at = text.index(letter)
        name = unicodedata.name(letter, "no name")
        line, begin = text.count("\n", 0, at) + 1, text.rfind("\n", 0, at) + 1
        where = f" (line {line}, place {at - begin + 1})" if line > 1 else ""
        raise ValueError(
            f"character {at}{where}, {letter!r} ({name}), is not in the alphabet of {len(letters)} characters; "
            f"it stands in {text[max(0, at - _SHOWN) : at + _SHOWN]!r}; leave it out or write another in its place, or "
            "fit a model to a text that holds it"
        ) from None


def decode(codes: Tensor | Iterable[int], letters: str) -> str:
    """The text of codes, (T,).

    Raises:
        ValueError: a number that is no code of the alphabet.
    """
    numbers = codes.tolist() if isinstance(codes, Tensor) else list(codes)
    for at, code in enumerate(numbers):
        if not (code == int(code) and 0 <= code < len(letters)):
            raise ValueError(f"code {at}: expected a whole number from 0 to {len(letters) - 1}, got {code}")
    return "".join(letters[int(code)] for code in numbers)


def windows(text: str, letters: str, steps: int) -> Batch:
    """A text cut into consecutive sequences of `steps` characters, the last one shorter: x (N, T) and lengths (N,).

    Raises:
        ValueError: see `encode`.
    """
    codes = encode(text, letters)
    rows = -(-len(codes) // steps)
    x = torch.zeros(rows * steps, dtype=codes.dtype)
    x[: len(codes)] = codes
    lengths = torch.full((rows,), steps)
    lengths[-1] = len(codes) - (rows - 1) * steps
    return Batch(rows, rows, x=x.unflatten(0, (rows, steps)), lengths=lengths)


def lines(texts: Sequence[str], letters: str) -> Batch:
    """Texts as sequences, one each: x (N, T) and lengths (N,), zeros past the end of each.

    Raises:
        ValueError: see `encode`; of several texts, with its number from 1.
    """
    codes = []
    for number, text in enumerate(texts, 1):
        try:
            codes.append(encode(text, letters))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}" if len(texts) > 1 else str(error)) from None
    lengths = torch.tensor([len(row) for row in codes])
    x = torch.nn.utils.rnn.pad_sequence(codes, batch_first=True)
    return Batch(len(codes), len(codes), x=x, lengths=lengths)


def sonnets() -> str:
    """Five of Shakespeare's sonnets (1609, public domain): 18, 29, 73, 116 and 130."""
    return (resources.files("zoo.datasets") / "sonnets.txt").read_text(encoding="utf-8")


def python_topics() -> str:
    """The help topics of the Python that is running, from its standard library (PSF licence), in alphabetical order.

    Raises:
        ValueError: this Python came without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ValueError("this Python has no pydoc_data.topics: install its complete standard library") from None
    return "\n".join(topics[name] for name in sorted(topics))
