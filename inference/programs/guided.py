"""A program with a guide of the user's own, any Pyro guide: one estimate of the bound, and draws with their weights.

    ELBO = E_q[ log p(observed, z) - log q(z) ]

with discrete latents that the guide leaves out summed out of the first term. Guide and model share plates, so that a
plate that takes a part of its rows takes the same in both, and its scale is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.programs.contracting import contracted
from inference.programs.outline import Outline, base, enumerating
from inference.programs.parameters import leaves_of
from inference.programs.runs import Call, sites_of
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart


class Guided:
    """A program, its arguments and its guide.

    Args:
        seen: the program with its arguments.
        guide: takes the same arguments.

    Raises:
        ValueError: a latent that the guide leaves out and that cannot be summed out, a site of the guide's that the
            program lacks, or one whose draws have no gradient.
    """

    def __init__(self, seen: Outline, guide: Callable[..., Any]) -> None:
        self.seen, self.guide = seen, guide
        with apart(), torch.enable_grad():
            trace = poutine.trace(lambda: guide(*seen.call.args, **seen.call.kwargs)).get_trace()
            model = poutine.trace(poutine.replay(seen.call, trace=trace)).get_trace()
        self.leaves = leaves_of(model, trace)
        self.sites = [n for n, site in sites_of(trace).items() if not site["infer"].get("is_auxiliary")]
        self._check(sites_of(trace), sites_of(model))

    def _check(self, guide: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        name = self.seen.call.program.name
        for site, node in guide.items():
            if site not in model and not node["infer"].get("is_auxiliary") and not node["is_observed"]:
                raise ValueError(f"{name}: the guide draws '{site}', which the program does not have")
            if not node["is_observed"] and not node["fn"].has_rsample:
                raise ValueError(
                    f"{name}: guide site '{site}' ({type(base(node['fn'])).__name__}) has no reparameterised sample: "
                    "leave a discrete latent out of the guide, and it is summed out; or use pyro.infer.SVI"
                )
        for site, node in model.items():
            if node["is_observed"] or site in guide:
                continue
            if not node["fn"].support.is_discrete or not node["fn"].has_enumerate_support:
                raise ValueError(f"{name}: latent '{site}' is neither drawn by the guide nor can it be summed out")

    def bound(self, _: Tensor) -> Tensor:
        """One estimate of the ELBO, ()."""
        run = self._run()
        return run[0] - run[1]

    def draw(self, _: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Values of the latents of one draw, deterministic sites too, log p and log q."""
        log_p, log_q, values = self._run()
        return values, log_p.detach(), log_q.detach()

    def _run(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        call: Call = self.seen.call
        with unvalidated():
            guide = poutine.trace(lambda: self.guide(*call.args, **call.kwargs)).get_trace()
            model: Any = poutine.replay(call, trace=guide)
            if self.seen.enumerated.keys() - guide.nodes.keys():
                model = poutine.replay(enumerating(call, self.seen.depth), trace=guide)
            trace = poutine.trace(model).get_trace()
            guide.compute_log_prob()
            trace.compute_log_prob()
        total, factors = contracted(trace, call.program.name)
        for factor in factors.values():
            total = total + factor.sum()
        log_q: Tensor = sum((site["log_prob_sum"] for site in sites_of(guide).values()), torch.zeros(()))
        values: dict[str, Any] = {name: guide.nodes[name]["value"] for name in self.sites if name in trace.nodes}
        for name, site in self.seen.deterministic.items():
            value: Any = trace.nodes[name]["value"]
            if value.shape == site.shape:
                values[name] = value
        return total, log_q, values
