"""Names of columns that a pair without a schema was fitted to: kept at the fit, checked at each later use.

As scikit-learn does with `feature_names_in_`: columns are read by their place, so that the same names in another order
would be other data. Data without names are taken as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from zoo.pair import Pair


def remember(pair: Pair, columns: Sequence[str] | None) -> None:
    """Keep the names of the columns of x that the pair is fitted to, where they have names."""
    if pair.schema is None and columns and not _counted(columns):
        pair._history = replace(pair._history, columns=tuple(columns))


def kept(pair: Pair) -> tuple[str, ...] | None:
    """The names that were kept, in order; None where the pair was fitted to columns without names, or not yet."""
    return pair._history.columns


def named(pair: Pair, columns: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Names of the columns of x: those at hand, those of the design or the fit, else x0, x1, ..."""
    known = columns or (None if pair.design is None else pair.design.columns) or kept(pair)
    return tuple(known) if known is not None and len(known) == count else tuple(f"x{i}" for i in range(count))


def check_names(pair: Pair, columns: Sequence[str] | None, fitted: Sequence[str] | None = None) -> None:
    """Refuse columns of other names, or in another order, than those that the pair was fitted to.

    Args:
        pair: whose names were kept.
        columns: of the data at hand; None where they have no names.
        fitted: names to compare with, of data that the pair is being fitted to.

    Raises:
        ValueError: two columns of one name; names that are missing, that are new, or in another order.
    """
    if columns is None or pair.schema is not None:  # a schema finds its columns by name
        return
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise ValueError(f"two columns called '{repeated[0]}': give each a name of its own")
    own = kept(pair) or (None if pair.design is None else pair.design.columns)
    expected = own if fitted is None or _counted(fitted) else tuple(fitted)
    if expected is None or tuple(columns) == expected or _counted(columns):
        return
    missing = [name for name in expected if name not in columns]
    extra = [name for name in columns if name not in expected]
    wrong = [f"{what}: {_listed(names)}" for what, names in (("missing", missing), ("not among them", extra)) if names]
    if not wrong:
        place = next(i for i, name in enumerate(expected) if columns[i] != name)
        wrong = [f"in another order (column {place} is '{columns[place]}', expected '{expected[place]}')"]
    since = "was" if fitted is None else "is"
    raise ValueError(f"{pair.name} {since} fitted to the columns {_listed(expected)}; these are {'; '.join(wrong)}")


def _counted(columns: Sequence[str]) -> bool:
    """Whether columns are merely numbered from 0, as pandas does with an array: no names."""
    return all(name == str(i) for i, name in enumerate(columns))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "")
