"""support_vector_machine against scikit-learn's optima, exact sums, and Platt's probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import inference
import zoo
from tests.helpers.places import benchmark
from zoo.base import Batch
from zoo.parts.covariates import Fourier
from zoo.regression.support_vector_machine import Hinge, soft_margin

datasets = pytest.importorskip("sklearn.datasets")
svm = pytest.importorskip("sklearn.svm")


def standardised(x):
    return (x - x.mean(0)) / x.std(0)


def objective(w, b, x, sign, cost, intercept_scale):
    penalty = 0.0 if intercept_scale is None else 0.5 * (b / intercept_scale) ** 2
    return 0.5 * w @ w + penalty + cost * np.maximum(0, 1 - sign * (x @ w + b)).sum()


def machine(x, y, steps=100, **config):
    """Weights (K', F) and intercepts (K',) of the mode, after a fit with the delta guide."""
    classes = int(y.max()) + 1
    pair = zoo.create("support_vector_machine", features=x.shape[1], classes=classes, guide="delta", **config).double()
    batch = Batch.of(x=x, y=y.astype(float))
    inference.fit(pair, batch, steps=steps, lr=2e-3, batch_size=len(y), compile="off", progress=False)
    draws = inference.draw(pair, batch, 1).draws
    return draws["weights"][0, 0].numpy(), draws["intercept"][0, 0].numpy()


def test_the_mode_is_the_soft_margin_machine():
    """Primal objective to 1e-3 of LinearSVC's, whose intercept is penalised too, and the same accuracy."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    w, b = machine(x, y, likelihood="hinge", cost=0.1)
    x, sign = standardised(x), 2 * y - 1
    theirs = svm.LinearSVC(loss="hinge", C=0.1, max_iter=1_000_000, tol=1e-5).fit(x, sign)
    wanted = objective(theirs.coef_[0], theirs.intercept_[0], x, sign, 0.1, 1.0)
    found = objective(w[0], b[0], x, sign, 0.1, 1.0)
    assert found == pytest.approx(wanted, rel=1e-3)
    accuracy = (np.sign(x @ w[0] + b[0]) == sign).mean()
    assert abs(accuracy - theirs.score(x, sign)) <= 1 / len(y)  # a row on the boundary may fall to either side


def test_a_wide_intercept_gives_libsvms_machine():
    x, y = datasets.load_iris(return_X_y=True)
    x, y = x[50:], y[50:] - 1
    w, b = machine(x, y, likelihood="hinge", cost=1.0, intercept_scale=30.0)
    x, sign = standardised(x), 2 * y - 1
    theirs = svm.SVC(kernel="linear", C=1.0, tol=1e-8).fit(x, sign)
    wanted = objective(theirs.coef_[0], theirs.intercept_[0], x, sign, 1.0, None)
    assert objective(w[0], b[0], x, sign, 1.0, None) == pytest.approx(wanted, rel=1e-3)


def test_one_against_the_rest():
    x, y = datasets.load_wine(return_X_y=True)
    w, b = machine(x, y, likelihood="hinge")
    x = standardised(x)
    for k in range(3):
        sign = np.where(y == k, 1, -1)
        theirs = svm.LinearSVC(loss="hinge", max_iter=1_000_000, tol=1e-7).fit(x, sign)
        wanted = objective(theirs.coef_[0], theirs.intercept_[0], x, sign, 1.0, 1.0)
        assert objective(w[k], b[k], x, sign, 1.0, 1.0) == pytest.approx(wanted, rel=1e-3)


def test_the_objective_check_sees_another_cost():
    x, y = datasets.load_iris(return_X_y=True)
    x, y = x[50:], y[50:] - 1
    w, b = machine(x, y, likelihood="hinge", cost=3.0)
    x, sign = standardised(x), 2 * y - 1
    theirs = svm.LinearSVC(loss="hinge", max_iter=1_000_000, tol=1e-7).fit(x, sign)
    wanted = objective(theirs.coef_[0], theirs.intercept_[0], x, sign, 1.0, 1.0)
    assert objective(w[0], b[0], x, sign, 1.0, 1.0) > wanted * (1 + 1e-3)


def test_log_joint_is_minus_twice_the_primal_objective():
    torch.manual_seed(0)
    x, sign = torch.randn(30, 3).double(), torch.tensor([-1.0, 1.0]).repeat(15)
    pair = zoo.create("support_vector_machine", features=3, likelihood="hinge", cost=0.7, intercept_scale=2.0).double()
    batch = Batch.of(x=x, y=(sign + 1) / 2)
    values = {"weights": torch.randn(2, 1, 3).double(), "intercept": torch.randn(2, 1).double()}
    found = inference.running.densities.run(pair, batch, 2, values)
    joint = found.likelihood.sum(-1) + found.global_log_p
    wanted = [
        -2 * objective(w[0].numpy(), b.item(), x.numpy(), sign.numpy(), 0.7, 2.0)
        for w, b in zip(values["weights"], values["intercept"], strict=True)
    ]
    assert float(joint[0] - joint[1]) == pytest.approx(wanted[0] - wanted[1], rel=1e-6)


