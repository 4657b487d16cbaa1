"""Draws in smaller steps where transitions diverge, and draws until there is evidence, or none to be had."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions.transforms import AffineTransform

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.sample import sampled
from inference.roads.judging import TARGETS, asked, judged
from inference.running.deadline import Deadline
from inference.running.quiet import quietly
from inference.sampling.drawing import RETUNED
from inference.sampling.effective import FIRST, TOLD, Enough

pytestmark = pytest.mark.usefixtures("double")


def neck():
    """A mild funnel that nothing can see to be one, and so nothing takes away."""
    v = pyro.sample("v", dist.Normal(0.0, 0.7))
    pyro.sample("x", dist.TransformedDistribution(dist.Normal(0.0, 1.0), [AffineTransform(0.0, v.exp())]))


def road(model, *arguments, rest=None):
    with quietly(0):
        seen = outline(zoo.program(model), arguments, {})
        return sampled(seen, asked(1000, 0, False, rest), Deadline(rest))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_where_transitions_diverge_smaller_steps_are_taken():
    found = road(neck)
    assert found.target_accept in TARGETS[1:]
    first = inference.sample(zoo.program(neck), draws=100, progress=False)
    assert first.target_accept == TARGETS[0]
    assert int(first.stats["diverging"].sum()) > 0
    assert found.step_size < 0.7 * first.step_size
    assert found.warmup == first.warmup + RETUNED * TARGETS.index(found.target_accept)
    assert float(found.stats["acceptance_rate"].mean()) > 0.9
    assert int(found.stats["diverging"].sum()) < int(first.stats["diverging"].sum())
    assert len(found.stats["step_size"].unique(dim=0)) == 1  # nothing is kept that longer steps drew
    each = found["v"] / 0.7, (found["v"] / 0.7).square(), found["x"] * (-found["v"]).exp()
    for draws, mean in zip(each, (0, 1, 0), strict=True):
        error = float(draws.mean(1).std()) / math.sqrt(found.chains)
        assert abs(float(draws.mean()) - mean) < 4 * error


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_cliff_that_no_step_can_follow_is_not_to_be_trusted():
    def cliff():
        x = pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.factor("cliff", torch.where(x[0] > 2.9, -2000.0, 0.0))

    found = road(cliff)
    assert found.target_accept == TARGETS[-1]
    judgement = judged(found)
    short = [ground.name for ground in judgement.grounds if not ground.holds]
    assert "divergences" in short
    assert "transitions diverged" in judgement.advice


def test_time_that_is_over_leaves_steps_as_they_are():
    with pytest.warns(UserWarning, match="stopped after"):
        found = road(neck, rest=0.01)
    assert found.target_accept == TARGETS[0]


def test_acceptance_is_what_was_asked_for():
    def model():
        pyro.sample("x", dist.Normal(torch.zeros(20), 1.0).to_event(1))

    rates = []
    for target in (0.6, 0.95):
        found = inference.sample(zoo.program(model), draws=100, target_accept=target, progress=False)
        assert found.target_accept == target
        rates.append(float(found.stats["acceptance_rate"].mean()))
    assert 0.5 < rates[0] < 0.8  # the harmonic mean over chains is below this one, and steps fill the time
    assert 0.93 < rates[1] < 0.99


@pytest.mark.parametrize("target", [0, 1, 1.5, -0.1, "high"])
def test_an_acceptance_that_is_none_is_refused(target):
    with pytest.raises(ValueError, match="target_accept: expected"):
        inference.sample(zoo.program(neck), target_accept=target, progress=False)


def test_nuts_takes_no_acceptance():
    with pytest.raises(ValueError, match="target_accept: nuts"):
        inference.sample(zoo.program(neck), method="nuts", target_accept=0.9, progress=False)


def test_what_will_not_be_reached_is_given_up():
    """Chains apart: R-hat stays, whatever comes. Chains together go on to the end."""
    noise = torch.randn(2000, 16, 1, generator=torch.Generator().manual_seed(1))
    apart = noise + 10 * torch.arange(16.0)[:, None]
    for draws, ends in ((apart, TOLD), (noise, 2000)):
        look, count = Enough(40_000, 1, most=2000), 0
        for draw in draws:
            count += 1
            if look(draw) or look.hopeless:
                break
        assert count >= ends
        assert (count < 2 * TOLD) == look.hopeless == (ends == TOLD)
        assert "ess=40000 is not reached" in look.missed()


def test_values_have_the_last_word():
    """Of the numbers that chains walk on R-hat is fine; of what they stand for it is not."""
    asked_for = []

    def sites():
        asked_for.append(1)
        value = torch.randn(16, 60, 1, generator=torch.Generator().manual_seed(2))
        return [value + (10 if len(asked_for) == 1 else 0) * torch.arange(16.0)[:, None, None]]

    look, counts = Enough(100, 1), []
    for count, draw in enumerate(torch.randn(200, 16, 1, generator=torch.Generator().manual_seed(3)), 1):
        if look(draw, sites):
            counts.append(count)
            break
    assert len(asked_for) == 2
    assert counts[0] > FIRST
