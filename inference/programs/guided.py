"""A program with a guide of the user's own, any Pyro guide: one estimate of the bound, and draws with their weights.

    ELBO = E_q[ log p(observed, z) - log q(z) ]

with discrete latents that the guide leaves out summed out of the first term. Guide and model share plates, so that a
plate that takes a part of its rows takes the same in both, and its scale is kept. Gradients of draws that have none are
those of `inference.programs.scoring`, from two runs.

A guide may run the model itself, as Pyro's messenger guides do (`pyro.infer.autoguide.AutoNormalMessenger`): what the
model observes then stands in its trace too, and is no part of q.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Unit
from torch import Tensor

from inference.programs.contracting import contracted
from inference.programs.matching import Matching
from inference.programs.outline import Outline, base, enumerating
from inference.programs.parameters import leaves_of
from inference.programs.reached import TellingError, naming_where
from inference.programs.runs import Call, sites_of
from inference.programs.scoring import Drawn, surrogate
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart


class Guided:
    """A program, its arguments and its guide.

    Args:
        seen: the program with its arguments.
        guide: takes the same arguments.

    Raises:
        ValueError: a latent that the guide leaves out and that cannot be summed out, a site of the guide's that the
            program lacks, or that it draws in another shape or outside of its support.
    """

    def __init__(self, seen: Outline, guide: Callable[..., Any]) -> None:
        self.seen, self.guide = seen, guide
        with apart(), torch.enable_grad():
            trace, model = self._first()
        self.leaves = leaves_of(model, trace)
        _without_observed(trace, model)
        drawn = {n: site for n, site in sites_of(trace).items() if not site["is_observed"]}
        self.sites = [n for n, site in drawn.items() if not site["infer"].get("is_auxiliary")]
        self._check(sites_of(trace), sites_of(model))
        self.scored = [n for n, site in drawn.items() if not site["fn"].has_rsample]

    def _first(self) -> tuple[Any, Any]:
        """Traces of guide and model, in which draws that do not fit, and what fails, are told by site."""
        call, name = self.seen.call, self.seen.call.program.name
        with naming_where(f"the guide of {name}", self.guide, call.args, call.kwargs):
            trace: Any = poutine.trace(lambda: call.run(self.guide)).get_trace()
        try:
            with call.naming(), Matching(name, trace.nodes):
                return trace, poutine.trace(poutine.replay(call, trace=trace)).get_trace()
        except TellingError as error:
            raise ValueError(str(error).partition("\n")[0]) from None  # Pyro adds the shapes of all sites

    def _check(self, guide: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        name = self.seen.call.program.name
        for site, node in guide.items():
            if site not in model and not node["infer"].get("is_auxiliary") and not node["is_observed"]:
                raise ValueError(f"{name}: the guide draws '{site}', which the program does not have")
        for site, node in model.items():
            if node["is_observed"] or site in guide:
                continue
            if not node["fn"].support.is_discrete or not node["fn"].has_enumerate_support:
                raise ValueError(f"{name}: latent '{site}' is neither drawn by the guide nor can it be summed out")

    def bound(self, _: Tensor) -> Tensor:
        """One estimate of the ELBO, (), the mean of two where draws have no gradient of their own."""
        one = self._run()
        if not self.scored:
            return one.bound
        other = self._run()
        slopes = surrogate(one, other, self.scored) + surrogate(other, one, self.scored)
        return (one.bound + other.bound + slopes) / 2

    def draw(self, _: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Values of the latents of one draw, deterministic sites too, log p and log q."""
        run = self._run()
        nodes = run.model.nodes
        values: dict[str, Any] = {name: run.guide.nodes[name]["value"] for name in self.sites if name in nodes}
        for name, site in self.seen.deterministic.items():
            value: Any = nodes[name]["value"]
            if value.shape == site.shape:
                values[name] = value
        return values, run.log_p.detach(), run.log_q.detach()

    def _run(self) -> Drawn:
        call: Call = self.seen.call
        with unvalidated():
            guide = poutine.trace(lambda: call.run(self.guide)).get_trace()
            model: Any = poutine.replay(call, trace=guide)
            if self.seen.enumerated.keys() - guide.nodes.keys():
                model = poutine.replay(enumerating(call, self.seen.depth), trace=guide)
            trace = poutine.trace(model).get_trace()
            _without_observed(guide, trace)
            guide.compute_log_prob()
            trace.compute_log_prob()
        alone, factors = contracted(trace, call.program.name)
        summed = sum((factor.sum() for factor in factors.values()), torch.zeros(()))
        return Drawn(guide, trace, alone, summed)


def _without_observed(guide: Any, model: Any) -> None:
    """Take out of a guide's trace what the model observes, the guide's own terms by `pyro.factor` apart.

    Where the guide runs the model, its factors are the model's too.
    """
    sites, observed = sites_of(guide), {n for n, node in sites_of(model).items() if node["is_observed"]}
    runs_the_model = any("prior" in node["infer"] for node in sites.values())
    for name, node in sites.items():
        if node["is_observed"] and name in observed and (runs_the_model or not isinstance(base(node["fn"]), Unit)):
            guide.remove_node(name)
