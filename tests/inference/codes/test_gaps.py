"""Refined codes, marginal likelihoods and gaps, against the linear model where all of them are known."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.codes.annealing import Annealing
from inference.codes.gaps import gap, log_marginal
from inference.codes.reading import Codes, Encoder
from inference.codes.refinement import elbo, refine
from inference.data.check import as_batch, check
from inference.fitting.objective import choose
from inference.running.pieces import share
from inference.running.quiet import quietly
from zoo import datasets
from zoo.base import ModelGuide
from zoo.settings import settings


def linear(features=6, latent=3, off=0.0, rows=40, strength=2.0):
    """A gaussian_autoencoder in float64 with observations of its own; its guide exact, or moved off."""
    pair = zoo.create("gaussian_autoencoder", features=features, latent=latent).double()
    with torch.no_grad():
        loading = pair.loading.mul_(strength)
        covariance = (torch.eye(latent).double() + loading.mT @ loading).inverse()
        pair.encoder.copy_(covariance @ loading.mT)
        pair.scale_tril = torch.linalg.cholesky(covariance)
        for parameter in (pair.encoder, pair.scale_tril_unconstrained):
            parameter.add_(off * torch.randn_like(parameter))
    return pair, pair.simulate(rows)[0].x


def exact_log_marginal(pair, x):
    covariance = pair.weight @ pair.weight.mT + torch.diag(pair.scale.expand(x.shape[1]) ** 2)
    return torch.distributions.MultivariateNormal(pair.loc, covariance).log_prob(x).detach()


def exact_posterior(pair, x):
    """Means (N, L) and the covariance, (L, L)."""
    covariance = (torch.eye(pair.loading.shape[1]).double() + pair.loading.mT @ pair.loading).inverse()
    return (((x - pair.loc) / pair.scale) @ pair.loading @ covariance).detach(), covariance.detach()


def factorised_gap(covariance):
    """KL between the best factorised Gaussian, of variances 1 / precision_ll, and a Gaussian of this covariance."""
    precision = covariance.inverse()
    return 0.5 * (precision.diagonal().log().sum() + covariance.logdet())


class OnTheUnitInterval(ModelGuide):
    """Codes with bounds and of two shapes: z ~ Beta(2, 2), s ~ Exponential(1), x ~ N(z + w, s). The guide is rough."""

    dims = {"w": ("latent",), "x": ("feature",)}  # noqa: RUF012

    def __init__(self, features: int = 2):
        super().__init__()
        self.register_buffer("zero", torch.zeros(features))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Beta(self.zero[0] + 2, self.zero[0] + 2))
            s = pyro.sample("s", dist.Gamma(self.zero[0] + 4, self.zero[0] + 4))
            w = pyro.sample("w", dist.Normal(self.zero, self.zero + 0.5).to_event(1))
            return pyro.sample("x", dist.Normal(z[..., None] + w, s[..., None]).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Beta(self.zero[0] + 2, self.zero[0] + 2))
            pyro.sample("s", dist.LogNormal(self.zero[0], self.zero[0] + 0.5))
            pyro.sample("w", dist.Normal(self.zero, self.zero + 0.7).to_event(1))

    def on_a_grid(self, x):
        """log p(x), (N,): w integrated by hand, z and s on a grid."""
        z = torch.linspace(0.0025, 0.9975, 200).double()[:, None]
        s = torch.linspace(0.005, 6, 1200).double()
        prior = dist.Beta(2.0, 2.0).log_prob(z) + dist.Gamma(4.0, 4.0).log_prob(s)
        sd = (s.square() + 0.25).sqrt()
        found = [(dist.Normal(z, sd).log_prob(row[0]) + dist.Normal(z, sd).log_prob(row[1]) + prior) for row in x]
        area = math.log(0.005 * (6 - 0.005) / 1199)
        return torch.stack([part.flatten().logsumexp(0) + area for part in found])


class Stretched(ModelGuide):
    """A positive code whose logarithm has a Gaussian posterior: log z ~ N(0, 1), x ~ N(log z, 1)."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.LogNormal(self.zero, self.zero + 1))
            return pyro.sample("x", dist.Normal(z.log()[..., None], self.zero + 1).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.LogNormal(0.2 * batch.x[:, 0] + 0.5, self.zero + 0.5))


