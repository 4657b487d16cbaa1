"""A posterior -> ArviZ, with named dims and coordinates that `az.summary`, `az.loo` and the plots take as they are.

Groups: posterior, unconstrained_posterior, sample_stats, log_prior, log_likelihood, posterior_predictive,
observed_data, constant_data, and on request prior and prior_predictive. Draws have dims `chain, draw`, observations the
dim `obs`, and events the names in `pair.dims`; NaN stays where data are missing, and marks padding beyond `lengths`.
A site that shares its name with a dim, as the class of a mixture's observations does, is called `<site>_value` there,
and the attribute `renamed` says so. A wide prior is handed on as it is: it may have no mean or variance, and its draws
may exceed what the pair's type holds (inf), so that summaries of these groups go by quantiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import biject_to

from inference.data.check import check
from inference.posterior import containers, likelihood
from inference.posterior.check import check_posterior
from inference.posterior.containers import Array, Variable
from inference.posterior.draws import check_draws, predict
from inference.posterior.draws import prior as draw_prior
from inference.posterior.latents import Posterior
from inference.posterior.units import in_units
from inference.running.checked import Checked
from inference.running.pieces import draws_of_globals, held
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from inference.running.words import check_count, told
from zoo.abilities import InUnits
from zoo.base import ModelGuide, Site
from zoo.config import nearest
from zoo.modules import spelled
from zoo.settings import settings
from zoo.threads.turns import in_turn
from zoo.version import __version__, versions

OBS = "obs"
RIPPLE = 1e-6  # nats


@in_turn
@or_program("export")
def to_arviz(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    *,
    log_likelihood: bool | Tensor = True,
    predictive: bool | int = True,
    prior: int = 0,
    rows: int | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Any:
    """All that is known of a posterior, in the container of the ArviZ that is installed.

    Args:
        pair: the pair.
        posterior: its draws for these data.
        data: what it was fitted to; see `inference.data`. Column names of a frame become labels.
        log_likelihood: whether to work out log p(x_n | globals) at each draw, or its values, (chain, draw, N).
        predictive: the most posterior predictive draws to keep of each chain. True: as many as fit in 4 million
            numbers; False: none.
        prior: number of draws for the groups prior and prior_predictive; the latter is bounded like `predictive`.
        rows: keep the local latents of the first so many observations. Default: as many as hold 200 numbers in each
            draw, so that `az.summary` and the plots stay quick; the posterior itself has them all.
        coords: dim -> labels, such as `{"obs": years}`.
        attrs: what else to write down, such as `{"khat": 0.3}`.
        seed: seeds the draws and the importance samples.

    A regression whose latents stand in a basis of its own (`zoo.abilities.InUnits`) has them here in the data's units,
    under the names of the columns, in posterior and prior: `coefficients` with the coordinate `term`, `sigma`. What the
    sites hold stays in `unconstrained_posterior`.

    Returns:
        `arviz.InferenceData` under ArviZ 0.x, `xarray.DataTree` under 1.x.

    Raises:
        ValueError: data or draws that do not fit the pair, labels of an unknown dim or of another number, options out
            of range.
    """
    check_options(log_likelihood, predictive, prior, rows, coords, attrs)
    given = check(pair, data)
    posterior = check_posterior(given, posterior, local=True)
    batch = given.batch
    check_draws("prior", prior, given, given.globals + given.locals, given.size)
    exported = _Export(given)
    kept = exported.rows(posterior, rows)
    groups: dict[str, dict[str, Variable]] = {
        "posterior": exported.latents(posterior, kept),
        "unconstrained_posterior": exported.unconstrained(posterior),
        "sample_stats": sample_stats(posterior),
        "log_prior": exported.log_prior(posterior),
        "observed_data": exported.data(exported.observed),
        "constant_data": exported.data(batch.fields().keys() - exported.observed.keys()),
    }
    if not posterior.draws:  # ArviZ asks the posterior how many draws there are, and drops a group of nothing
        groups["posterior"] = {name: groups["sample_stats"][name] for name in posterior.stats if name == "log_p"}
    if log_likelihood is not False:
        values = likelihood.scores(given, posterior, seed=seed) if log_likelihood is True else log_likelihood
        groups["log_likelihood"] = exported.log_likelihood(values, posterior)
    own: dict[str, dict[str, Sequence[Any]]] = {}
    if predictive is not False:
        most = exported.affordable(posterior) if predictive is True else predictive
        groups["posterior_predictive"], own["posterior_predictive"] = exported.predictive(posterior, most, seed)
    if prior:
        before = draw_prior(pair, given, prior, seed=seed)
        groups["prior"] = exported.latents(before, kept)
        most = exported.affordable(before)
        groups["prior_predictive"], own["prior_predictive"] = exported.predictive(before, most, seed)
    labels = {**exported.columns(), **(coords or {})}
    for group, draws in (("posterior", posterior), *((("prior", before),) if prior else ())):
        own[group] = exported.own_units(groups[group], draws, coords or {})
    check_labels(labels, groups)
    for group in ("posterior", "prior"):  # they may hold the first observations only
        own.setdefault(group, {})[OBS] = labels.get(OBS, range(batch.size))[:kept]
    groups, renamed = containers.distinct(groups)
    moved = in_units(pair, posterior, batch.columns).keys() & posterior.draws.keys()  # no latents any more
    notes = {
        **_attrs(pair, posterior),
        "in_units": sorted(moved),
        **({"renamed": renamed} if renamed else {}),
        **(attrs or {}),
    }
    return containers.build(groups, labels, notes, own)


@dataclass(frozen=True)
class _Export:
    """A pair and its data, and how each site of theirs is named and shaped."""

    given: Checked

    @cached_property
    def observed(self) -> dict[str, Site]:
        """The sites that hold data."""
        fields = self.given.batch.fields()
        return {name: site for name, site in self.given.observed.items() if name in fields}

    def dims(self, name: str, event: Sequence[int]) -> tuple[str, ...]:
        """Names of the event dims of a site."""
        named = self.given.pair.dims.get(name, ())
        return named if len(named) == len(event) else tuple(f"{name}_dim_{i}" for i in range(len(event)))

    def rows(self, posterior: Posterior, asked: int | None) -> int:
        """How many observations keep their local latents."""
        known = posterior.local & self.given.sites.keys()
        each = sum(posterior[name][0, 0, 0].numel() for name in known)
        if asked is None:  # a plot or summary takes 10 to 40 ms for each number
            asked = max(1, settings.export_latents // max(1, each))
        return min(self.given.batch.size, asked)

    def latents(self, posterior: Posterior, rows: int) -> dict[str, Variable]:
        found: dict[str, Variable] = {}
        sites = self.given.sites
        for name, value in posterior.draws.items():
            if name not in sites:  # deterministic, or the guide's own
                continue
            if name in posterior.local:
                dims = ("chain", "draw", OBS, *self.dims(name, value.shape[3:]))
                found[name] = dims, _numpy(value[:, :, :rows])
            else:
                found[name] = ("chain", "draw", *self.dims(name, value.shape[2:])), _numpy(value)
        return found

    def own_units(
        self, group: dict[str, Variable], posterior: Posterior, coords: Mapping[str, Sequence[Any]]
    ) -> dict[str, Sequence[Any]]:
        """Put the latents in the data's units where the pair can tell them; returns the labels of their dims."""
        labels: dict[str, Sequence[Any]] = {}
        for name, (value, words) in in_units(self.given.pair, posterior, self.given.batch.columns).items():
            group[name] = ("chain", "draw", *words), _numpy(value)
            labels |= {dim: names for dim, names in words.items() if dim not in coords}
        return labels

    def unconstrained(self, posterior: Posterior) -> dict[str, Variable]:
        """Continuous global latents on the real line, where their support says how to get there."""
        found: dict[str, Variable] = {}
        for name, site in self.given.sites.items():
            if name not in posterior.globals or site.discrete:
                continue
            value = posterior[name]
            try:
                free = biject_to(site.fn.support).inv(value.double())
            except NotImplementedError:
                continue
            if not free.isfinite().all():  # on the edge of its support, or a support that moves with other latents
                continue
            event = free.shape[2:]
            dims = tuple(f"{name}_free_{i}" for i in range(len(event)))
            own = free.shape == value.shape and not isinstance(self.given.pair, InUnits)
            dims = self.dims(name, event) if own else dims
            found[name] = ("chain", "draw", *dims), _numpy(free)
        return found

    def log_prior(self, posterior: Posterior) -> dict[str, Variable]:
        """Log prior density of each global latent, given those above it, at each draw."""
        values = posterior.flat(posterior.globals & self.given.sites.keys())
        found: dict[str, list[Tensor]] = {}
        with quietly(0, self.given.pair):
            for piece in draws_of_globals(posterior.chains * posterior.size, held(values)) if values else ():
                here = {name: value[piece] for name, value in values.items()}
                count = piece.stop - piece.start
                trace = vectorised(
                    self.given.pair.model, self.given.batch.select(slice(0, 1)), count, here, frozenset()
                )
                for name in values:
                    fn: Any = trace.nodes[name]["fn"]
                    density = fn.log_prob(trace.nodes[name]["value"])  # (S, 1)
                    found.setdefault(name, []).append(density.expand(count, -1).sum(-1))
        lead = (posterior.chains, posterior.size)
        return {name: (("chain", "draw"), _numpy(torch.cat(parts).unflatten(0, lead))) for name, parts in found.items()}

    def log_likelihood(self, values: Tensor, posterior: Posterior) -> dict[str, Variable]:
        wanted = (posterior.chains, posterior.size, self.given.batch.size)
        if values.shape != wanted:
            raise ValueError(f"log_likelihood: expected shape (chain, draw, N) = {wanted}, got {tuple(values.shape)}")
        name = next(iter(self.observed)) if len(self.observed) == 1 else "joint"
        return {name: (("chain", "draw", OBS), _rippled(_numpy(values.double())))}

    def affordable(self, posterior: Posterior) -> int:
        """Predictive draws of each chain that fit."""
        each: int = sum(getattr(self.given.batch, name).numel() for name in self.observed)
        return max(1, settings.export_cells // max(1, each * posterior.chains))

    def predictive(
        self, posterior: Posterior, most: int, seed: int
    ) -> tuple[dict[str, Variable], dict[str, Sequence[Any]]]:
        """Predictive draws, and which draws of the posterior they belong to."""
        number = torch.arange(posterior.size).expand(posterior.chains, -1)
        thinned = replace(posterior, stats={"number": number}).thin(most)
        made = predict(self.given.pair, thinned, self.given, seed=seed)
        found: dict[str, Variable] = {}
        for name, site in self.observed.items():
            dims = ("chain", "draw", OBS, *self.dims(name, made[name].shape[3:]))
            found[name] = dims, self.values(made[name], site, 2)
        return found, {"draw": thinned.stats["number"][0].tolist()}

    def data(self, names: Iterable[str]) -> dict[str, Variable]:
        found: dict[str, Variable] = {}
        for name in sorted(names):
            value = getattr(self.given.batch, name)
            site = self.observed.get(name)
            plain = _numpy(value) if site is None else self.values(value, site, 0)
            found[name] = (OBS, *self.dims(name, value.shape[1:])), plain
        return found

    def values(self, value: Tensor, site: Site, lead: int) -> Array:
        """Observations, or draws of them: padding is NaN, and counts and codes are integers where none is missing."""
        lengths = self.given.batch.lengths
        if lengths is not None and value.ndim > lead + 1:
            steps = torch.arange(value.shape[lead + 1], device=value.device)
            padded = steps >= lengths.unsqueeze(-1)  # (N, T)
            padded = padded.reshape(*padded.shape, *[1] * (value.ndim - lead - 2))
            if padded.any():
                value = value.masked_fill(padded, torch.nan)
        if site.discrete and value.is_floating_point() and bool((value.abs() < 2**63).all()):  # no NaN, none too large
            value = value.long()
        return _numpy(value)

    def columns(self) -> dict[str, Sequence[Any]]:
        """Column names of a frame, as labels of the dim they fill."""
        names = self.given.batch.columns
        for field, value in self.given.batch.fields().items():
            if names is not None and value.shape[1:] == (len(names),):
                return {self.dims(field, value.shape[1:])[0]: names}
        return {}


def check_options(log_likelihood: Any, predictive: Any, prior: Any, rows: Any, coords: Any, attrs: Any) -> None:
    """Refuse, by name, what `to_arviz` would stumble over at its end."""
    if not isinstance(log_likelihood, (bool, Tensor)):
        raise ValueError(f"log_likelihood: expected a bool or a tensor (chain, draw, N), got {told(log_likelihood)}")
    if not isinstance(predictive, bool):
        check_count("predictive", predictive)
    check_count("prior", prior, least=0)
    if rows is not None:
        check_count("rows", rows)
    for name, value in (("coords", coords), ("attrs", attrs)):
        if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
            raise ValueError(f"{name}: expected a dict by name, got {told(value)}")
    for dim, labels in (coords or {}).items():
        if isinstance(labels, (str, Mapping, set)) or not hasattr(labels, "__len__"):
            raise ValueError(f"coords, dim '{dim}': expected a sequence of labels, got {told(labels)}")
    for key, value in (attrs or {}).items():
        containers.check_note(f"attrs '{key}'", value)


def sample_stats(posterior: Posterior) -> dict[str, Variable]:
    """What is told of each draw, with the name that ArviZ knows for the log density."""
    stats = dict(posterior.stats)
    if "log_p" in stats:
        stats.setdefault("lp", stats["log_p"])  # the name ArviZ knows
    return {name: (("chain", "draw"), _numpy(value)) for name, value in stats.items()}


def _rippled(values: Array) -> Array:
    """Log-likelihoods, (chain, draw, N), with a tail that Pareto smoothing can be fitted to.

    Without global latents, or under a point guide, log p(x_n) is the same at every draw: leaving an observation out
    changes no weight, elpd_loo is the plain sum, and k has nothing to be estimated from. ArviZ 0.x then answers
    k = inf and 1.x raises. Noise of a millionth of a nat gives both their tail, and the sum to as many digits.
    """
    flat = np.ptp(values, axis=(0, 1)) < RIPPLE / 1000
    noise = np.random.default_rng(0).standard_normal((*values.shape[:2], 1))
    return np.asarray(values + RIPPLE * noise * flat)


def check_labels(labels: Mapping[str, Sequence[Any]], groups: Mapping[str, Mapping[str, Variable]]) -> None:
    """Refuse labels of a dim that no group has."""
    known = {dim for variables in groups.values() for dims, _ in variables.values() for dim in dims}
    for dim in labels:
        if dim not in known:
            raise ValueError(f"coords: no dim '{dim}'{nearest(dim, known)}; there are: {', '.join(sorted(known))}")


def _attrs(pair: ModelGuide, posterior: Posterior) -> dict[str, Any]:
    khat = pair.card.get("metrics", {}).get("khat")
    return {
        "inference_library": "zoo",
        "inference_library_version": __version__,
        "inference_method": posterior.method,
        "model": pair.name,
        "config": spelled(pair.config),
        "versions": versions(),
        **({} if khat is None else {"khat": khat}),
    }


def _numpy(value: Tensor) -> Array:
    return np.ascontiguousarray(value.detach().cpu().numpy())
