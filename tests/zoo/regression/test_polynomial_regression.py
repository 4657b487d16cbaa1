"""polynomial_regression against closed forms, certified digits and reference posteriors."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pyro
import pytest
import scipy.stats
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from sklearn.datasets import load_diabetes
from torch import Tensor

import inference
import zoo
from tests.helpers.places import REFERENCE
from zoo.base import Batch, ModelGuide
from zoo.parts.conjugate.scaled import ScaledNormal

# NIST StRD, "Filip" (A. Filippelli): 82 observations, a polynomial of degree 10, "higher level of difficulty".
FILIP_Y = """
0.8116 0.9072 0.9052 0.9039 0.8053 0.8377 0.8667 0.8809 0.7975 0.8162 0.8515 0.8766 0.8885 0.8859 0.8959 0.8913 0.8959
0.8971 0.9021 0.909 0.9139 0.9199 0.8692 0.8872 0.89 0.891 0.8977 0.9035 0.9078 0.7675 0.7705 0.7713 0.7736 0.7775
0.7841 0.7971 0.8329 0.8641 0.8804 0.7668 0.7633 0.7678 0.7697 0.77 0.7749 0.7796 0.7897 0.8131 0.8498 0.8741 0.8061
0.846 0.8751 0.8856 0.8919 0.8934 0.894 0.8957 0.9047 0.9129 0.9209 0.9219 0.7739 0.7681 0.7665 0.7703 0.7702 0.7761
0.7809 0.7961 0.8253 0.8602 0.8809 0.8301 0.8664 0.8834 0.8898 0.8964 0.8963 0.9074 0.9119 0.9228
"""
FILIP_X = """
-6.860120914 -4.324130045 -4.358625055 -4.358426747 -6.955852379 -6.661145254 -6.355462942 -6.118102026 -7.115148017
-6.815308569 -6.519993057 -6.204119983 -5.853871964 -6.109523091 -5.79832982 -5.482672118 -5.171791386 -4.851705903
-4.517126416 -4.143573228 -3.709075441 -3.499489089 -6.300769497 -5.953504836 -5.642065153 -5.031376979 -4.680685696
-4.329846955 -3.928486195 -8.56735134 -8.363211311 -8.107682739 -7.823908741 -7.522878745 -7.218819279 -6.920818754
-6.628932138 -6.323946875 -5.991399828 -8.781464495 -8.663140179 -8.473531488 -8.247337057 -7.971428747 -7.676129393
-7.352812702 -7.072065318 -6.774174009 -6.478861916 -6.159517513 -6.835647144 -6.53165267 -6.224098421 -5.910094889
-5.598599459 -5.290645224 -4.974284616 -4.64454848 -4.290560426 -3.885055584 -3.408378962 -3.13200249 -8.726767166
-8.66695597 -8.511026475 -8.165388579 -7.886056648 -7.588043762 -7.283412422 -6.995678626 -6.691862621 -6.392544977
-6.067374056 -6.684029655 -6.378719832 -6.065855188 -5.752272167 -5.132414673 -4.811352704 -4.098269308 -3.66174277
-3.2644011
"""
CERTIFIED = [
    -1467.48961422980, -2772.17959193342, -2316.37108160893, -1127.97394098372, -354.478233703349, -75.1242017393757,
    -10.8753180355343, -1.06221498588947, -0.670191154593408e-01, -0.246781078275479e-02, -0.402962525080404e-04,
]  # fmt: skip
CERTIFIED_RESIDUAL = 0.334801051324544e-02  # standard deviation, 71 degrees of freedom


def filip() -> Batch:
    x, y = (torch.tensor([float(v) for v in text.split()], dtype=torch.float64) for text in (FILIP_X, FILIP_Y))
    return Batch(82, 82, x=x[:, None], y=y)


def diabetes(*columns: int) -> Batch:
    bunch = load_diabetes()
    return Batch(442, 442, x=torch.tensor(bunch.data[:, columns]), y=torch.tensor(bunch.target))


def create(**config: Any) -> ModelGuide:
    return zoo.create("polynomial_regression", **config).double()


def initialised(batch: Batch, **config: Any) -> tuple[ModelGuide, dict[str, Tensor]]:
    pair = create(features=batch.x.shape[1], **config)
    with torch.no_grad():
        return pair, pair.initial(batch)


def reference(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = REFERENCE / "posteriordb" / name
    if not folder.is_dir():
        pytest.skip(f"the reference posterior {name} is not here: no {folder}")
    data, summary = (json.loads((folder / f"{file}.json").read_text()) for file in ("data", "reference_summary"))
    return data, summary["parameters"]


def check_posterior(draws: Tensor, mean: Any, sd: Any, scales: bool = True) -> None:
    """Draws (draw, P): means within 0.25 sd; for guides with covariances, sds within a factor of 0.8 to 1.2."""
    mean, sd = (torch.as_tensor(v, dtype=torch.float64) for v in (mean, sd))
    off = ((draws.mean(0) - mean) / sd).abs().max()
    assert off < 0.25, f"posterior mean {off:.3f} sd away"
    if scales:
        ratio = draws.std(0) / sd
        assert ((ratio > 0.8) & (ratio < 1.2)).all(), f"posterior sd ratios {ratio.tolist()}"


def conjugate(pair: ModelGuide, batch: Batch) -> dict[str, Any]:
    """Normal-inverse-gamma posterior and log evidence of the pair's own prior (Murphy 2012, section 7.6.3)."""
    basis, y = pair.basis(batch), (batch.y - pair.location) / pair.spread
    prior = torch.diag(pair.coefficient_scale**-2)
    precision = prior + basis.T @ basis
    mean = torch.linalg.solve(precision, basis.T @ y)
    a = pair.concentration + batch.size / 2
    b = pair.rate + (y @ y - mean @ precision @ mean) / 2
    evidence = (
        -batch.size * (math.log(2 * math.pi) / 2 + pair.spread.log())
        + (torch.logdet(prior) - torch.logdet(precision)) / 2
        + pair.concentration * pair.rate.log() - a * b.log()
        + torch.lgamma(a) - torch.lgamma(pair.concentration)
    )  # fmt: skip
    variance = b / (a - 1)
    return {
        "coefficients": (mean, (variance * torch.linalg.inv(precision).diag()).sqrt()),
        "variance": (variance[None], variance[None] / (a - 2).sqrt()),
        "evidence": evidence.item(),
        "predictive": (basis, mean, precision, a, b),
    }


