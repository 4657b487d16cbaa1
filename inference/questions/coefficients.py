"""The regression table: what a fitted regression says of its covariates, in the data's own units and names."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inference.data.check import example
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.posterior.units import in_units
from inference.running.words import check_mass
from zoo.abilities import InUnits
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd


@in_turn
def coefficients(pair: ModelGuide, posterior: Posterior, *, mass: float = 0.95) -> pd.DataFrame:
    """The regression table: estimate, deviation and interval of each term, in the data's units and names.

    Of a pair whose mean of y, or score of a class, is a sum of terms of the covariates, or of the past of a series:
    `lag 1`, `lag 12`, ... (of its logarithm or differences, where those are modelled). A line a term, under the names
    of the columns: `Intercept`, `age`, `age^2`, `age:income`, `town[T.b]` (what level b of town adds to its first
    level). The last line, `sigma`, is the standard deviation of the residuals (the scale, of Student-t noise). Units
    are those of y for one unit of the covariate. Terms that the data cannot tell from those before them are left out.

    Args:
        pair: a fitted regression.
        posterior: draws of its global latents, by `inference.draw` or `inference.sample`.
        mass: of the central posterior intervals.

    Returns:
        a frame with the columns `estimate` (posterior mean), `sd` (posterior standard deviation) and the ends of the
        interval, called `2.5%` and `97.5%` for a mass of 0.95. Of several functions, one a class, the index is
        (class, term).

    Raises:
        ValueError: a pair without coefficients, a posterior that is not its own, or a mass that is none.

    As in Gelman & Hill (2007), "Data analysis using regression and multilevel/hierarchical models", chapter 3.

        >>> inference.coefficients(pair, inference.draw(pair, frame, 4000))  # doctest: +SKIP
    """
    check_mass(mass)
    given = example(pair)
    found = in_units(pair, check_posterior(given, posterior)) if isinstance(pair, InUnits) else {}
    if "coefficients" not in found:
        raise ValueError(
            f"{pair.name}: its mean of y is no sum of terms, so it has no coefficients; inference.effects says what a "
            "unit of each covariate changes, and inference.importance which of them matter"
        )
    import pandas as pd

    value, labels = found["coefficients"]
    if "intercept" in found:  # of an autoregression, whose terms are latents of their own
        terms = [name for name, (_, words) in found.items() if len(words) == 1]
        value = torch.cat([found["intercept"][0].unsqueeze(-1), *(found[name][0] for name in terms)], -1)
        labels = {"term": ("Intercept", *(word for name in terms for word in next(iter(found[name][1].values()))))}
    draws = value.flatten(0, 1).flatten(1).cpu().numpy()  # (S, lines)
    index: Any = list(itertools.product(*labels.values()))
    if "sigma" in found:
        draws = np.concatenate([draws, found["sigma"][0].flatten(0, 1).unsqueeze(-1).cpu().numpy()], 1)
        index.append(("sigma",))
    single = len(labels) == 1
    rows: Any = pd.Index([label[0] for label in index], name="term") if single else pd.MultiIndex.from_tuples(
        index, names=list(labels)
    )  # fmt: skip
    return summarised(draws, rows, mass)


def summarised(draws: np.ndarray[Any, Any], index: Any, mass: float, mean: Any = None) -> pd.DataFrame:
    """Mean, deviation and central interval of draws (S, lines), a line each."""
    import pandas as pd

    low, high = ends(mass)
    tail = (1 - mass) / 2
    bounds = np.quantile(draws, [tail, 1 - tail], axis=0)
    deviation = draws.std(0, ddof=1) if len(draws) > 1 else np.zeros(draws.shape[1])
    columns = {"estimate": draws.mean(0) if mean is None else mean, "sd": deviation, low: bounds[0], high: bounds[1]}
    return pd.DataFrame(columns, index=index)


def ends(mass: float) -> tuple[str, str]:
    """What the ends of a central interval are called: `2.5%` and `97.5%` of a mass of 0.95."""
    tail = 100 * (1 - mass) / 2
    return f"{tail:.6g}%", f"{100 - tail:.6g}%"
