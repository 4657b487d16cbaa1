"""Imputation: missing cells drawn from p(missing | observed), through codes of the observed ones.

By sampling importance resampling of the codes (Mattei & Frellsen 2019, "MIWAE"): of K codes z_k from q(z | x_obs) one
is chosen with probability proportional to p(x_obs, z_k) / q(z_k | x_obs), then x_mis ~ p(x | z).
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import constraints

import zoo
from inference.codes import completed
from inference.codes.encoding import draw_class
from inference.codes.reading import Codes, Values
from inference.data.accept import is_table
from inference.data.check import check, example, may_be_missing, nans_like
from inference.posterior.draws import Posterior
from inference.running.checked import Checked
from inference.running.pieces import share
from inference.running.quiet import quietly
from inference.running.words import check_count, check_mass
from zoo.abilities import Network
from zoo.base import Batch, ModelGuide
from zoo.schema.schema import Schema
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd

MODES = frozenset({"binary", "categorical", "ordinal"})  # kinds of column whose point imputation is the mode


@dataclass(frozen=True)
class Imputation:
    """Several completions of a table of N rows and D columns; only its M missing cells are kept.

    Args:
        observed: the table, NaN where missing, (N, D).
        rows, columns: of each missing cell, (M,), row by row.
        values: what they may have been, (chain, draw, M).
        ess: effective number of importance samples behind each row, (N,): low means a guide that misses the posterior
            of that row. NaN where nothing is missing; the number of draws where classes are drawn exactly.
        kinds: kind of each column, where the pair knows them.
        schema: of the columns, where the pair has one.
        given: the table as it came: a frame or a mapping of columns; None where it came as numbers.
    """

    observed: Tensor
    rows: Tensor
    columns: Tensor
    values: Tensor
    ess: Tensor
    kinds: tuple[str, ...] | None = None
    schema: Schema | None = None
    given: Any = None

    def table(self, draw: int) -> Tensor:
        """One completed table, (N, D). Draws are counted through all chains.

        Raises:
            ValueError: there is no such draw.
        """
        flat = self.values.flatten(0, 1)
        if not -len(flat) <= draw < len(flat):
            raise ValueError(f"draw: expected 0 to {len(flat) - 1}, got {draw}")
        return self._filled(flat[draw])

    def mean(self) -> Tensor:
        """The table with the mean of each missing cell, (N, D)."""
        return self._filled(self.values.mean((0, 1)))

    def point(self) -> Tensor:
        """The table with one best value in each missing cell, (N, D): the mode of categories, else the mean."""
        mean = self.values.mean((0, 1))
        if self.kinds is None:
            return self._filled(mean)
        by_mode = torch.tensor([kind in MODES for kind in self.kinds], device=self.columns.device)[self.columns]
        mean[by_mode] = self.values.flatten(0, 1)[:, by_mode].mode(0).values
        return self._filled(mean)

    def interval(self, mass: float = 0.9) -> tuple[Tensor, Tensor]:
        """Equal-tailed interval of each missing cell that holds `mass` of its draws: low and high, each (M,).

        Raises:
            ValueError: `mass` is no number between 0 and 1.
        """
        check_mass(mass)
        flat = self.values.flatten(0, 1).sort(0).values  # (S, M)
        at = [(1 - mass) / 2 * (len(flat) - 1), (1 + mass) / 2 * (len(flat) - 1)]
        low, high = (torch.lerp(flat[int(a)], flat[min(int(a) + 1, len(flat) - 1)], a - int(a)) for a in at)
        return low, high

    def frame(self) -> pd.DataFrame:
        """The table with the best single value in each missing cell (`point`), as a pandas frame.

        Names, index, categories and types are those of the table that was given; a column of whole numbers whose
        filled cells are none becomes one of real numbers. A table that came as numbers has the names of the schema, or
        `x_1`, `x_2`, ..., and a polars or Arrow table becomes one of pandas.
        """
        return self._frame(self.point()[self.rows, self.columns])

    def frames(self, count: int = 5) -> list[pd.DataFrame]:
        """Completed tables, as in `frame`, with draws in the missing cells: analyse each, then `inference.pool`.

            >>> import inference, zoo
            >>> table = {"age": [31, None, 54, 40] * 9, "smokes": ["no", "yes", "no", None] * 9}
            >>> columns = zoo.datasets.Schema.infer(table)
            >>> pair = zoo.create("naive_bayes", columns=columns, target=2)
            >>> found = inference.impute(pair, table, draws=10)
            >>> [int(table.isna().sum().sum()) for table in found.frames(3)]
            [0, 0, 0]

        Args:
            count: how many, evenly spaced among the draws.

        Raises:
            ValueError: more than there are draws, or no whole number of at least 1.
        """
        check_count("count", count)
        flat = self.values.flatten(0, 1)
        if count > len(flat):
            raise ValueError(f"count: expected at most the {len(flat)} draws there are, got {count}; impute(draws=…)")
        return [self._frame(flat[draw]) for draw in self.spaced(count)]

    def spaced(self, count: int) -> list[int]:
        """Which draws stand for all, evenly spaced."""
        return [k * self.values.shape[0] * self.values.shape[1] // count for k in range(count)]

    def cells(self, values: Tensor) -> completed.Cells:
        """What goes into the missing cells, (M,), in the user's units and category names, by column."""
        schema = self.schema or self._unnamed()
        rows, columns, numbers = (part.double().cpu().numpy() for part in (self.rows, self.columns, values))
        return completed.cells(schema, rows.astype(int), columns.astype(int), numbers)

    def _unnamed(self) -> Schema:
        return Schema.of([(f"x_{i + 1}", "real") for i in range(self.observed.shape[1])])

    def _frame(self, values: Tensor) -> pd.DataFrame:
        table = self.given
        if table is None:
            table = (self.schema or self._unnamed()).decode(self.observed.double().cpu().numpy())
        return completed.frame(table, self.cells(values))

    def _filled(self, values: Tensor) -> Tensor:
        table = self.observed.clone()
        table[self.rows, self.columns] = values
        return table


