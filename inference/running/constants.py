"""The constants that a pair takes from data: measured once, before the first fit, and then kept."""

from __future__ import annotations

import warnings

from inference.compiling.fallback import somebodys_level
from zoo import columns
from zoo.base import Batch, ModelGuide


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
        pair.measure(batch)
        pair.remember(whole)
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
