"""The log density of any program at many points at once is what Pyro says of each, value and gradient."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model
from scipy.stats import ks_2samp

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.running.mapped import Mapped
from inference.running.unread import Unread
from tests.helpers.programs import PROGRAMS, program

POINTS = 5


pytestmark = pytest.mark.usefixtures("double", "no_fallback")


def points(name):
    model, arguments = program(name)
    seen = outline(zoo.program(model), arguments, {})
    return seen, torch.randn(POINTS, seen.size, generator=torch.Generator().manual_seed(1))


# Pyro's potential keeps the bounds of a support that moves where they stood in its first run.
OTHERWISE = ("factored", "partly_seen", "uniform_of_uniform")


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in OTHERWISE])
def test_density_and_gradient_are_those_of_pyros_own_potential(name):
    model, arguments = program(name)
    seen, at = points(name)
    value, gradient = ProgramPotential(seen, required=True).value_and_gradient(at)
    depth = None if not seen.enumerated else seen.depth
    _, potential, _, _ = initialize_model(model, arguments, max_plate_nesting=depth)
    for i in range(POINTS):
        free = {b.name: at[i, b.begin : b.end].reshape(b.free).requires_grad_() for b in seen.latents}
        energy = potential(free)
        slopes = torch.autograd.grad(energy, list(free.values()))
        assert float(value[i]) == pytest.approx(-float(energy), rel=1e-10)
        theirs = -torch.cat([slope.reshape(-1) for slope in slopes])
        assert torch.allclose(gradient[i], theirs, rtol=1e-10, atol=1e-10), name


def test_a_factor_an_improper_prior_and_a_scale_count_as_they_are_written():
    seen, at = points("factored")
    value, _ = ProgramPotential(seen, required=True).value_and_gradient(at)
    x = at[:, 0].exp()  # positive: exp, whose log Jacobian is the free number
    normal = torch.distributions.Normal(x, 1.0).log_prob(torch.tensor(2.0))
    assert torch.allclose(value, -0.5 * (x - 3) ** 2 + 2 * normal + at[:, 0], rtol=1e-12)


def test_bounds_move_with_what_they_depend_on():
    seen, at = points("uniform_of_uniform")
    value, _ = ProgramPotential(seen, required=True).value_and_gradient(at)
    one, other = at.sigmoid().unbind(1)
    top = 10 * one
    low = top * other
    prior = -torch.log(torch.tensor(10.0)) - top.log()
    jacobian = (10 * one * (1 - one)).log() + (top * other * (1 - other)).log()
    like = torch.distributions.Normal(top + low, 1.0).log_prob(torch.tensor(7.0))
    assert torch.allclose(value, prior + jacobian + like, rtol=1e-12)


def test_of_a_partly_observed_site_only_the_missing_cells_are_walked_on():
    seen, at = points("partly_seen")
    value, _ = ProgramPotential(seen, required=True).value_and_gradient(at)
    assert seen.size == 2
    mu, missing = at[:, :1], at[:, 1:]
    y = torch.tensor([1.0, 2.0, 3.0])
    log = torch.distributions.Normal(0.0, 5.0).log_prob(mu[:, 0])
    log = log + torch.distributions.Normal(mu, 1.0).log_prob(y).sum(1)
    log = log + torch.distributions.Normal(mu, 1.0).log_prob(missing).sum(1)
    assert torch.allclose(value, log, rtol=1e-12)


DRAWN = {
    "normal": dist.Normal(0.0, 1.0), "gamma": dist.Gamma(2.0, 1.0), "poisson": dist.Poisson(3.0),
    "binomial": dist.Binomial(5, 0.5), "categorical": dist.Categorical(torch.ones(3) / 3),
    "student": dist.StudentT(3.0), "beta": dist.Beta(1.0, 2.0), "von_mises": dist.VonMises(0.0, 1.0),
    "negative_binomial": dist.NegativeBinomial(3.0, 0.5), "exponential": dist.Exponential(1.0),
    "multivariate": dist.MultivariateNormal(torch.zeros(2), torch.eye(2)), "cauchy": dist.Cauchy(0.0, 1.0),
    "uniform": dist.Uniform(0.0, 1.0), "geometric": dist.Geometric(0.3), "laplace": dist.Laplace(0.0, 1.0),
    "multinomial": dist.Multinomial(5, torch.ones(3) / 3), "weibull": dist.Weibull(1.0, 2.0),
    "inflated": dist.ZeroInflatedPoisson(torch.tensor(2.0), gate=torch.tensor(0.3)),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_draws_side_by_side_are_draws_of_the_distribution(name):
    found = inference.prior(zoo.program(lambda: pyro.sample("x", DRAWN[name])), draws=2000, seed=1)["x"][0]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        theirs = DRAWN[name].expand(torch.Size([4000])).sample()
    one, other = (value.double().reshape(len(value), -1)[:, -1].numpy() for value in (found, theirs))
    assert ks_2samp(one, other).pvalue > 1e-3


@pytest.mark.parametrize(
    "index",
    [lambda i: i, lambda i: (i, 1), lambda i: (slice(None), i), lambda i: (None, i, Ellipsis), lambda i: (..., i),
     lambda i: (i, slice(1, 3), i), lambda i: (torch.tensor([0, 1]), i), lambda i: (-1 - i, 0)],
)  # fmt: skip
def test_a_drawn_number_as_index_is_an_operation(index):
    own = torch.arange(4.0 * 3 * 2).reshape(4, 3, 2)
    number = torch.tensor(1)
    with Unread():
        found = own[index(number)]
    assert torch.equal(found, own[index(number)])


def test_in_place_writes_on_what_is_not_mapped_are_mapped():
    def function(point):
        table = torch.zeros(3, 3)
        table[0] = point
        table.view(-1)[:: 3 + 1] += point.sum()
        table.scatter_(1, torch.tensor([[2], [1], [0]]), 7.0)
        return table

    at = torch.randn(4, 3)
    found = Mapped(function, at[0], "table")(at)
    assert torch.equal(found, torch.stack([function(point) for point in at]))


def test_missing_rows_of_vectors_under_a_moving_bound_are_walked_on_alone():
    """A site of vectors, one row of it unseen: its numbers and their Jacobian count, those of the others do not."""
    y = torch.tensor([[0.3, 0.5], [0.1, 0.2], [0.6, 0.4]])

    def model():
        top = pyro.sample("top", dist.Uniform(0.0, 2.0))
        rows = dist.Uniform(torch.zeros(2), top + torch.zeros(2)).to_event(1)
        with pyro.plate("row", 3):
            pyro.sample("y", rows, obs=y, obs_mask=torch.tensor([True, False, True]))

    seen = outline(zoo.program(model), (), {})
    assert seen.size == 3
    at = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)) + torch.tensor([2.0, 0.0, 0.0])
    value, _ = ProgramPotential(seen, required=True).value_and_gradient(at)
    top = 2 * at[:, 0].sigmoid()
    inside = at[:, 1:].sigmoid()  # the row's numbers, as shares of top: uniform, so that only their Jacobians are left
    prior = torch.log(top * (1 - top / 2)) - torch.log(torch.tensor(2.0))
    assert torch.allclose(value, prior - 4 * top.log() + (inside * (1 - inside)).log().sum(1), rtol=1e-12)


def test_log_sigmoid_of_many_points_writes_no_warnings(capfd):
    """Torch's own rule for it resizes a buffer, and says so on standard error, in every step."""
    points = torch.linspace(-40, 40, 12, dtype=torch.float64).reshape(4, 3)

    def function(point):
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            return torch.autograd.grad(torch.nn.functional.logsigmoid(point).sum(), point)[0]

    found = Mapped(function, points[0], "it")(points)
    assert torch.allclose(found, 1 / (1 + points.exp()), rtol=1e-14, atol=0)
    assert "resized" not in capfd.readouterr().err


