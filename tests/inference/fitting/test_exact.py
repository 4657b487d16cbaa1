"""Guides that are the exact posterior take no steps: log evidences in closed form, and what must not pass for exact."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn

import inference
import zoo
from inference.fitting.exact import REASON, exact_evidence
from zoo.base import Batch, ModelGuide

QUIET = {"progress": False, "compile": "off"}


def exact(pair, data, **options):
    fit = inference.fit(pair, data, **QUIET, **options)
    assert fit.reason == REASON
    assert (fit.steps, len(fit.losses), fit.skipped) == (0, 1, 0)
    assert REASON in repr(fit)
    assert pair.trained
    assert pair.card["fit"]["stopped"] == REASON
    assert pair.card["metrics"]["elbo_per_observation"] == -fit.losses[0]
    return fit


def walk(dtype, n=40, steps=80):
    torch.manual_seed(0)
    x = torch.zeros(n, steps, dtype=torch.float64)
    for t in range(2, steps):
        x[:, t] = 0.3 + 0.5 * x[:, t - 1] - 0.2 * x[:, t - 2] + torch.randn(n, dtype=torch.float64)
    return x.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_autoregression_starts_at_its_posterior_and_stays(dtype):
    x, pair = walk(dtype), zoo.create("autoregressive").to(dtype)
    fit = exact(pair, x)
    # x_t - m = X w + v^(1/2) e, v ~ InverseGamma(a, b S^2), w ~ Normal(0, v D): x is multivariate Student-t
    z = (x.double() - pair.center).numpy()
    target = z[:, 2:].ravel()
    design = np.stack([np.ones_like(target), z[:, 1:-1].ravel(), z[:, :-2].ravel()], -1)
    spread = float(pair.spread)
    D = np.array([1.0, 5 / spread, 5 / spread]) ** 2
    inner = np.diag(1 / D) + design.T @ design  # by the matrix determinant and inversion lemmas
    squares = target @ target - target @ design @ np.linalg.solve(inner, design.T @ target)
    a, b, n = 1.0, 0.001 * spread**2, len(target)
    log_det = np.linalg.slogdet(inner)[1] + np.log(D).sum()
    wanted = scipy.special.gammaln(a + n / 2) - scipy.special.gammaln(a) - n / 2 * np.log(2 * np.pi * b)
    wanted += -(a + n / 2) * np.log1p(squares / 2 / b) - log_det / 2
    assert -fit.losses[0] * len(x) == pytest.approx(wanted, abs=1e-2 if dtype == torch.float32 else 1e-6)
    found = inference.khat(pair, x)
    assert found.share > 0.999 if dtype == torch.float64 else found.share > 0.9
    if dtype == torch.float64:
        assert "exact" in str(found)


def test_a_complete_network_starts_at_its_posterior_whatever_the_minibatch(asia):
    torch.manual_seed(0)
    x = asia.simulate(3000)[0].x  # more rows than a step takes by default
    pair = zoo.create("bayesian_network", columns=asia.config["columns"], edges=asia.edges).double()
    names = pair.schema.names
    fit = exact(pair, x)
    wanted = 0.0
    for column, name in enumerate(names):  # Dirichlet-multinomial of each row of each table
        parents = [names.index(p) for p, child in pair.edges if child == name]
        states = len(pair.schema[column].categories)
        _, row = np.unique(x[:, parents].numpy(), axis=0, return_inverse=True)
        for u in np.unique(row):
            counts = np.bincount(x[:, column].numpy()[row.ravel() == u].astype(int), minlength=states)
            ends = scipy.special.gammaln(float(pair.alpha) * np.array([states, 1.0]))
            wanted += ends[0] - scipy.special.gammaln(float(pair.alpha) * states + counts.sum())
            wanted += (scipy.special.gammaln(float(pair.alpha) + counts) - ends[1]).sum()
    assert -fit.losses[0] * 3000 == pytest.approx(wanted, rel=1e-9)
    x[5, 0] = torch.nan
    again = zoo.create("bayesian_network", columns=asia.config["columns"], edges=asia.edges).double()
    assert inference.fit(again, x, max_steps=3, **QUIET).steps == 3


class Mean(ModelGuide):
    """x_n ~ Normal(m, s), m ~ Normal(0, 1); `scale`: s is a parameter; `start`: where the guide begins."""

    def __init__(self, guide: zoo.guides.Family = "multivariate", scale: bool = False, start: bool = True) -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(2))
        self.start = start
        if scale:
            self.log_scale = nn.Parameter(torch.zeros(()))

    def model(self, batch: Batch) -> torch.Tensor:
        m = pyro.sample("m", dist.Normal(self.zero, 1.0).to_event(1))
        scale = self.log_scale.exp() if self.config["scale"] else 1.0
        with batch.plate():
            return pyro.sample("x", dist.Normal(m, scale).to_event(1), obs=batch.x)

    def initial(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"m": batch.x.sum(0) / (batch.size + 1)} if self.start else {}


def test_an_own_pair_is_recognised_by_its_weights_and_not_by_its_name():
    torch.manual_seed(0)
    x = torch.randn(50, 2, dtype=torch.float64)
    fit = exact(Mean().double(), x)
    each = [scipy.stats.multivariate_normal.logpdf(column, cov=np.eye(50) + 1) for column in x.T.numpy()]
    assert -fit.losses[0] * 50 == pytest.approx(sum(each), rel=1e-9)
    exact(Mean("normal").double(), x)  # no correlations here
    exact(Mean().double(), Batch.of(x), lr=0.1, validation=0.2)
    pair = Mean(start=False).double()
    pair.measure(Batch.of(x))
    with torch.no_grad():
        pair.automatic.centre.copy_(x.sum(0) / 51)
        pair.automatic.standardise(torch.full((2,), 51**-0.5, dtype=torch.float64))
    exact(pair, x)  # trained by hand, gone on with


@pytest.mark.parametrize("options", [{"guide": "delta"}, {"guide": "laplace"}, {"scale": True}, {"start": False}])
def test_points_parameters_and_guesses_are_not_exact(options):
    torch.manual_seed(0)
    x = torch.randn(50, 2, dtype=torch.float64)
    pair = Mean(**options).double()
    begin = options.get("start")  # a guess that is left where it is, and no search for a better one
    assert inference.fit(pair, x, max_steps=3, initialise=begin, **QUIET).steps == 3


def test_steps_that_are_asked_for_are_taken():
    x = torch.randn(50, 2, dtype=torch.float64)
    assert inference.fit(Mean().double(), x, steps=3, **QUIET).steps == 3
    assert inference.fit(Mean().double(), x, epochs=3, **QUIET).steps == 3


def test_looking_leaves_the_pair_and_the_random_state_alone():
    pair, x = Mean("normal", start=False).double(), torch.randn(50, 2, dtype=torch.float64)
    pair.train()
    before, state = {n: v.clone() for n, v in pair.state_dict().items()}, torch.get_rng_state()
    assert exact_evidence(pair, Batch.of(x)) is None
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in pair.state_dict().items())
    assert pair.training
    assert not pair.trained


def test_the_command_says_so(tmp_path, monkeypatch, capsys):
    from inference.command.main import main

    monkeypatch.chdir(tmp_path)
    np.save("walk.npy", walk(torch.float64, 5, 40).numpy())
    assert (
        main(
            [
                "fit",
                "autoregressive",
                "--data",
                "walk.npy",
                "--draws",
                "25",
                "--double",
                "--method",
                "svi",
                "--out",
                "run",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "0 steps, loss" in said
    assert f"stopped: {REASON}" in said
    assert "exact: the weights of its draws are equal" in said
    assert REASON in (tmp_path / "run" / "README.md").read_text()


def test_a_fit_without_steps_says_how_the_series_were_understood():
    x = torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fit = inference.fit(zoo.create("autoregressive").double(), x, **QUIET)
    assert fit.steps == 0
    assert "on 3 series of 40 steps" in repr(fit)


class Known(ModelGuide):
    """x_n ~ Normal(0, 1), or with `code` x_n ~ Normal(z_n, 1), z_n ~ Normal(0, 1), whose guide is exact; all known."""

    def __init__(self, code: bool = False) -> None:
        super().__init__("normal")
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch: Batch) -> torch.Tensor:
        with batch.plate():
            loc = pyro.sample("z", dist.Normal(self.zero, 1.0)) if self.config["code"] else self.zero
            return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)

    def guide(self, batch: Batch) -> None:
        with batch.plate():
            if self.config["code"]:
                pyro.sample("z", dist.Normal(batch.x / 2, 0.5**0.5))


@pytest.mark.parametrize("code", [False, True])
def test_where_nothing_is_global_there_is_no_posterior_to_be_exact(code):
    """Its log weights are equal, but a fit has nothing to fit, and says that."""
    pair, x = Known(code).double(), torch.randn(20, dtype=torch.float64)
    assert exact_evidence(pair, Batch.of(x)) is None
    assert inference.fit(pair, x, **QUIET).reason == "nothing to fit"


class Mirrored(ModelGuide):
    """Half of the posterior lies at -loc, where no guide of one mode draws; about either it is normal, exactly."""

    def __init__(self, guide: zoo.guides.Family = "multivariate") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc.abs(), 1.0), obs=batch.x)


@pytest.mark.parametrize("guide", ["normal", "multivariate"])
def test_one_of_two_mirrored_modes_is_not_the_posterior(guide):
    x = torch.from_numpy(np.random.default_rng(0).normal(3, 1, 40))
    pair = Mirrored(guide).double()
    fit = inference.fit(pair, x, steps=None, max_steps=30, **QUIET)
    assert fit.reason != REASON
    assert exact_evidence(pair, zoo.Batch.of(x=x)) is None


@pytest.mark.parametrize("name", ["autoregressive", "bayesian_network"])
@pytest.mark.parametrize("kind", ["real", "binary", "count", "byte"])
def test_whatever_the_numbers_single_precision_hides_no_exact_guide(name, kind):
    """Far out log p and log q are large, and rounded parameters leave them equal to some six digits only."""
    rng = np.random.default_rng(0)
    numbers = {
        "real": rng.random((100, 6)),
        "binary": rng.integers(0, 2, (100, 6)),
        "count": rng.poisson(3.0, (100, 6)),
        "byte": rng.integers(0, 256, (100, 6)).astype(np.uint8),
    }[kind]
    single, double = (inference.pair_for(name, numbers, dtype=t, tell=None) for t in (torch.float32, torch.float64))
    losses = [exact(pair, numbers).losses[0] for pair in (single, double)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_points_far_out_may_be_alike_where_the_support_ends():
    """Of three rows a share is so unsure that points a hundred times as wide all lie at 0 and 1."""
    data = np.array([[0.0], [1.0], [1.0]])
    for seed in range(6):
        fit = exact(inference.pair_for("bayesian_network", data, tell=None), data, seed=seed)
        # Beta(1, 1): two ones and a zero, in their order, have probability B(3, 2)
        assert -3 * fit.losses[0] == pytest.approx(scipy.special.betaln(3, 2), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_conjugate_regression_of_a_thousand_rows_is_exact_however_numbers_are_rounded(dtype):
    generator = np.random.default_rng(0)
    x = generator.uniform(20, 60, (1_000, 3))
    y = 10 + x @ [0.3, -0.2, 1.0] + 5 * generator.standard_normal(1_000)
    pair = zoo.create("polynomial_regression", features=3, degree=1).to(dtype)
    exact(pair, Batch(1_000, 1_000, x=torch.tensor(x, dtype=dtype), y=torch.tensor(y, dtype=dtype)))
