"""How many chains there are, where nobody says."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.data.check import check
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.sampling.number import Written, number
from inference.sampling.potential import Potential

QUICK = {"draws": 5, "max_warmup": 20, "compile": "graph", "progress": False}


def line(x, y):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


@pytest.mark.parametrize(("rows", "chains"), [(10, 64), (20_000, 16)])
def test_many_where_rows_are_few_and_few_where_they_are_many(rows, chains):
    x = torch.linspace(-1, 1, rows)
    program = ProgramPotential(outline(zoo.program(line), (x, x), {}))
    assert number(program, None) == chains
    assert number(program, 3) == 3
    pair = zoo.create("polynomial_regression", degree=1)
    assert number(Potential(check(pair, (x[:, None], x))), None) == chains


@pytest.mark.filterwarnings("ignore")  # five draws tell nothing
def test_so_many_run_where_nobody_says(monkeypatch):
    monkeypatch.setattr("inference.sampling.number.LARGE", 10)
    x = torch.linspace(-1, 1, 10)
    assert inference.sample(zoo.program(line), x, x, **QUICK).chains == 16
    assert inference.sample(zoo.program(line), x, x, **QUICK, chains=3).chains == 3
    assert inference.sample(zoo.create("polynomial_regression", degree=1), (x[:, None], x), **QUICK).chains == 16


def test_numbers_are_counted_where_they_are_written():
    x, seen = torch.ones(30, 40), Written()
    with seen:
        (x.T.reshape(40, 30)[:5] + 1).exp().sum()  # a view of a view; 150 sums, 150 exponentials, a number
    assert seen.numbers == 301
