"""A pair in half precision can be kept, and says at every public call that it cannot be run."""

from __future__ import annotations

import copy

import pytest
import torch

import inference
import zoo
from tests.helpers.pairs import NAMES

WORDS = (
    r"holds numbers in b?float16, in which it can be kept but not run: float32 and float64 are supported; call \.float"
)
CALLS = {
    "fit": lambda pair, data: inference.fit(pair, data, steps=1, progress=False),
    "draw": lambda pair, data: inference.draw(pair, data, 2),
    "prior": lambda pair, data: inference.prior(pair, 3),
    "generate": lambda pair, data: inference.generate(pair, 3),
    "sample": lambda pair, data: inference.sample(pair, data, 2, 2, progress=False),
    "simulate": lambda pair, data: pair.simulate(3),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_is_kept_in_half_precision_and_refused_by_every_call(name, dtype, tmp_path):
    pair = zoo.create(name)
    data, _ = pair.simulate(3)
    pair.to(dtype)
    for short in (pair, copy.deepcopy(pair), zoo.load(pair.save(tmp_path))):
        assert (short.dtype, short.fitted) == (dtype, False)
        for call in CALLS.values():
            with pytest.raises(ValueError, match=f"^{name} {WORDS}"):
                call(short, data)
        short.float()
        assert inference.draw(short, data, 2).size == 2


def test_half_of_a_pair_in_half_precision_is_refused_too():
    pair = zoo.create("gaussian_vae")
    data, _ = pair.simulate(3)
    next(module for module in pair.modules() if isinstance(module, torch.nn.Linear)).half()
    with pytest.raises(ValueError, match=WORDS):
        inference.fit(pair, data, steps=1, progress=False)


def test_no_pair_is_made_in_half_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with pytest.raises(ValueError, match=f"gmm {WORDS}"):
            zoo.create("gmm")
    finally:
        torch.set_default_dtype(before)
