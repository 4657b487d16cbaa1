"""One door to the pictures: `inference.plot`, and which kinds of them suit a pair and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from inference.data.check import check, example
from inference.drawing import plane, plots
from inference.forecasting.table import forecast_table
from inference.gallery import imputations, observations, paths
from inference.gallery.future import future
from inference.gallery.maps import mapped
from inference.gallery.network import network
from inference.gallery.panels import as_pixels
from inference.gallery.predictive import predictive
from inference.gallery.trees import picture
from inference.posterior.check import check_posterior
from inference.posterior.draws import draw, predict
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import log_likelihood
from inference.posterior.units import entries, in_units
from inference.questions.sequences import viterbi
from inference.running.checked import Checked
from zoo.abilities import Forecast, HiddenStates, InUnits, Network, TreeLike
from zoo.base import Batch, ModelGuide
from zoo.config import nearest
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWS, _SHOWN, _FINE = 1000, 100, 50  # of the posterior; predictive ones that are shown; of a density
_AHEAD = 1 / 8  # steps of a forecast, in parts of the longest series


@dataclass(frozen=True)
class Asked:
    """What a picture is drawn from: checked data as they came too, the posterior if it was given, and the options."""

    given: Checked
    data: Any
    known: Posterior | None
    seed: int

    @property
    def pair(self) -> ModelGuide:
        """The pair."""
        return self.given.pair

    def posterior(self, draws: int = _DRAWS, local: bool = False) -> Posterior:
        """The posterior that was given, or draws from the guide; `local`: with the latents of these rows."""
        if self.known is None or (local and not set(self.given.locals) <= self.known.draws.keys()):
            return draw(self.pair, self.given, draws, stats=False, seed=self.seed)
        return check_posterior(self.given, self.known, min(draws, getattr(self.known, "size", draws)))


@in_turn
def plot(
    pair: ModelGuide,
    data: Any = None,
    posterior: Posterior | None = None,
    kind: str | None = None,
    *,
    color: Any = None,
    seed: int = 0,
    **options: Any,
) -> Figure:
    """A picture of a fitted pair and its data, of the kind that suits them best or that is asked for.

    Kinds: `map` (rows in the plane by their codes, or their columns), `coefficients` (of a regression, in units),
    `predictive` (data beside what the model draws),
    `samples`, `reconstructions`, `interpolations`, `traversals`, `posterior` (intervals of the global latents),
    `density` (of points of the plane), `curve` (a response over its one covariate), `states` (of a series),
    `forecast` (of a series, `horizon=` steps ahead),
    `imputations`, `network`, `tree`. Which suit is said where another is asked for.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; `samples` and `network` need none.
        posterior: of the latents; by default draws from the guide.
        kind: one of these.
        color: of a `map`: a column by its name, "y", "cluster", or values (N,) of any kind.
        seed: seeds what is drawn.
        options: of the function of that kind in `inference.gallery`: `number=` of samples, `tree=`, `dimensions=`, …

    Returns:
        a matplotlib figure, made without pyplot: `figure.savefig("map.png")`.

    Raises:
        ValueError: a kind that does not suit, data that do not fit, a column that does not exist.

    Example:
        >>> inference.plot(pair, flowers, color="species").savefig("map.png")  # doctest: +SKIP
    """
    given = example(pair) if data is None else check(pair, data)
    suited = kinds(given, bare=data is None)
    if kind is None:
        kind = "map" if color is not None else next(iter(suited))
    if kind not in suited:
        unknown = "" if kind in _KINDS else nearest(kind, _KINDS)
        why = "without data" if data is None else "with these data"
        raise ValueError(f"plot: no kind '{kind}' of {pair.name} {why}{unknown}; there are: {', '.join(suited)}")
    if color is not None:
        if kind != "map":
            raise ValueError(f"plot: color goes with kind 'map', not with '{kind}'")
        options = {**options, "color": color}
    figure: Figure = _KINDS[kind].draw(Asked(given, data, posterior, seed), **options)
    return figure


def kinds(given: Checked, bare: bool = False) -> list[str]:
    """The kinds of pictures that suit a pair and its data, the most telling first; `bare`: there are no data."""
    return [name for name, kind in _KINDS.items() if kind.suits(given) and (kind.alone or not bare)]


def is_plane(given: Checked) -> bool:
    """Whether the pair models points of the plane, two numbers that may be any, with a density that needs no codes."""
    x, site = given.batch.x, given.observed.get("x")
    if x is None or site is None or x.shape[1:] != (2,) or given.continuous_locals:
        return False
    return all(bool(site.fn.support.check(site.value * 0 - v).all()) for v in (-0.5, 0.5))


def _is_series(given: Checked) -> bool:
    return given.example.lengths is not None


def _is_curve(given: Checked) -> bool:
    x = given.batch.x
    return "y" in given.observed and "x" not in given.observed and x is not None and x.shape[1:] == (1,)


def _has_holes(given: Checked) -> bool:
    x = given.batch.x
    return given.pair.schema is not None and x is not None and bool(x.isnan().any()) and not _is_series(given)


def _has_states(given: Checked) -> bool:
    (site, *_) = given.observed.values()
    value = getattr(given.batch, site.name)
    return isinstance(site.fn, HiddenStates) and value is not None and value[0].numel() == value.shape[1]


def _samples(asked: Asked, number: int | None = None) -> Figure:
    return observations.samples(asked.pair, number, posterior=asked.known, seed=asked.seed)


def _reconstructions(asked: Asked, number: int = 12) -> Figure:
    return observations.reconstructions(asked.pair, asked.given, number, seed=asked.seed)


def _interpolations(asked: Asked, **options: Any) -> Figure:
    return paths.interpolations(asked.pair, asked.given, seed=asked.seed, **options)


def _traversals(asked: Asked, **options: Any) -> Figure:
    return paths.traversals(asked.pair, asked.given, seed=asked.seed, **options)


def _map(asked: Asked, color: Any = None, name: str = "") -> Figure:
    return mapped(asked.given, asked.data, color, name, asked.known, asked.seed)


def _drawn(asked: Asked) -> dict[str, Any]:
    found = predict(asked.pair, asked.posterior(_SHOWN, local=True), asked.given, seed=asked.seed)
    return {name: value.flatten(0, 1)[:_SHOWN].cpu().numpy() for name, value in found.items()}


def _predictive(asked: Asked, **options: Any) -> Figure:
    return predictive(asked.pair, asked.given, _drawn(asked), **options)


def _curve(asked: Asked) -> Figure:
    batch = asked.given.batch
    names = (batch.columns[0] if batch.columns else "x", asked.pair.design.response.name if asked.pair.design else "y")
    return plots.predictive_band(batch.x, batch.y, _drawn(asked)["y"], names=names)


def _posterior(asked: Asked, most: int = 16) -> Figure:
    posterior = asked.posterior()
    said = in_units(asked.pair, posterior, asked.given.batch.columns)
    names = sorted(posterior.globals)
    if "sigma" in said:  # as tables have it, for its square
        names = [name for name in names if name != "variance"] + ["sigma"]
    draws = {name: said[name][0] if name in said else posterior[name] for name in names}
    labels = {name: entries(name, words) for name, (_, words) in said.items() if name in draws}
    return plots.marginals(draws, labels=labels, most=most)


def _density(asked: Asked) -> Figure:
    pair, batch, few = asked.pair, asked.given.batch, asked.posterior(_FINE)
    names = (batch.columns[0], batch.columns[1]) if batch.columns else ("x[0]", "x[1]")

    def density(points: Any) -> Any:
        x = torch.as_tensor(points).to(dtype=pair.dtype, device=pair.device)
        of = asked.given.but(Batch(len(x), len(x), x=x))
        return log_likelihood(pair, few, of).flatten(0, 1).logsumexp(0)

    return plane.mixture_density(batch.x, density, names=names)


def _forecast(asked: Asked, horizon: int | None = None, inputs: Any = None) -> Figure:
    lengths = asked.given.batch.lengths
    longest = 1 if lengths is None else int(lengths.max())
    ahead = max(1, round(_AHEAD * longest)) if horizon is None else horizon
    posterior = asked.posterior()
    table = forecast_table(asked.pair, asked.given, ahead, posterior, mass=(0.5, 0.9), inputs=inputs, seed=asked.seed)
    return future(asked.pair, asked.given, table)


def _goes_on(given: Checked) -> bool:
    (site, *_) = given.observed.values()
    numbers = not getattr(site.fn.support, "is_discrete", False) or isinstance(site.fn, HiddenStates)
    return _is_series(given) and numbers and isinstance(site.fn, Forecast)


def _states(asked: Asked, row: int = 0) -> Figure:
    if not 0 <= row < asked.given.size:
        raise ValueError(f"row: expected 0 to {asked.given.size - 1}, got {row}")
    one = asked.given.select(slice(row, row + 1))
    one = one.but(one.batch.but(total=1))
    found = viterbi(asked.pair, Asked(one, None, asked.known, asked.seed).posterior(_SHOWN), one)
    steps = int(one.batch.lengths[0]) if one.batch.lengths is not None else found.shape[-1]
    (site, *_) = one.observed
    value = getattr(one.batch, site)[0].reshape(-1)[:steps]
    path = found.flatten(0, 2)[:, :steps].mode(0).values  # of most draws
    return plots.decoded_states(value, path, names=("step", site))


def _imputations(asked: Asked, draws: int = 200, **options: Any) -> Figure:
    from inference.codes.imputation import impute

    schema = asked.pair.schema
    if schema is None:
        raise ValueError(f"{asked.pair.name} has no columns of its own to fill")
    found = impute(asked.pair, asked.given, draws=draws, posterior=asked.known, seed=asked.seed)
    return imputations.imputations(found, schema, **options)


def _network(asked: Asked, **options: Any) -> Figure:
    return network(asked.pair, asked.known, seed=asked.seed, **options)


def _tree(asked: Asked, **options: Any) -> Figure:
    return picture(asked.pair, asked.posterior(), asked.given.batch, **options)


@dataclass(frozen=True)
class _Kind:
    """A kind of picture: how it is drawn, which pairs and data it suits, and whether it needs data at all."""

    draw: Callable[..., Any]
    suits: Callable[[Checked], bool]
    alone: bool = False


_KINDS = {
    "network": _Kind(_network, lambda given: isinstance(given.pair, Network), alone=True),
    "tree": _Kind(_tree, lambda given: isinstance(given.pair, TreeLike)),
    "curve": _Kind(_curve, _is_curve),
    "states": _Kind(_states, _has_states),
    "forecast": _Kind(_forecast, _goes_on),
    "density": _Kind(_density, is_plane),
    "imputations": _Kind(_imputations, _has_holes),
    "reconstructions": _Kind(
        _reconstructions, lambda given: bool(given.locals) and as_pixels(given) and not _is_series(given)
    ),
    "coefficients": _Kind(_posterior, lambda given: isinstance(given.pair, InUnits) and not _is_series(given)),
    "map": _Kind(_map, lambda given: not _is_series(given)),
    "predictive": _Kind(_predictive, lambda _: True),
    "posterior": _Kind(_posterior, lambda given: bool(given.globals)),
    "samples": _Kind(_samples, lambda _: True, alone=True),
    "traversals": _Kind(_traversals, lambda given: given.continuous_locals and not _is_series(given)),
    "interpolations": _Kind(
        _interpolations, lambda given: given.continuous_locals and given.size > 1 and not _is_series(given)
    ),
}
