"""What an encoder knows: codes of observations, what the codes stand for, and what is missing from a table.

Works for every pair with local latents, read from its trace: codes z_n drawn by the guide, and classes summed out by
the model, whose posterior is exact. Global latents t are averaged over: by draws of a `Posterior`, or by a few dozen
from the guide. Nothing here holds more than a few times `inference.memory.BUDGET` numbers beside its result,
whatever the numbers of rows and draws.

Imputation is sampling importance resampling of the codes (Mattei & Frellsen 2019, "MIWAE"): of K codes z_k from
q(z | x_obs) one is chosen with probability proportional to p(x_obs, z_k) / q(z_k | x_obs), then x_mis ~ p(x | z).

Active units: Burda et al. 2016, "Importance weighted autoencoders", section 5. Collapse: Bowman et al. 2016.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from inference.codes import Codes, Values, check_count, name_of, settle, share, summary
from inference.data import as_batch, check_sites
from inference.likelihood import assignments
from inference.memory import quietly
from inference.objective import run
from inference.posterior import Posterior, vectorised
from zoo.base import FIELDS, Batch, ModelGuide

MOMENT_DRAWS = 1000  # where a guide's mean is not known in closed form
MODES = frozenset({"binary", "categorical", "ordinal"})  # kinds of column whose point imputation is the mode


class CollapseWarning(UserWarning):
    """No dimension of any code says anything about its observation."""


@dataclass(frozen=True)
class Encoding:
    """Codes of N observations, by site.

    Args:
        mean: E[z_n | x_n], (N, *event); of an enumerated latent the probability of each class, (N, K).
        sd: standard deviations, (N, *event); enumerated latents have none.
        draws: draws from q(z_n | x_n), (chain, draw, N, *event); empty when none were asked for.
    """

    mean: dict[str, Tensor]
    sd: dict[str, Tensor]
    draws: dict[str, Tensor] = field(default_factory=dict)


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
    """

    observed: Tensor
    rows: Tensor
    columns: Tensor
    values: Tensor
    ess: Tensor
    kinds: tuple[str, ...] | None = None

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
        if not 0 < mass < 1:
            raise ValueError(f"mass: expected a number between 0 and 1, got {mass!r}")
        flat = self.values.flatten(0, 1).sort(0).values  # (S, M)
        at = [(1 - mass) / 2 * (len(flat) - 1), (1 + mass) / 2 * (len(flat) - 1)]
        low, high = (torch.lerp(flat[int(a)], flat[min(int(a) + 1, len(flat) - 1)], a - int(a)) for a in at)
        return low, high

    def _filled(self, values: Tensor) -> Tensor:
        table = self.observed.clone()
        table[self.rows, self.columns] = values
        return table


def encode(
    pair: ModelGuide, data: Any, *, draws: int = 0, posterior: Posterior | None = None, seed: int = 0
) -> Encoding:
    """Codes of each observation: mean, standard deviation, and draws if asked for.

    Moments are in closed form where the guide's distribution has them, and then do not depend on the other rows;
    else from 1,000 draws. An enumerated latent has the exact probabilities of its classes.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: from q(z | x), for each row.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds the draws; the caller's random state is left as it was.

    Raises:
        ValueError: the pair has no local latents, or the data do not fit it.
    """
    check_count("draws", draws, least=0)
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    mean: dict[str, Tensor] = {}
    sd: dict[str, Tensor] = {}
    drawn: dict[str, Tensor] = {}
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        for rows, part in codes.rows(batch):
            for name, (first, second) in _moments(codes, part, globals_).items():
                _put(mean, name, first, rows, batch.size)
                _put(sd, name, second, rows, batch.size)
        if codes.enumerated:
            mean[codes.enumerated] = _class_probabilities(codes, batch, globals_)
        if draws:
            for rows, part in codes.rows(batch):
                for s, where in share(draws, len(globals_)):
                    for piece in codes.draws_at_once(where.stop - where.start, part):
                        for name, value in _draw(codes, part, piece.stop - piece.start, globals_[s]).items():
                            here = slice(where.start + piece.start, where.start + piece.stop)
                            _put(drawn, name, value, (here, rows), draws, batch.size)
    return Encoding(mean, sd, {name: value[None] for name, value in drawn.items()})


