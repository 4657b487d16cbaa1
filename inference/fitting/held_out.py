"""Which rows of a fit are held out to stop early by."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

import torch

from inference.data.check import check
from inference.running.checked import Checked
from inference.running.words import told
from zoo.abilities import Text
from zoo.base import Batch
from zoo.columns import check_names


def split(given: Checked, validation: float | Any, seed: int) -> tuple[Batch, Batch | None, Batch]:
    """What to fit, what is held out, and what both were.

    Args:
        given: the data of the fit.
        validation: a fraction of their rows from 0 to below 1, or data of its own. Of a text it is the last part, so
            that no held-out sequence stands between two that were read.
        seed: seeds which rows are held out.

    Raises:
        ValueError: neither of the two, no row left to fit, or data that do not fit the pair.
    """
    pair, batch = given.pair, given.batch
    whole = replace(batch, total=batch.size)
    number: Any = validation if isinstance(validation, Real) else 0
    if isinstance(validation, (bool, type(None))) or not 0 <= number < 1:
        raise ValueError(f"validation: expected a fraction from 0 to below 1, or a data set, got {told(validation)}")
    if not isinstance(validation, Real):
        try:
            held_out = check(pair, validation).batch
            check_names(pair, held_out.columns, whole.columns)
        except ValueError as error:
            raise ValueError(f"validation: {error}") from error
        return whole, held_out, whole
    if validation == 0:
        # A user's minibatch of a larger data set keeps its total, and with it the scale.
        return batch, None, batch
    count = max(1, round(float(validation) * batch.size))
    if count >= batch.size:
        raise ValueError(f"validation={validation} leaves no row of {batch.size} to fit")
    if isinstance(pair, Text) and pair.alphabet is not None:
        held_out, kept = whole.select(slice(batch.size - count, None)), whole.select(slice(0, batch.size - count))
        return replace(kept, total=kept.size), replace(held_out, total=held_out.size), whole
    order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(int(seed))).to(pair.device)
    held_out, kept = whole.select(order[:count]), whole.select(order[count:])
    return replace(kept, total=kept.size), replace(held_out, total=held_out.size), whole
