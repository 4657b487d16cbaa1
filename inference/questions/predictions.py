"""What a fitted regression expects of rows, in the units of y, and how much of y it explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.data.check import check
from inference.posterior.check import check_posterior
from inference.posterior.draws import predict
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import assignments
from inference.questions.coefficients import ends, summarised
from inference.questions.explained import explaining, moments
from inference.running.checked import Checked
from inference.running.quiet import check_seed, quietly
from inference.running.words import check_mass
from zoo.base import ModelGuide
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd

_CELLS = 2_000_000  # predictive draws held at once


@in_turn
def predictions(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    *,
    mass: float = 0.95,
    draws: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What is expected of y at each row, a line a row: mean, deviation and interval, in the units of y.

    Args:
        pair: a fitted regression or classification, or a pair of rows with a class that it knows as its `target`.
        posterior: draws of its global latents.
        data: covariates of the rows; a response that comes with them is not looked at.
        mass: of the central predictive intervals: about that share of new y lie inside.
        draws: use only so many draws of each chain.
        seed: of the predictive draws behind the intervals.

    Returns:
        a frame with the index of a pandas frame that was given. Of numbers, the columns `mean` and `sd` (of y itself:
        noise and uncertainty of the parameters), the ends of the interval of a new y, `2.5%` and `97.5%`, and those of
        its mean, without noise: `mean 2.5%` and `mean 97.5%`. Where the formula explains a function of a column, each
        is said to be of that: `mean of np.log(wage)`. Of classes, `class`
        (the most probable), and the probability of each class under its name.

    Raises:
        ValueError: the pair explains no y by x; data or a posterior that do not fit it; options out of range.
    """
    check_mass(mass)
    check_seed(seed)
    import pandas as pd

    mixed = _of_classes(pair, data)
    given = mixed or explaining(pair, data, "predictions")
    posterior = check_posterior(given, posterior, draws)
    index = data.index if isinstance(data, pd.DataFrame) and len(data) == given.size else pd.RangeIndex(given.size)
    if mixed is not None:
        (shares,) = assignments(pair, posterior, mixed.batch, new=True).values()
        return _shares(shares.double().cpu().numpy(), class_names(pair, shares.shape[1])).set_axis(index)
    step = max(1, _CELLS // (posterior.chains * posterior.size))
    parts = [
        _part(given.select(slice(i, i + step)), posterior, mass, int(seed) + i) for i in range(0, given.size, step)
    ]
    return pd.concat(parts).set_axis(index)


def _of_classes(pair: ModelGuide, data: Any) -> Checked | None:
    """Rows of a pair that sums their class out and knows it as its target, the class left open; None of other pairs."""
    if not isinstance(pair, ModelGuide) or pair.target is None or pair.design is not None:
        return None
    given = check(pair, data, complete=False)
    if not any(given.sites[name].enumerated for name in given.locals):
        return None
    return given.but(given.batch.but(y=None, total=given.size))


def _shares(shares: np.ndarray[Any, Any], names: list[Any]) -> pd.DataFrame:
    """The most probable class of each row, and the probability of each class, (N, K)."""
    import pandas as pd

    best = [names[k] for k in shares.argmax(-1)]
    return pd.DataFrame({"class": best, **{str(name): shares[:, k] for k, name in enumerate(names)}})


def _part(given: Checked, posterior: Posterior, mass: float, seed: int) -> pd.DataFrame:
    import pandas as pd

    pair = given.pair
    given = given.but(given.batch.but(total=given.size))
    with quietly(seed, pair):
        mean, variance = (value.double().cpu().numpy() for value in moments(posterior, given))  # (S, N, K)
    if given.sites["y"].discrete:
        return _shares(mean.mean(0), class_names(pair, mean.shape[-1]))
    made = predict(pair, posterior, given, seed=seed)["y"].flatten(0, 1).double().cpu().numpy()  # (S, N)
    low, high = np.quantile(made, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
    deviation = np.sqrt(variance.mean(0) + mean.var(0))[:, 0]
    lower, upper = ends(mass)
    bottom, top = np.quantile(mean[..., 0], [(1 - mass) / 2, (1 + mass) / 2], axis=0)
    found = {"mean": mean.mean(0)[:, 0], "sd": deviation, lower: low, upper: high}
    found |= {f"mean {lower}": bottom, f"mean {upper}": top}
    function = "" if pair.design is None else pair.design.function
    return pd.DataFrame({f"{name} of {function}" if function else name: value for name, value in found.items()})


def class_names(pair: ModelGuide, count: int) -> list[Any]:
    """What the classes are called: by the response of the design, or by the target, else 0, 1, …"""
    column = pair.design.response if pair.design is not None else pair.target
    known = column.categories if column is not None else ()
    return list(known) if len(known) == count else list(range(count))


@in_turn
def r_squared(
    pair: ModelGuide, posterior: Posterior, data: Any, *, mass: float = 0.95, draws: int | None = 1000
) -> pd.Series[float]:
    """The share of the variance of y that the covariates explain: Bayesian R².

    Under each draw Var_n E[y_n] / (Var_n E[y_n] + mean_n Var[y_n]), over the rows (Gelman, Goodrich, Gabry & Vehtari
    2019, "R-squared for Bayesian regression models", with the modelled variance of the residuals). Of classes the
    variances of their indicators are added up.

    Args:
        pair: a fitted regression or classification.
        posterior: draws of its global latents.
        data: the rows, as a rule those of the fit.
        mass: of the central posterior interval.
        draws: use only so many draws of each chain.

    Returns:
        `estimate` (posterior mean), `sd`, and the ends of the interval, such as `2.5%` and `97.5%`.

    Raises:
        ValueError: the pair explains no y by x; fewer than two rows; data or a posterior that do not fit it.
    """
    check_mass(mass)
    given = explaining(pair, data, "R²")
    if given.size < 2:
        raise ValueError("R² needs at least 2 rows")
    posterior = check_posterior(given, posterior, draws)
    numbers = posterior.chains * posterior.size * given.size
    check_room("draws", posterior.size, 4 * numbers * pair.dtype.itemsize)
    with quietly(0, pair):
        mean, variance = (value.double().cpu().numpy() for value in moments(posterior, given))
    told, left = mean.var(1).sum(-1), variance.mean(1).sum(-1)  # (S)
    total = told + left
    share = np.divide(told, total, out=np.zeros_like(told), where=total > 0)
    return summarised(share[:, None], ["R2"], mass).iloc[0]
