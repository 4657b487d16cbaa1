"""The tables of a network in words: what is known of each conditional probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from inference.posterior.latents import Posterior
from inference.questions.coefficients import summarised
from inference.questions.evidence import check_network
from inference.questions.queries import tables_of
from inference.running.words import check_mass
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd


@in_turn
def tables(pair: ModelGuide, posterior: Posterior | None = None, *, mass: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """The conditional probabilities of a network by name, `P(dysp = yes | bronc = yes)`, with their uncertainty.

    Args:
        pair: a network.
        posterior: of its tables; None takes draws from the guide, or nothing where every table is known.
        mass: of the central posterior intervals.
        seed: of the draws from the guide.

    Returns:
        a frame, a line for each cell of each table, with the columns `estimate` (posterior mean), `sd` and the ends of
        the interval, called `2.5%` and `97.5%` for a mass of 0.95; of a table that is known all are its number.

    Raises:
        ValueError: the pair is no network or has no discrete node, the posterior is not its own, or the mass is none.

        >>> inference.tables(clinic).loc["P(dysp = yes | bronc = yes, either = no)"]  # doctest: +SKIP
    """
    network = check_network(pair)
    check_mass(mass)
    with torch.no_grad():
        found = network.probabilities(tables_of(pair, posterior, seed))
    if not found:
        raise ValueError(
            "no node is discrete, so there are no tables; inference.to_arviz has the equations of real nodes"
        )
    draws = max(len(value) for value in found.values())
    values = torch.stack([value.double().expand(draws) for value in found.values()], -1)  # (S, cells)
    import pandas as pd

    return summarised(values.cpu().numpy(), pd.Index(list(found), name="probability"), mass)
