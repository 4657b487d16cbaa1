"""decision_tree against enumeration of all stumps, closed forms, scikit-learn's splits, and its picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pyro import poutine
from torch.distributions import Independent, Normal, kl_divergence

import inference
import zoo
from inference.gallery import trees
from zoo.base import Batch
from zoo.parts.covariates import Ranks
from zoo.parts.trees.leaves import Leaves, Pseudo
from zoo.parts.trees.soft_trees import greedy, leaf_probabilities

datasets = pytest.importorskip("sklearn.datasets")
sktree = pytest.importorskip("sklearn.tree")


# --- depth 1: every stump there is ----------------------------------------------------------------------------------


def small_table(seed=0):
    """40 rows of three covariates; y jumps where the second passes about 0.3."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 3))
    y = np.where(x[:, 1] > 0.3, 2.0, -1.0) + 0.5 * rng.normal(size=40)
    return x, y


def stumps(x, y, leaf_scale):
    """Posterior of every hard stump, exact: features and gaps, their probabilities, means at the rows, E[sigma].

    y standardised; leaves N(0, b^2) integrated out, sigma ~ LogNormal(log 1/2, 1) by quadrature, cuts uniform on ranks.
    """
    t = (y - y.mean()) / y.std()
    sigmas = np.exp(np.linspace(math.log(0.02), math.log(5), 300))
    prior = -0.5 * (np.log(sigmas) - math.log(0.5)) ** 2
    splits, log_p, means = [], [], []
    for d in range(x.shape[1]):
        order = x[:, d].argsort()
        for gap in range(1, len(y)):
            total, mean = prior.copy(), np.empty((len(sigmas), len(y)))
            for part in (order[:gap], order[gap:]):
                n, s, q = len(part), t[part].sum(), (t[part] ** 2).sum()
                precision = 1 / leaf_scale**2 + n / sigmas**2
                leaf = s / sigmas**2 / precision
                total += -n * np.log(sigmas) - 0.5 * np.log(precision) - 0.5 * (q / sigmas**2 - precision * leaf**2)
                mean[:, part] = leaf[:, None]
            splits.append((d, gap))
            log_p.append(total)
            means.append(mean)
    log_p = np.array(log_p)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = np.einsum("ms,msn->n", p, np.array(means)) * y.std() + y.mean()
    return splits, p.sum(1), mean, float((p.sum(0) * sigmas).sum())


def test_a_sharp_stump_agrees_with_enumeration():
    x, y = small_table()
    splits, p, mean, sigma = stumps(x, y, leaf_scale=1.5)
    feature, gap = splits[p.argmax()]
    assert sum(q for (d, _), q in zip(splits, p, strict=True) if d == feature) > 0.999  # one covariate, beyond doubt
    torch.manual_seed(0)
    pair = zoo.create("decision_tree", features=3, depth=1, sharpness=500.0, sparsity=6.0, inducing=40).double()
    batch = Batch.of(x=x, y=y)
    inference.fit(pair, batch, steps=600, lr=0.05, particles=2, average=0.2, progress=False)
    posterior = inference.draw(pair, batch, 1000)
    found = pair.anatomy(posterior.flat(), batch)
    assert found.weight[:, 0, 0].mean(0).argmax() == feature
    assert found.weight[:, 0, 0, feature].mean() > 0.95
    # the cut lies in the gap, and so many rows go left, that the enumeration is sure of
    assert p.max() > 0.99
    ranks, left = 40 * found.cut[:, 0, 0], 40 * found.share[:, 0, 0]
    assert ((ranks - gap).abs() < 0.5).double().mean() > 0.9
    assert (left.round() == gap).double().mean() > 0.9
    # predictive means, to 5 % of a deviation of y
    drawn = inference.predict(pair, posterior, batch.but(y=None))["y"][0]
    error = (drawn.mean(0).numpy() - mean) / y.std()
    assert np.sqrt(np.mean(error**2)) < 0.05 + sigma / math.sqrt(1000)  # the latter is Monte Carlo error
    assert float(posterior["noise"].mean()) == pytest.approx(sigma, rel=0.05)


# --- pieces ---------------------------------------------------------------------------------------------------------


