"""Variational fits of programs: against closed forms, and against Pyro's own estimate of the same bound."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam
from pyro.optim import Adam
from torch.distributions import constraints

import inference
import zoo
from inference.programs.guided import Guided
from inference.programs.outline import outline
from inference.running.mapped import Mapped
from tests.helpers.programs import conjugate, noise, schools

Y = noise(40) * 3 + 5


pytestmark = pytest.mark.usefixtures("double")


def of_conjugate(y):
    """Mean and deviation of the posterior of `conjugate`, and minus its log evidence."""
    n, precision = len(y), len(y) + 1 / 25
    mean = float(y.sum()) / precision
    covariance = torch.eye(n) + 25 * torch.ones(n, n)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(n), covariance).log_prob(y)
    return mean, precision**-0.5, -float(evidence)


@pytest.mark.parametrize("family", ["normal", "multivariate", "laplace", None])
def test_a_gaussian_posterior_is_found_exactly(family):
    program = zoo.program(conjugate, guide=family)
    result = inference.fit(program, Y, progress=False)
    mean, deviation, loss = of_conjugate(Y)
    found = inference.draw(program, Y, draws=4000)
    assert float(found["mu"].mean()) == pytest.approx(mean, abs=5 * deviation / math.sqrt(4000))
    assert float(found["mu"].std()) == pytest.approx(deviation, rel=0.05)
    if family != "laplace":
        assert float(result.losses[-1]) == pytest.approx(loss, abs=1e-6)
        assert inference.khat(program, Y).share == pytest.approx(1.0, abs=1e-4)


def test_losses_are_those_of_all_rows_as_pyro_has_them():
    program = zoo.program(schools, guide="normal")
    assert "per observation" not in repr(inference.fit(program, steps=2, progress=False))


def enumerated(y):
    weight = pyro.param("weight", torch.tensor(0.4), constraint=constraints.unit_interval)
    loc = pyro.sample("loc", dist.Normal(3.0, 2.0))
    with pyro.plate("row", len(y)):
        which = pyro.sample("which", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(which * loc, 1.0), obs=y)


def guide_of_enumerated(y):
    centre = pyro.param("centre", torch.tensor(2.0))
    width = pyro.param("width", torch.tensor(0.5), constraint=constraints.positive)
    pyro.sample("loc", dist.Normal(centre, width))


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_and_its_gradients_are_pyros(seed):
    y = torch.tensor([0.2, -0.4, 3.1, 2.7, 0.1])
    guided = Guided(outline(zoo.program(enumerated), (y,), {}), guide_of_enumerated)
    assert set(guided.leaves) == {"weight", "centre", "width"}
    torch.manual_seed(seed)
    ours = guided.bound(torch.zeros(1))
    torch.manual_seed(seed)
    theirs = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(enumerated, guide_of_enumerated, y)
    assert float(ours.detach()) == pytest.approx(-float(theirs.detach()), rel=1e-12)
    leaves = list(guided.leaves.values())
    for one, other in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        assert torch.allclose(one, -other, rtol=1e-10)


@pytest.mark.slow
def test_parameters_end_in_the_users_store_at_the_maximum():
    """The scale of a normal by maximum likelihood, its mean integrated out: the mean of squares over n - 1."""

    def model(y):
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        mu = pyro.sample("mu", dist.Normal(0.0, 100.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, scale), obs=y)

    inference.fit(zoo.program(model, guide="normal"), Y, progress=False, seed=1)
    assert float(pyro.param("scale").detach()) == pytest.approx(float(Y.std()), rel=0.01)


class Net(PyroModule):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(2))
        self.scale = PyroParam(torch.tensor(1.0), constraint=constraints.positive)
        self.layer = torch.nn.Linear(2, 1).double()

    def forward(self, x, y):
        pyro.module("layer", self.layer)
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        mean = x @ self.slope + shift + 0 * self.layer(x).squeeze(-1)
        with pyro.plate("row", len(x)):
            pyro.sample("y", dist.Normal(mean, self.scale), obs=y)


def test_parameters_of_modules_are_fitted_in_place():
    x = noise(60, 2)
    y = x @ torch.tensor([2.0, -1.0]) + 0.5 * noise(60)
    net = Net()
    inference.fit(zoo.program(net, guide=AutoNormal), x, y, progress=False)
    design = torch.cat([x, torch.ones(60, 1)], 1)
    wanted = torch.linalg.lstsq(design, y[:, None]).solution[:2, 0]
    assert torch.allclose(net.slope.detach(), wanted, atol=0.05)
    assert float(net.scale.detach()) == pytest.approx(0.5, abs=0.12)


def parts(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("row", len(y), subsample_size=8) as rows:
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y[rows])


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["normal", AutoNormal])
def test_a_part_of_the_rows_at_a_time_leads_to_the_posterior_of_all(guide):
    """Rows left out of a step are noise, by which single fits end 0.9 to 1.2 times as wide: five together."""
    mean, deviation, _ = of_conjugate(Y)
    ends, shares = [], []
    for seed in range(5):
        program = zoo.program(parts, guide=guide)
        result = inference.fit(program, Y, progress=False, steps=3000, seed=seed)
        found = inference.draw(program, Y, draws=4000)["mu"]
        ends.append((float(found.mean()), float(found.std())))
        assert "poor" not in result.reason
        if guide == "normal":
            shares.append(inference.khat(program, Y).share)
    means, deviations = torch.tensor(ends).T
    assert float(means.mean()) == pytest.approx(mean, abs=0.5 * deviation)
    assert float(deviations.mean()) == pytest.approx(deviation, rel=0.15)
    assert not shares or sum(shares) / 5 > 0.8  # of all rows the weights are near 1


@pytest.mark.slow
@pytest.mark.parametrize("guide", [AutoMultivariateNormal, AutoDelta])
def test_an_automatic_guide_of_pyros_ends_where_it_should(guide):
    program = zoo.program(conjugate, guide=guide)
    inference.fit(program, Y, progress=False)
    mean, deviation, _ = of_conjugate(Y)
    found = inference.draw(program, Y, draws=2000)
    assert float(found["mu"].mean()) == pytest.approx(mean, abs=0.2 * deviation)


def test_a_guide_that_is_plain_pyros_goes_on_under_plain_pyro():
    """Fitted here, stepped by `pyro.infer.SVI` after that: the same store, the same loss."""
    program = zoo.program(enumerated, guide_of_enumerated)
    inference.fit(program, Y, progress=False, steps=50)
    before = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    svi = SVI(program.model, program.guide, Adam({"lr": 1e-3}), TraceEnum_ELBO(max_plate_nesting=1))
    svi.step(Y)
    for name, value in pyro.get_param_store().items():
        assert 0 < float((value.detach() - before[name]).abs()) < 0.01, name


def test_a_second_fit_goes_on_and_a_program_of_another_shape_is_told_apart():
    program = zoo.program(schools, guide="normal")
    with pytest.raises(ValueError, match="schools has no fitted guide"):
        inference.draw(program)
    first = inference.fit(program, progress=False, steps=300)
    again = inference.fit(program, progress=False, steps=3)
    anew = inference.fit(program, progress=False, steps=3, initialise=True)
    assert again.losses.mean() < first.losses[-50:].mean() + 2 < anew.losses.mean()
    inference.fit(program, progress=False, steps=300, initialise=True)
    with pytest.raises(ValueError, match=r"was fitted with 10 numbers .* it has 4 in mu, tau, z"):
        inference.draw(program, noise(2), torch.ones(2))


@pytest.mark.slow
def test_weights_correct_the_draws_of_a_guide():
    program = zoo.program(schools, guide="normal")
    inference.fit(program, progress=False)
    found = inference.resample(inference.draw(program, draws=4000), 1000)
    assert found.method == "psis"
    exported = inference.to_arviz(program, found)
    assert exported["posterior"]["theta"].dims == ("chain", "draw", "school")


def tossed(y):
    fair = pyro.sample("fair", dist.Beta(10.0, 10.0))
    with pyro.plate("toss", len(y)):
        pyro.sample("y", dist.Bernoulli(fair), obs=y)


def guide_of_tossed(y):
    alpha = pyro.param("alpha", torch.tensor(15.0), constraint=constraints.positive)
    beta = pyro.param("beta", torch.tensor(15.0), constraint=constraints.positive)
    pyro.sample("fair", dist.Beta(alpha, beta))


def test_a_beta_guide_has_gradients_in_a_graph():
    """Of the guide a, b = 15, 15 the derivatives of KL(Beta(a, b) || Beta(16, 14)), by the trigamma function."""
    y = torch.tensor([1.0] * 6 + [0.0] * 4)
    guided = Guided(outline(zoo.program(tossed), (y,), {}), guide_of_tossed)
    leaves = list(guided.leaves.values())
    mapped = Mapped(guided.bound, torch.zeros(1), "tossed", leaves)
    bound = mapped(torch.zeros(40_000, 1), leaves)
    slopes = torch.stack(torch.autograd.grad(bound.mean(), leaves)) / 15  # of a and b, whose logarithms are free
    of_a, of_both = torch.polygamma(1, torch.tensor(15.0)), torch.polygamma(1, torch.tensor(30.0))
    gap = torch.tensor([-1.0, 1.0])  # (a - 16, b - 14)
    assert torch.allclose(slopes, -(gap * of_a - gap.sum() * of_both), rtol=0.05)


def branching(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    if mu > 1000:
        mu = mu * 2
    pyro.sample("y", dist.Normal(mu, 1.0).expand([len(y)]).to_event(1), obs=y)


@pytest.mark.parametrize("guide", ["normal", AutoNormal])
def test_what_cannot_be_recorded_is_fitted_by_plain_pyro_and_says_where(guide):
    with pytest.warns(UserWarning, match=r"test_fit.py:\d+: if mu > 1000"):
        inference.fit(zoo.program(branching, guide=guide), Y, progress=False, steps=5)


def nothing_to_fit(y):
    pyro.sample("mu", dist.Normal(0.0, 1.0))


def lacks(y):
    pyro.sample("other", dist.Normal(pyro.param("a", torch.tensor(0.0)), 1.0))


def counting(y):
    rate = pyro.sample("mu", dist.Gamma(1.0, 1.0))
    pyro.sample("which", dist.Poisson(rate))
    pyro.sample("y", dist.Normal(rate, 1.0), obs=y.mean())


def leaves_one_out(y):
    pyro.sample("mu", dist.LogNormal(pyro.param("a", torch.tensor(0.0)), 1.0))


def local_of_a_part(y):
    with pyro.plate("row", len(y), subsample_size=4) as rows:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])


@pytest.mark.parametrize(
    ("model", "guide", "told"),
    [
        (conjugate, nothing_to_fit, "neither the model nor its guide has a parameter"),
        (conjugate, lacks, "the guide draws 'other', which the program does not have"),
        (counting, leaves_one_out, "latent 'which' is neither drawn by the guide nor can it be summed out"),
        (counting, "normal", "discrete site 'which' (Poisson) has no gradient"),
        (local_of_a_part, "normal", "latent 'z' stands in plate 'row', which takes 4 of 40 rows"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(model, guide, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        inference.fit(zoo.program(model, guide=guide), Y, steps=2, progress=False)


def test_a_guide_that_is_none_is_refused():
    with pytest.raises(ValueError, match="guide: expected one of normal, multivariate"):
        zoo.program(conjugate, guide="mean_field")


@pytest.mark.slow
def test_pyros_own_elbo_of_a_recorded_guide_is_no_better():
    """After our fit, plain SVI finds nothing to gain: its loss, averaged, is that of ours."""
    program = zoo.program(schools, guide=AutoNormal)
    result = inference.fit(program, progress=False)
    theirs = Trace_ELBO(num_particles=2000, vectorize_particles=True, max_plate_nesting=1)
    with torch.no_grad():
        loss = theirs.loss(schools, program.guide)
    assert loss == pytest.approx(float(result.losses[-500:].mean()), abs=0.25)


def flat_priors(y):
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, pyro.param("scale", torch.tensor(2.0))), obs=y)


def test_a_prior_that_cannot_be_drawn_from_is_fitted_all_the_same():
    """Under a flat prior the posterior is Normal(mean of y, scale / sqrt(N))."""
    program = zoo.program(flat_priors, guide="normal", start={"mu": 0.0})
    pyro.param("scale", torch.tensor(2.0)).requires_grad_(False)
    inference.fit(program, Y, progress=False, steps=200)
    found = inference.draw(program, Y, draws=4000)["mu"]
    assert float(found.mean()) == pytest.approx(float(Y.mean()), abs=0.2 * 2 / math.sqrt(40))
    assert float(found.std()) == pytest.approx(2 / math.sqrt(40), rel=0.1)
