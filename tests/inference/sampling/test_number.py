"""How many chains there are, where nobody says."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.sampling.number import Written

QUICK = {"draws": 5, "max_warmup": 20, "compile": "graph", "progress": False}


def line(x, y):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


@pytest.mark.filterwarnings("ignore")  # five draws tell nothing
def test_many_where_rows_are_few_and_few_where_they_are_many():
    for rows, chains in ((10, 64), (100_000, 16)):
        x = torch.linspace(-1, 1, rows)
        assert inference.sample(zoo.program(line), x, x, **QUICK).chains == chains
        assert inference.sample(zoo.program(line), x, x, **{**QUICK, "chains": 3}).chains == 3
        pair = zoo.create("polynomial_regression", degree=1)
        assert inference.sample(pair, (x[:, None], x), **QUICK).chains == chains


def test_numbers_are_counted_where_they_are_written():
    x, seen = torch.ones(30, 40), Written()
    with seen:
        (x.T.reshape(40, 30)[:5] + 1).exp().sum()  # a view of a view; 150 sums, 150 exponentials, a number
    assert seen.numbers == 301
