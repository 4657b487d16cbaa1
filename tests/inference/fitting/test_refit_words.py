"""A fit that went on from another and fails says what may help; one that began anew does not."""

from __future__ import annotations

import pytest
import torch

import inference
import zoo
from inference.fitting.loop import NonFiniteError
from inference.running.constants import KeptConstants


@pytest.mark.filterwarnings("ignore:Encountered NaN")  # of Pyro
@pytest.mark.parametrize("name", ["gaussian_vae", "gmm", "neural_autoencoder"])
def test_a_second_fit_that_is_not_finite_names_initialise(name):
    likelihood = {} if name == "gmm" else {"likelihood": "gaussian", "latent": 1}
    pair = zoo.create(name, features=2, **likelihood)
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    inference.fit(pair, 1e-9 * x, steps=2, progress=False, compile="off")
    words = (
        r"the parameters are those of the last good step; the fit began where .* had ended: fit\(…, initialise=True\)"
    )
    with pytest.raises(NonFiniteError, match=words), pytest.warns(KeptConstants):
        inference.fit(pair, 1e12 * x, steps=20, progress=False, compile="off")
    anew = inference.fit(pair, 1e12 * x, steps=20, progress=False, compile="off", initialise=True)
    assert anew.skipped == 0


@pytest.mark.filterwarnings("ignore:Encountered NaN")
def test_a_first_fit_does_not():
    pair = zoo.create("gaussian_vae", features=2, latent=1, likelihood="gaussian")
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NonFiniteError) as error:
        inference.fit(pair, x, steps=40, lr=1e30, clip=None, progress=False, compile="off")
    assert "initialise" not in str(error.value)
