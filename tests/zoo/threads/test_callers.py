"""Functions of a pair are no part of the program that calls them: its handlers see and change nothing of them."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import inference
from tests.helpers.pairs import Normal, data

HANDLERS = {
    "condition": lambda: poutine.condition(data={"loc": torch.tensor(100.0)}),
    "trace": poutine.trace,
    "plate": lambda: pyro.plate("rows", 7),
    "block": poutine.block,
    "mask": lambda: poutine.mask(mask=False),
    "scale": lambda: poutine.scale(scale=3.0),
    "substitute": lambda: poutine.substitute(data={"loc": torch.tensor(100.0)}),
    "enumerate": lambda: poutine.enum(first_available_dim=-1),
}


def answers():
    pair, x = Normal().double(), data(20).double()
    loss = inference.fit(pair, x, steps=3, progress=False, compile="off").losses
    posterior = inference.draw(pair, x, 30)
    return {
        "fit": torch.as_tensor(loss),
        "draw": posterior["loc"],
        "predict": inference.predict(pair, posterior, x)["x"],
        "log_likelihood": inference.log_likelihood(pair, posterior, x),
        "khat": torch.as_tensor(inference.khat(pair, x, 100).globals),
        "sites": torch.tensor(len(pair.sites())),
        "sample": inference.sample(pair, x, 3, 2, max_warmup=20, compile="off", progress=False)["loc"],
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("handler", HANDLERS)
def test_handlers_of_a_caller_reach_nothing(handler):
    wanted = answers()
    with HANDLERS[handler]() as around:
        found = answers()
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))  # the caller's own program goes on under it
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
    if handler == "trace":
        assert set(around.trace.nodes) == {"loc"}
    assert loc.shape == ((7,) if handler == "plate" else ())
    assert (float(loc.flatten()[0]) == 100) == (handler == "condition")
