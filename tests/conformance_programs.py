"""What every Pyro program must do here: density, draws, predictions, scores and export are those of plain Pyro.

`pytest tests/conformance_programs.py --program-module FILE` runs them on the programs of one file, which has a dict
`PROGRAMS`: name -> (model, arguments), or (model, arguments, keyword arguments); a `zoo.program` may stand for a model.
It is read with float64 as torch's default, in which everything runs.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

import arviz as az
import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model
from torch import nn
from torch.utils import _pytree as pytree

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from zoo.programs import Program

POINTS, DRAWS = 3, 20
QUICK = {"draws": 6, "chains": 4, "max_warmup": 30, "progress": False}

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::RuntimeWarning"),
]


@dataclass
class Case:
    """A program with its arguments, and what several checks ask of it, each worked out once."""

    program: Program
    args: tuple
    kwargs: dict

    @functools.cached_property
    def seen(self):
        return outline(self.program, self.args, self.kwargs)

    @property
    def factors(self):
        """Sites that are a term of the density, and nothing seen."""
        seen = self.seen
        others = {latent.name for latent in seen.latents}.union(seen.observed, seen.enumerated, seen.deterministic)
        return seen.sites.keys() - others

    @property
    def plain(self):
        """Whether no discrete latent stands for missing cells: Pyro counts the states of those that were seen."""
        return all(site.cells is None for site in self.seen.enumerated.values())

    @functools.cached_property
    def potential(self):
        return ProgramPotential(self.seen)

    @functools.cached_property
    def posterior(self):
        return inference.sample(self.program, *self.args, **QUICK, **self.kwargs)

    @functools.cached_property
    def exported(self):
        return inference.to_arviz(self.program, self.posterior, *self.args, **self.kwargs)

    def pyros(self, point):
        """Pyro's own potential, at the point: it and its transforms."""
        start = {site: values[0] for site, values in self.potential.constrain(point[None])[0].items()}
        _, potential, transforms, _ = initialize_model(
            self.program.model, self.args, self.kwargs, max_plate_nesting=self.seen.depth,
            init_strategy=init_to_value(values=start),
        )  # fmt: skip
        return potential, transforms

    def trace(self, values):
        """A plain run where latents have these values, as observations."""
        with pyro.validation_enabled(False):
            return self._trace(values)

    def _trace(self, values):
        model = poutine.condition(self.program.model, data=values)
        found = poutine.trace(model).get_trace(*self.args, **self.kwargs)
        found.compute_log_prob()
        return found


@functools.cache
def case(name, config):
    model, args, *rest = config.programs[name]
    model = model() if isinstance(model, type) else model
    program = model if isinstance(model, Program) else zoo.program(model)
    if isinstance(program.model, nn.Module):
        program.model.double()
    args, kwargs = pytree.tree_map_only(
        torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, (tuple(args), dict(*rest))
    )
    return Case(program, args, kwargs)


@pytest.fixture
def of(name, request):
    """The case of a name."""
    return case(name, request.config)


def points(of):
    return torch.randn(POINTS, of.seen.size, generator=torch.Generator().manual_seed(1)) / 2


def test_density_and_gradient_are_pyros(of):
    at = points(of)
    value, gradient = of.potential.value_and_gradient(at)
    zero, moves, slopes = {}, False, []
    for i, point in enumerate(at):
        potential, transforms = of.pyros(point)
        free = {latent.name: latent.unflatten(point).requires_grad_() for latent in of.seen.latents}
        log_p = -potential(free)
        assert float(value[i]) == pytest.approx(float(log_p), rel=1e-10)
        for name, transform in transforms.items():  # a support that moves stands still in Pyro's potential
            here = transform.inv(torch.zeros_like(free[name]))
            moves |= not torch.equal(here, zero.setdefault(name, here))
        each = torch.autograd.grad(log_p, list(free.values()), allow_unused=True)
        slopes.append(torch.cat([
            latent.flatten(torch.zeros(latent.free) if slope is None else slope)
            for latent, slope in zip(of.seen.latents, each, strict=True)
        ]))  # fmt: skip
    if not moves:
        theirs = torch.stack(slopes)
        assert torch.allclose(gradient, theirs, rtol=1e-10, atol=1e-10 * float(theirs.abs().max()))


def inside(of, draws, count):
    """Each latent of the first draws lies in its support, given those above it."""
    for i in range(count):
        values = {name: value.flatten(0, 1)[i] for name, value in draws.items()}
        trace = of.trace({n: v for n, v in values.items() if n in of.seen.sites and n not in of.seen.deterministic})
        for name in values:
            node = trace.nodes[name]
            assert bool(node["fn"].support.check(node["value"]).all()), f"site '{name}', draw {i}"


