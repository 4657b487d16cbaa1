"""What is expected of a step given those before it: statsmodels, hmmlearn, torch's own cells, sums over all rows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

import inference
import zoo
from inference.posterior.draws import Posterior
from inference.questions.sequences import one_step_ahead
from tests.helpers.chains import posterior_of
from tests.helpers.states import holes, kalman, linear
from zoo.base import Batch
from zoo.parts.recurrent import particles

SERIES = np.random.default_rng(1).normal(size=60).cumsum() * 0.3 + 50


def points(**values):
    return Posterior({name: torch.as_tensor(v, dtype=torch.float64)[None, None] for name, v in values.items()}, size=1)


@pytest.mark.parametrize("gaps", [(), (7, 8, 20)])
def test_an_autoregression_is_statsmodels_one_step_prediction(gaps):
    api = pytest.importorskip("statsmodels.tsa.api")
    x = SERIES.copy()
    x[list(gaps)] = np.nan
    pair = zoo.create("autoregressive", order=2, missing=3 if gaps else None).double()
    centre = float(pair.center)
    intercept, coefficients, variance = 1.5, (0.7, -0.2), 0.09
    found = one_step_ahead(pair, points(intercept=intercept, coefficients=coefficients, variance=variance), x)
    level = intercept + centre * (1 - sum(coefficients))
    wanted = api.SARIMAX(x, order=(2, 0, 0), trend="c", enforce_stationarity=False).filter(
        [level, *coefficients, variance]
    )
    np.testing.assert_allclose(found.mean[0, 2:], wanted.forecasts[0, 2:], rtol=1e-8)
    np.testing.assert_allclose(found.sd[0, 2:] ** 2, wanted.forecasts_error_cov[0, 0, 2:], rtol=1e-7)
    assert (found.mean[0, :2] == centre).all()


def test_an_autoregression_with_inputs_and_lengths():
    rng = np.random.default_rng(0)
    u, x = rng.normal(size=(2, 9, 1)), rng.normal(size=(2, 9))
    pair = zoo.create("autoregressive", order=1, inputs=1).double()
    latents = points(intercept=0.3, coefficients=[0.5], slopes=[2.0], variance=0.25)
    found = one_step_ahead(pair, latents, Batch.of(u, x, lengths=[9, 5]))
    wanted = 0.3 + 0.5 * x[:, :-1] + 2 * u[:, 1:, 0]
    np.testing.assert_allclose(found.mean[0, 1:], wanted[0], rtol=1e-12)
    np.testing.assert_allclose(found.mean[1, 1:5], wanted[1, :4], rtol=1e-12)
    np.testing.assert_allclose(found.sd[:, 1:], 0.5)


def test_a_positive_series_has_log_normal_steps():
    x, latents = np.exp(SERIES / 50), points(intercept=0.1, coefficients=[0.6], variance=0.04)
    logs = one_step_ahead(zoo.create("autoregressive", order=1).double(), latents, np.log(x))
    found = one_step_ahead(zoo.create("autoregressive", order=1, transform="log").double(), latents, x)
    wanted = scipy.stats.lognorm(s=logs.sd, scale=np.exp(logs.mean))
    np.testing.assert_allclose(found.mean, wanted.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.sd, wanted.std(), rtol=1e-10)


def test_a_difference_is_undone():
    """Of a series that is a random walk with drift the next value is this one and the drift."""
    pair = zoo.create("autoregressive", order=1, difference=1).double()
    found = one_step_ahead(pair, points(intercept=0.3, coefficients=[0.0], variance=0.25), SERIES)
    np.testing.assert_allclose(found.mean[0, 2:], SERIES[1:-1] + 0.3, rtol=1e-12)
    np.testing.assert_allclose(found.sd[0, 2:], 0.5, rtol=1e-12)


def test_draws_are_mixed():
    """Means of draws that disagree add to the variance: E[v] + Var[m]."""
    pair = zoo.create("autoregressive", order=1).double()
    draws = {"intercept": [0.0, 1.0], "coefficients": [[0.0], [0.0]], "variance": [1.0, 4.0]}
    both = Posterior({name: torch.tensor(v, dtype=torch.float64)[None] for name, v in draws.items()}, size=2)
    found = one_step_ahead(pair, both, np.zeros(4))
    assert found.mean[0, 3] == pytest.approx(0.5)
    assert found.sd[0, 3] ** 2 == pytest.approx(2.5 + 0.25)


@pytest.mark.parametrize("emission", ["gaussian", "poisson", "categorical"])
def test_hidden_states_are_filtered_as_hmmlearn_does(emission):
    hmm = pytest.importorskip("hmmlearn.hmm")
    pair = zoo.create("hmm", emission=emission, states=3, **({"categories": 4} if emission == "categorical" else {}))
    pair = pair.double()
    posterior, x = posterior_of(pair, 1), pair.simulate(1)[0].x
    at = {name: value[0, 0].numpy() for name, value in posterior.draws.items()}
    if emission == "gaussian":
        other = hmm.GaussianHMM(3, "diag")
        other.means_, other.covars_ = at["locs"], at["scales"] ** 2
        mean, variance = at["locs"][:, 0], at["scales"][:, 0] ** 2
    elif emission == "poisson":
        other = hmm.PoissonHMM(3)
        other.lambdas_ = at["rates"][:, None]
        mean = variance = at["rates"]
    else:
        other = hmm.CategoricalHMM(3)
        other.emissionprob_, other.n_features = at["probs"], 4
        mean = at["probs"] @ np.arange(4)
        variance = at["probs"] @ np.arange(4) ** 2 - mean**2
    other.startprob_, other.transmat_ = at["initial"], at["transition"]
    steps = x[0].reshape(len(x[0]), 1).numpy()
    steps = steps if emission == "gaussian" else steps.astype(int)
    before = [at["initial"]] + [other.predict_proba(steps[:t])[-1] @ at["transition"] for t in range(1, len(steps))]
    wanted = np.array(before) @ mean
    spread = np.array(before) @ (variance + mean**2) - wanted**2
    found = one_step_ahead(pair, posterior, x)
    np.testing.assert_allclose(found.mean.flatten(), wanted, rtol=1e-8)
    np.testing.assert_allclose(found.sd.flatten() ** 2, spread, rtol=1e-7)


def test_a_missing_step_says_nothing_and_the_next_one_knows_less():
    pair = zoo.create("hmm", states=2).double()
    posterior, x = posterior_of(pair, 1), pair.simulate(1)[0].x
    whole = one_step_ahead(pair, posterior, x)
    x[0, 5] = torch.nan
    found = one_step_ahead(pair, posterior, x)
    torch.testing.assert_close(found.mean[0, :6], whole.mean[0, :6])
    at = {name: value[0, 0] for name, value in posterior.draws.items()}
    before = pair.chain(at, 20, None).filter(x[0])[5]  # step 5 moves on without being looked at
    torch.testing.assert_close(found.mean[0, 6, 0], before @ at["transition"] @ at["locs"][:, 0])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_recurrent_network_is_torchs_cell_in_a_loop(cell):
    torch.manual_seed(0)
    pair = zoo.create("recurrent", emission="categorical", categories=5, cell=cell, hidden=7).double()
    x = pair.simulate(3)[0].x
    with torch.no_grad():
        own = (torch.nn.GRUCell if cell == "gru" else torch.nn.LSTMCell)(6, 7).double()
        for name, value in own.named_parameters():
            value.copy_(getattr(pair.net.net, f"{name}_l0"))
        told, state = torch.eye(6, dtype=torch.float64)[[5, 5, 5]], None
        means, variances = [], []
        for t in range(x.shape[1]):
            state = own(told, state)
            share = pair.head(state if cell == "gru" else state[0]).softmax(-1)
            means.append(share @ torch.arange(5.0, dtype=torch.float64))
            variances.append(share @ torch.arange(5.0, dtype=torch.float64) ** 2 - means[-1] ** 2)
            told = torch.eye(6, dtype=torch.float64)[x[:, t].long()]
    found = one_step_ahead(pair, inference.draw(pair, x, 1), x)
    torch.testing.assert_close(found.mean, torch.stack(means, 1))
    torch.testing.assert_close(found.sd.square(), torch.stack(variances, 1))


def test_a_masked_network_agrees_with_the_sum_over_all_rows():
    torch.manual_seed(0)
    pair = zoo.create("masked_autoregressive", features=4, hidden=[16], orderings=1).double()
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    share = inference.log_likelihood(pair, inference.draw(pair, every, 1), every)[0, 0].exp()
    found = one_step_ahead(pair, inference.draw(pair, every, 1), every)
    for n, d in itertools.product(range(16), range(4)):
        same = (every[:, :d] == every[n, :d]).all(-1)
        p = share[same & (every[:, d] == 1)].sum() / share[same].sum()
        assert found.mean[n, d] == pytest.approx(float(p), abs=1e-10)
        assert found.sd[n, d] ** 2 == pytest.approx(float(p * (1 - p)), abs=1e-10)


def test_latent_states_are_filtered_as_kalman_does():
    pair = linear(2, 2, exact=True)
    x = holes(3, 6, 2)
    found = one_step_ahead(pair, inference.draw(pair, x, 8), x, seed=1)
    torch.manual_seed(0)
    many = particles.one_step_ahead(pair.dynamics, x, 40_000)
    for n, row in enumerate(x):
        wanted = kalman(pair, row)
        sd = np.sqrt(np.stack([np.diag(c) for c in wanted.forecasts_error_cov.transpose(2, 0, 1)]))
        for (mean, spread), error in (((found.mean, found.sd), 0.03), ((many[0], many[1].sqrt()), 0.005)):
            assert np.abs((mean[n].detach().numpy() - wanted.forecasts.T) / sd).max() < 5 * error
            assert np.abs(spread[n].detach().numpy() / sd - 1).max() < 5 * error
    other = one_step_ahead(pair, inference.draw(pair, x, 8), x, seed=2)
    again = one_step_ahead(pair, inference.draw(pair, x, 8), x, seed=1)
    assert torch.equal(found.mean, again.mean)
    assert not torch.equal(found.mean, other.mean)
    assert math.isfinite(float(found.sd.sum()))


def test_what_has_no_steps_is_refused():
    pair = zoo.create("gmm").double()
    x = pair.simulate(5)[0]
    with pytest.raises(ValueError, match="gmm has no moments of one step given those before it at x"):
        one_step_ahead(pair, inference.draw(pair, x, 2), x)