def estimated_elbo(pair: ModelGuide, batch: Batch) -> tuple[float, float]:
    """The ELBO by plain Pyro, and four standard errors of it."""
    estimator = Trace_ELBO(num_particles=500, vectorize_particles=True, max_plate_nesting=1)
    values = -torch.tensor([estimator.loss(pair.model, pair.guide, batch) for _ in range(20)], dtype=torch.float64)
    return values.mean().item(), 4 * values.std().item() / math.sqrt(20)


def check_conjugate(pair: ModelGuide, batch: Batch) -> None:
    guide, exact = pair.guide_family, conjugate(pair, batch)
    draws = inference.draw(pair, batch, draws=10_000).draws
    check_posterior(draws["coefficients"].reshape(10_000, -1), *exact["coefficients"], scales=guide != "normal")
    if guide != "laplace":  # the joint mode of the variance lies F / 2 degrees of freedom below its mean
        check_posterior(draws["variance"].reshape(10_000, 1), *exact["variance"], scales=guide != "normal")
    if guide in ("multivariate", "conjugate"):
        elbo, error = estimated_elbo(pair, batch)
        error += 1e-12 * abs(exact["evidence"])  # of sums in double precision: an exact guide has no other
        assert exact["evidence"] - 0.2 - error < elbo < exact["evidence"] + error


@functools.cache
def fitted(guide: str) -> tuple[ModelGuide, Batch]:
    batch = diabetes(2, 3)
    pair = create(features=2, degree=2, guide=guide)
    inference.fit(pair, batch, steps=300, lr=0.05, particles=16, progress=False)
    return pair, batch


