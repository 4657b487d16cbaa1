"""What is checked of data to learn from, beyond that they fit the pair: `inference.fit` and `sample` call it."""

from __future__ import annotations

from inference.data.magnitude import check_spread
from inference.running.checked import Checked
from zoo.base import evaluating


def check_learnable(given: Checked) -> None:
    """Refuse data with nothing to learn, and what the pair itself refuses.

    Raises:
        ValueError: every cell of every observed field is missing, numbers too small for the pair's floating-point
            type, or what `pair.check` says.
    """
    pair, batch = given.pair, given.batch
    seen = {name: value for name, value in batch.fields().items() if name in given.observed}
    if seen and all(bool(value.isnan().all()) for value in seen.values()):
        names = " and ".join(f"'{name}'" for name in seen)
        raise ValueError(
            f"field {names}: every cell of {batch.size} rows is missing: {pair.name} has nothing to learn from"
        )
    columns = pair.schema.names if pair.schema is not None else batch.columns
    for name, value in batch.fields().items():
        if value.is_floating_point():
            features = value.ndim - 1 - (given.example.lengths is not None) > 0
            check_spread(name, value, columns, apart=features)
    with evaluating(pair):
        pair.check(batch)