def decode(pair: ModelGuide, codes: Any, *, posterior: Posterior | None = None, seed: int = 0) -> dict[str, Tensor]:
    """What observations with these codes are expected to be, averaged over the global latents.

    Args:
        pair: a fitted pair.
        codes: (M, L) or whatever the shape of a local latent is, where there is one; else site -> (M, *event). The
            classes of an enumerated latent are whole numbers.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds them, and the covariates of `pair.inputs` where the pair has any.

    Returns:
        observed site -> its mean, (M, *event). A distribution of which a mean makes no sense says what may be averaged
        (`summary`) and what that stands for (`settle`): of the categories of a table, the most probable.

    Raises:
        ValueError: codes of the wrong names or shape, or not finite.
    """
    known = Codes.of(pair)
    found: dict[str, Tensor] = {}
    fns: dict[str, Any] = {}
    with quietly(seed, pair):
        values = _check_codes(known, codes)
        count = len(next(iter(values.values())))
        batch = pair.inputs(count).to(pair.device, pair.dtype)
        globals_ = known.global_draws(check_sites(pair), posterior)
        for rows, part in known.rows(batch):
            here = {name: value[None, rows] for name, value in values.items()}
            for fixed in globals_:
                sites = known.model_given(part, 1, here, fixed)
                for name in known.observed:
                    fns[name] = sites[name]["fn"]
                    _add(found, name, summary(fns[name])[0], rows, count, len(globals_))
    return {name: settle(fns[name], average) for name, average in found.items()}


def reconstruct(
    pair: ModelGuide, data: Any, *, draws: int = 0, posterior: Posterior | None = None, seed: int = 0
) -> Tensor:
    """Observations as their codes tell them, (N, *event): the expected x given z, averaged over the global latents.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: 0 for z at the encoder's mean; else the average over so many z from the encoder. Classes are always
            averaged over with their exact probabilities.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds the draws.

    Raises:
        ValueError: the pair has no local latents, or the data do not fit it.
    """
    check_count("draws", draws, least=0)
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    site = next(name for name in FIELDS if name in codes.observed)
    found: dict[str, Tensor] = {}
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        number = max(draws, len(globals_))
        for rows, part in codes.rows(batch):
            centre = _moments(codes, part, globals_) if draws == 0 else {}
            for s, where in share(number, len(globals_)):
                for piece in codes.draws_at_once(where.stop - where.start, part):
                    fn, x = None, torch.empty(0)  # those of the piece before are let go
                    count = piece.stop - piece.start
                    values = {name: mean.expand(count, *mean.shape) for name, (mean, _) in centre.items()}
                    if draws and codes.drawn:
                        values = codes.propose(part, count, globals_[s])[0]
                    fn, x = _expected(codes, part, count, values, globals_[s], site)
                    _add(found, site, x.sum(0), rows, batch.size, number)
    return settle(fn, found[site])


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
        ValueError: the pair has no local latents, or takes no missing values, or observes more than rows of a table.
    """
    check_count("draws", draws)
    check_count("proposals", proposals)
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    site = _site_with_holes(codes)
    table: Tensor = getattr(batch, site)
    missing = table.isnan()
    rows, columns = missing.nonzero(as_tuple=True)
    values = table.new_empty(draws, len(rows))
    ess = table.new_full((batch.size,), torch.nan)
    holed = missing.any(1).nonzero().squeeze(1)
    before = torch.cat([missing.new_zeros(1, dtype=torch.long), missing.sum(1).cumsum(0)])  # cells above each row
    kinds = None if pair.schema is None else tuple(column.kind for column in pair.schema.used)
    if not len(holed):
        return Imputation(table, rows, columns, values[None], ess, kinds)
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        ess[holed] = 0.0
        # All proposals of a row are held at once, without what the decoder makes of them.
        cost = 1 + (proposals + draws) * (codes.size + 2) // (16 * codes.width)
        for some, part in codes.rows(batch.select(holed), cost):
            here = holed[some]
            cells = slice(int(before[here[0]]), int(before[here[-1] + 1]))
            for s, where in share(draws, len(globals_)):
                count = where.stop - where.start
                local, effective = _resample(codes, part, count, proposals, globals_[s])
                ess[here] += effective * (count / draws)
                for piece in codes.draws_at_once(count, part):
                    z = {name: value[piece] for name, value in local.items()}
                    x = _new_observation(codes, part, piece.stop - piece.start, z, globals_[s], site)
                    to = slice(where.start + piece.start, where.start + piece.stop)
                    values[to, cells] = x[:, missing[here]]
    return Imputation(table, rows, columns, values[None], ess, kinds)


def active_units(
    pair: ModelGuide, data: Any, threshold: float = 0.01, *, posterior: Posterior | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Which dimensions of each code vary with the observation: Var_n E[z | x_n] > threshold (Burda et al. 2016).

    Returns:
        site -> (L,) or the event shape of the code, boolean.

    Raises:
        ValueError: the guide draws no code.
    """
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    codes.check_continuous("active_units", density=False)
    mean = encode(pair, batch, posterior=posterior, seed=seed).mean
    return {name: mean[name].double().var(0, correction=0) > threshold for name in codes.drawn}


