"""A fit that cannot go on names the program's own sites, latents and parameters; one that cannot start does no step."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import inference
import zoo
from inference.programs.offending import check_density
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential


@pytest.fixture(autouse=True)
def _store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def nowhere():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.factor("f", torch.where(a > 100, 0.0, -math.inf))


def steep():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    pyro.factor("f", -torch.sqrt(0 * b) - a**2)


def upper_half():
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.factor("f", torch.where((a > 0.5).all(), 0.0, -math.inf))


@pytest.mark.parametrize("compile", ["auto", "off"])
@pytest.mark.parametrize("guide", ["normal", AutoNormal])
def test_a_density_that_is_finite_nowhere_is_refused_before_step_one(guide, compile):  # noqa: A002 - as `fit` has it
    steps = []
    with pytest.raises(inference.NonFiniteError, match=r"nowhere: the log density is finite at none .* site 'f'"):
        inference.fit(
            zoo.program(nowhere, guide=guide), compile=compile, progress=False, callbacks=[lambda *_: steps.append(1)]
        )
    assert not steps


def test_a_density_that_is_finite_somewhere_is_not_refused():
    seen = outline(zoo.program(upper_half), (), {})
    with torch.no_grad():
        check_density(ProgramPotential(seen), torch.zeros(2))


def test_a_gradient_that_is_not_finite_is_told_by_latent():
    with pytest.raises(inference.NonFiniteError, match="the gradient of the log density by site 'b' is not") as error:
        inference.fit(zoo.program(steep, guide="normal"), progress=False)
    assert not any(inner in str(error.value) for inner in ("'x'", "'free'", "auto."))


def test_a_guide_of_ones_own_is_told_by_parameter_and_site():
    def guide():
        slope = pyro.param("slope", torch.tensor(1.0))
        pyro.sample("a", dist.Normal(torch.sqrt(0 * slope), 1.0))

    def model():
        pyro.sample("a", dist.Normal(0.0, 1.0))

    with pytest.raises(inference.NonFiniteError, match="the gradient by parameter 'slope' is not finite"):
        inference.fit(zoo.program(model, guide=guide), progress=False)

    def wandering():
        pyro.sample("a", dist.Normal(pyro.param("at", torch.tensor(0.0)), 1.0))

    def edge():  # finite at some draws, but not at most
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.factor("edge", torch.where(a > 1, 0.0, -math.inf))

    with pytest.raises(inference.NonFiniteError, match="log density of site 'edge' is not finite"):
        inference.fit(zoo.program(edge, guide=wandering), steps=50, progress=False)