def test_the_default_guide_is_the_exact_posterior_from_the_start() -> None:
    batch = diabetes(2, 3)
    pair = create(features=2, degree=2)
    fit = inference.fit(pair, batch, progress=False)
    assert fit.steps == 0
    check_conjugate(pair, batch)
    found = inference.draw(pair, batch, 50).stats
    evidence = torch.tensor(conjugate(pair, batch)["evidence"], dtype=torch.float64)
    torch.testing.assert_close(found["log_p"] - found["log_q"], evidence.expand(1, 50), rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coefficients_given_the_variance_have_scipys_density(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tril = torch.randn(3, 3, generator=generator).tril().to(dtype)
    tril.diagonal().abs_().add_(0.5)
    loc, variance = torch.tensor([1.0, -2.0, 0.5], dtype=dtype), torch.tensor([[0.3], [2.0]], dtype=dtype)
    fn = ScaledNormal(loc, tril, variance)
    value = fn.rsample()
    assert value.shape == (2, 1, 3)
    for k in range(2):
        law = scipy.stats.multivariate_normal(loc.numpy(), variance[k].item() * (tril @ tril.mT).numpy())
        assert fn.log_prob(value)[k].item() == pytest.approx(law.logpdf(value[k, 0].numpy()), rel=1e-4)
    pyro.set_rng_seed(0)
    draws = ScaledNormal(loc, tril, variance[1, 0]).expand([40_000]).rsample()
    torch.testing.assert_close(torch.cov(draws.mT), 2 * tril @ tril.mT, rtol=0.05, atol=0.05)  # 4 standard errors


@pytest.mark.parametrize("guide", ["multivariate", "laplace", "normal"])
def test_guides_reach_the_conjugate_posterior(guide: str) -> None:
    check_conjugate(*fitted(guide))


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["conjugate", "multivariate"])
def test_filip_reaches_the_conjugate_posterior_with_default_settings(guide: str) -> None:
    pair = create(degree=10, guide=guide)
    found = inference.fit(pair, filip(), progress=False)
    check_conjugate(pair, filip())
    if guide == "conjugate":  # exact, and known to be
        assert found.steps == 0
        assert -found.losses[0] * 82 == pytest.approx(conjugate(pair, filip())["evidence"], abs=1e-9)


def few() -> Batch:
    x = torch.linspace(-2.0, 3.0, 14).double()
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=14))
    return Batch(14, 14, x=x[:, None], y=5 + x**3 + 4 * noise)


def test_a_prior_independent_of_the_noise_leaves_least_squares_degrees_of_freedom() -> None:
    """With wide coefficients p(sigma | y) ~ sigma^-(N - F) exp(-RSS / (2 sigma^2)) p(sigma), here by quadrature."""
    batch = few()
    pair = create(degree=3, prior="independent", coefficient_scale=1e4, noise_scale=0.5)
    inference.fit(pair, batch, steps=400, lr=0.01, particles=8, progress=False, compile="off")
    posterior = inference.draw(pair, batch, 20_000, seed=1)
    assert float((posterior.stats["log_p"] - posterior.stats["log_q"]).std()) < 0.1  # the guide is as good as exact
    y, design = batch.y.numpy(), np.vander(batch.x[:, 0].numpy(), 4)
    s = y.std()
    residual = np.linalg.lstsq(design, y, rcond=None)[1][0] / s**2
    grid = np.linspace(1e-3, 3, 30_001)
    density = np.exp((4 - 14) * np.log(grid) - residual / (2 * grid**2)) * scipy.stats.halfcauchy(scale=0.5).pdf(grid)
    density /= density.sum()
    mean = float(s * (grid * density).sum())
    sd = float(s * np.sqrt((grid**2 * density).sum() - (grid * density).sum() ** 2))
    sigma = (s * posterior["variance"].sqrt()).flatten().numpy()
    assert abs(sigma.mean() - mean) < 4 * sd / 20_000**0.5
    assert sigma.std() == pytest.approx(sd, rel=0.05)


def test_initial_is_the_conjugate_mean() -> None:
    batch = diabetes(2, 3, 8)
    pair, start = initialised(batch, degree=3)
    _, mean, _, a, b = conjugate(pair, batch)["predictive"]
    torch.testing.assert_close(start["coefficients"], mean)
    torch.testing.assert_close(start["variance"], b / a)


def test_filip_has_its_certified_digits() -> None:
    batch = filip()
    pair, start = initialised(batch, degree=10, coefficient_scale=1e8)  # so broad that the mean is least squares
    residual = batch.y - pair.location - pair.spread * (pair.basis(batch) @ start["coefficients"])
    assert math.sqrt(residual.square().sum() / (82 - 11)) == pytest.approx(CERTIFIED_RESIDUAL, rel=1e-12)
    legendre = (pair.spread * pair.mixing @ start["coefficients"] * torch.arange(1, 22, 2).double().sqrt()).numpy()
    legendre[0] += pair.location
    low, high = (pair.centre - pair.halfwidth).item(), (pair.centre + pair.halfwidth).item()
    monomials = np.polynomial.Legendre(legendre, domain=[low, high]).convert(kind=np.polynomial.Polynomial).coef
    digits = -np.log10(np.abs(monomials / CERTIFIED - 1))
    assert digits.min() > 13, digits


