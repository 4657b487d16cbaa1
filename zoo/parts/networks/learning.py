"""Learning tables and equations: expected counts, conjugate posteriors, expectation-maximisation.

The expected count of a cell of a table, given rows with missing cells, is a gradient of their log density (Darwiche
2003, "A differential approach to inference in Bayesian networks"),

    E[n_rc | x] = p_rc d log p(x) / d p_rc

and so are the probabilities of the configurations of a block of Gaussian nodes. With complete rows these are the counts
themselves, whatever the tables are: the posterior that comes of them is then exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from zoo.parts.conjugate import factors
from zoo.parts.conjugate.factors import Factor
from zoo.parts.conjugate.linear import Coefficients, of_products
from zoo.parts.networks.gaussian import Block, Moments
from zoo.parts.networks.network import Network
from zoo.parts.networks.row import log_density, pieces, terms

Posterior = dict[str, Factor | Coefficients]


def expectations(network: Network, values: Mapping[str, Tensor], x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Expected statistics of rows x, (B, V), at S draws of the sites, and the log density of all rows, (S,).

    Returns:
        `probs_C`: counts, (S, R, C); `products_P`: sums of (1, z, y) (1, z, y)^T, standardised, (S, R, P + 2, P + 2).
    """
    leaves = {name: value.detach().requires_grad_() for name, value in values.items() if name.startswith("probs")}
    draws = max((len(value) for value in values.values()), default=1)
    found = {name: torch.zeros_like(value) for name, value in leaves.items()}
    for P, rows in network.terms.items():
        found[f"products_{P}"] = x.new_zeros(draws, rows, P + 2, P + 2)
    total = x.new_zeros(draws)
    for piece in pieces(network, len(x), draws):
        with torch.enable_grad():
            some = terms(network, {**values, **leaves}, x[None, piece], exact=True)
            places = [place for place in some.blocks if place is not None]
            for at in places:
                weight = some.factors[at].value.detach().requires_grad_()
                some.factors[at] = some.factors[at]._replace(value=weight)
            density = log_density(some).expand(draws, -1)
            weights = [some.factors[at].value for at in places]
            wanted = [*leaves.values(), *weights]
            gradients = list(torch.autograd.grad(density.sum(), wanted)) if wanted else []
        total += density.detach().sum(-1)
        for name, leaf in leaves.items():
            found[name] += leaf.detach() * gradients.pop(0)
        for block, place, said in zip(network.gaussian_blocks, some.blocks, some.moments, strict=True):
            if place is None:
                weight = torch.ones_like(said.log_density)
            else:
                weight = (some.factors[place].value.detach() * gradients.pop(0)).flatten(2)  # (S, B, K)
            _add_products(found, block, said, weight)
    return found, total


def _add_products(found: dict[str, Tensor], block: Block, said: Moments, weight: Tensor) -> None:
    """Add E[sum of products] of the nodes of a block to the rows of their equations."""
    mean = torch.nn.functional.pad(said.mean, (1, 0), value=1.0)  # (S, B, K, 1 + G)
    covariance = torch.nn.functional.pad(said.covariance, (1, 0, 1, 0))
    products = torch.einsum("sbk,sbki,sbkj->skij", weight, mean, mean)
    products = products + torch.einsum("sbk,sbkij->skij", weight, covariance.expand(*weight.shape, -1, -1))
    place = {column: g + 1 for g, column in enumerate(block.columns)}
    for equation, rows in zip(block.equations, block.rows, strict=True):
        entries = [0, *(place[column] for column in equation.slopes), place[equation.column]]
        part = products[:, :, entries][..., entries]
        found[f"products_{len(equation.slopes)}"].index_add_(1, rows, part)


def posterior(
    network: Network, statistics: Mapping[str, Tensor], alpha: Tensor, kappa: Tensor, a: Tensor, b: Tensor
) -> Posterior:
    """The posterior of each site given (expected) statistics, (*, R, ...); exact if they are those of complete rows."""
    found: Posterior = {f"probs_{C}": factors.dirichlet(alpha + statistics[f"probs_{C}"]) for C in network.groups}
    for P in network.terms:
        given = statistics[f"products_{P}"], *network.scales(P), kappa, a, b
        found[f"variance_{P}"], found[f"coefficients_{P}"] = of_products(*given)
    return found


def complete(
    network: Network, x: Tensor, posterior_of: Callable[[Mapping[str, Tensor]], Posterior], starts: int, iterations: int
) -> dict[str, Tensor]:
    """Statistics of rows x, (N, V), with what is missing as expected at the end of expectation-maximisation.

    Rows without a hole need no more than one look. A node without a cell needs a start that breaks its symmetry: of
    several, all of which run for a while, the one of the greatest log density goes on.
    """
    holes = x.isnan()
    prior = posterior_of(nothing(network))
    values = {name: factor.point.to(x)[None] for name, factor in prior.items()}
    if not holes.any():
        return {name: value[0] for name, value in expectations(network, values, x)[0].items()}
    if holes.all(0).any():
        values = {
            name: _shaken(network, name, value.expand(starts, *value.shape[1:])) for name, value in values.items()
        }
        statistics, density = _climb(network, x, posterior_of, values, max(1, iterations // 5))
        values = _point(posterior_of({name: value[density.argmax()][None] for name, value in statistics.items()}), x)
    statistics, _ = _climb(network, x, posterior_of, values, iterations)
    return {name: value[0] for name, value in statistics.items()}


def _climb(
    network: Network,
    x: Tensor,
    posterior_of: Callable[[Mapping[str, Tensor]], Posterior],
    values: Mapping[str, Tensor],
    iterations: int,
) -> tuple[dict[str, Tensor], Tensor]:
    """Alternate expectations and posterior means until no start gains more than 1e-6 nats a row."""
    best = None
    for _ in range(iterations):
        statistics, density = expectations(network, values, x)
        if best is not None and bool(((density - best).abs() < 1e-6 * len(x)).all()):
            break
        best, values = density, _point(posterior_of(statistics), x)
    return statistics, density


def _point(posterior_: Posterior, like: Tensor) -> dict[str, Tensor]:
    return {name: factor.point.to(like) for name, factor in posterior_.items()}


def _shaken(network: Network, name: str, value: Tensor) -> Tensor:
    """Random tables and coefficients, (S, R, ...), of reasonable size."""
    if name.startswith("probs"):
        return torch._standard_gamma(torch.ones_like(value)).add(0.01).log().softmax(-1)
    if name.startswith("variance"):
        return value
    _, unit, units = network.scales(value.shape[-1] - 1)
    return value + torch.randn_like(value) * unit.unsqueeze(-1) / units


def nothing(network: Network) -> dict[str, Tensor]:
    """The statistics of no rows: with them the posterior is the prior."""
    like = network.columns.centre
    found = {f"probs_{C}": like.new_zeros(rows, C) for C, rows in network.groups.items()}
    return found | {f"products_{P}": like.new_zeros(rows, P + 2, P + 2) for P, rows in network.terms.items()}
