"""Programs whose plates take a part of their rows: what is said of their data is said of every row."""

import threading

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch.distributions import constraints

import inference
import zoo
from inference.posterior.loo import leave_one_out
from zoo.threads.rows import all_rows

N, PART = 60, 12
_made = torch.Generator().manual_seed(0)
X = torch.arange(N, dtype=torch.float64) / 10
Y = X + 1 + 0.3 * torch.randn(N, generator=_made, dtype=torch.float64)

pytestmark = pytest.mark.usefixtures("double")


def line(x, y=None, part=PART):
    a = pyro.sample("a", dist.Normal(0.0, 5.0))
    s = pyro.sample("s", dist.HalfNormal(1.0))
    with pyro.plate("row", len(x), subsample_size=part) as rows:
        mean = pyro.deterministic("mean", a + x[rows])
        pyro.sample("y", dist.Normal(mean, s), obs=None if y is None else y[rows])


def density(found):
    """log p of each row at each draw, (S, N), and with the prior, (S,)."""
    a, s = found["a"].reshape(-1), found["s"].reshape(-1)
    each = torch.distributions.Normal(a[:, None] + X, s[:, None]).log_prob(Y)
    prior = torch.distributions.Normal(0.0, 5.0).log_prob(a) + torch.distributions.HalfNormal(1.0).log_prob(s)
    return each, each.sum(1) + prior


@pytest.fixture(scope="module")
def fitted():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        program = zoo.program(line, guide="multivariate")
        inference.fit(program, X, Y, steps=400, progress=False)
        return program, inference.draw(program, X, Y, draws=200)
    finally:
        torch.set_default_dtype(before)


def test_scores_are_of_all_rows_in_their_order(fitted):
    program, found = fitted
    each, _ = density(found)
    assert torch.allclose(inference.log_likelihood(program, found, X, Y)["y"][0], each, rtol=1e-10)
    score = each.logsumexp(0) - np.log(len(each))
    assert torch.allclose(inference.log_score(program, found, X, Y)["y"], score, rtol=1e-10)


def test_draws_have_weights_and_these_leave_one_out(fitted):
    program, found = fitted
    each, _ = density(found)
    free = found["s"].log()[0]  # positive: exp, whose log Jacobian is the free number
    at = torch.stack([found["a"][0], free], -1)
    log_p, log_q = found.stats["log_p"][0], found.stats["log_q"][0]
    assert torch.allclose(log_p, density(found)[1] + free, rtol=1e-10)
    guide = program.fitted.pair.automatic.get_posterior()
    assert torch.allclose(log_q, guide.log_prob(at), rtol=1e-6)
    expected = leave_one_out(each.numpy(), (log_p - log_q).numpy())
    ours = inference.loo(program, found, X, Y)
    assert np.allclose(ours.pointwise, expected.pointwise)
    assert ours.weighted
    assert inference.khat(program, X, Y).share > 0.5


def test_predictions_are_of_all_rows_in_their_order(fitted):
    program, found = fitted
    for made in (inference.predict(program, found, X), inference.predict(program, found, X, Y)):
        off = (made["y"][0] - found["a"].reshape(-1, 1) - X) / found["s"].reshape(-1, 1)  # (S, N)
        assert off.shape == (200, N)
        assert float(off.mean()) == pytest.approx(0.0, abs=4 / (200 * N) ** 0.5)
        assert float(off.std()) == pytest.approx(1.0, abs=4 / (2 * 200 * N) ** 0.5)
        assert float(off.mean(0).abs().max()) < 5 / 200**0.5  # in each row
        assert torch.allclose(found["mean"], found["a"][..., None] + X)


def test_what_arviz_gets_stands_along_all_rows(fitted):
    program, found = fitted
    exported = inference.to_arviz(program, found, X, Y, coords={"row": [f"r{i}" for i in range(N)]})
    assert np.allclose(exported["log_likelihood"]["y"].values[0], density(found)[0])
    assert np.allclose(exported["observed_data"]["y"].sel(row="r41"), Y[41])
    assert exported["posterior_predictive"]["y"].sizes["row"] == N
    assert exported["posterior"]["mean"].dims == ("chain", "draw", "row")


@pytest.mark.slow
def test_a_posterior_of_all_rows_can_be_judged_in_every_way(fitted):
    program, found = fitted
    judged = inference.check(program, found, X, Y)
    assert not [finding for finding in judged.findings if finding.state == "could not be judged"], judged
    assert {"coverage of 'y'", "leave-one-out"} <= {finding.name for finding in judged.findings}


def rows_of(y):
    with pyro.plate("row", len(y), subsample_size=PART) as rows:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])


def read_off(y):
    slope = pyro.param("slope", torch.tensor(0.5))
    width = pyro.param("width", torch.tensor(0.5**0.5), constraint=constraints.positive)
    with pyro.plate("row", len(y), subsample_size=PART) as rows:
        pyro.sample("z", dist.Normal(slope * y[rows], width))


