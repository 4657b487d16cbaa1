"""What suits images: their shape, and a likelihood for what their numbers are; the rest stays as it is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.command.fit import fitting_pair
from inference.data.check import as_batch

BYTES = torch.arange(16).reshape(1, 4, 4)


@pytest.mark.parametrize(
    ("name", "x", "words", "chosen"),
    [
        ("gaussian_vae", torch.randint(2, (6, 3, 3)), "6 images of 3 x 3 and cells are 0 or 1", ("bernoulli", None)),
        (
            "gaussian_vae",
            torch.randint(2, (6, 3, 3)) > 0,
            "6 images of 3 x 3 and cells are 0 or 1",
            ("bernoulli", None),
        ),
        ("masked_autoregressive", torch.eye(9).reshape(9, 3, 3) > 0, "cells are 0 or 1", ("bernoulli", None)),
        ("gaussian_vae", 255 * torch.randint(2, (6, 3, 3)), "cells are 0 or 1", ("bernoulli", None)),
        ("bayesian_vae", BYTES, "whole numbers from 0 to 15", ("binomial", 15)),
        ("gaussian_vae", BYTES.byte(), "cells are bytes", ("beta_binomial", 255)),
        ("gaussian_vae", BYTES / 255, "cells are bytes", ("beta_binomial", 255)),
        ("neural_autoencoder", BYTES[None].byte(), "1 images of 4 x 4", ("gaussian", None)),
        ("gaussian_vae", torch.randn(6, 2, 3, 3), "in 2 channels and cells are real numbers", ("gaussian", None)),
        ("linear_autoencoder", torch.randn(6, 3, 4), "6 images of 3 x 4", (None, None)),
    ],
)
@pytest.mark.filterwarnings("ignore::zoo.notes.DataWarning")
def test_what_suits_images(name, x, words, chosen):
    said = []
    pair = inference.pair_for(name, x, tell=said.append)
    assert words in said[0]
    assert pair.image == tuple(x.shape[1:])
    assert (pair.config.get("likelihood"), pair.config.get("trials")) == chosen
    assert as_batch(pair, x).x.shape == (len(x), pair.config["features"])


def test_the_command_makes_the_same_pair(capsys):
    pair, batch = fitting_pair("gaussian_vae", {"latent": 2}, zoo.Batch.of(BYTES.byte()))
    assert pair.config.items() >= {"image": (4, 4), "likelihood": "beta_binomial", "latent": 2}.items()
    assert as_batch(pair, batch).x.shape == (1, 16)
    assert "note: gaussian_vae: image=(4, 4), likelihood='beta_binomial'" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_that_come_last_are_refused_and_first_are_taken(channels):
    last = np.random.default_rng(0).integers(0, 256, (6, 8, 8, channels)).astype(np.uint8)
    words = r"seem to have \d channels, last; channels come first: a.transpose\(0, 3, 1, 2\)"
    with pytest.raises(ValueError, match=words):
        inference.pair_for("gaussian_vae", last)
    with pytest.raises(ValueError, match=words):
        fitting_pair("gaussian_vae", {}, zoo.Batch.of(last))
    with pytest.raises(ValueError, match=words):
        inference.Estimator("gaussian_vae", steps=1).fit(last)
    first = last.transpose(0, 3, 1, 2)
    pair = inference.pair_for("gaussian_vae", first, tell=None)
    assert pair.image == (channels, 8, 8)
    pixels = as_batch(pair, first).x.reshape(6, channels, 64)
    assert torch.equal(pixels[:, 0], torch.from_numpy(last[..., 0].reshape(6, 64)).float())
    assert inference.pair_for("gaussian_vae", last, image=(8, 8, channels), tell=None).image == (8, 8, channels)


def test_what_is_given_stays():
    pair = inference.pair_for(
        "gaussian_vae", BYTES, likelihood="categorical", trials=20, image=(1, 4, 4), latent=3, tell=None
    )
    assert pair.config.items() >= {"likelihood": "categorical", "trials": 20, "image": (1, 4, 4), "latent": 3}.items()
    assert zoo.create("gaussian_vae", **pair.config).image == (1, 4, 4)