@pytest.mark.parametrize("interactions", [True, False])
def test_the_basis_is_orthonormal_and_spans_the_polynomials(interactions: bool) -> None:
    batch = diabetes(0, 2, 3)
    pair, _ = initialised(batch, degree=3, interactions=interactions)
    basis = pair.basis(batch)
    assert basis.shape[1] == (math.comb(6, 3) if interactions else 10)
    identity = torch.eye(basis.shape[1], dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis / batch.size, identity, atol=1e-10, rtol=0)
    x = batch.x / batch.x.std(0)
    for target, inside in ((x[:, 0] ** 3, True), (x[:, 0] * x[:, 1] * x[:, 2], interactions), (x[:, 2] ** 4, False)):
        outside = target - basis @ (basis.T @ target) / batch.size
        assert (outside.norm() < 1e-10 * target.norm()) == inside


def test_an_unfitted_basis_is_orthonormal_for_uniform_covariates() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(12)
    grid = torch.cartesian_prod(torch.tensor(nodes), torch.tensor(nodes))
    weight = torch.tensor(np.outer(weights, weights).ravel() / 4)
    basis = create(features=2, degree=5).basis(Batch(144, 144, x=grid))
    torch.testing.assert_close(basis.T @ (weight[:, None] * basis), torch.eye(21, dtype=torch.float64))


def test_terms_that_the_design_cannot_tell_apart_keep_their_prior() -> None:
    batch = diabetes(1, 2)  # sex takes two values: its square adds nothing
    pair, start = initialised(batch, degree=2)
    basis = pair.basis(batch)
    square = [tuple(p) for p in pair.powers.tolist()].index((2, 0))
    expected = torch.eye(6, dtype=torch.float64)
    expected[square, square] = 0
    torch.testing.assert_close(basis.T @ basis / 442, expected, atol=1e-10, rtol=0)
    mean, sd = conjugate(pair, batch)["coefficients"]
    assert abs(start["coefficients"][square]) < 1e-10
    assert abs(mean[square]) < 1e-10
    assert sd[square] > 100 * sd[0]


