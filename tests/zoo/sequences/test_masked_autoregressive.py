"""MADE: what each output sees, sums over all vectors, samples against probabilities, held-out likelihood."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

import inference
import zoo
from zoo import datasets
from zoo.sequences.masked_autoregressive import MaskedAutoregressive

QUICK: dict[str, Any] = {"progress": False, "compile": "off"}
SMALL: list[dict[str, Any]] = [
    {"likelihood": "bernoulli"},
    {"likelihood": "bernoulli", "hidden": ()},
    {"likelihood": "bernoulli", "hidden": (9, 7, 11), "orderings": 1},
    {"likelihood": "categorical", "categories": 3, "hidden": (20, 20)},
    {"likelihood": "gaussian", "components": 2},
]


def make(features: int, config: dict[str, Any], spread: float = 3.0, seed: int = 0) -> MaskedAutoregressive:
    """A pair whose conditionals vary much more than those of fresh weights."""
    torch.manual_seed(seed)
    pair = zoo.create("masked_autoregressive", features=features, **config).double()
    with torch.no_grad():
        for layer in pair.network.layers:
            layer.weight *= spread
            layer.bias.normal_()
    return pair


def every(values: int, features: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(values), repeat=features)), dtype=torch.float64)


# --- the masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", SMALL, ids=str)
def test_jacobian_is_strictly_triangular_under_each_ordering(config: dict[str, Any]) -> None:
    """No output sees its own feature or a later one; and every earlier one is seen."""
    pair = make(7, {**config, "orderings": config.get("orderings", 4)})
    rank, each = pair.network.rank, pair.conditional.each
    assert (rank.sort(-1)[0] == torch.arange(1, 8)).all()
    assert torch.equal(rank[0], torch.arange(1, 8))
    x = torch.randn(1, 7, each, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: pair.network(x)[:, 0], x)  # (R, D, O, 1, D, I)
    size = jacobian.abs().sum((2, 3, 5))  # (R, of, by)
    for r, order in enumerate(rank.argsort(-1)):
        sorted_ = size[r][order][:, order]
        assert (sorted_.triu() == 0).all()
        assert (sorted_.tril(-1) + torch.ones(7, 7).triu() > 0).all()


def test_orderings_share_the_weights_and_survive_a_copy(tmp_path: Any) -> None:
    pair = make(6, {"orderings": 5})
    assert len({tuple(rank.tolist()) for rank in pair.network.rank}) == 5
    one = make(6, {"orderings": 1})
    assert sum(p.numel() for p in pair.parameters()) == sum(p.numel() for p in one.parameters())
    loaded = zoo.load(pair.save(tmp_path / "made"))
    assert torch.equal(loaded.network.rank, pair.network.rank)


# --- probabilities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orderings", [1, 3])
@pytest.mark.parametrize("hidden", [(), (30,), (20, 20)], ids=str)
def test_probabilities_of_all_binary_vectors_sum_to_one(hidden: tuple[int, ...], orderings: int) -> None:
    pair = make(10, {"hidden": hidden, "orderings": orderings})
    with torch.no_grad():
        total = pair.rows().log_prob(every(2, 10)).logsumexp(0)
        each = pair.rows().ordered_log_prob(every(2, 10)).logsumexp(-1)
    assert abs(float(total.exp()) - 1) < 1e-10
    assert (each.exp() - 1).abs().max() < 1e-10


def test_probabilities_of_all_codes_sum_to_one() -> None:
    pair = make(6, {"likelihood": "categorical", "categories": 3, "orderings": 2})
    with torch.no_grad():
        total = pair.rows().log_prob(every(3, 6)).logsumexp(0)
    assert abs(float(total.exp()) - 1) < 1e-10


@pytest.mark.parametrize("components", [1, 3])
def test_gaussian_density_integrates_to_one(components: int) -> None:
    """Trapezia in two dimensions, which are exact to rounding for what is smooth and vanishes at the ends."""
    pair = make(2, {"likelihood": "gaussian", "components": components, "hidden": (8,)}, spread=0.5)
    pair.conditional.center.copy_(torch.tensor([1.0, -2.0]))
    pair.conditional.unit.copy_(torch.tensor([0.5, 3.0]))
    line = torch.linspace(-14, 14, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(1 + 0.5 * line, -2 + 3 * line)
    with torch.no_grad():
        density = pair.rows().log_prob(grid).exp()
    assert abs(float(density.sum()) * 0.5 * 3 * (28 / 800) ** 2 - 1) < 1e-8


def test_the_average_is_over_orderings_and_the_product_over_features() -> None:
    """By hand, feature by feature: hide the later ones altogether."""
    pair = make(5, {"orderings": 3})
    x = torch.randint(0, 2, (4, 5)).double()
    wanted = torch.zeros(3, 4).double()
    for r, order in enumerate(pair.network.rank.argsort(-1)):
        for t in range(5):
            seen = torch.where(torch.isin(torch.arange(5), order[:t]), x, 1 - x)  # the others wrong
            h = pair.network(pair.conditional.code(seen))[r, :, order[t], 0]
            wanted[r] -= torch.nn.functional.softplus(-h * (2 * x[:, order[t]] - 1))
    torch.testing.assert_close(pair.rows().ordered_log_prob(x), wanted)
    torch.testing.assert_close(pair.rows().log_prob(x), wanted.logsumexp(0) - math.log(3))
    torch.testing.assert_close(pair.rows().log_prob(x.view(2, 2, 5)), pair.rows().log_prob(x).view(2, 2))


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL[0], {**SMALL[3], "orderings": 3}], ids=str)
def test_samples_come_as_often_as_their_probability_says(config: dict[str, Any]) -> None:
    values, features, number = (2, 5, 40_000) if config["likelihood"] == "bernoulli" else (3, 3, 40_000)
    pair = make(features, config, spread=2.0)
    torch.manual_seed(1)
    draws = pair.rows().expand((4,)).sample((number // 4,)).flatten(0, 1)
    power = values ** torch.arange(features - 1, -1, -1)
    found = torch.bincount((draws.long() * power).sum(-1), minlength=values**features)
    with torch.no_grad():
        wanted = number * pair.rows().log_prob(every(values, features)).exp()
    often = wanted >= 5  # rarer ones together
    found = torch.cat([found[often], found[~often].sum(0, keepdim=True)])
    wanted = torch.cat([wanted[often], wanted[~often].sum(0, keepdim=True).clamp(min=1e-9)])
    keep = wanted > 1
    square = float(((found - wanted).square() / wanted)[keep].sum())
    assert stats.chi2.sf(square, int(keep.sum()) - 1) > 1e-3


def test_gaussian_samples_have_the_cumulative_distribution_of_the_density() -> None:
    """The first feature of the first ordering is a mixture by itself: Kolmogorov and Smirnov."""
    pair = make(3, {"likelihood": "gaussian", "components": 3, "orderings": 1}, spread=1.0)
    torch.manual_seed(2)
    draws = pair.rows().expand((5_000,)).sample()
    with torch.no_grad():
        h = pair.network(pair.conditional.code(draws))[0]
        each = pair.conditional.density(h).cdf(draws)  # the probability integral transform, given what came before
    for d in range(3):
        assert stats.kstest(each[:, d].numpy(), "uniform").pvalue > 1e-3
    assert torch.corrcoef(each.T).triu(1).abs().max() < 4 / 5_000**0.5


# --- use --------------------------------------------------------------------------------------------------------------


def binarised() -> tuple[Tensor, Tensor]:
    x = (datasets.load("digits").x > 7).double()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[:1400]], x[order[1400:]]


@pytest.mark.slow
def test_held_out_digits() -> None:
    """Nats per unseen image of 8 x 8, ink or none: a Bernoulli for each pixel, a belief network, MADE."""
    train, test = binarised()
    probs = (train.sum(0) + 1) / (len(train) + 2)
    independent = -float(torch.distributions.Bernoulli(probs).log_prob(test).sum(-1).mean())
    assert independent == pytest.approx(25.273, abs=1e-3)
    scores = {}
    for hidden, orderings in (((), 1), ((128,), 4)):
        torch.manual_seed(0)
        pair = zoo.create("masked_autoregressive", features=64, hidden=hidden, orderings=orderings)
        inference.fit(pair, train, epochs=40, batch_size=100, validation=0.1, progress=False)
        scores[hidden] = -float(inference.log_likelihood(pair, inference.draw(pair, test, 1), test).mean())
    assert scores[()] < 21
    assert scores[128,] < 19


def test_learns_what_depends_on_what() -> None:
    """Three bits, three times over: a few hundred steps leave about three bits to say."""
    torch.manual_seed(0)
    x = torch.randint(0, 2, (400, 3)).repeat(1, 3).float()
    pair = zoo.create("masked_autoregressive", features=9, hidden=(40,))
    inference.fit(pair, x, steps=250, lr=0.02, **QUICK)
    score = -float(inference.log_likelihood(pair, inference.draw(pair, x, 1), x).mean())
    assert 3 * math.log(2) - 0.05 < score < 3 * math.log(2) + 0.3
    draws = inference.generate(pair, 200)["x"]
    assert ((draws[:, :3] == draws[:, 3:6]) & (draws[:, :3] == draws[:, 6:])).float().mean() > 0.9


def test_real_features_in_any_units() -> None:
    torch.manual_seed(0)
    z, e, other = torch.randn(3, 500, 1, dtype=torch.float64)
    x = torch.cat([z, z + 0.1 * e, other], -1)
    found = []
    for unit in (1.0, 1024.0):  # a power of two: rounding is the same
        torch.manual_seed(1)
        config: dict[str, Any] = {"hidden": (20,), "likelihood": "gaussian", "components": 2}
        pair = zoo.create("masked_autoregressive", features=3, **config).double()
        inference.fit(pair, (5 + x) * unit, steps=30, lr=0.02, **QUICK)
        found.append(torch.nn.utils.parameters_to_vector(pair.parameters()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)
    inference.fit(pair, (5 + x) * unit, steps=120, lr=0.02, **QUICK)
    score = inference.log_likelihood(pair, inference.draw(pair, (5 + x) * unit, 1), (5 + x) * unit)
    entropy = 3 * 0.5 * math.log(2 * math.pi * math.e) + math.log(0.1)
    assert -entropy - 0.3 < float(score.mean()) + 3 * math.log(unit) < -entropy + 0.2


def test_one_feature_and_constant_features() -> None:
    one = zoo.create("masked_autoregressive", features=1, likelihood="gaussian")
    assert torch.isfinite(one.rows().log_prob(torch.randn(4, 1))).all()
    flat = torch.full((30, 4), 2.5)
    pair = zoo.create("masked_autoregressive", features=4, likelihood="gaussian")
    fit = inference.fit(pair, flat, steps=100, lr=0.05, **QUICK)
    assert torch.isfinite(torch.as_tensor(fit.losses)).all()


def test_refuses_what_cannot_be() -> None:
    pair = zoo.create("masked_autoregressive", features=4)
    x = torch.zeros(3, 4)
    for value, message in ((0.5, "0 or 1, got 0.5"), (math.nan, "this model takes no missing values")):
        x[1, 2] = value
        with pytest.raises(ValueError, match=f"'x', row 1, column 2: expected.*{message}"):
            inference.fit(pair, x, steps=2, **QUICK)
    codes = zoo.create("masked_autoregressive", features=4, likelihood="categorical", categories=3)
    x[1, 2] = 3
    with pytest.raises(ValueError, match=r"'x', row 1, column 2: expected a whole number from 0 to 2, got 3"):
        inference.fit(codes, x, steps=2, **QUICK)
    for config in ({"orderings": 0}, {"hidden": (0,)}, {"components": 0}):
        with pytest.raises(ValueError, match="expected at least 1"):
            zoo.create("masked_autoregressive", **config)
