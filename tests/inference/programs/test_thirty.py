"""The programs of Pyro's examples and tutorials, as they stand there: what they hold, and their density by Pyro."""

import warnings

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model

import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from tests.helpers.places import package

EXAMPLES = package("pyro_programs").EXAMPLES
POINTS = 3


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch._C._functorch._set_vmap_fallback_enabled(False)  # an operation without a rule is an error here
    yield
    torch._C._functorch._set_vmap_fallback_enabled(True)
    pyro.clear_param_store()
    torch.set_default_dtype(before)


def test_there_are_thirty():
    assert len(EXAMPLES) == 30


@pytest.mark.parametrize("name", EXAMPLES)
def test_sites_and_density_and_gradient_are_pyros(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that two plates of one size are two, say
        model, arguments = EXAMPLES[name].program()
        seen = outline(zoo.program(model), arguments, {})
        own = ProgramPotential(seen, required=True)
        at = torch.randn(POINTS, seen.size, generator=torch.Generator().manual_seed(1))
        value, gradient = own.value_and_gradient(at)
        start = {site: values[0] for site, values in own.constrain(at)[0].items()}
        initial, potential, transforms, trace = initialize_model(
            model, arguments, max_plate_nesting=seen.depth, init_strategy=init_to_value(values=start)
        )
        drawn = {site for site in trace.stochastic_nodes if site not in trace.observation_nodes}
        assert initial.keys() == {latent.name for latent in seen.latents}
        assert drawn - initial.keys() - {plate.name for s in seen.sites.values() for plate in s.plates} == (
            seen.enumerated.keys()
        )
        for i in range(POINTS):
            free = {b.name: at[i, b.begin : b.end].reshape(b.free).requires_grad_() for b in seen.latents}
            stands = [site for site in free if site.endswith("_unobserved")]
            log_p = -potential(free) + sum(_masked_out(model, arguments, transforms, free, site) for site in stands)
            slopes = torch.autograd.grad(log_p, list(free.values()))
            assert float(value[i]) == pytest.approx(float(log_p), rel=1e-10)
            theirs = torch.cat([slope.reshape(-1) for slope in slopes])
            assert torch.allclose(gradient[i], theirs, rtol=1e-10, atol=1e-10 * float(theirs.abs().max()))


def _masked_out(model, arguments, transforms, free, site):
    """What Pyro masks out of a partly observed site: the density of stand-ins of cells that were seen."""
    values = {name: transforms[name].inv(value) for name, value in free.items()}
    trace = poutine.trace(poutine.condition(model, data=values)).get_trace(*arguments)
    trace.compute_log_prob()
    node = trace.nodes[site]
    return (node["unscaled_log_prob"] - node["log_prob"]).sum()