@pytest.mark.parametrize("functions", [1, 3])
def test_hinge_draws_from_what_it_normalises(functions):
    torch.manual_seed(0)
    f = 2 * torch.randn(5, functions).double()
    cost = torch.tensor(0.6).double()
    plain, normalised = (Hinge(f, cost, flag) for flag in (False, True))
    K = max(2, functions)
    y = torch.arange(K).double()[:, None].expand(K, 5)
    sign = 2 * y - 1 if functions == 1 else None
    for k in range(K):
        s = sign[k][:, None] if sign is not None else 2 * torch.eye(3).double()[k] - 1
        wanted = -2 * cost * (1 - s * f).clamp(min=0).sum(-1)
        torch.testing.assert_close(plain.log_prob(y[k]), wanted)
    torch.testing.assert_close(normalised.log_prob(y).exp().sum(0), torch.ones(5).double())
    torch.testing.assert_close(plain.log_prob(y).softmax(0), normalised.log_prob(y).exp())
    drawn = plain.sample((20_000,))
    share = torch.stack([(drawn == k).double().mean(0) for k in range(K)])
    p = normalised.log_prob(y).exp()
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt() + 1e-9).all()
    assert plain.expand((4, 5)).log_prob(y[0]).shape == (4, 5)


def test_dual_reaches_its_primal():
    """The duality gap closes: no machine is better than the one returned, whatever the cost."""
    x, y = datasets.load_iris(return_X_y=True)
    phi = torch.tensor(np.c_[standardised(x), np.ones(150)])
    sign = torch.tensor(np.where(y[:, None] == np.arange(3), 1.0, -1.0))
    for cost in (0.1, 10.0):
        w = soft_margin(phi, sign, cost, tolerance=1e-6, steps=20_000)
        at = 0.5 * w.square().sum() + cost * (1 - sign * (phi @ w)).clamp(min=0).sum()
        for _ in range(20):
            other = w + 0.01 * torch.randn_like(w)
            assert 0.5 * other.square().sum() + cost * (1 - sign * (phi @ other)).clamp(min=0).sum() > at


def test_fourier_features_estimate_the_gaussian_kernel():
    torch.manual_seed(0)
    t = torch.randn(20, 3).double()
    basis = Fourier(3, 20_000, 0.3).double()
    found, wanted = basis(t) @ basis(t).mT, (-0.3 * torch.cdist(t, t).square()).exp()
    assert (found - wanted).abs().max() < 5 / math.sqrt(20_000)
    torch.testing.assert_close(found.diagonal(), torch.ones(20).double())


def test_frequencies_follow_the_callers_seed_and_are_saved(tmp_path):
    pairs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        pairs.append(zoo.create("support_vector_machine", kernel="rbf", frequencies=5))
    frequency = [pair.basis.frequency for pair in pairs]
    assert torch.equal(frequency[0], frequency[1])
    assert not torch.equal(frequency[0], frequency[2])
    assert torch.equal(zoo.load(pairs[2].save(tmp_path)).basis.frequency, frequency[2])


def test_kernel_machine_finds_a_ring():
    """A circle that no line can cut off: near-perfect with the kernel, no better than the larger class without."""
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    y = (x.square().sum(-1) > 1.4).float()
    rates = {}
    for kernel in ("linear", "rbf"):
        pair = zoo.create("support_vector_machine", kernel=kernel, cost=5.0)
        batch = Batch.of(x=x, y=y)
        inference.fit(pair, batch, steps=60, compile="off", progress=False)
        drawn = inference.predict(pair, inference.draw(pair, batch, 50), batch.but(y=None))["y"][0].double().mean(0)
        rates[kernel] = float(((drawn > 0.5).float() == y).float().mean())
    assert rates["rbf"] > 0.95
    assert rates["linear"] < 0.7


def test_bad_labels_are_refused_by_name():
    pair = zoo.create("support_vector_machine")
    x = torch.randn(6, 2)
    with pytest.raises(ValueError, match="y holds only class 1, in every row"):
        inference.fit(pair, Batch.of(x=x, y=torch.ones(6)), steps=2, progress=False)
    with pytest.raises(ValueError, match="'y', row 2: expected a whole number from 0 to 1, got 2"):
        inference.fit(pair, Batch.of(x=x, y=torch.tensor([0, 1, 2, 0, 1, 0.0])), steps=2, progress=False)
    with pytest.raises(ValueError, match="at least 2 classes"):
        zoo.create("support_vector_machine", classes=1)
    assert pair.card == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_probabilities_beat_platts_on_two_of_three_sets(tmp_path):
    regression = benchmark("regression")
    options = ["--only", "wine,breast_cancer,iris", "--methods", "svc,svm"]
    done = regression.main([*options, "--out", str(tmp_path / "out.json")])
    wins = 0
    for name in regression.CLASSES:
        log = {
            method: regression.score([run for key, run in done.items() if key.startswith(f"{name} {method} ")])["log"]
            for method in ("svc", "svm")
        }
        wins += log["svm"] > log["svc"]
    assert wins >= 2
