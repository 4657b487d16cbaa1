"""Latents that leave torch, for a solver of SciPy's say: never a constant of a graph, whichever way they take."""

import copy
import re
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import inference
import zoo
from inference.compiling.compiled import Traced
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.running.mapped import Mapped, TraceError

Y = torch.tensor([2.0, 3.5, 2.5], dtype=torch.float64)

pytestmark = pytest.mark.usefixtures("double")

DOORS = {
    "numpy": lambda a: torch.tensor(float(np.exp(a.detach().numpy()))),
    "forced": lambda a: torch.from_numpy(np.exp(a.numpy(force=True)[None]))[0],
    "asarray": lambda a: torch.tensor(np.exp(np.asarray(a.detach()))),
    "ufunc": lambda a: torch.as_tensor(np.exp(a.detach())),
    "tolist": lambda a: torch.tensor(a.tolist()).exp(),
    "list": lambda a: torch.tensor([a.detach(), a.detach()]).exp()[0],
    "bytes": lambda a: torch.frombuffer(bytearray(a.detach().numpy().tobytes()), dtype=a.dtype)[0].exp(),
    "dlpack": lambda a: torch.tensor(np.exp(np.from_dlpack(a.detach()))),
    "copied": lambda a: copy.deepcopy(a.detach()).exp(),
    "memory": lambda a: (
        torch.tensor(list(a.detach().clone().untyped_storage()), dtype=torch.uint8).view(a.dtype)[0].exp()
    ),
}


def unwatched(a):
    """No operation and no function that anybody sees."""
    return torch.nn.Parameter(a.detach()).detach().exp()


def growing(way):
    def growth(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        rate = way(a)  # it leaves here
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(rate, 0.5), obs=y)

    return growth


def expected(a, y=Y):
    """log p of each observation, (S, N), and of all with the prior, (S,)."""
    each = torch.distributions.Normal(a.reshape(-1, 1).exp(), 0.5).log_prob(y)
    return each, each.sum(1) + torch.distributions.Normal(0.0, 1.0).log_prob(a.reshape(-1))


@pytest.mark.parametrize("door", DOORS)
def test_a_latent_that_leaves_is_refused_by_file_line_and_site(door):
    told = r"reads the value of a tensor .*, at (test_leaving|copy).py:\d+: .*, after site 'a'"
    model = growing(DOORS[door])
    seen = outline(zoo.program(model), (Y,), {})
    with pytest.raises(TraceError, match=told):
        ProgramPotential(seen, required=True)
    with pytest.warns(UserWarning, match=told):
        potential = ProgramPotential(seen)
    at = torch.linspace(-1.0, 2.0, 5)[:, None]
    assert torch.allclose(potential.log_density(at), expected(at)[1], rtol=1e-12)


def test_a_way_that_nobody_watches_is_seen_at_a_second_point():
    told = "what was recorded at one point is another function at the next"
    seen = outline(zoo.program(growing(unwatched)), (Y,), {})
    with pytest.raises(TraceError, match=told):
        ProgramPotential(seen, required=True)
    with pytest.warns(UserWarning, match=told):
        potential = ProgramPotential(seen)
    at = torch.linspace(-1.0, 2.0, 5)[:, None]
    assert torch.allclose(potential.log_density(at), expected(at)[1], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*with plain Pyro instead")
@pytest.mark.parametrize("guide", ["normal", AutoNormal])
@pytest.mark.parametrize("way", [DOORS["numpy"], unwatched])
def test_fits_and_draws_of_guides_run_plain_and_have_the_densities_of_the_program(guide, way):
    model = growing(way)
    with pytest.raises(TraceError, match="cannot be traced as one graph"):
        inference.fit(zoo.program(model, guide=guide), Y, steps=2, compile="graph", progress=False)
    program = zoo.program(model, guide=guide)
    with pytest.warns(UserWarning, match="with plain Pyro instead"):
        inference.fit(program, Y, steps=2, progress=False)
    found = inference.draw(program, Y, draws=6)
    log_p = expected(found["a"])[1]
    assert torch.allclose(found.stats["log_p"][0], log_p, rtol=1e-6)
    assert found["a"].std() > 0


@pytest.mark.parametrize("way", [DOORS["numpy"], DOORS["tolist"], unwatched])
def test_what_is_predicted_is_predicted_at_each_draw(way):
    a = torch.linspace(-1.0, 1.0, 400).reshape(1, 400)
    posterior = inference.Posterior({"a": a}, frozenset(), {}, "mcmc", 1, 400)
    program = zoo.program(growing(way))
    assert torch.allclose(inference.log_likelihood(program, posterior, Y)["y"][0], expected(a)[0], rtol=1e-12)
    made = inference.predict(program, posterior, Y)["y"][0]  # (S, N), around exp(a)
    residuals = (made - a.reshape(-1, 1).exp()) / 0.5
    assert abs(float(residuals.mean())) < 4 / 1200**0.5
    assert float(residuals.std()) == pytest.approx(1.0, abs=4 / (2 * 1200) ** 0.5)


def test_numbers_of_the_data_may_leave():
    def model(y):
        a = pyro.sample("a", dist.Normal(float(np.median(y.numpy())), 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(a, max(y.tolist())), obs=y)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = outline(zoo.program(model), (Y,), {})
        potential = ProgramPotential(seen, required=True)
    assert not potential.plain


def test_what_draws_is_compared_at_the_same_draws():
    """Of every kind of operation that draws, in place or not; a graph that holds one draw is told from it."""
    kinds = [
        lambda x: x + torch.randn(4), lambda x: torch.empty(3).normal_(1.0, 2.0) * x.sum(),
        lambda x: torch.rand_like(x) * x, lambda x: torch.bernoulli(x.sigmoid()), lambda x: torch.poisson(x.exp()),
        lambda x: torch.empty(5).uniform_() + x[0], lambda x: torch._standard_gamma(x.abs() + 1),
        lambda x: torch.randperm(9)[:4] * x,
        lambda x: torch.nn.functional.dropout(x, 0.5), lambda x: torch.empty(4).exponential_() * x,
    ]  # fmt: skip
    x, other = torch.linspace(-1.0, 1.0, 4), torch.linspace(0.5, 2.0, 4)
    for i, kind in enumerate(kinds):
        assert Mapped(kind, x, "it", other=other).random, i
        held = kind(x)
        with pytest.raises(TraceError, match="another function at the next"):
            Mapped(lambda x, held=held, kind=kind: kind(x) + _once(held, x), x, "it", other=other)


def _once(held, x):
    """What the first run alone has."""
    if hasattr(held, "was"):
        return x.sum()
    held.was = True
    return 0.0


def test_a_function_of_pairs_is_refused_too():
    traced = Traced(lambda x: torch.tensor((x * 2).tolist()))
    with pytest.raises(TraceError, match=re.escape("(tolist, which no gradient goes through), at test_leaving.py")):
        traced(torch.ones(2))
