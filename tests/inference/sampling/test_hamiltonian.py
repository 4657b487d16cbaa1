"""The kernel where it serves annealing: a map for each row, and a target between a Gaussian and the posterior."""

from __future__ import annotations

import math

import pytest
import torch

from inference.sampling.hamiltonian import Metric, State, leapfrog, stand, transition

CENTRE = torch.tensor([[1.0, -0.5, 0.0], [2.0, 0.3, -1.0]], dtype=torch.float64)  # of the target, (B, P)
SCALE = torch.tensor([[0.5, 1.0, 2.0], [0.3, 0.7, 1.5]], dtype=torch.float64)
CHAINS, BETA = 10_000, torch.tensor(0.3, dtype=torch.float64)


def maps(diagonal):
    """A map of each of two rows, as one and one by one."""
    torch.manual_seed(1)
    centre = torch.randn(2, 3).double()
    scale = torch.rand(2, 3).double() + 0.5
    scale = scale if diagonal else scale.diag_embed() + torch.randn(2, 3, 3).double().tril(-1)
    return Metric(centre, scale), [Metric(m, a) for m, a in zip(centre, scale, strict=True)]


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_map_of_each_row_is_that_of_the_row_alone(diagonal):
    both, alone = maps(diagonal)
    z = torch.randn(5, 2, 3, dtype=torch.float64)
    assert both.diagonal is alone[0].diagonal is diagonal
    for name in ("out", "into", "gradient"):
        by_row = [getattr(metric, name)(z[:, row]) for row, metric in enumerate(alone)]
        torch.testing.assert_close(getattr(both, name)(z), torch.stack(by_row, 1))
    torch.testing.assert_close(both.into(both.out(z)), z)
    jacobian = torch.autograd.functional.jacobian(alone[1].out, z[0, 1])
    torch.testing.assert_close(both.log_det()[1], alone[1].log_det())
    torch.testing.assert_close(both.log_det()[1], jacobian.logdet())
    torch.testing.assert_close(both.gradient(z)[0, 1], z[0, 1] @ jacobian)


def tempered_step(diagonal=True):
    """Leapfrog on N(centre, scale) of each row in the coordinates of a map of each, and that map."""

    def value_and_gradient(u):
        off = (u - CENTRE) / SCALE
        return -0.5 * off.square().sum(-1), -off / SCALE

    metric, step = maps(diagonal)[0], leapfrog(value_and_gradient)
    return metric, lambda *arguments: step(metric.centre, metric.scale, *arguments)


def strayed(move, diagonal=True):
    """Chains that start in the target at inverse temperature BETA and should stay: z-score of their moments."""
    metric, step = tempered_step(diagonal)
    factor = metric.scale.diag_embed() if diagonal else metric.scale
    # N(z | 0, I)^(1 - b) N(m + A z | centre, scale)^b is a Gaussian again
    weight = factor.mT @ SCALE.square().reciprocal().diag_embed()
    precision = (1 - BETA) * torch.eye(3).double() + BETA * weight @ factor
    mean = torch.linalg.solve(precision, BETA * (weight @ (CENTRE - metric.centre).unsqueeze(-1))).squeeze(-1)
    target = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
    torch.manual_seed(0)
    z = target.sample((CHAINS,))
    sizes = torch.tensor([[0.3], [0.2]], dtype=torch.float64)
    state = stand(step, z, 0 * sizes, BETA)
    assert torch.equal(state.z, z)
    for _ in range(10):
        noise, log_uniform = torch.randn_like(z), torch.rand(CHAINS, 2, dtype=torch.float64).log()
        state, moved = move(step, state, noise, log_uniform, sizes, 3, BETA)
    assert moved.acceptance.mean() > 0.5
    assert not torch.equal(state.z, z)
    off = (state.z - mean).movedim(0, -1)
    unit = torch.linalg.solve_triangular(target.scale_tril, off, upper=False).movedim(-1, 0)
    moments = torch.stack([unit, unit.square() - 1])
    return float((moments.mean(1).abs() / (moments.std(1) / math.sqrt(CHAINS))).max())


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_tempered_transition_keeps_its_target(diagonal):
    assert strayed(transition, diagonal) < 4


def test_the_check_sees_planted_faults():
    def at_the_posterior(step, state, noise, log_uniform, size, steps, beta):
        return transition(lambda *arguments: step(*arguments, beta), state, noise, log_uniform, size, steps)

    def colder(step, state, noise, log_uniform, size, steps, beta):
        return transition(step, state, noise, log_uniform, size, steps, beta * 1.2)

    def always(step, state, noise, log_uniform, *rest):
        return transition(step, state, noise, log_uniform - 1e9, *rest)

    for fault in (at_the_posterior, colder, always):
        assert strayed(fault) > 4


def test_at_inverse_temperature_one_it_is_the_transition_itself():
    _, step = tempered_step(diagonal=False)
    torch.manual_seed(0)
    z, noise = torch.randn(2, 200, 2, 3, dtype=torch.float64)
    log_uniform = torch.rand(200, 2, dtype=torch.float64).log()
    size, one = torch.full((2, 1), 0.6).double(), torch.ones(()).double()
    state = stand(step, z, 0 * size)
    plain, move = transition(step, state, noise, log_uniform, size, 3)
    tempered, same = transition(step, state, noise, log_uniform, size, 3, one)
    assert 0 < (plain.z == z).double().mean() < 1
    for first, second in ((plain, tempered), (move, same)):
        for name in type(first).__dataclass_fields__:
            torch.testing.assert_close(getattr(first, name), getattr(second, name))


def test_where_the_density_is_no_number_a_chain_stays():
    def value_and_gradient(u):
        value = torch.where(u[..., 0] > 0.5, torch.nan, -0.5 * u.square().sum(-1))
        return value, -u

    step = leapfrog(value_and_gradient)
    metric = Metric(torch.zeros(1), torch.ones(1))
    z = torch.zeros(3, 1)
    bound = lambda *arguments: step(metric.centre, metric.scale, *arguments)  # noqa: E731
    state = State(z, torch.zeros(3), -z)
    new, move = transition(bound, state, torch.tensor([[9.0], [0.1], [-0.1]]), torch.full((3,), -9.0), torch.ones(1), 1)
    assert move.acceptance[0] == 0
    assert move.diverging.tolist() == [True, False, False]
    assert (new.z == z).flatten().tolist() == [True, False, False]
