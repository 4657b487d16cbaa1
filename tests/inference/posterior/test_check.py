"""One door for posteriors and for counts: every public function refuses, by name, what is not the pair's."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from functools import cache

import pandas
import pytest
import torch

import inference
import zoo
from inference.data.check import check
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior

QUICK = {"progress": False}


@cache
def made(kind):
    """A pair with global latents, data for it, and draws of the guide for them."""
    torch.manual_seed(0)
    if kind == "network":
        frame = pandas.DataFrame({"a": ["u", "v"] * 6, "b": ["p", "p", "q"] * 4})
        pair = zoo.create("bayesian_network", columns=zoo.datasets.Schema.infer(frame), edges=[["a", "b"]])
        data = frame
    else:
        name, config = PAIRS[kind]
        pair = zoo.create(name, **config)
        data = pair.simulate(12)[0]
    return pair, data, inference.draw(pair, data, 6)


PAIRS = {
    "mixture": ("gmm", {"features": 2, "components": 2}),
    "codes": ("naive_bayes_vae", {"columns": ["real"] * 3, "latent": 2}),
    "bayesian codes": ("gplvm", {}),
    "states": ("hmm", {"states": 2, "steps": 5}),
    "regression": ("polynomial_regression", {"features": 2, "degree": 2}),
}
