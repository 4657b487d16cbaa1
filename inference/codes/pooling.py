"""Estimates from several completed tables as one: Rubin's rules.

With estimates q_k and their squared standard errors u_k from K completed tables (Rubin 1987, "Multiple Imputation for
Nonresponse in Surveys", section 3.1):

    q = mean of q_k,   W = mean of u_k,   B = variance of q_k (over K - 1),   T = W + (1 + 1/K) B,
    degrees of freedom (K - 1) (1 + 1/r)²  with  r = (1 + 1/K) B / W,
    fraction of missing information (r + 2 / (df + 3)) / (r + 1).

The table itself may be small: of an analysis that had d degrees of freedom with no cell missing, the degrees of freedom
are those of Barnard & Rubin (1999, Biometrika 86, 948-955).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inference.running.words import check_mass, check_number

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """One answer from K completed tables, for each of P quantities; all arrays are (P,).

    estimate, sd: the pooled estimate and its standard error. df: degrees of freedom of Student's t. within, between:
    the variances W and B that `sd` comes from. missing_information: the fraction of what is known of the quantity that
    went with the missing cells. names: of the quantities. tables: K.
    """

    estimate: Array
    sd: Array
    df: Array
    within: Array
    between: Array
    missing_information: Array
    names: tuple[str, ...]
    tables: int

    def interval(self, mass: float = 0.95) -> tuple[Array, Array]:
        """Ends of the interval that holds `mass` of Student's t, each (P,).

        Raises:
            ValueError: `mass` is no number between 0 and 1.
        """
        from scipy.stats import t

        check_mass(mass)
        reach = t.ppf((1 + mass) / 2, self.df) * self.sd
        return self.estimate - reach, self.estimate + reach

    def frame(self, mass: float = 0.95) -> pd.DataFrame:
        """A line a quantity: estimate, sd, low, high, df, missing_information."""
        import pandas as pd

        low, high = self.interval(mass)
        columns = {"estimate": self.estimate, "sd": self.sd, "low": low, "high": high, "df": self.df}
        columns |= {"missing_information": self.missing_information}
        return pd.DataFrame(columns, index=list(self.names))

    def __repr__(self) -> str:
        return f"{self.frame().to_string(float_format='{:.4g}'.format)}\nfrom {self.tables} completed tables"


def pool(estimates: Any, variances: Any, df: float | None = None) -> Pooled:
    """Estimates from K completed tables as one, by Rubin's rules (1987).

        >>> found = pool([10.0, 12.0, 11.0], [1.0, 1.0, 1.0])
        >>> float(found.estimate[0]), round(float(found.sd[0]), 4)
        (11.0, 1.5275)

    Args:
        estimates: of each table, (K,) or (K, P); a list of pandas Series keeps their names.
        variances: their squared standard errors, of the same shape.
        df: degrees of freedom that the analysis has of a table without holes, N - P say, for Barnard & Rubin's (1999)
            correction; None for a table so large that it does not matter.

    Raises:
        ValueError: fewer than two tables, shapes that differ, numbers that are not finite, variances below 0.
    """
    names = _names(estimates)
    q, u = _matrix("estimates", estimates, names), _matrix("variances", variances, names)
    if q.shape != u.shape:
        raise ValueError(f"variances: expected the shape of the estimates, {_shape(q)}, got {_shape(u)}")
    if df is not None:
        check_number("df", df, 1e-300)
    count = len(q)
    if count < 2:
        raise ValueError(f"estimates: expected those of at least 2 completed tables, got {count}")
    if (u < 0).any():
        k, p = np.argwhere(u < 0)[0]
        raise ValueError(f"variances, table {k}, quantity {p}: expected at least 0, got {u[k, p]:g}; are they squared?")
    within, between = u.mean(0), q.var(0, ddof=1)
    added = (1 + 1 / count) * between
    total = within + added
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(added == 0, 0.0, added / within)  # r
        freedom = (count - 1) * (1 + 1 / ratio) ** 2
        if df is not None:
            left = (df + 1) / (df + 3) * df * (1 - np.where(total > 0, added / total, 0.0))
            freedom = 1 / (1 / freedom + 1 / left)
        lost = np.where(np.isinf(ratio), 1.0, (ratio + 2 / (freedom + 3)) / (ratio + 1))
    lost = np.where(added == 0, 0.0, lost)
    return Pooled(
        q.mean(0), np.sqrt(total), freedom, within, between, lost, tuple(map(str, names or range(q.shape[1]))), count
    )


def _names(given: Any) -> list[Any]:
    """Names of the quantities, where they came in pandas Series or in a frame."""
    if hasattr(given, "columns"):
        return list(given.columns)
    series = isinstance(given, (list, tuple)) and len(given) and hasattr(given[0], "reindex")
    return list(given[0].index) if series else []


def _matrix(name: str, given: Any, names: list[Any]) -> Array:
    """Numbers of K tables, (K, P); those of Series in the order of the names."""
    if isinstance(given, (list, tuple)) and any(hasattr(item, "reindex") for item in given):
        for k, item in enumerate(given):
            own = list(getattr(item, "index", ()))
            if sorted(map(str, own)) != sorted(map(str, names)):
                raise ValueError(
                    f"{name}, table {k}: expected {', '.join(map(str, names))}, got {', '.join(map(str, own))}"
                )
        given = [item.reindex(names) for item in given]
    try:
        found = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a number or a row of numbers for each completed table") from None
    if found.ndim not in (1, 2) or found.size == 0:
        raise ValueError(f"{name}: expected shape (K,) or (K, P), got {found.shape}")
    found = found[:, None] if found.ndim == 1 else found
    if not np.isfinite(found).all():
        k, p = np.argwhere(~np.isfinite(found))[0]
        raise ValueError(f"{name}, table {k}, quantity {p}: expected a finite number, got {found[k, p]}")
    return found


def _shape(found: Array) -> str:
    return f"{found.shape[0]} tables of {found.shape[1]} quantities"
