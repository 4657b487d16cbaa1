"""The programs of Pyro's examples and tutorials, as they stand there: what they hold, and their density by Pyro."""

import warnings

import pytest
import torch
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model

import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from tests.helpers.places import package

EXAMPLES = package("pyro_programs").EXAMPLES
POINTS = 3
ALL = EXAMPLES | package("pyro_programs.subspaces").EXAMPLES


pytestmark = pytest.mark.usefixtures("double", "no_fallback")


def test_there_are_thirty():
    assert len(EXAMPLES) == 30


@pytest.mark.parametrize("name", ALL)
def test_sites_and_density_and_gradient_are_pyros(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that two plates of one size are two, say
        model, arguments = ALL[name].program()
        seen = outline(zoo.program(model), arguments, {})
        own = ProgramPotential(seen, required=True)
        at = torch.randn(POINTS, seen.size, generator=torch.Generator().manual_seed(1))
        value, gradient = own.value_and_gradient(at)
        start = {site: values[0] for site, values in own.constrain(at)[0].items()}
        initial, potential, _, trace = initialize_model(
            model, arguments, max_plate_nesting=seen.depth, init_strategy=init_to_value(values=start)
        )
        drawn = {site for site in trace.stochastic_nodes if site not in trace.observation_nodes}
        assert initial.keys() == {latent.name for latent in seen.latents}
        assert drawn - initial.keys() - {plate.name for s in seen.sites.values() for plate in s.plates} == (
            seen.enumerated.keys()
        )
        for i in range(POINTS):
            free = {latent.name: latent.unflatten(at[i]).requires_grad_() for latent in seen.latents}
            log_p = -potential(free)
            slopes = torch.autograd.grad(log_p, list(free.values()))
            assert float(value[i]) == pytest.approx(float(log_p), rel=1e-10)
            theirs = torch.cat([b.flatten(slope) for b, slope in zip(seen.latents, slopes, strict=True)])
            assert torch.allclose(gradient[i], theirs, rtol=1e-10, atol=1e-10 * float(theirs.abs().max()))
