"""Densities of rows with holes, and elimination: exact, in pieces, in logs, of bounded size."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.questions.queries import query
from tests.helpers.networks import BINARY, QUICK, joint, log_density_by_hand, made, spread, truth
from zoo.parts.networks import factors, row
from zoo.parts.networks.row import NetworkRow
from zoo.settings import settings


def test_rows_with_every_pattern_of_holes():
    pair = made()
    spread(pair)
    values = truth(pair)
    complete = pair.simulate(2)[0].x[0].numpy()
    patterns = np.array(list(itertools.product([False, True], repeat=6)))
    x = np.where(patterns, np.nan, complete)
    found = NetworkRow(pair.network, values, torch.float64).log_prob(torch.as_tensor(x))
    wanted = [
        0.0 if pattern.all() else log_density_by_hand(pair, values, line)
        for pattern, line in zip(patterns, x, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_asia_with_every_pattern_of_holes(asia):
    table = joint(asia)
    patterns = np.array(list(itertools.product([False, True], repeat=8)))
    complete = torch.as_tensor([[1, 1, 0, 0, 0, 0, 0, 1]], dtype=torch.float64).numpy()
    x = np.where(patterns, np.nan, complete)
    found = NetworkRow(asia.network, {}, torch.float64).log_prob(torch.as_tensor(x)).numpy()
    for line, value in zip(x, found, strict=True):
        part = table[tuple(slice(None) if np.isnan(cell) else int(cell) for cell in line)].sum()
        assert value == pytest.approx(math.log(part), abs=1e-12)


def test_a_piece_at_a_time_gives_the_same():
    pair = made()
    x = spread(pair)
    x[torch.rand(x.shape) < 0.3] = torch.nan
    posterior = inference.prior(pair, 2, draws=7)
    whole = inference.log_likelihood(pair, posterior, x)
    answer = query(pair, posterior, "a", {"w": 1001.0}).draws
    with settings.using(memory=2000):
        assert len(list(row.pieces(pair.network, len(x), 7))) > 5
        torch.testing.assert_close(inference.log_likelihood(pair, posterior, x), whole)
    with settings.using(memory=20):
        torch.testing.assert_close(query(pair, posterior, "a", {"w": 1001.0}).draws, answer)


def test_long_products_do_not_underflow_in_single_precision():
    """A chain of 60 unlikely steps: p = 1e-240, far below what single precision holds."""
    columns = [(f"n{i}", "binary", BINARY) for i in range(60)]
    edges = [(f"n{i}", f"n{i + 1}") for i in range(59)]
    step = [[1 - 1e-4, 1e-4], [1e-4, 1 - 1e-4]]
    tables = {"n0": [1e-4, 1 - 1e-4]} | {f"n{i}": step for i in range(1, 60)}
    pair = zoo.create("bayesian_network", columns=columns, edges=edges, tables=tables)
    x = (torch.arange(60) % 2).float()[None]
    found = NetworkRow(pair.network, {}, torch.float32).log_prob(x)
    assert float(found) == pytest.approx(60 * math.log(1e-4), rel=1e-4)
    x[:, 1:-1] = torch.nan
    assert float(NetworkRow(pair.network, {}, torch.float32).log_prob(x)) == pytest.approx(
        float(query(pair, None, "n1", {"n0": "no", "n59": "yes"}).log_evidence), rel=1e-5
    )


def test_sizes_are_bounded_and_named():
    columns = [(f"b{i}", "binary") for i in range(30)]
    with pytest.raises(ValueError, match=r"table of 'b29': 1,073,741,824 cells, at most"):
        made(columns, {"b29": [f"b{i}" for i in range(29)]})
    with pytest.raises(ValueError, match=r"real nodes x hang together .* 16,777,216 configurations"):
        made([*columns, ("x", "real")], {"x": [f"b{i}" for i in range(24)]})
    # A grid: each table is small, but summing out takes the joint table of a whole row of the grid.
    side = 24
    grid = [(f"g{i}_{j}", "binary") for i in range(side) for j in range(side)]
    arrows = {
        f"g{i}_{j}": [f"g{i - 1}_{j}"] * (i > 0) + [f"g{i}_{j - 1}"] * (j > 0) for i in range(side) for j in range(side)
    }
    pair = zoo.create("bayesian_network", columns=grid, edges=arrows)
    with pytest.raises(ValueError, match=r"summing out missing cells takes a factor over g.*configurations a row"):
        inference.fit(pair, pair.simulate(3)[0], steps=1, **QUICK)


def test_the_order_of_elimination_does_not_depend_on_the_number_of_rows(asia):
    """With 1e5 rows a careless order multiplies tables into one of all variables: terabytes."""
    star = made([("hub", "binary"), *((f"n{i}", "binary") for i in range(25))], [("hub", f"n{i}") for i in range(25)])
    for pair, values in ((asia, {}), (star, truth(star))):
        wide = row.width(pair.network)
        assert wide <= 8
        values = {name: value.expand(50, *value.shape) for name, value in values.items()}  # noqa: PLW2901
        some = row.terms(pair.network, values, pair.simulate(2)[0].x[None])
        many = [
            part._replace(value=part.value.expand(10**5, *part.value.shape[1:]) if part.labels[0] == -1 else part.value)
            for part in (f._replace(value=f.value[:1] if f.labels[0] == -1 else f.value) for f in some.factors)
        ]
        assert factors.plan_of(many).width == wide


def test_elimination_of_everything_against_one_einsum():
    generator = torch.Generator().manual_seed(0)
    labels = [(-2, 0, 1), (-1, 1, 2), (0, 3), (2, 3, 4), (-2, -1, 4), ()]
    sizes = {-2: 2, -1: 3, 0: 2, 1: 3, 2: 4, 3: 2, 4: 3}
    parts = [
        factors.Factor(torch.rand([sizes[i] for i in names], generator=generator).double(), names) for names in labels
    ]
    letters = ["".join("stabcde"[i + 2] for i in names) for names in labels]
    for output in ((), (3,), (4, 0)):
        wanted = torch.einsum(
            f"{','.join(letters)}->st{''.join('abcde'[i] for i in output)}", *(p.value for p in parts)
        )
        value, scale = factors.contract(parts, output)
        torch.testing.assert_close(value * scale.exp()[(..., *[None] * len(output))], wanted)
