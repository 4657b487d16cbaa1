"""Baum-Welch climbs the log joint density to where it is flat, as high as hmmlearn does."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hmmlearn import hmm as hmmlearn
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from inference.data.check import as_batch
from inference.fitting.fit import fit
from tests.helpers.chains import KINDS_OF_MOVES, MISSING
from zoo.base import Batch
from zoo.parts.chains import baum_welch
from zoo.sequences.hmm import HMM
from zoo.settings import settings

EM = [
    *({"emission": "categorical", "categories": 3, "transitions": kind} for kind in KINDS_OF_MOVES),
    {"emission": "poisson", "rate": 3.0},
    {"features": 2, "loc_scale": 0.5, "scale": 0.3},
]


def sequences(**config: Any) -> tuple[HMM, Batch, dict[str, Tensor]]:
    """A pair, ragged sequences with missing values drawn from it, and other global latents."""
    torch.manual_seed(3)
    pair = HMM(states=3, **config).double()
    x = pair.simulate(20)[0].x.double()
    x[torch.rand(x.shape) < 0.1] = MISSING
    lengths = torch.randint(1, 21, (20,))
    return pair, Batch(20, 20, x=x, lengths=lengths), pair.simulate(1)[1]


def log_joint_unconstrained(pair: HMM, values: dict[str, Tensor], batch: Batch) -> float:
    """Up to a constant, term by term: densities of logits, and of logs of scales and rates."""
    counts = pair.moves if pair.transitions != "left_right" else pair.moves.triu()
    A, alpha = pair.transition(values), pair.alpha
    prior = torch.xlogy(counts, A).sum()
    if pair.transitions == "tied":
        stay, q = values["stay"], values["destination"]
        prior = pair.moves[0, 0] * stay.log() + alpha * (1 - stay).log() + alpha * q.log().sum()
    if "initial" in values:
        prior = prior + alpha * values["initial"].log().sum()
    if "probs" in values:
        prior = prior + alpha * values["probs"].log().sum()
    if "rates" in values:
        prior = prior - (values["rates"].log() - pair.log_rate).square().sum() / 8
    if "locs" in values:
        prior = prior - (1 + (values["locs"] / pair.loc_scale).square()).log().sum()
        prior = prior - values["scales"].log().sum() - (pair.scale / values["scales"]).sum()
    return float(pair.chain(values, batch.x.shape[1], batch.lengths).log_prob(batch.x).sum() + prior)


@pytest.mark.parametrize("config", EM, ids=lambda config: "-".join(map(str, config.values())))
def test_baum_welch_steps_never_lower_the_posterior(config: dict[str, Any]) -> None:
    """The scores are the log joint density, term by term, and rise to where it is flat."""
    pair, batch, values = sequences(**config)
    data = baum_welch.Data(pair, batch)
    values = {name: value[None, None] for name, value in values.items()}
    scores, apart = [], []
    for _ in range(15):
        score, counts = data.e_step(values)
        scores.append(float(score) * 20)
        apart.append(scores[-1] - log_joint_unconstrained(pair, {n: v[0, 0] for n, v in values.items()}, batch))
        values = data.m_step(*counts)
    assert all(after > before - 1e-9 for before, after in itertools.pairwise(scores))
    assert scores[-1] > scores[0] + 0.1
    np.testing.assert_allclose(apart, apart[0], rtol=0, atol=1e-4)  # constants of the prior are float32


@pytest.mark.parametrize(
    "config",
    [*(pytest.param(config, marks=pytest.mark.slow) for config in EM[:2]), *EM[2:]],  # these climb slowly
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_maximise_ends_where_the_log_joint_is_flat(config: dict[str, Any]) -> None:
    pair, batch, start = sequences(**config)
    found, course = pair.maximise(batch, start=start, iterations=20_000, tolerance=1e-13)
    assert (np.diff(course) > 0).all()
    best = log_joint_unconstrained(pair, found, batch)
    generator = torch.Generator().manual_seed(0)
    for name, fn in pair.prior().items():  # no direction of any site leads up
        transform = torch.distributions.biject_to(fn.support)
        free = transform.inv(found[name])
        step = 1e-4 * torch.randn(free.shape, generator=generator, dtype=torch.float64)
        up, down = (log_joint_unconstrained(pair, {**found, name: transform(free + s)}, batch) for s in (step, -step))
        assert abs(up - down) < 0.3 * abs(up + down - 2 * best) + 1e-8, name


def test_maximise_reaches_what_hmmlearn_reaches() -> None:
    """From the same start, with the same Dirichlet priors: the log joint density of its estimate is not higher."""
    config = {"features": 2, "loc_scale": 100.0, "scale": 1e-3}
    pair, _, start = sequences(**config)
    torch.manual_seed(5)
    truth = {**start, "locs": 3 * torch.randn(3, 2).double(), "scales": torch.ones(3, 2).double()}
    x = pair.chain(truth, 60, None).expand((10,)).sample()
    start = {**truth, "locs": truth["locs"] + torch.randn(3, 2), "scales": 2 * truth["scales"]}
    start["transition"] = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    batch = Batch(10, 10, x=x)
    found, course = pair.maximise(batch, start=start, iterations=1000, tolerance=1e-9)
    other: Any = hmmlearn.GaussianHMM(
        3, "diag", startprob_prior=2.0, transmat_prior=2 + np.eye(3), covars_prior=0, covars_weight=0, means_weight=0,
        n_iter=1000, tol=1e-8, init_params="", implementation="scaling",
    )  # fmt: skip
    other.startprob_, other.transmat_ = start["initial"].numpy(), start["transition"].numpy()
    other.means_, other.covars_ = start["locs"].numpy(), start["scales"].square().numpy()
    other.fit(x.flatten(0, 1).numpy(), [60] * 10)
    order = other.means_[:, 0].argsort()
    theirs = {
        "initial": other.startprob_[order],
        "transition": other.transmat_[order][:, order],
        "locs": other.means_[order],
        "scales": np.sqrt(np.stack([np.diag(c) for c in other.covars_]))[order],
    }
    theirs = {name: torch.from_numpy(value.copy()) for name, value in theirs.items()}
    ours, peers = (log_joint_unconstrained(pair, values, batch) for values in (found, theirs))
    assert peers <= ours + 1e-6
    assert ours < peers + 2  # the same mode: prior terms of scales and locs are all that differs
    torch.testing.assert_close(found["locs"], theirs["locs"], rtol=0, atol=0.05)
    begun = log_joint_unconstrained(pair, pair.initial(batch), batch)  # what a fit starts from, without a start
    assert begun > peers - 0.01 * len(x)
    chain = pair.chain(found, 60, None)
    prior = sum(fn.log_prob(found[name]) for name, fn in pair.prior().items())
    jacobian = sum(found[name].log().sum() for name in ("initial", "transition", "scales"))
    assert course[-1] * 10 == pytest.approx(float(chain.log_prob(x).sum() + prior + jacobian), rel=1e-6)


@pytest.mark.parametrize(
    "config",
    [{"features": 2}, {"features": 2, "covariance": "full"}, {"emission": "poisson", "start": "stationary"}],
    ids=lambda config: "-".join(map(str, config.values())),
)
def test_fit_by_em_places_the_guide(config: dict[str, Any]) -> None:
    pair, batch, _ = sequences(**config)
    result = fit(pair, batch, method="em", seed=1, progress=False)
    assert (np.diff(result.losses) < 0).all()
    torch.manual_seed(1)
    values, _ = pair.maximise(as_batch(pair, batch))
    centre = pair.automatic.median(batch)
    chains = (pair.chain({n: v[n] for n in pair.prior()}, 20, batch.lengths) for v in (values, centre))
    best, placed = (float(chain.log_prob(batch.x).sum()) for chain in chains)
    assert placed == pytest.approx(best, abs=1.0)
    again = fit(pair, batch, method="em", seed=1, progress=False)
    assert (again.losses == result.losses).all()


def test_pieces_of_work_add_up_to_the_whole() -> None:
    pair, batch, _ = sequences(features=2)
    torch.manual_seed(0)
    whole = pair.maximise(batch, starts=4, iterations=10)
    data = baum_welch.Data(pair, batch)
    values = data.m_step(*data.started(4))
    score, counts = data.e_step(values)
    for room in (20 * 3 * 2 * 3, 7):  # two starts, three sequences each; one of one
        with settings.using(memory=room):
            again, pieces = data.e_step(values)
        for got, want in zip((again, *pieces), (score, *counts), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    assert len(whole[1]) <= 10


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (None, {}, "need the observations"),
        (torch.zeros(3, 5), {}, r"x must be \('N', 'T', 2\), got \(3, 5\)"),
        (torch.zeros(3, 5, 1), {}, r"got \(3, 5, 1\)"),
        (torch.zeros(3, 5, 2).index_fill_(0, torch.tensor([1]), torch.inf), {}, "sequence 1 of x is not finite"),
        (torch.full((3, 5, 2), torch.nan), {}, "every value of x is missing"),
        (torch.zeros(3, 5, 2), {"starts": 0}, "must be positive, got 0"),
        (torch.zeros(3, 5, 2), {"iterations": 0}, "must be positive, got 10 and 0"),
    ],
)
def test_maximise_refuses_what_it_cannot_use(x: Tensor | None, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HMM(features=2).maximise(Batch(3, 3, x=x), **options)


@pytest.mark.parametrize("constant", [0.0, 1.0, 7.7, 12.34])
def test_starts_see_features_in_the_units_of_scikit_learns_scaler(constant: float) -> None:
    """Of a constant feature with holes nothing is seen, nor of its holes: what rounding leaves is no deviation."""
    rng = np.random.default_rng(0)
    x = np.stack([5 + 3 * rng.normal(size=(6, 15)), np.full((6, 15), constant), 1e-4 * rng.normal(size=(6, 15))], -1)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[0, 0] = np.nan
    wanted = np.nan_to_num(StandardScaler().fit_transform(x.reshape(-1, 3))).reshape(x.shape)
    pair, given = HMM(states=2, features=3).double(), torch.from_numpy(x)
    found = baum_welch._points(pair, given, ~given.isnan())
    np.testing.assert_allclose(found, wanted, atol=1e-9)