def code_kl(
    pair: ModelGuide, data: Any, *, draws: int = 100, posterior: Posterior | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """What each dimension of a code costs: KL(q(z_l | x_n) || p(z_l)), averaged over observations, in nats.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: from the guide, for divergences that have no closed form.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds the draws.

    Returns:
        site -> (L,) where guide and prior factorise over dimensions; else one number, the total, ().

    Raises:
        ValueError: the guide draws no code, or is a point mass.
    """
    check_count("draws", draws)
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    codes.check_continuous("code_kl")
    total: dict[str, Tensor] = {}
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        for _, part in codes.rows(batch):
            factorised = {n for n, kl in run(pair, part, 1, globals_[0], analytic=True).local_kl.items() if kl.ndim > 2}
            # Closed forms need no more draws than there are of the globals.
            number = len(globals_) if factorised.issuperset(codes.drawn) else max(draws, len(globals_))
            for s, where in share(number, len(globals_)):
                for piece in codes.draws_at_once(where.stop - where.start, part):
                    terms = run(pair, part, piece.stop - piece.start, globals_[s], analytic=True)
                    for name in codes.drawn:
                        kl = terms.local_kl[name].sum((0, 1)) / (number * batch.size)
                        total[name] = total.get(name, torch.zeros_like(kl)) + kl
    return total


def collapsed(
    pair: ModelGuide, data: Any, threshold: float = 0.01, *, posterior: Posterior | None = None, seed: int = 0
) -> list[str]:
    """What to tell the user about dimensions of a code that say nothing about the data; empty when all do.

    A dimension is unused when its mean hardly varies (`active_units`), or when it costs less than `threshold` nats
    (`code_kl`, where that is known for each dimension).

    Warns:
        CollapseWarning: no dimension of any code is used.
    """
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    active = active_units(pair, batch, threshold, posterior=posterior, seed=seed)
    kl = {} if codes.points else code_kl(pair, batch, posterior=posterior, seed=seed)
    notes, all_unused = [], True
    for name, used in active.items():
        if name in kl:
            used = used & (kl[name] >= threshold)  # noqa: PLW2901 - a total holds for all dimensions
        unused = (~used.reshape(-1)).nonzero().squeeze(1).tolist()
        all_unused &= len(unused) == used.numel()
        notes += [] if not unused else [_in_words(name_of(pair), name, unused, used.numel(), kl.get(name), threshold)]
    if all_unused:
        warnings.warn("; ".join(notes), CollapseWarning, stacklevel=2)
    return notes


def _in_words(pair: str, site: str, unused: list[int], total: int, kl: Tensor | None, threshold: float) -> str:
    little = f"carry less than {threshold:g} nats"
    if kl is None or float(kl.sum()) >= threshold * total:
        little = f"hardly vary with the observation (variance of the mean below {threshold:g})"
    if len(unused) == total:
        return (
            f"{pair}: the code '{site}' has collapsed: all {total} dimensions {little}, so the decoder ignores it; "
            "anneal the KL terms, give free bits, or make the decoder less flexible"
        )
    which = ", ".join(map(str, unused))
    return f"{pair}: {len(unused)} of {total} dimensions of the code '{site}' are unused ({which}): they {little}"


# --- pieces -----------------------------------------------------------------------------------------------------------


def _put(into: dict[str, Tensor], name: str, value: Tensor, at: Any, *lead: int) -> None:
    if name not in into:
        into[name] = value.new_empty(*lead, *value.shape[len(lead) :])
    into[name][at] = value


def _add(into: dict[str, Tensor], name: str, value: Tensor, rows: slice, size: int, total: int) -> None:
    """Add this share of a mean over `total` draws, (B, *event), to the rows where it belongs."""
    if name not in into:
        into[name] = value.new_zeros(size, *value.shape[1:])
    into[name][rows] += value / total


def _moments(codes: Codes, part: Batch, globals_: list[Values]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each code, (B, *event): E[m] and E[v] + Var[m] over whatever m and v depend on."""
    if not codes.drawn:
        return {}
    # Two draws tell whether anything random stands behind the moments.
    one, other = (_conditional(codes, part, 1, fixed) for fixed in (globals_[0], globals_[-1]))
    if all(torch.equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True)):
        return {name: (mean[0], variance[0].sqrt()) for name, (mean, variance) in one.items()}
    number = max(MOMENT_DRAWS, len(globals_))
    centre = {name: mean[0].clone() for name, (mean, _) in one.items()}  # so that squares do not cancel
    first = {name: torch.zeros_like(c) for name, c in centre.items()}
    second = {name: torch.zeros_like(c) for name, c in centre.items()}
    for s, where in share(number, len(globals_)):
        for piece in codes.draws_at_once(where.stop - where.start, part):
            for name, (mean, variance) in _conditional(codes, part, piece.stop - piece.start, globals_[s]).items():
                shift = mean - centre[name]
                first[name] += shift.sum(0) / number
                second[name] += (variance + shift.square()).sum(0) / number
    return {
        name: (c + first[name], (second[name] - first[name].square()).clamp(min=0).sqrt()) for name, c in centre.items()
    }


def _conditional(codes: Codes, part: Batch, count: int, fixed: Values) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each code given all that the guide drew before it, (S, B, *event).

    A code whose distribution does not know them is its own mean, without variance.
    """
    trace = vectorised(codes.pair.guide, part, count, fixed, frozenset())
    found = {}
    for name, site in codes.drawn.items():
        node = trace.nodes[name]
        try:
            mean, variance = node["fn"].mean, node["fn"].variance
        except (NotImplementedError, AttributeError):
            mean, variance = node["value"], torch.zeros_like(node["value"])
        shape = (count, part.size, *site.event_shape)
        found[name] = (mean.expand(shape), variance.expand(shape))
    return found


def _class_probabilities(codes: Codes, batch: Batch, globals_: list[Values]) -> Tensor:
    """Posterior probability of each class, (N, K)."""
    site = codes.enumerated or ""
    if not codes.drawn:  # exact
        stacked = {name: torch.cat([values[name] for values in globals_])[None] for name in globals_[0]}
        return assignments(codes.pair, Posterior(stacked, chains=1, size=len(globals_)), batch)[site]
    found: dict[str, Tensor] = {}
    number = max(MOMENT_DRAWS, len(globals_))
    for rows, part in codes.rows(batch):
        for s, where in share(number, len(globals_)):
            for piece in codes.draws_at_once(where.stop - where.start, part):
                count = piece.stop - piece.start
                values = codes.propose(part, count, globals_[s])[0]
                classes = codes.log_classes(part, count, codes.model_given(part, count, values, globals_[s], True))
                _add(found, site, classes.exp().sum(1).T, rows, batch.size, number)
    return found[site]


def _draw(codes: Codes, part: Batch, count: int, fixed: Values) -> dict[str, Tensor]:
    """Codes from the guide, and classes from their exact posterior: site -> (S, B, *event)."""
    values = codes.propose(part, count, fixed)[0] if codes.drawn else {}
    return values | _draw_class(codes, part, count, values, fixed)


def _draw_class(codes: Codes, part: Batch, count: int, values: Values, fixed: Values) -> dict[str, Tensor]:
    if codes.enumerated is None:
        return {}
    logits = codes.log_classes(part, count, codes.model_given(part, count, values, fixed, enumerate_=True))
    return {codes.enumerated: torch.distributions.Categorical(logits=logits.movedim(0, -1)).sample()}


def _expected(codes: Codes, part: Batch, count: int, values: Values, fixed: Values, site: str) -> tuple[Any, Tensor]:
    """The distribution of x, and its summary with classes averaged over, (S, B, *event)."""
    sites = codes.model_given(part, count, values, fixed, enumerate_=codes.enumerated is not None)
    fn = sites[site]["fn"]
    value = summary(fn)
    event = value.shape[len(fn.batch_shape) :]
    if codes.enumerated is not None:
        weight = codes.log_classes(part, count, sites).exp()  # (K, S, B)
        value = (weight.reshape(*weight.shape, *[1] * len(event)) * value).sum(0)
    return fn, value.expand(count, part.size, *event)


def _check_codes(codes: Codes, given: Any) -> dict[str, Tensor]:
    name = name_of(codes.pair)
    if not isinstance(given, Mapping):
        if len(codes.names) > 1:
            raise ValueError(f"{name} has several codes: give a dict of {', '.join(codes.names)}")
        given = {codes.names[0]: given}
    if given.keys() != set(codes.names):
        raise ValueError(f"{name}: expected codes {', '.join(codes.names)}, got {', '.join(given) or 'none'}")
    values: dict[str, Tensor] = {}
    size = 0
    for site in codes.names:
        drawn = site in codes.drawn
        value = torch.as_tensor(given[site], dtype=codes.pair.dtype, device=codes.pair.device)
        event = tuple(codes.drawn[site].event_shape) if drawn else ()
        size = size or (len(value) if value.ndim else 0)
        if value.ndim == 0 or value.shape != (size, *event) or size == 0:
            wanted = ", ".join(["M", *map(str, event)])
            raise ValueError(f"codes '{site}': expected shape ({wanted}), got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"codes '{site}': expected finite numbers")
        if not drawn and not bool((value == value.long()).all()):
            raise ValueError(f"codes '{site}': expected whole numbers, the classes")
        values[site] = value if drawn else value.long()
    return values


def _site_with_holes(codes: Codes) -> str:
    """The observed table that takes NaN for missing."""
    name = name_of(codes.pair)
    for field_, site in codes.observed.items():
        support = site.fn.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        takes_holes = bool(support.check(torch.full_like(site.value, torch.nan)).any())
        if takes_holes and len(site.event_shape) == 1:
            return field_
    raise ValueError(f"{name} observes no table that may have missing values: there is nothing to impute")


def _resample(codes: Codes, part: Batch, count: int, proposals: int, fixed: Values) -> tuple[dict[str, Tensor], Tensor]:
    """`count` codes of each row, nearly from the posterior, (S, B, *event), and the effective sample size, (B,)."""
    if not codes.drawn:
        return {}, torch.full((part.size,), float(count), dtype=codes.pair.dtype, device=codes.pair.device)
    kept: list[dict[str, Tensor]] = []
    weights: list[Tensor] = []
    for piece in codes.draws_at_once(proposals, part):
        values, log_q = codes.propose(part, piece.stop - piece.start, fixed)
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
    local = {**values, **_draw_class(codes, part, count, values, fixed)}
    found: Tensor = codes.model_given(part.but(**{site: None}), count, local, fixed)[site]["value"]
    return found.expand(count, *found.shape[1:])