@pytest.mark.parametrize("prior", ["conjugate", "independent"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", ["gaussian", "student_t"])
def test_fewer_rows_than_terms(noise: str, dtype: torch.dtype, prior: str) -> None:
    pair = zoo.create("polynomial_regression", degree=8, noise=noise, prior=prior).to(dtype)
    x = torch.tensor([[0.0], [1.0], [1.0], [5.0]], dtype=dtype)
    fit = inference.fit(
        pair, Batch(4, 4, x=x, y=torch.tensor([1.0, 2.0, 2.1, 0.0], dtype=dtype)), steps=20, progress=False
    )
    assert np.isfinite(fit.losses).all()


def test_a_constant_response_is_finite() -> None:
    pair = create()
    fit = inference.fit(
        pair, Batch(9, 9, x=torch.arange(9.0)[:, None], y=torch.full((9,), 3.0)), steps=20, progress=False
    )
    assert np.isfinite(fit.losses).all()


@pytest.mark.parametrize("noise", ["gaussian", "student_t"])
def test_density_equals_scipy(noise: str) -> None:
    batch = diabetes(2, 3)
    pair, values = initialised(batch, degree=2, noise=noise, df=3.0)
    trace = poutine.trace(poutine.condition(pair.model, values)).get_trace(batch)
    trace.compute_log_prob()
    loc = (pair.location + pair.spread * pair.basis(batch) @ values["coefficients"]).numpy()
    scale = (pair.spread * values["variance"].sqrt()).item()
    law = scipy.stats.t(3, loc, scale) if noise == "student_t" else scipy.stats.norm(loc, scale)
    np.testing.assert_allclose(trace.nodes["y"]["log_prob"].numpy(), law.logpdf(batch.y), rtol=1e-9)
    sd = 10 * math.sqrt(values["variance"])
    prior = scipy.stats.norm(0, sd).logpdf(values["coefficients"].numpy()).sum()
    assert trace.nodes["coefficients"]["log_prob"].item() == pytest.approx(prior)
    prior = scipy.stats.invgamma(0.5, scale=0.01).logpdf(values["variance"].item())
    assert trace.nodes["variance"]["log_prob"].item() == pytest.approx(prior, rel=1e-6)  # 0.01 is a float32 buffer
    apart = create(features=2, degree=2, noise=noise, prior="independent", coefficient_scale=3.0, noise_scale=0.5)
    trace = poutine.trace(poutine.condition(apart.model, values)).get_trace(batch)
    trace.compute_log_prob()
    prior = scipy.stats.norm(0, 3).logpdf(values["coefficients"].numpy()).sum()
    assert trace.nodes["coefficients"]["log_prob"].item() == pytest.approx(prior)
    sigma = math.sqrt(values["variance"])
    prior = scipy.stats.halfcauchy(scale=0.5).logpdf(sigma) - math.log(2 * sigma)
    assert trace.nodes["variance"]["log_prob"].item() == pytest.approx(prior)


def test_student_t_noise_shrugs_off_an_outlier() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, 1, generator=generator, dtype=torch.float64) * 4
    clean = 2 + 3 * x[:, 0] - x[:, 0] ** 2
    y = clean + 0.1 * torch.randn(60, generator=generator, dtype=torch.float64)
    y[7] = 1000.0
    errors = {}
    for noise in ("gaussian", "student_t"):
        pair = create(degree=2, noise=noise)
        batch = Batch(60, 60, x=x, y=y)
        inference.fit(pair, batch, steps=300, lr=0.05, particles=8, progress=False)
        coefficients = inference.draw(pair, batch, draws=1000).draws["coefficients"].reshape(1000, -1).mean(0)
        fitted = pair.location + pair.spread * pair.basis(batch) @ coefficients
        errors[noise] = (fitted - clean).abs().max().item()
    assert errors["student_t"] < 0.15  # 4 standard errors of the fitted curve, 0.1 sqrt(3 / 60) and the t's 1.2
    assert errors["gaussian"] > 10


def test_minibatches_add_up_to_the_whole() -> None:
    batch = diabetes(2, 3)
    pair, values = initialised(batch)

    def log_joint(part: Batch) -> float:
        trace = poutine.trace(poutine.condition(pair.model, values)).get_trace(part)
        return trace.log_prob_sum().item()

    parts = [batch.select(slice(i, i + 34)) for i in range(0, 442, 34)]
    assert np.mean([log_joint(part) for part in parts]) == pytest.approx(log_joint(batch), rel=1e-12)


def test_many_draws_at_once_equal_a_loop() -> None:
    batch = diabetes(2, 3)
    pair, _ = initialised(batch, degree=2)
    pyro.set_rng_seed(0)
    with pyro.plate("draws", 5, dim=-2):
        together = poutine.trace(poutine.block(pair.model, hide=["y"])).get_trace(batch)
    values = {name: together.nodes[name]["value"] for name in ("variance", "coefficients")}
    assert values["coefficients"].shape == (5, 1, 6)

    def log_prob(values: dict[str, Tensor]) -> Tensor:
        trace = poutine.trace(poutine.condition(pair.model, values)).get_trace(batch)
        trace.compute_log_prob()
        return trace.nodes["y"]["log_prob"]

    with pyro.plate("draws", 5, dim=-2):
        found = log_prob(values)
    each = [log_prob({name: value[i, 0] for name, value in values.items()}) for i in range(5)]
    torch.testing.assert_close(found, torch.stack(each))


def test_psis_loo_equals_exact_leave_one_out() -> None:
    import arviz as az

    pair, batch = fitted("multivariate")
    found = az.loo(inference.to_arviz(pair, inference.draw(pair, batch, draws=4000), batch), pointwise=True)
    pointwise = np.asarray(found.loo_i if hasattr(found, "loo_i") else found.elpd_i)  # ArviZ 0.x, 1.x
    # each row's predictive without it: Student-t with the posterior of the other rows
    basis, mean, precision, a, b = conjugate(pair, batch)["predictive"]
    y = (batch.y - pair.location) / pair.spread
    leverage = (basis @ torch.linalg.inv(precision) * basis).sum(-1)
    error = (y - basis @ mean) / (1 - leverage)
    rate = b - error.square() * (1 - leverage) / 2
    scale = (rate / (a - 0.5) / (1 - leverage)).sqrt()
    exact = scipy.stats.t(2 * (a - 0.5), 0, scale).logpdf(error) - pair.spread.log().item()
    assert found.pareto_k.max() < 0.7
    assert pointwise.sum() == pytest.approx(exact.sum(), abs=0.3)
    assert np.sqrt(np.mean((pointwise - exact) ** 2)) < 0.02


def test_kidiq_reference_posterior() -> None:
    data, expected = reference("kidiq-kidscore_momiq")
    x, y = (torch.tensor(data[key], dtype=torch.float64) for key in ("mom_iq", "kid_score"))
    batch = Batch(434, 434, x=x[:, None], y=y)
    pair = create(degree=1, coefficient_scale=1e4, noise_rate=1e-6)  # as flat as the reference's priors
    inference.fit(pair, batch, steps=300, lr=0.05, particles=16, progress=False)
    posterior = inference.draw(pair, batch, draws=10_000)
    ends = pair.basis(Batch(2, 2, x=torch.tensor([[0.0], [1.0]], dtype=torch.float64)))
    coefficients = posterior.draws["coefficients"].reshape(10_000, -1)
    line = pair.location + pair.spread * coefficients @ ends.T  # (draw, 2): at an IQ of 0 and of 1
    scale = pair.spread * posterior.draws["variance"].reshape(-1, 1).sqrt()
    found = torch.cat([line[:, :1], line[:, 1:] - line[:, :1], scale], -1)
    names = ("beta[1]", "beta[2]", "sigma")
    check_posterior(found, [expected[n]["mean"] for n in names], [expected[n]["sd"] for n in names])


def test_a_saved_pair_keeps_its_design() -> None:
    batch = diabetes(2, 3)
    pair, _ = initialised(batch)
    other = create(features=2)
    other.load_state_dict(pair.state_dict())
    assert torch.equal(other.basis(batch), pair.basis(batch))
    assert torch.equal(other.location, pair.location)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.tensor([[1.0, 5.0], [1.0, 6.0]]), torch.zeros(2), r"column 0 of x is constant \(1\)"),
        (torch.tensor([[0.0, 5.0]]), torch.zeros(1), "column 0 of x is constant"),
        (torch.zeros(2, 3), torch.zeros(2), r"expected covariates x of shape \(N, 2\), got \(2, 3\)"),
        (torch.zeros(2), torch.zeros(2), r"expected covariates x of shape \(N, 2\), got \(2,\)"),
        (None, torch.zeros(2), r"needs covariates x of shape \(N, 2\)"),
        (torch.zeros(2, 2), None, "needs the response y"),
    ],
)
def test_bad_data_is_refused_by_name(x: Tensor | None, y: Tensor | None, message: str) -> None:
    pair = zoo.create("polynomial_regression", features=2)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    size = len(x if x is not None else y)
    with pytest.raises(ValueError, match=message):
        pair.initial(Batch(size, size, x=x, y=y))
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())


