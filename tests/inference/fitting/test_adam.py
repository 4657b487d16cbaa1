"""Adam as operations against torch's own, and its limit on the gradient's length against the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from inference.fitting.adam import Adam, advance, update

SHAPES = [(3,), (2, 4), ()]


def lengths_of(count):
    """Gradients of very unequal lengths, some of them exactly zero: (count, ...) of each shape."""
    generator = torch.Generator().manual_seed(0)
    sizes = 10 ** torch.linspace(2, -2, count, dtype=torch.float64)
    return [
        [size * torch.randn(shape, generator=generator, dtype=torch.float64) * (i % 5 > 0) for shape in SHAPES]
        for i, size in enumerate(sizes)
    ]


def parameters():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.99)])
@pytest.mark.parametrize("fused", [True, False])
def test_many_steps_are_those_of_torch(fused, betas):
    ours, theirs = parameters(), [p.requires_grad_() for p in parameters()]
    state, one = Adam.of(ours), torch.ones(())
    optimiser = torch.optim.Adam(theirs, lr=0.03, betas=betas, eps=1e-8)
    for gradients in lengths_of(60):
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient.clone()
        optimiser.step()
        advance(ours, gradients, state, torch.tensor(0.03, dtype=torch.float64), one, one, fused, betas)
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("clip", [math.inf, 2.0])
@pytest.mark.parametrize("fused", [True, False])
def test_long_gradients_are_shortened_to_a_multiple_of_the_usual_length(fused, clip):
    """limit = clip max(1, usual), usual a running mean over some fifty steps of clipped lengths: by hand."""
    ours, theirs = parameters(), [p.requires_grad_() for p in parameters()]
    state, rate = Adam.of(ours), torch.tensor(0.03, dtype=torch.float64)
    optimiser = torch.optim.Adam(theirs, lr=0.03)
    usual, shortened = 0.0, 0
    for gradients in lengths_of(60):
        length = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        limit = clip * max(1.0, usual)
        shortened += length > limit
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient / max(1.0, length / limit)
        optimiser.step()
        usual = 0.98 * usual + 0.02 * min(length, limit)
        update(ours, gradients, state, torch.zeros(()), rate, torch.tensor(clip), fused)
        assert float(state.usual) == pytest.approx(usual, rel=1e-5)
    assert shortened > 10 or clip == math.inf
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p, q.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_is_not_finite_changes_nothing(fused):
    ours, gradients = parameters(), lengths_of(3)
    state, rate, clip = Adam.of(ours), torch.tensor(0.03, dtype=torch.float64), torch.tensor(2.0)
    update(ours, gradients[1], state, torch.zeros(()), rate, clip, fused)
    before = [part.clone() for part in (*ours, *state.means, *state.squares, state.count, state.usual)]
    spoilt = [gradient.clone() for gradient in gradients[2]]
    spoilt[1][0, 0] = math.nan
    assert update(ours, spoilt, state, torch.zeros(()), rate, clip, fused).isnan()
    assert update(ours, gradients[2], state, torch.tensor(math.inf), rate, clip, fused).isnan()
    for part, old in zip((*ours, *state.means, *state.squares, state.count, state.usual), before, strict=True):
        assert torch.equal(part, old)
