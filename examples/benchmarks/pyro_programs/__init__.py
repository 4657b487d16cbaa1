"""Thirty Pyro programs as people write them, after Pyro's examples and tutorials, each with data and a NumPyro twin.

Nothing in the programs knows of this project: plates are named and placed as their authors like, rows are indexed from
the left, hidden states run through `pyro.markov`, networks are `PyroModule`s. A twin, the function of the same name in
`numpyro_twins/`, is the same density as somebody who knows NumPyro writes it: what Pyro sums out by itself stands there
as a sum, loops over time are scans.
"""

from pyro_programs import hidden, mixtures, pooling, processes, regressions, responses, series
from pyro_programs.example import Example

MODULES = (pooling, regressions, responses, mixtures, hidden, processes, series)
EXAMPLES: dict[str, Example] = {name: example for module in MODULES for name, example in module.EXAMPLES.items()}

__all__ = ["EXAMPLES", "Example"]