def test_a_guide_of_ones_own_draws_the_latents_of_all_rows():
    """The guide is the posterior, so that log p - log q is the log evidence: y is Normal(0, 2) in each row."""
    program = zoo.program(rows_of, read_off)
    found = inference.draw(program, Y, draws=100)
    assert found["z"].shape == (1, 100, N)
    off = found["z"][0] - 0.5 * Y
    assert float(off.mean(0).abs().max()) < 5 * (0.5 / 100) ** 0.5
    evidence = torch.distributions.Normal(0.0, 2**0.5).log_prob(Y).sum()
    assert torch.allclose(found.stats["log_p"] - found.stats["log_q"], evidence.expand(1, 100))
    each = torch.distributions.Normal(found["z"][0], 1.0).log_prob(Y)
    assert torch.allclose(inference.log_likelihood(program, found, Y)["y"][0], each)


def test_an_automatic_guide_takes_all_rows_to_draw_and_a_part_to_fit_whichever_comes_first():
    program = zoo.program(rows_of, guide=AutoNormal(rows_of))
    assert inference.draw(program, Y, draws=3)["z"].shape == (1, 3, N)
    inference.fit(program, Y, steps=1500, lr=0.02, progress=False)
    found = inference.draw(program, Y, draws=400)["z"][0]
    assert float((found.mean(0) - 0.5 * Y).abs().mean()) < 0.1


@pytest.mark.filterwarnings("ignore:.*plain Pyro")
def test_draws_of_a_part_are_refused_by_plate():
    program = zoo.program(rows_of, guide=AutoMultivariateNormal(rows_of))  # whose one latent has the size of the part
    found = inference.draw(program, Y, draws=30)
    assert found["z"].shape == (1, 30, PART)
    assert not found.stats
    for call in (inference.log_likelihood, inference.predict, inference.to_arviz, inference.loo, inference.log_score):
        with pytest.raises(ValueError, match=f"site 'z': its draws hold {PART} of the {N} rows of plate 'row'"):
            call(program, found, Y)


def batch(y, full=1000):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("row", full, subsample_size=len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_rows_that_the_arguments_hold_are_those_that_are_scored():
    program = zoo.program(batch)
    inference.fit(program, Y, steps=50, progress=False)
    found = inference.draw(program, Y, draws=30)
    each = torch.distributions.Normal(found["mu"][0, :, None], 1.0).log_prob(Y)
    assert torch.allclose(inference.log_likelihood(program, found, Y)["y"][0], each)
    assert inference.predict(program, found, Y)["y"].shape == (1, 30, N)
    with pytest.raises(ValueError, match=f"plate 'row' has {N} of 1000 rows with these arguments"):
        inference.loo(program, found, Y)


def test_a_program_that_cannot_take_all_of_its_random_rows_is_refused():
    def stuck(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("row", len(y), subsample_size=PART) as rows:
            pyro.sample("y", dist.Normal(mu + torch.zeros(PART), 1.0), obs=y[rows])

    draws = inference.Posterior({"mu": torch.zeros(1, 30)}, frozenset(), {}, "mcmc", 1, 30)
    with pytest.raises(ValueError, match=f"plate 'row' takes {PART} of {N} rows, others in each run, and the program"):
        inference.log_likelihood(zoo.program(stuck), draws, Y)


def test_responsibilities_are_of_all_rows():
    def mixture(y):
        loc = pyro.sample("loc", dist.Normal(torch.tensor([0.0, 4.0]), 1.0).to_event(1))
        with pyro.plate("row", len(y), subsample_size=PART) as rows:
            which = pyro.sample("which", dist.Categorical(torch.tensor([0.3, 0.7])))
            pyro.sample("y", dist.Normal(loc[which], 1.0), obs=y[rows])

    loc = torch.tensor([1.0, 5.0])
    draws = inference.Posterior({"loc": loc.expand(1, 2, 2)}, frozenset(), {}, "mcmc", 1, 2)
    joint = torch.tensor([0.3, 0.7]) * torch.distributions.Normal(loc, 1.0).log_prob(Y[:, None]).exp()
    found = inference.assignments(zoo.program(mixture), draws, Y)["which"]
    assert torch.allclose(found, joint / joint.sum(1, keepdim=True))


def test_only_what_asks_for_it_takes_all_rows_and_only_in_its_thread():
    sizes = {}

    def look(name):
        with pyro.plate("row", 10, subsample_size=3) as rows:
            sizes[name] = len(rows)

    with all_rows():
        look("inside")
        other = threading.Thread(target=look, args=("other thread",))
        other.start()
        other.join()
        with pyro.plate("row", 10, subsample=torch.tensor([4, 2])) as rows:
            sizes["given"] = rows.tolist()
    look("after")
    assert sizes == {"inside": 10, "other thread": 3, "given": [4, 2], "after": 3}
