"""Texts: how well a model of characters knew what came next, and what it writes.

    >>> print(inference.perplexity(poet, unread))  # doctest: +SKIP
    3,071 characters: 2.41 bits per character, perplexity 5.32
    >>> inference.write(poet, 3, prompt="Shall I", stop="\\n")  # doctest: +SKIP

With x_1..x_T the characters of a text and S draws of the latents of the model, where it has some,

    nats = -log p(x_1..x_T) = -log 1/S sum_s p(x_1..x_T | s),   bits per character = nats / (T log 2),
    perplexity = exp(nats / T)

The perplexity is that of single characters: a die of so many sides would be as hard to guess (Jelinek et al. 1977).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inference.data.check import check, check_pair
from inference.posterior.check import check_posterior
from inference.posterior.draws import draw as draw_posterior
from inference.posterior.latents import Posterior
from inference.questions.sequences import forecast
from inference.running.checked import Checked, at
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from inference.running.width import width
from inference.running.words import check_count, told
from zoo.abilities import Stepwise, Text
from zoo.base import ModelGuide
from zoo.datasets import text as texts
from zoo.settings import settings
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Perplexity:
    """How hard each line of a text was to guess, character by character.

    Args:
        texts: the lines; of a whole text with the ends of lines, which count.
        nats: -log of their probabilities, after all that stands before them, (N,).
        steps: the same of each character, a tensor a line.
    """

    texts: tuple[str, ...]
    nats: Tensor
    steps: tuple[Tensor, ...]

    @property
    def characters(self) -> int:
        """Their number T."""
        return sum(map(len, self.texts))

    @property
    def bits_per_character(self) -> float:
        """Of all characters together."""
        return float(self.nats.sum()) / (self.characters * math.log(2))

    @property
    def perplexity(self) -> float:
        """exp of the nats of a character, averaged over all of them."""
        return math.exp(float(self.nats.sum()) / self.characters)

    def frame(self) -> pd.DataFrame:
        """A row a line, numbered from 1: `text`, `characters`, `nats`, `bits_per_character`, `perplexity`."""
        import pandas as pd

        count = torch.tensor([len(line) for line in self.texts], dtype=torch.float64)
        columns = {
            "text": list(self.texts),
            "characters": count.long().numpy(),
            "nats": self.nats.numpy(),
            "bits_per_character": (self.nats / (count * math.log(2))).numpy(),
            "perplexity": (self.nats / count).exp().numpy(),
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(1, len(self.texts) + 1, name="line"))

    def __str__(self) -> str:
        """All characters together, in a line."""
        bits = f"{self.bits_per_character:.4g} bits per character, perplexity {self.perplexity:.4g}"
        return f"{self.characters:,} characters: {bits}"


@in_turn
def perplexity(
    pair: ModelGuide, text: str | Sequence[str], posterior: Posterior | None = None, *, seed: int = 0
) -> Perplexity:
    """How hard a text was to guess, character by character: nats, bits per character, perplexity; line by line.

    A text is read from its beginning to its end, each character after all those before it. Lines of a list are read one
    by one, each from the start, and have no ends of lines.

    Args:
        pair: a pair with an alphabet.
        text: a text, or lines.
        posterior: of its global latents, where it has some; None takes draws from the guide.
        seed: of the draws from the guide.

    Raises:
        ValueError: a pair without an alphabet, nothing to read, blanks alone, or a character that the alphabet lacks,
            by its name, line and place.
    """
    letters = _letters(pair)
    lines = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else [None]
    if not lines or not all(isinstance(line, str) for line in lines):
        wanted = "a text or a list of lines, at least one"
        raise ValueError(f"text: expected {wanted}, got {'an empty list' if not lines else told(text)}")
    if isinstance(text, str):
        texts.check_blank(text)
    given = check(pair, texts.lines(lines, letters))
    posterior = _posterior(given, posterior, settings.query_draws, seed)
    steps = _steps(given, posterior)
    if isinstance(text, str):
        lines = text.splitlines(keepends=True)
        parts = steps[0].split([len(line) for line in lines])
    else:
        parts = tuple(row[: len(line)] for row, line in zip(steps, lines, strict=True))
    return Perplexity(tuple(lines), torch.stack([part.sum() for part in parts]), tuple(parts))


def _letters(pair: Any) -> str:
    check_pair(pair)
    model: Any = pair
    if not isinstance(pair, Text) or pair.alphabet is None:
        raise ValueError(f"{model.name}, without an alphabet, models no text: make it with alphabet=…")
    return pair.alphabet


def _posterior(given: Checked, posterior: Posterior | None, draws: int, seed: int) -> Posterior:
    """Draws of the global latents; of a pair that has none, as many of nothing."""
    if posterior is not None:
        return check_posterior(given, posterior)
    if not given.globals:
        return Posterior({}, size=1)
    return draw_posterior(given.pair, given, draws, stats=False, seed=seed)


def _steps(given: Checked, posterior: Posterior) -> Tensor:
    """-log p(x_t | x_1..x_{t-1}) of each character, (N, T), in nats: of the mixture over the draws."""
    values = posterior.flat(posterior.globals)
    total = posterior.chains * posterior.size if values else 1
    x: Any = given.batch.x
    # Measured on a few steps: a book, which is read page by page, would take two readings more.
    few: Any = given.example.x
    held = width(given.pair, given.example) * -(-x.shape[1] // few.shape[1])
    before = torch.full((given.size, x.shape[1] + 1), -math.inf, dtype=torch.float64)  # log sum_s p(x_1..x_t | s)
    with quietly(0, given.pair), torch.no_grad():
        for rows, part, some in given.sweep(total, held):
            trace = vectorised(given.pair.model, part, some.stop - some.start, at(values, some), frozenset())
            node = trace.nodes["x"]
            fn: Any = node["fn"]
            if not isinstance(fn, Stepwise):
                raise ValueError(f"{given.pair.name} does not tell single steps apart")
            each = fn.step_log_probs(node["value"]).double().cpu()
            each = each.reshape(-1, *each.shape[-2:])  # (S or 1, B, T)
            sums = torch.nn.functional.pad(each.cumsum(-1), (1, 0)).expand(some.stop - some.start, -1, -1)
            before[rows] = torch.logaddexp(before[rows], sums.logsumexp(0))
    return -before.diff(dim=-1)


@in_turn
def write(
    pair: ModelGuide,
    number: int = 1,
    *,
    prompt: str = "",
    stop: str | Sequence[str] = (),
    length: int = 200,
    temperature: float = 1.0,
    top_p: float = 1.0,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> list[str]:
    """Texts that the model writes: each begins with the prompt and ends before a stop string, or at its length.

    Args:
        pair: a pair with an alphabet.
        number: of texts.
        prompt: what each text begins with; empty: they begin as the texts of the fit did, which is left to the model.
        stop: one string or several; a text ends where the first of them would stand.
        length: the most characters after the prompt.
        temperature: below 1 keeps to what is likely.
        top_p: draw from the likeliest characters alone that together have this probability.
        posterior: of the global latents, where there are some: each text is written under a draw of its own.
        seed: seeds the texts.

    Raises:
        ValueError: a pair without an alphabet; a character that it lacks in the prompt or in a stop string; a stop
            string that is empty; numbers out of range.

        >>> inference.write(poet, prompt="Shall I", stop="\\n")  # doctest: +SKIP
        ['Shall I sind the praine']
    """
    letters = _letters(pair)
    check_count("number", number)
    check_count("length", length)
    if length > settings.text_length:
        raise ValueError(f"length: expected 1 to {settings.text_length}, got {length}")
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(prompt, str) or not isinstance(stops, Sequence) or not all(isinstance(s, str) for s in stops):
        raise ValueError(f"prompt and stop: expected strings, got {told(prompt)} and {told(stop)}")
    for name, one in (*(("prompt", prompt) for _ in prompt[:1]), *(("stop", one) for one in stops)):
        try:
            texts.encode(one, letters)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    begin = prompt or ("\n" if "\n" in letters else letters[0])
    given = check(pair, texts.windows(begin, letters, len(begin)))
    drawn = _posterior(given, posterior, number, seed)
    if posterior is None and not drawn.draws:
        drawn = Posterior({}, size=number)
    heat: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
    found = forecast(pair, drawn, given, length, seed=seed, **heat).flatten(0, 1)[:, 0]  # (S, H)
    if posterior is not None:
        found = found[torch.arange(number) % len(found)]
    return [prompt + _cut(texts.decode(codes, letters), stops) for codes in found]


def _cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first stop string."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))]