class Twice(torch.autograd.Function):
    """x², by a formula of somebody's own: torch runs it without gradients, which its backward gives."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


@torch.no_grad()
def _held(x):
    return x.exp().sum()


def _within(x):
    with torch.no_grad():
        weight = x.cos()
        with torch.enable_grad():
            inner = x.sin()
    return (weight * x).sum() + inner.sum() + Twice.apply(x)[0]


CUTS = {
    "detach": lambda x: (x.detach() * x**2).sum(),
    "block": _within,
    "decorated": lambda x: _held(x) * x[1],
    "own_function": lambda x: (Twice.apply(x) * x).sum(),
    "switched": lambda x: (torch.set_grad_enabled(False), x.sin(), torch.set_grad_enabled(True))[1].dot(x),
}


@pytest.mark.parametrize("name", CUTS)
def test_gradients_of_a_recorded_density_end_where_the_program_lets_them_end(name):
    """Beside torch's own gradient of the function as it is written."""
    at = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    mapped = Mapped(CUTS[name], at[0], name, cuts=True)
    for run in (mapped, lambda x: torch.stack([mapped.one(point) for point in x])):
        points = at.clone().requires_grad_()
        (slope,) = torch.autograd.grad(run(points).sum(), points)
        for i, point in enumerate(at):
            leaf = point.clone().requires_grad_()
            (wanted,) = torch.autograd.grad(CUTS[name](leaf), leaf)
            assert torch.allclose(slope[i], wanted, rtol=1e-12), i


def clamped(x):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    mean = slope * x
    mean[mean < 0] = 0.0
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=x)


def clamped_rows(x):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    mean = slope * x.repeat(2, 1).T
    mean[mean[:, 0] < 0] = x.new_tensor([1.0, 2.0])
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=x.repeat(2, 1).T)


def counted(x):
    p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("rows", 2):
        pyro.sample("y", dist.Multinomial(6, p), obs=x.new_tensor([[3.0, 2.0, 1.0], [0.0, 6.0, 0.0]]))


@pytest.mark.parametrize("model", [clamped, clamped_rows, counted])
def test_entries_that_a_drawn_value_picks_are_written_into(model):
    x = torch.linspace(-1, 2, 7)
    seen = outline(zoo.program(model), (x,), {})
    at = torch.randn(POINTS, seen.size, generator=torch.Generator().manual_seed(1))
    value, gradient = ProgramPotential(seen, required=True).value_and_gradient(at)
    _, potential, _, _ = initialize_model(model, (x,))
    for i, point in enumerate(at):
        free = {seen.latents[0].name: point.reshape(seen.latents[0].free).requires_grad_()}
        energy = potential(free)
        (slope,) = torch.autograd.grad(energy, list(free.values()))
        torch.testing.assert_close(value[i], -energy.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient[i], -slope.reshape(-1), rtol=1e-10, atol=1e-12)
