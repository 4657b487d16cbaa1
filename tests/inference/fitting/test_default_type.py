"""torch's default floating-point type is the user's: fits, codes and chains are the same under either.

To single precision: some starting values come from constants that are made in the default type.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch

import inference
import zoo
from tests.helpers.pairs import NAMES


@contextmanager
def default_type(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def under(dtype, call, pair):
    with default_type(dtype):
        return call(copy.deepcopy(pair))


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_is_the_same_under_either_default_type(name):
    pair = zoo.create(name)
    data, _ = pair.simulate(20)

    def losses(fitted):
        options = {"steps": 3, "device": "cpu", "compile": "off", "progress": False}
        return torch.from_numpy(inference.fit(fitted, data, **options).losses)

    alone = under(torch.float32, losses, pair)
    assert alone.isfinite().all()
    torch.testing.assert_close(under(torch.float64, losses, pair), alone, rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:.*R-hat")
@pytest.mark.parametrize("compile", ["graph", "off"])
def test_a_pair_made_under_double_precision_fits(compile):  # noqa: A002
    faithful = zoo.datasets.load("faithful")
    with default_type(torch.float64):
        pair = zoo.create("gmm")
        inference.fit(pair, faithful, steps=20, device="cpu", compile=compile, progress=False)
        assert pair.dtype == torch.float64
        with pytest.warns(UserWarning, match="warm-up stopped at max_warmup"):  # after no more than a few steps
            chains = inference.sample(pair, faithful, 3, 4, max_warmup=6, compile="graph", progress=False)
    assert chains["locs"].dtype == torch.float64
    assert chains["locs"].isfinite().all()


def test_codes_by_simulation_are_the_same_under_either_default_type():
    pair = zoo.create("gaussian_vae", features=6, latent=2, hidden=[8])
    data, _ = pair.simulate(20)

    def trained(fitted):
        inference.fit_by_simulation(fitted, data=data, steps=3, batch_size=5, progress=False)
        return inference.encode(fitted, data, draws=2)

    one, other = (under(kind, trained, pair) for kind in (torch.float64, torch.float32))
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.draws, other.draws)
