"""The density that chains walk on, against the traced joint, its Jacobian and differences."""

from __future__ import annotations

import contextlib
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine import condition, trace

from inference.data.check import check
from inference.sampling.potential import Potential, SeenAll, Unconstrained
from tests.helpers.sampling import data_of
from zoo import ModelGuide


class Everything(ModelGuide):
    """Latents of many supports, one of which moves with another, global and local, and a discrete one summed out."""

    dims: ClassVar = {
        "weights": ("component",),
        "correlations": ("row", "column"),
        "locs": ("component",),
        "code": ("part",),
    }

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(3))

    def model(self, batch):
        one = self.one[0]
        top = pyro.sample("top", dist.Gamma(2 * one, one))
        low = pyro.sample("low", dist.Uniform(0 * top, top))
        weights = pyro.sample("weights", dist.Dirichlet(self.one))
        pyro.sample("correlations", dist.LKJCholesky(3, one))
        locs = pyro.sample("locs", dist.Normal(0 * self.one, self.one).to_event(1))
        with batch.plate():
            code = pyro.sample("code", dist.LogNormal(0 * self.one[:2], self.one[:2]).to_event(1))
            k = pyro.sample("k", dist.Categorical(weights), infer={"enumerate": "parallel"})
            loc = pyro.ops.indexing.Vindex(locs)[..., k] + low + code.sum(-1)
            return pyro.sample("x", dist.Normal(loc, one), obs=batch.x)


def test_log_density_is_the_traced_joint_plus_the_jacobians():
    pair = Everything().double()
    batch = data_of(pair)
    potential = Potential(check(pair, batch))
    points = potential.prior(5)
    values, jacobian = potential.constrain(points)
    torch.testing.assert_close(potential.free(values), points)
    for s in range(5):
        each = []
        for k in range(3**4):  # every assignment of the four rows
            codes = torch.tensor([k // 3**i % 3 for i in range(4)])
            fixed = {**{name: value[s] for name, value in values.items()}, "k": codes}
            each.append(trace(condition(pair.model, fixed)).get_trace(batch).log_prob_sum())
        joint = torch.stack(each).logsumexp(0)
        torch.testing.assert_close(potential.log_density(points)[s], joint + jacobian[s], rtol=1e-6, atol=0)


def test_the_jacobian_is_that_of_the_map():
    pair = Everything().double()
    potential = Potential(check(pair, data_of(pair)))
    point = potential.prior(1)

    def coordinates(free):
        """As many numbers as there are free ones: simplex and correlations without what the others determine."""
        free = free.unsqueeze(0)
        found = Unconstrained(potential.unflatten(free), last=frozenset(block.name for block in potential.blocks))
        with contextlib.suppress(SeenAll), pyro.plate("particles", 1, dim=-2), pyro.validation_enabled(False), found:
            pair.model(potential.batch)
        v = {name: value.reshape(-1) for name, value in found.values.items()}
        v["weights"], v["correlations"] = v["weights"][:-1], v["correlations"][[3, 6, 7]]
        return torch.cat([v[block.name] for block in potential.blocks])

    wanted = torch.linalg.slogdet(torch.autograd.functional.jacobian(coordinates, point[0])).logabsdet
    torch.testing.assert_close(potential.constrain(point)[1][0], wanted, rtol=1e-6, atol=1e-8)


def test_gradient_is_that_of_differences():
    pair = Everything().double()
    potential = Potential(check(pair, data_of(pair)))
    assert torch.autograd.gradcheck(potential.log_density, potential.prior(2).requires_grad_())