def test_too_many_terms_are_refused() -> None:
    with pytest.raises(ValueError, match="features=40 and degree=6 make 9366819 terms"):
        zoo.create("polynomial_regression", features=40, degree=6)


@pytest.mark.parametrize("data", ["wine", "diabetes", "friedman"])
def test_the_default_of_many_covariates_predicts_as_well_as_scikit_learn(data):
    """All products of 13 covariates up to degree 3, 560 terms, had scores down to -127,727."""
    from sklearn import datasets
    from sklearn.linear_model import BayesianRidge
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    X, y = {
        "wine": lambda: datasets.load_wine(return_X_y=True),
        "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
        "friedman": lambda: datasets.make_friedman1(200, 10, noise=1.0, random_state=0),
    }[data]()
    folds = KFold(5, shuffle=True, random_state=0)
    theirs = []
    for degree in (1, 2):
        model = make_pipeline(StandardScaler(), PolynomialFeatures(degree), StandardScaler(), BayesianRidge())
        theirs.append(cross_val_score(model, X, y.astype(float), cv=folds).mean())
    ours = []
    for train, test in folds.split(X):
        pair = zoo.create("polynomial_regression", features=X.shape[1]).double()
        values = pair.initial(Batch.of(X[train], y[train].astype(float)))  # the posterior mean
        found = pair.location + pair.spread * (pair.basis(Batch.of(X[test])) @ values["coefficients"])
        ours.append(1 - ((found.numpy() - y[test]) ** 2).sum() / ((y[test] - y[test].mean()) ** 2).sum())
    assert np.mean(ours) > max(theirs) - 0.01
