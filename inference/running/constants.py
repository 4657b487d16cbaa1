"""The constants that a pair takes from data: measured once, before the first fit, and then kept."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import torch

from inference.compiling.fallback import somebodys_level
from zoo import columns
from zoo.base import Batch, ModelGuide

_SHOWN = 32  # numbers of a constant that a card shows
_taken: WeakKeyDictionary[ModelGuide, dict[str, Any]] = WeakKeyDictionary()


class KeptConstants(UserWarning):
    """The pair's constants (centres, units, designs) are those of the data it was first fitted to, not of these."""


def take(pair: ModelGuide, batch: Batch, *, anew: bool = False, whole: Batch | None = None) -> tuple[str, ...]:
    """Measure the data where nothing was measured or learned yet, else keep what there is and say so, once for the same
    data. Names of their columns are kept too.

    Args:
        pair: its buffers are written in place.
        batch: what to measure.
        anew: measure in any case.
        whole: the data that `batch` was held out of.

    Returns:
        names of constants that these data would have set otherwise.
    """
    whole = batch if whole is None else whole
    columns.remember(pair, batch.columns)
    if not pair.measures:
        return ()
    if anew or not (pair.measured or pair.trained):
        before = {name: value.clone() for name, value in pair.named_buffers()}
        pair.measure(batch)
        pair.remember(whole)
        _taken[pair] = {
            name: _short(value)
            for name, value in pair.named_buffers()
            if value.is_floating_point() and not torch.equal(value, before.get(name, value))
        }
        return ()
    kept = pair.kept(batch, whole)
    if kept and pair.tell(whole):
        since = "of the data it was first fitted to" if pair.measured else "it was made with"
        warnings.warn(
            f"{pair.name} keeps the constants {since} ({', '.join(kept)}), which these data would set otherwise; "
            "fit(…, initialise=True) takes them anew",
            KeptConstants,
            stacklevel=somebodys_level(),
        )
    return kept


def described(pair: ModelGuide) -> dict[str, Any]:
    """The constants that were taken from data, by name, for the model card: numbers, or how many there are."""
    return dict(_taken.get(pair) or pair.card.get("constants", {}))


def again(pair: ModelGuide, described: dict[str, Any]) -> None:
    """What `described` gave, of a fit that goes on."""
    _taken[pair] = dict(described)


def _short(value: torch.Tensor) -> Any:
    if value.numel() > _SHOWN:
        return f"{'×'.join(map(str, value.shape))} numbers"
    rounded = [float(f"{number:.6g}") for number in value.detach().double().flatten().tolist()]
    return torch.tensor(rounded, dtype=torch.float64).reshape(value.shape).tolist()
