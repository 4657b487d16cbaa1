"""Polynomials of several covariates that are orthonormal over the rows of a design.

A term is a product of normalised Legendre polynomials, one a covariate t_d in [-1, 1]; for t uniform on the box, terms
have mean square 1 and no two of them go together. Over a design the same is had by Gram-Schmidt, lowest degree first
(Forsythe 1957, "Generation and use of orthogonal polynomials for data-fitting with a digital computer").
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from zoo.settings import settings


def powers(features: int, degree: int, interactions: bool) -> Tensor:
    """The degree of each term in each covariate, (F, D), lowest total degree first.

    Args:
        features: number of covariates D.
        degree: largest total degree of a term.
        interactions: with products of different covariates.

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

    A column that depends on those before it becomes zero here and stays at its own scale elsewhere.
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
            basis[:, k] = 0
    return mixing