def test_prior_draws_lie_in_the_support(of):
    if of.seen.improper:
        with pytest.raises(ValueError, match="improper prior"):
            inference.prior(of.program, *of.args, **of.kwargs)
        return
    found = inference.prior(of.program, *of.args, draws=DRAWS, **of.kwargs)
    for latent in of.seen.latents:
        assert found[latent.name].shape == (1, DRAWS, *latent.shape)
        assert len(found[latent.name].flatten(0, 1).unique(dim=0)) > 1, f"'{latent.name}' is the same in each draw"
    inside(of, {latent.name: found[latent.name] for latent in of.seen.latents}, 5)


def test_a_few_draws_are_finite_and_lie_in_the_support(of):
    for latent in of.seen.latents:
        value = of.posterior[latent.name]
        assert value.shape == (QUICK["chains"], QUICK["draws"], *latent.shape)
        assert bool(value.isfinite().all()), f"'{latent.name}'"
    inside(of, {latent.name: of.posterior[latent.name] for latent in of.seen.latents}, 5)


def test_predictions_have_the_shapes_of_the_sites(of):
    made = inference.predict(of.program, of.posterior, *of.args, **of.kwargs)
    assert made.keys() >= of.seen.observed.keys() | of.seen.enumerated.keys()
    for name, value in made.items():
        assert value.shape == (QUICK["chains"], QUICK["draws"], *of.seen.sites[name].shape), f"'{name}'"
    again = inference.predict(of.program, of.posterior, *of.args, **of.kwargs)
    for name, value in made.items():
        assert torch.equal(value.nan_to_num(), again[name].nan_to_num()), f"'{name}' is not that of its seed"


def test_log_likelihoods_are_those_of_a_plain_trace(of):
    found = inference.log_likelihood(of.program, of.posterior, *of.args, **of.kwargs)
    latents = {latent.name: of.posterior[latent.name].flatten(0, 1) for latent in of.seen.latents}
    for i in range(3):
        trace = of.trace({name: value[i] for name, value in latents.items()})
        if not of.seen.enumerated:
            for name, value in found.items():
                node = trace.nodes[name]
                theirs = scale_and_mask(node["unscaled_log_prob"], mask=node["mask"])
                assert torch.allclose(value.flatten(0, 1)[i], theirs, rtol=1e-9, atol=1e-9), f"'{name}'"
        elif of.plain and all(node["scale"] == 1 for node in trace.nodes.values() if node["type"] == "sample"):
            terms = of.exported["log_prior"].stack(s=("chain", "draw")).isel(s=i)
            total = sum(float(v) for v in terms.data_vars.values())
            total += sum(float(value.flatten(0, 1)[i].sum()) for value in found.values())
            total += sum(float(trace.nodes[n]["log_prob_sum"]) for n in of.factors)
            supports = {name: trace.nodes[name]["fn"].support for name in latents}
            free = {name: torch.distributions.biject_to(supports[name]).inv(v[i]) for name, v in latents.items()}
            point = torch.cat([latent.flatten(free[latent.name]) for latent in of.seen.latents])
            log_jacobian = of.potential.constrain(point[None])[1][0]
            assert total == pytest.approx(float(-of.pyros(point)[0](free) - log_jacobian), rel=1e-9, abs=1e-8)


def test_arviz_gets_what_was_drawn_and_a_file_holds_it(of, tmp_path):
    posterior = of.exported["posterior"]
    for latent in of.seen.latents:
        name = latent.name if latent.name in posterior else f"{latent.name}_value"
        ours = of.posterior[latent.name]
        assert posterior[name].dims[:2] == ("chain", "draw")
        if of.seen.sites[latent.name].cells is None:
            assert np.array_equal(posterior[name].to_numpy().reshape(ours.shape), ours)
    assert np.isfinite(az.summary(of.exported, kind="stats", round_to="none")["mean"]).all()
    of.exported.to_netcdf(str(tmp_path / "posterior.nc"))
    again = az.from_netcdf(str(tmp_path / "posterior.nc"))
    for group in ("posterior", "log_likelihood", "posterior_predictive", "observed_data"):
        assert again[group].equals(of.exported[group])


def test_parameters_and_random_state_are_left_as_they_were(of):
    store = pyro.get_param_store()
    store.clear()
    before = torch.get_rng_state()
    if not of.seen.improper:
        inference.prior(of.program, *of.args, draws=2, **of.kwargs)
    found = inference.sample(of.program, *of.args, **QUICK, **of.kwargs)
    inference.predict(of.program, found, *of.args, draws=2, **of.kwargs)
    inference.to_arviz(of.program, found, *of.args, **of.kwargs)
    assert not store.keys()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_seed_gives_the_same_draws(of):
    again = inference.sample(of.program, *of.args, **QUICK, **of.kwargs)
    for latent in of.seen.latents:
        assert torch.equal(again[latent.name], of.posterior[latent.name]), f"'{latent.name}'"


def test_a_guide_is_fitted(of):
    warnings.simplefilter("ignore")
    result = inference.fit(of.program, *of.args, steps=3, progress=False, **of.kwargs)
    assert bool(torch.as_tensor(np.asarray(result.losses)).isfinite().all())