def test_leaf_probabilities_are_products_of_gates():
    right = torch.rand(5, 7, dtype=torch.float64)
    found = leaf_probabilities(right, 3)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, dtype=torch.float64))
    for leaf in range(8):
        node, product = 0, torch.ones(5, dtype=torch.float64)
        for bit in f"{leaf:03b}":
            product = product * (right[:, node] if bit == "1" else 1 - right[:, node])
            node = 2 * node + 1 + int(bit)
        torch.testing.assert_close(found[:, leaf], product)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_greedy_splits_are_scikit_learns(task):
    load = datasets.load_diabetes if task == "regression" else datasets.load_wine
    x, y = load(return_X_y=True)
    target = y[:, None] - y.mean() if task == "regression" else np.eye(3)[y]
    feature, cut, leaf = greedy(torch.tensor(x), torch.tensor(target), 2)
    make = sktree.DecisionTreeRegressor if task == "regression" else sktree.DecisionTreeClassifier
    theirs = make(max_depth=2, min_samples_leaf=5, random_state=0).fit(x, y).tree_
    nodes = [0, theirs.children_left[0], theirs.children_right[0]]
    assert feature.tolist() == theirs.feature[nodes].tolist()
    np.testing.assert_allclose(cut, theirs.threshold[nodes], rtol=1e-6)
    _, counts = np.unique(leaf, return_counts=True)
    assert sorted(counts) == sorted(theirs.n_node_samples[theirs.children_left < 0])


def test_ranks_know_no_units():
    rng = np.random.default_rng(0)
    x = torch.tensor(np.c_[rng.normal(size=80), rng.integers(0, 2, 80), rng.integers(0, 5, 80)])
    ranks = Ranks(3).double()
    ranks.place(x)
    u = ranks(x)
    below, level = (x[:, None] > x).double().mean(1), (x[:, None] >= x).double().mean(1)
    torch.testing.assert_close(u, (below + level) / 2, atol=1e-6, rtol=0)  # ties count half
    bent = Ranks(3).double()
    bent.place(x.exp() * 1000 - 7)
    torch.testing.assert_close(bent(x.exp() * 1000 - 7), u)
    torch.testing.assert_close(ranks.inverse(u[:, :1].expand(-1, 3))[:, 0], x[:, 0])


def test_another_scale_of_x_gives_the_same_tree():
    x, y = datasets.load_diabetes(return_X_y=True)
    found = []
    for z in (x, 1000 * x - 5):
        torch.manual_seed(0)
        pair = zoo.create("decision_tree", features=10).double()
        batch = Batch.of(x=z, y=y)
        inference.fit(pair, batch, steps=5, compile="off", progress=False)
        found.append(inference.predict(pair, inference.draw(pair, batch, 20), batch.but(y=None))["y"])
    torch.testing.assert_close(*found)


def test_leaves_given_all_rows_are_the_conjugate_posterior():
    torch.manual_seed(0)
    phi = torch.rand(30, 8, dtype=torch.float64).softmax(-1)
    y = torch.randn(30, 1, dtype=torch.float64)
    pseudo = Pseudo(30, 2, 1).double()
    pseudo.place(torch.rand(30, 2, dtype=torch.float64), y, precision=1 / 0.09)
    order = [int((y == target).nonzero()[0, 0]) for target in pseudo.target.detach()]
    q = pseudo.gaussian(phi[order], torch.tensor(1.5, dtype=torch.float64), (8, 1))
    covariance = torch.linalg.inv(phi.T @ phi / 0.09 + torch.eye(8) / 1.5**2)
    torch.testing.assert_close(q.loc, covariance @ phi.T @ y / 0.09)
    torch.testing.assert_close(torch.linalg.inv(q.tril @ q.tril.mT), covariance)
    exact = torch.distributions.MultivariateNormal(q.loc.squeeze(-1), covariance)
    value = torch.randn(8, 1, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(value), exact.log_prob(value.squeeze(-1)))
    draws = q.rsample((20_000,)).squeeze(-1)
    assert (torch.cov(draws.T) - covariance).abs().max() < 6 * covariance.diagonal().max() / math.sqrt(20_000)


