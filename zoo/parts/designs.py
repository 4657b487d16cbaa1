"""What a regression asks of a design: how many covariates, how many classes, and whether its columns say different
things."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.base import Batch, ModelGuide
from zoo.parts.covariates import covariates
from zoo.schema.column import listed
from zoo.schema.design import Design

_LEVEL = re.compile(r"(.+)\[T\.(.+)\]")  # an indicator: `town[T.b]`
_PRODUCT = re.compile(r":(?![^\[]*\])")  # between the factors of a product, not within a level


def of_numbers(pair: ModelGuide, design: Design) -> int:
    """The number of covariates of a design whose response is a number.

    Raises:
        ValueError: the response is a class.
    """
    if design.response.categories:
        raise ValueError(
            f"{pair.name}: explains a number, and the response '{design.response.name}' is a class "
            f"({listed(design.response.categories)})"
        )
    return design.features


def of_classes(pair: ModelGuide, design: Design) -> tuple[int, int]:
    """The number of covariates of a design whose response is a class, and the number of classes K.

    The pair takes the response for its target: classes then have their names wherever they are shown.

    Raises:
        ValueError: the response is a number.
    """
    if not design.response.categories:
        raise ValueError(
            f"{pair.name}: explains a class, and the response '{design.response.name}' is a number; C(…) around it, or "
            "Design.infer(…, classes=True), makes classes of numbers"
        )
    pair.target = design.response
    return design.features, len(design.response.categories)


def check_few(design: Design, terms: int, batch: Batch) -> None:
    """Refuse a formula that somebody wrote where its rows cannot tell its coefficients.

    Raises:
        ValueError: it has more coefficients than there are rows.
    """
    if design.written and terms > batch.size:
        raise ValueError(
            f"formula '{design.formula}': {terms} coefficients, the intercept among them, and {batch.size} rows, which "
            "cannot tell them: leave terms out (a * b of categories has one for each pair of levels)"
        )


def constant(column: int, value: float, names: Sequence[str] | None) -> str:
    """What to say of a covariate that is constant: of a product of levels, which combination no row has."""
    if names is None:
        return f"column {column} of x is constant ({value:g}): a polynomial in it is not identified"
    parts = [_LEVEL.fullmatch(part) for part in _PRODUCT.split(names[column])]
    levels = [f"{part[1]}={part[2]}" for part in parts if part]
    if len(levels) == len(parts) > 1 and value == 0:
        return (
            f"column '{names[column]}': no row has {' and '.join(levels)}, so its coefficient is not identified: "
            "write + in place of * or : in the formula, or join a level with another"
        )
    return f"column '{names[column]}' is constant ({value:g}): a polynomial in it is not identified"


def check_rank(pair: ModelGuide, batch: Batch) -> None:
    """Refuse a covariate that is a sum of others, where there are more rows than columns.

    Raises:
        ValueError: the columns are named, with their shares.
    """
    names = batch.columns or [f"column {d}" for d in range(batch.x.shape[1] if batch.x is not None else 0)]
    if batch.size > len(names) and (said := collinear(covariates(pair, batch, len(names)), names)):
        raise ValueError(f"collinear columns: {said}: leave one of them out")


def collinear(x: Tensor, names: Sequence[str]) -> str:
    """The first column that is a sum of those before it and a constant, in words; empty where none is.

    By orthogonal triangular decomposition of the centred columns, each brought to length one.

    Args:
        x: covariates, (N, D).
        names: of the columns, D.
    """
    tolerance = 1e-7 if x.dtype == torch.float64 else 1e-4  # rounding leaves this of a column that is a sum
    x = x.to("cpu", torch.float64)
    centred = x - x.mean(0)
    length = centred.norm(dim=0)
    unit = centred / length.clamp(min=torch.finfo(x.dtype).tiny)
    free = torch.linalg.qr(unit).R.diagonal().abs()  # what is left of each column beside those before it
    dull = torch.nonzero(free < tolerance).flatten().tolist()
    if not dull or bool((length == 0).any()):  # a constant column is named elsewhere
        return ""
    k = dull[0]
    share = torch.linalg.lstsq(unit[:, :k], unit[:, k : k + 1]).solution.squeeze(-1) * length[k] / length[:k]  # (k)
    used = [d for d in range(k) if abs(float(share[d] * length[d])) > 10 * tolerance * float(length[k])]
    rest = float((x[:, k] - x[:, :k] @ share).mean())
    numbers = {d: f"{float(share[d]):.4g} " for d in used}
    terms = [("" if number == "1 " else number) + names[d] for d, number in numbers.items()]
    if abs(rest) > tolerance * float(x[:, k].abs().max()):
        terms.append(f"{rest:.4g}")
    return f"'{names[k]}' = {' + '.join(terms)}"