@in_turn
def impute(
    pair: ModelGuide,
    data: Any,
    *,
    draws: int = 100,
    proposals: int = 200,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> Imputation:
    """Multiple imputations of the missing cells of a table, by sampling importance resampling of the codes.

    For a pair whose observed site takes NaN for missing, and whose features are independent given codes and globals.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; a table with NaN where a value is missing.
        draws: imputations of each cell.
        proposals: codes from the guide that are weighed for each row (and each draw of the globals).
        posterior: of the global latents; by default draws from the guide. The imputations are dealt out to them.
        seed: seeds everything drawn.

    Raises:
        ValueError: the pair has no local latents, or takes no missing values, or observes more than rows of a table;
            the message says which pairs do fill cells.
    """
    check_count("draws", draws)
    check_count("proposals", proposals)
    given = check(pair, data)
    site = _site_with_holes(given)
    batch, codes = given.batch, Codes.of(given)
    table: Tensor = getattr(batch, site)
    missing = table.isnan()
    rows, columns = missing.nonzero(as_tuple=True)
    check_room("draws", draws, draws * len(rows) * pair.dtype.itemsize)
    check_room("proposals", proposals, proposals * (codes.size + 2) * pair.dtype.itemsize)
    values = table.new_empty(draws, len(rows))
    ess = table.new_full((batch.size,), torch.nan)
    holed = missing.any(1).nonzero().squeeze(1)
    before = torch.cat([missing.new_zeros(1, dtype=torch.long), missing.sum(1).cumsum(0)])  # cells above each row
    kinds = None if pair.schema is None else tuple(column.kind for column in pair.schema.used)
    if not len(holed):
        return Imputation(table, rows, columns, values[None], ess, kinds, pair.schema, _as_given(pair, data))
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        ess[holed] = 0.0
        # All proposals of a row are held at once, without what the decoder makes of them.
        cost = 1 + (proposals + draws) * (codes.size + 2) // (16 * codes.width)
        for rows_, part in codes.rows(batch.select(holed), cost):
            here = holed[rows_]
            cells = slice(int(before[here[0]]), int(before[here[-1] + 1]))
            for s, where in share(draws, len(globals_)):
                count = where.stop - where.start
                local, effective = _resample(codes, part, count, proposals, globals_[s])
                ess[here] += effective * (count / draws)
                for some, fixed in codes.draws(count, part, [globals_[s]]):
                    z = {name: value[some] for name, value in local.items()}
                    x = _new_observation(codes, part, some.stop - some.start, z, fixed, site)
                    to = slice(where.start + some.start, where.start + some.stop)
                    values[to, cells] = x[:, missing[here]]
    return Imputation(table, rows, columns, values[None], ess, kinds, pair.schema, _as_given(pair, data))


def _as_given(pair: ModelGuide, data: Any) -> Any:
    """The table that the user gave, where it has columns; None where it is numbers alone."""
    table = data[0] if isinstance(data, tuple) else data
    return table if pair.schema is not None and is_table(table) else None


def _site_with_holes(given: Checked) -> str:
    """The observed table whose missing cells can be drawn given codes or classes."""
    found = _holed(given) if given.locals else None
    if found is None:
        raise ValueError(_unable(given))
    return found


def _holed(given: Checked) -> str | None:
    """The observed table that takes NaN for missing."""
    for field_, site in given.observed.items():
        support = site.fn.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        takes_holes = bool(support.check(nans_like(site.value)).any())
        if takes_holes and len(site.event_shape) == 1 and given.batch.lengths is None:
            return field_
    return None


def _unable(given: Checked) -> str:
    """Why nothing can be filled, what the pair does instead, and which pairs fill cells."""
    pair, known = given.pair, ", ".join(_able())
    lack = "has no local latents" if not given.locals else "observes no table that may have missing values"
    why = f"{pair.name} {lack}, so it fills no missing cells: they are drawn given codes or classes, as by {known}"
    if isinstance(pair, Network):
        return f"{why}; what one cell of a row may be, given the others, `inference.query` says"
    holed = "missing" in pair.config or any(may_be_missing(site) for site in given.observed.values())
    if given.batch.lengths is not None and holed:
        return f"{why}; its own missing steps are summed over in `fit`, `log_likelihood` and `forecast`"
    return why


@functools.cache
def _able() -> tuple[str, ...]:
    """Names of the registered pairs that fill missing cells."""
    found = []
    for name in zoo.names():
        with suppress(ValueError):  # of a pair that cannot be made without arguments
            given = example(zoo.create(name))
            if given.locals and _holed(given):
                found.append(name)
    return tuple(found)


def _resample(codes: Codes, part: Batch, count: int, proposals: int, fixed: Values) -> tuple[dict[str, Tensor], Tensor]:
    """`count` codes of each row, nearly from the posterior, (S, B, *event), and the effective sample size, (B,)."""
    if not codes.drawn:
        return {}, torch.full((part.size,), float(count), dtype=codes.pair.dtype, device=codes.pair.device)
    kept: list[dict[str, Tensor]] = []
    weights: list[Tensor] = []
    for some, _ in codes.draws(proposals, part, [fixed]):
        values, log_q = codes.propose(part, some.stop - some.start, fixed)
        kept.append(values)
        weights.append(codes.log_joint(part, values, fixed) - log_q)
    log_weight = torch.cat(weights).nan_to_num(nan=-torch.inf)  # (K, B)
    log_weight = torch.where(log_weight.isneginf().all(0), 0.0, log_weight)
    weight = log_weight.softmax(0).double()
    # Systematic resampling: one uniform number a row, so that a code of weight w is taken count * w times, or one off.
    at = torch.arange(count, device=weight.device)[:, None] + torch.rand_like(weight[:1])
    chosen = torch.searchsorted(weight.cumsum(0).T.contiguous(), (at / count).T.contiguous()).T
    chosen = chosen.clamp(max=proposals - 1)  # (S, B)
    row = torch.arange(part.size, device=weight.device)
    values = {name: torch.cat([values[name] for values in kept])[chosen, row] for name in codes.drawn}
    return values, weight.square().sum(0).reciprocal().to(codes.pair.dtype)


def _new_observation(codes: Codes, part: Batch, count: int, values: Values, fixed: Values, site: str) -> Tensor:
    """A draw of x given codes, (S, B, D), its class drawn from the exact posterior."""
    local = {**values, **draw_class(codes, part, count, values, fixed)}
    found: Tensor = codes.model_given(part.but(**{site: None}), count, local, fixed)[site]["value"]
    return found.expand(count, *found.shape[1:])