class Mixed(ModelGuide):
    """A class and a code together: k ~ (0.4, 0.6), z ~ N(0, 1), x ~ N(z + m_k, 0.5)."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.4, 0.6]))
        self.register_buffer("locs", torch.tensor([-1.0, 2.0]))

    def model(self, batch):
        one = self.locs[0] * 0 + 1
        with batch.plate():
            k = pyro.sample("k", dist.Categorical(self.weights), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(0 * one, one))
            loc = (self.locs[k] + z)[..., None]
            return pyro.sample("x", dist.Normal(loc, 0.5 * one).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(0.3 * batch.x[:, 0], self.locs[0] * 0 + 1))


# --- log_marginal -----------------------------------------------------------------------------------------------------


def test_log_marginal_equals_the_closed_form():
    pair, x = linear()
    torch.testing.assert_close(log_marginal(pair, x, particles=10), exact_log_marginal(pair, x), rtol=1e-9, atol=1e-9)


def test_log_marginal_under_an_encoder_that_is_off():
    pair, x = linear(off=0.06)
    exact = exact_log_marginal(pair, x)
    found = [log_marginal(pair, x, particles=2000, seed=seed) for seed in range(4)]
    spread = torch.stack(found).std(0).mean()
    assert 0 < spread < 0.1
    assert abs(torch.stack(found).mean() - exact.mean()) < 4 * spread / math.sqrt(4 * len(x)) + spread.square()
    refined = refine(pair, x, covariance="full", samples=2, steps=150)
    better = log_marginal(pair, x, proposal=refined, particles=500)
    assert (better - exact).abs().max() < 0.01


def test_log_marginal_of_classes_is_exact():
    pair = zoo.create("gmm").double()
    batch, _ = pair.simulate(20)
    posterior = inference.draw(pair, batch, draws=9)
    likelihood = inference.log_likelihood(pair, posterior, batch)
    wanted = likelihood.flatten(0, 1).logsumexp(0) - math.log(9)
    torch.testing.assert_close(log_marginal(pair, batch, posterior=posterior), wanted)


def test_log_marginal_with_a_class_and_a_code():
    pair = Mixed().double()
    x = pair.simulate(50)[0].x
    density = dist.Normal(pair.locs, math.sqrt(1.25)).log_prob(x) + pair.weights.log()
    z = (log_marginal(pair, x) - density.logsumexp(-1)) / math.sqrt(1 / 5000)
    assert abs(z.mean()) < 4 * z.std() / math.sqrt(50) + 0.1
    assert z.std() < 5


def test_global_latents_are_mixed_over():
    """log of the mean of p(x | t), not the mean of its log."""
    pair = zoo.create("bayesian_vae", features=4, likelihood="gaussian").double()
    batch, _ = pair.simulate(5)
    posterior = inference.draw(pair, batch.select(slice(0, 1)), draws=3)
    likelihood = inference.log_likelihood(pair, posterior, batch, particles=20_000).squeeze(0)
    wanted = likelihood.logsumexp(0) - math.log(3)
    found = log_marginal(pair, batch, particles=60_000, posterior=posterior)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.1)


# --- refine -----------------------------------------------------------------------------------------------------------


def divergence(loc, tril, mean, covariance):
    """KL(N(loc, tril tril') || N(mean, covariance)) of each row, (N,)."""
    q = torch.distributions.MultivariateNormal(loc, scale_tril=tril)
    return torch.distributions.kl_divergence(q, torch.distributions.MultivariateNormal(mean, covariance))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_refine_reaches_the_best_gaussian(covariance):
    """The ELBO misses log p(x) by the divergence from the posterior, here in closed form."""
    pair, x = linear(off=0.15)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    found = refine(pair, x, covariance=covariance)
    mean, posterior = exact_posterior(pair, x)
    tril = found.scale.diag_embed() if found.tril is None else found.tril
    torch.testing.assert_close(tril.square().sum(-1).sqrt(), found.scale)
    missed = divergence(found.loc, tril, mean, posterior.expand(len(x), -1, -1))
    least = factorised_gap(posterior) if covariance == "diagonal" else 0.0
    assert (missed >= least - 1e-9).all()
    assert (missed - least).max() < 0.01  # nats
    # Its own estimate says the same of it, and it has gained on the encoder.
    z = (exact_log_marginal(pair, x) - missed - found.elbo) * (200**0.5)
    assert abs(z.mean()) < 4 * z.std() / math.sqrt(len(x))
    assert ((found.elbo - found.encoder_elbo) > -4 * found.error).all()
    assert (found.elbo - found.encoder_elbo).mean() > 0.1
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())


def test_draws_of_refined_codes():
    pair, x = linear()
    z = refine(pair, x, covariance="full", samples=2, steps=100).draws(4000)["z"]
    assert z.shape == (1, 4000, 40, 3)
    mean, posterior = exact_posterior(pair, x)
    off = z[0] - mean
    spread = (posterior.square() + posterior.diagonal()[:, None] * posterior.diagonal()).sqrt()
    covariance = torch.einsum("snl,snm->lm", off, off) / (4000 * 40)
    assert ((covariance - posterior).abs() < 0.02 * spread).all()  # 160,000 draws, and what 100 steps leave


def test_an_exact_encoder_stays():
    pair, x = linear()
    found = refine(pair, x, covariance="full", steps=200)
    assert (found.elbo - found.encoder_elbo).abs().max() < 1e-3


def test_a_positive_code():
    """The change of variables counts: without it the mode of z, not of log z, would be sought."""
    pair = Stretched().double()
    x = pair.simulate(20)[0].x
    found = refine(pair, x)
    assert (found.loc - x / 2).abs().max() < 0.03
    assert (found.scale - math.sqrt(0.5)).abs().max() < 0.03
    exact = dist.Normal(0.0, math.sqrt(2.0)).log_prob(x[:, 0])
    assert (found.elbo - exact).abs().max() < 0.01


def test_bounded_codes_of_several_shapes():
    """In unconstrained space; log p(x) by quadrature."""
    pair = OnTheUnitInterval().double()
    x = pair.simulate(12)[0].x
    found = refine(pair, x, steps=150)
    draws = found.draws(5)
    assert draws["w"].shape == (1, 5, 12, 2)
    assert ((draws["z"] > 0) & (draws["z"] < 1)).all()
    assert (draws["s"] > 0).all()
    exact = pair.on_a_grid(x)
    assert (found.elbo < exact + 4 * found.error).all()
    assert found.elbo.mean() > found.encoder_elbo.mean() + 0.1
    by = gap(pair, x, steps=100)
    assert ((by.log_marginal - exact).abs() < 5 * by.error + 1e-3).all()


def test_density_of_a_refined_proposal_is_that_of_its_draws():
    pair = OnTheUnitInterval().double()
    batch = as_batch(pair, pair.simulate(6)[0])
    codes = Codes.of(check(pair, batch))
    for covariance in ("diagonal", "full"):
        found = refine(pair, batch, covariance=covariance, steps=5, samples=2)
        rows = slice(2, 5)
        part = batch.select(rows)
        with quietly(0):
            values, log_q = found.propose(codes, part, rows, 4, {})
            torch.testing.assert_close(found.log_prob(codes, part, rows, values, {}), log_q)
            values, log_q = codes.propose(part, 4, {})
            torch.testing.assert_close(codes.log_guide(part, values, {}), log_q)


def test_refine_in_pieces_is_refine():
    """Rows are independent: cutting them up changes nothing but the noise."""
    pair, x = linear(off=0.05)
    whole = refine(pair, x, steps=150)
    with settings.using(memory=2**14):
        cut = refine(pair, x, steps=150)
    assert not torch.equal(cut.loc, whole.loc)
    assert ((cut.loc - whole.loc) / whole.scale).abs().max() < 0.05


class Steep(ModelGuide):
    """z ~ N(0, 1), x ~ N(exp z, 1): the guide's z of a large x has a gradient whose square is no float32."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(0 * self.one, self.one))
            return pyro.sample("x", dist.Normal(z.exp()[..., None], self.one).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(0.3 * batch.x[:, 0], 0.1 * self.one))


@pytest.mark.parametrize("wild", [140.0, 1000.0])  # gradients of 1e36, and of no number
def test_a_row_that_overflows_holds_up_no_other(wild):
    """There is no common length of the gradient, and no common refusal."""
    pair, x = Steep(), torch.tensor([[0.5], [1.0], [2.0], [3.0]])
    alone = refine(pair, x, steps=60, samples=2)
    x[2] = wild
    found, others = refine(pair, x, steps=60, samples=2), [0, 1, 3]
    assert found.loc[2] > 10
    assert (alone.loc[others] - 0.3 * x[others]).abs().max() > 0.1
    torch.testing.assert_close(found.loc[others], alone.loc[others])
    torch.testing.assert_close(found.scale[others], alone.scale[others])


# --- gap --------------------------------------------------------------------------------------------------------------


def test_no_gap_where_the_guide_holds_the_posterior():
    pair, x = linear()
    found = gap(pair, x, covariance="full", particles=1000, steps=200)
    torch.testing.assert_close(found.encoder, exact_log_marginal(pair, x), rtol=1e-9, atol=1e-9)
    assert found.approximation.abs().max() < 1e-3
    assert found.amortisation.abs().max() < 1e-3


@pytest.mark.parametrize("method", ["importance", "annealed"])
def test_gaps_of_the_linear_model(method):
    """Approximation: the divergence of the best factorised Gaussian. The rest is the encoder's."""
    pair, x = linear(off=0.15)
    found = gap(pair, x, method=method, chains=64, temperatures=25, steps=300)
    exact, (_, covariance) = exact_log_marginal(pair, x), exact_posterior(pair, x)
    error = found.error.square().sum().sqrt() / len(x)
    assert 0 < error < 0.02
    # the log of an unbiased estimate is low by half its variance
    assert abs((found.log_marginal - exact).mean()) < 4 * error + found.error.square().mean()
    assert abs(found.approximation.mean() - factorised_gap(covariance)) < 0.03
    assert found.amortisation.mean() > 0.1
    said = str(found)
    assert (
        f"by {'annealed ' if method == 'annealed' else ''}importance sampling: {float(found.log_marginal.mean()):.4g} ±"
        in said
    )
    assert "amortisation gap" in said
    assert "over 40 observations" in said


def test_annealing_from_far_is_unbiased():
    """Of p(x), not of its log: the ratio to the exact value has mean one, from wherever the path starts."""
    pair, x = linear(off=0.1, rows=60)
    batch = as_batch(pair, x)
    codes = Codes.of(check(pair, batch))
    poor = refine(pair, x, steps=1, samples=2)
    with quietly(0):
        found, error = Annealing(codes, poor, temperatures=20, chains=64)(batch, {})
    ratio = (found - exact_log_marginal(pair, x)).exp()
    z = (ratio - 1).mean() / (ratio.std() / math.sqrt(len(x)))
    assert abs(z) < 4
    assert ratio.std() < 0.5
    assert 0.6 < (ratio.std() / error.square().mean().sqrt()) < 1.6


def digits():
    """A binomial VAE fitted to digits, and digits that it has not seen."""
    x = datasets.load("digits").x
    pair = zoo.create("gaussian_vae", features=64, latent=4, hidden=(32,), likelihood="binomial")
    inference.fit(pair, x[:1500], steps=1000, progress=False)
    return pair, x[1500:]


@pytest.mark.slow
def test_refine_goes_where_a_long_run_goes():
    """On digits that the VAE has not seen."""
    pair, x = digits()
    x = x[:60]
    long = refine(pair, x, steps=3000, lr=0.03, samples=1000)
    refined = refine(pair, x, samples=1000)
    gained = refined.elbo - refined.encoder_elbo
    assert gained.mean() > 1
    assert (gained > -4 * refined.error).all()
    assert 0.97 < gained.mean() / (long.elbo - refined.encoder_elbo).mean() < 1.03


@pytest.mark.slow
def test_gap_on_digits_by_two_methods():
    pair, x = digits()
    x = x[:60]
    found, annealed = gap(pair, x), gap(pair, x, method="annealed", steps=200)
    error = (found.error.square() + annealed.error.square()).sum().sqrt() / len(x)
    difference = (annealed.log_marginal - found.log_marginal).mean()
    assert abs(difference) < 4 * error + annealed.error.square().mean(), f"{difference} ± {error}"
    assert error < 0.1
    assert found.approximation.mean() > 0
    assert found.amortisation.mean() > found.approximation.mean()


def test_elbo_in_two_ways():
    """By `refine`'s own sum, and by the bound that `fit` climbs."""
    pair, x = linear(off=0.15)
    batch = as_batch(pair, x)
    with quietly(0):
        mean, error = elbo(Codes.of(check(pair, batch)), batch, Encoder(), [{}], 4000)
        losses = torch.stack([choose(pair, batch, particles=100).loss(pair, batch) for _ in range(20)])
    spread = error.square().sum().sqrt() + losses.std() / math.sqrt(20)
    assert abs(mean.sum() + losses.mean()) < 4 * spread


def test_share_deals_everything_out():
    for total, among in ((100, 7), (3, 10), (5, 1), (30, 30)):
        pieces = list(share(total, among))
        assert [i for _, where in pieces for i in range(where.start, where.stop)] == list(range(total))
        assert len({s for s, _ in pieces}) == min(total, among)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pair, x: refine(pair, x, steps=0), "steps: expected a whole number"),
        (lambda pair, x: refine(pair, x, lr=-1), "lr: expected a finite number above 0"),
        (lambda pair, x: refine(pair, x, covariance="diag"), "expected 'diagonal' or 'full'"),
        (lambda pair, x: gap(pair, x, method="exact"), "expected 'importance' or 'annealed'"),
        (lambda pair, x: gap(pair, x, chains=1), "chains: expected a whole number of at least 2"),
        (lambda pair, x: log_marginal(pair, x, particles=0), "particles: expected a whole number"),
        (lambda pair, x: log_marginal(pair, x, proposal="prior"), "proposal: expected 'encoder' or what `refine`"),
        (lambda pair, x: log_marginal(pair, x, proposal=refine(pair, x[:3], steps=1)), "refined for 3 rows, the data"),
        (lambda pair, x: refine(zoo.create("gmm"), x[:, :2]), "refine: the guide of gmm draws no code"),
        (lambda pair, x: gap(zoo.create("gmm"), x[:, :2]), "gap: the guide of gmm draws no code"),
        (lambda pair, x: refine(pair, x * torch.nan), "takes no missing values"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*linear())


def test_seeds_and_the_callers_random_state():
    pair, x = linear(off=0.15, rows=3)
    pair = pair.float()
    state = torch.get_rng_state()
    options = {"steps": 20, "particles": 50}
    first, again, other = (gap(pair, x, seed=seed, **options) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    for name in ("log_marginal", "best", "encoder"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
        assert getattr(first, name).dtype == torch.float32
