"""Roots of covariances: gradients against autograd's own of torch's distribution, and matrices that have none."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.programs.roots import Roots

pytestmark = pytest.mark.usefixtures("double", "no_fallback")


def covariance(*lead):
    root = torch.randn(*lead, 4, 4, generator=torch.Generator().manual_seed(1))
    return (root @ root.mT + torch.eye(4)).requires_grad_()


def run(normal, value):
    """The log density of a site `y` under `Roots`."""
    with Roots(), pyro.poutine.trace() as tracer:
        pyro.sample("y", normal(), obs=value)
    (site,) = (node for node in tracer.trace.nodes.values() if node["type"] == "sample")
    return site["fn"].log_prob(value)


def by_covariance(loc, matrix):
    return dist.MultivariateNormal(loc, covariance_matrix=matrix)


def by_root(loc, matrix):
    return dist.MultivariateNormal(loc, scale_tril=torch.linalg.cholesky(matrix))


def along_a_plate(loc, matrix):
    return by_root(loc, matrix).expand([5, 3])


@pytest.mark.parametrize(
    ("made", "lead", "rows"),
    [(made, lead, rows) for made in (by_covariance, by_root) for lead in ((), (3,), (2, 1)) for rows in ((), (5, 1, 3))]
    + [(along_a_plate, lead, (5, 3)) for lead in ((), (3,))],
)
def test_gradients_are_those_by_way_of_the_root(made, lead, rows):
    matrix, loc = covariance(*lead), torch.randn(4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    value = torch.randn(*rows, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    own, theirs = run(lambda: made(loc, matrix), value), made(loc, matrix).log_prob(value)
    assert own.shape == theirs.shape
    assert torch.equal(own, theirs)
    assert type(own.grad_fn).__name__ == "_DensityBackward"
    slope = torch.rand_like(own)
    for one, other in zip(*(torch.autograd.grad(v, [matrix, loc, value], slope) for v in (own, theirs)), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_second_derivatives_are_right_too():
    value = torch.randn(4, generator=torch.Generator().manual_seed(3))

    def density(entries, how):
        root = entries.reshape(4, 4)
        return how(root @ root.mT + torch.eye(4))

    at = torch.randn(16, generator=torch.Generator().manual_seed(4))
    own, theirs = (
        torch.autograd.functional.hessian(lambda entries, how=how: density(entries, how), at)
        for how in (
            lambda k: run(lambda: by_covariance(torch.zeros(4), k), value),
            lambda k: by_covariance(torch.zeros(4), k).log_prob(value),
        )
    )
    assert torch.allclose(own, theirs, rtol=1e-10, atol=1e-10)


def correlated(y):
    """No matrix beyond a correlation of 1 has a root."""
    r = pyro.sample("r", dist.Normal(0.0, 2.0))
    white = pyro.sample("white", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    matrix = torch.stack([torch.ones(()), r, r, torch.ones(())]).reshape(2, 2)
    pyro.sample("x", dist.Normal(torch.linalg.cholesky(matrix) @ white, 1.0).to_event(1), obs=y[0])
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(2), covariance_matrix=matrix), obs=y[1])


@pytest.mark.parametrize("recorded", [True, False])
def test_a_matrix_without_a_root_has_no_density_and_stops_nothing(recorded):
    data = torch.tensor([[0.5, 1.0], [0.3, 0.8]])
    own = ProgramPotential(outline(zoo.program(correlated), (data,), {}), recorded=recorded, required=recorded)
    points = torch.tensor([[0.5, 0.1, 0.2], [1.5, 0.1, 0.2], [-3.0, 0.1, 0.2]])
    value, _ = own.value_and_gradient(points)
    assert torch.isfinite(value).tolist() == [True, False, False]
    assert own.culprits(points[1]) == ["x", "y"]


@pytest.mark.filterwarnings("ignore:.*transitions diverged", "ignore:chains disagree", "ignore:warm-up stopped")
@pytest.mark.slow
@pytest.mark.parametrize("compile", ["graph", "off"])
def test_chains_turn_back_where_matrices_have_no_root(compile):  # noqa: A002 - as users call it
    """The prior has most of its mass where there is none, and chains start there too."""
    data = torch.tensor([[0.5, 1.0], [0.3, 0.8]])
    found = inference.sample(
        zoo.program(correlated), data, compile=compile, progress=False, draws=20, chains=8, max_warmup=20
    )
    assert float(found["r"].abs().max()) < 1
    assert torch.isfinite(found.stats["lp"]).all()