def test_many_draws_of_gates_bring_the_leaves_of_each():
    """(S, J, M) of S draws: (S, 1) posteriors, each in closed form; a Dirichlet counts pseudo-rows softly."""
    torch.manual_seed(0)
    phi = torch.rand(5, 7, 4, dtype=torch.float64).softmax(-1)
    pseudo, counted = Pseudo(7, 2, 2).double(), Pseudo(7, 2, 3, counts=True).double()
    pseudo.log_weight.data.normal_()
    counted.log_weight.data.normal_()
    q = pseudo.gaussian(phi, torch.tensor(1.5, dtype=torch.float64), (4, 2))
    dirichlet = counted.dirichlet(phi, torch.tensor(0.7, dtype=torch.float64))
    assert (q.batch_shape, q.event_shape) == ((5, 1), (4, 2))
    assert (dirichlet.batch_shape, dirichlet.event_shape) == ((5, 1), (4, 3))
    weight, count = pseudo.log_weight.detach().exp().numpy(), counted.log_weight.detach().exp().numpy()
    for s, row in enumerate(phi.numpy()):
        precision = row.T @ np.diag(weight) @ row + np.eye(4) / 1.5**2
        wanted = np.linalg.solve(precision, row.T @ np.diag(weight) @ pseudo.target.detach().numpy())
        np.testing.assert_allclose(q.loc[s, 0].detach(), wanted, rtol=1e-9)
        np.testing.assert_allclose((q.tril[s, 0] @ q.tril[s, 0].mT).detach(), precision, rtol=1e-9)
        np.testing.assert_allclose(dirichlet.base_dist.concentration[s, 0].detach(), 0.7 + row.T @ count, rtol=1e-9)


def test_kl_of_leaves_equals_torchs():
    torch.manual_seed(0)
    tril = torch.randn(6, 6, dtype=torch.float64).tril(-1) + torch.diag(1 + torch.rand(6, dtype=torch.float64))
    loc = torch.randn(6, 2, dtype=torch.float64)
    q = Leaves(loc, tril, (3, 2, 2))
    p = Independent(Normal(torch.zeros(3, 2, 2).double(), 0.7), 3)
    covariance = torch.linalg.inv(tril @ tril.T)
    prior = torch.distributions.MultivariateNormal(torch.zeros(6).double(), 0.49 * torch.eye(6).double())
    wanted = sum(kl_divergence(torch.distributions.MultivariateNormal(loc[:, k], covariance), prior) for k in range(2))
    torch.testing.assert_close(kl_divergence(q, p), wanted)
    # and it is what the ELBO uses
    pair = zoo.create("random_forest")
    batch = pair.simulate(4)[0]
    guide, model = (poutine.trace(part).get_trace(batch).nodes["leaves"]["fn"] for part in (pair.guide, pair.model))
    assert torch.isfinite(kl_divergence(guide, model))
    value = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    each = [torch.distributions.MultivariateNormal(loc[:, k], covariance) for k in range(2)]
    wanted = sum(fn.log_prob(value.reshape(5, 6, 2)[..., k]) for k, fn in enumerate(each))
    torch.testing.assert_close(q.log_prob(value), wanted)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["decision_tree", "random_forest"])
def test_nothing_to_learn_is_refused_by_name(name):
    x = torch.randn(8, 2)
    with pytest.raises(ValueError, match=f"{name}: the target y is constant \\(3 in every row\\)"):
        inference.fit(zoo.create(name), Batch.of(x=x, y=torch.full((8,), 3.0)), steps=2, progress=False)
    pair = zoo.create(name, task="classification", classes=3)
    with pytest.raises(ValueError, match=f"{name}: y holds only class 2, in every row"):
        inference.fit(pair, Batch.of(x=x, y=torch.full((8,), 2.0)), steps=2, progress=False)
    with pytest.raises(ValueError, match="'y', row 0: expected a whole number from 0 to 2, got 5"):
        inference.fit(pair, Batch.of(x=x, y=torch.full((8,), 5.0)), steps=2, progress=False)
    with pytest.raises(ValueError, match="at least 2 classes"):
        zoo.create(name, task="classification", classes=1)


# --- what a tree says -----------------------------------------------------------------------------------------------


def test_the_picture_says_what_the_tree_does():
    x, y = small_table()
    pair = zoo.create("decision_tree", features=3, depth=2).double()
    batch = Batch.of(x=x, y=y)
    inference.fit(pair, batch, steps=60, lr=0.03, compile="off", progress=False)
    posterior = inference.draw(pair, batch, 100)
    figure = trees.picture(pair, posterior, batch, names=["age", "dose", "noise"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any(text.startswith("dose > ") for text in texts)
    assert sum("of rows" in text for text in texts) == 4
    assert texts.count("yes") == texts.count("no") == 3
    share = [int(text.rsplit("\n", 1)[1].split("%")[0]) for text in texts if "of rows" in text]
    assert abs(sum(share) - 100) <= 2
    with pytest.raises(ValueError, match="tree: expected 0 to 0, got 1"):
        trees.picture(pair, posterior, batch, tree=1)
    other = zoo.create("polynomial_regression")
    with pytest.raises(ValueError, match="polynomial_regression has no trees to draw"):
        trees.picture(other, posterior, batch)
