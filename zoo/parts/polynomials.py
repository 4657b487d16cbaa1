"""Polynomials of several covariates that are orthonormal over the rows of a design.

A term is a product of normalised Legendre polynomials, one a covariate t_d in [-1, 1]; for t uniform on the box, terms
have mean square 1 and no two of them go together. Over a design the same is had by Gram-Schmidt, lowest degree first
(Forsythe 1957, "Generation and use of orthogonal polynomials for data-fitting with a digital computer").
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.settings import settings


def powers(features: int, degree: int, interactions: bool, factors: Sequence[int] = ()) -> Tensor:
    """The degree of each term in each covariate, (F, D), lowest total degree first.

    Args:
        features: number of covariates D.
        degree: largest total degree of a term.
        interactions: with products of different covariates.
        factors: for each covariate the category that it is an indicator of, -1 for none, D: an indicator is its own
            square, and two of one category have no product.

    Raises:
        ValueError: more terms than `settings.polynomial_terms`.
    """
    count = math.comb(features + degree, degree) if interactions else 1 + features * degree
    most = settings.polynomial_terms
    if count > most:
        raise ValueError(f"features={features} and degree={degree} make {count} terms, more than {most}")
    products = [(), *((column,) * total for total in range(1, degree + 1) for column in range(features))]
    if interactions:
        columns = range(features)
        totals = (itertools.combinations_with_replacement(columns, total) for total in range(degree + 1))
        products = list(itertools.chain.from_iterable(totals))
    held = [[factors[column] for column in product if factors[column] >= 0] if factors else [] for product in products]
    products = [product for product, of in zip(products, held, strict=True) if len(set(of)) == len(of)]
    return torch.tensor([[product.count(column) for column in range(features)] for product in products])


def legendre(t: Tensor, degree: int, powers: Tensor) -> Tensor:
    """Products of Legendre polynomials, orthonormal for t uniform on [-1, 1]^D: (B, D) to (B, F)."""
    values = [torch.ones_like(t), t]
    for k in range(2, degree + 1):
        values.append(((2 * k - 1) * t * values[-1] - (k - 1) * values[-2]) / k)
    each = torch.stack([math.sqrt(2 * k + 1) * value for k, value in enumerate(values)], -1)  # (B, D, d + 1)
    columns = torch.arange(t.shape[1], device=t.device)
    return each[:, columns, powers].prod(-1)  # (B, F, D) to (B, F)


def orthonormalise(products: Tensor, tolerance: float) -> Tensor:
    """Triangular M with (products M)^T (products M) / N = I: Gram-Schmidt, each column twice.

    A column that depends on those before it becomes zero here and stays at its own scale elsewhere, its sign turned:
    a negative diagonal of M tells which these are.
    """
    basis, mixing = products.clone(), torch.eye(products.shape[1]).to(products)
    for k in range(products.shape[1]):
        for _ in range(2):
            overlap = basis[:, :k].mT @ basis[:, k] / len(basis)
            basis[:, k] -= basis[:, :k] @ overlap
            mixing[:, k] -= mixing[:, :k] @ overlap
        size = basis[:, k].square().mean().sqrt()
        if size > tolerance:
            basis[:, k] /= size
            mixing[:, k] /= size
        else:
            basis[:, k], mixing[:, k] = 0, -mixing[:, k]
    return mixing


def monomials(powers: Tensor, centre: Tensor, halfwidth: Tensor) -> Tensor:
    """Products of Legendre polynomials of (x - centre) / halfwidth as sums of monomials of x, (F, F): row f holds the
    coefficients of product f. Lower powers of every term are among the terms.

    Args:
        powers: the degree of each term in each covariate, (F, D).
        centre, halfwidth: of each covariate, (D,).
    """
    degree = int(powers.max())
    legendre_in_t = torch.zeros(degree + 1, degree + 1).to(centre)  # coefficients of t^j in each normalised polynomial
    legendre_in_t[0, 0] = 1
    if degree:
        legendre_in_t[1, 1] = 1
    for k in range(2, degree + 1):
        legendre_in_t[k, 1:] = (2 * k - 1) / k * legendre_in_t[k - 1, :-1]
        legendre_in_t[k] -= (k - 1) / k * legendre_in_t[k - 2]
    legendre_in_t *= (2 * torch.arange(degree + 1).to(centre) + 1).sqrt().unsqueeze(-1)
    found = torch.ones(len(powers), len(powers)).to(centre)
    for column in range(powers.shape[1]):
        shift = torch.zeros_like(legendre_in_t)  # t^j in powers of x
        for j in range(degree + 1):
            for i in range(j + 1):
                shift[j, i] = math.comb(j, i) * (-centre[column]) ** (j - i) / halfwidth[column] ** j
        each = legendre_in_t @ shift  # (degree + 1, degree + 1), lower triangular
        found *= each[powers[:, column, None], powers[:, column]]
    return found


def named(powers: Tensor, columns: Sequence[str]) -> tuple[str, ...]:
    """Names of the terms, as `Intercept`, `age`, `age^2`, `age:income`.

    Args:
        powers: the degree of each term in each covariate, (F, D).
        columns: names of the covariates, D.
    """
    rows = [zip(columns, row, strict=True) for row in powers.tolist()]
    terms = [[name if power == 1 else f"{name}^{power}" for name, power in row if power] for row in rows]
    return tuple(":".join(term) or "Intercept" for term in terms)
