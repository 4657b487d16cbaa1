"""`inference.report` of any Pyro program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.checking.findings import Check
from inference.drawing import plots, style
from inference.drawing.style import COLOURS, INK, Array
from inference.gallery.panels import LIGHT, PALE
from inference.posterior.latents import Posterior
from inference.programs.checks import check as judged
from inference.programs.draws import check as check_draws
from inference.programs.export import to_arviz
from inference.programs.outline import Outline
from inference.programs.rows import outline_of_all
from inference.reporting import origins
from inference.reporting.door import BELONG, check_found, of_posterior, unfit
from inference.reporting.page import Page
from inference.reporting.parts import Part, part
from inference.running.quiet import quietly
from inference.running.words import check_bool, told
from zoo.programs import Program
from zoo.settings import settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["report"]
_CELLS, _SITES, _DRAWS = 300, 3, 400


def report(
    program: Program,
    posterior: Posterior,
    *args: Any,
    found: Check | None = None,
    run: bool = True,
    command: str = "",
    seed: int = 0,
    **kwargs: Any,
) -> Page:
    """One self-contained page about a posterior of a program: a verdict in plain words, pictures, numbers, origins.

    Args:
        program: see `zoo.program`.
        posterior: from `sample`, `infer`, `draw` or `resample`.
        args, kwargs: what its model takes, those of the posterior.
        found: what `inference.check` found; by default it is asked now.
        run: whether it may run chains from draws of a guide.
        command: the command that made this page, to be written on it.
        seed: seeds what is drawn here; the caller's random state is left as it was.

    Returns:
        see `inference.report`.

    Raises:
        ValueError: a posterior or findings that are none, or a model that cannot be run.

    Example::

        inference.report(program, inference.infer(program, x, y=y), x, y=y).save("report.html")
    """
    check_bool("run", run)
    check_found(found)
    if not isinstance(posterior, Posterior):
        raise ValueError(f"posterior: expected a Posterior, as from sample, infer or draw; got {told(posterior)}")
    with quietly(seed):
        seen = outline_of_all(program, args, kwargs)
    known: Posterior | None = posterior
    try:
        check_draws(seen, posterior, None)
        evidence = judged(program, posterior, *args, run=run, seed=seed, **kwargs) if found is None else found
    except ValueError as error:
        known, evidence = None, unfit(program.name, error, "Draw for this program and these arguments")

    @cache
    def export() -> Any:
        return _exported(seen, posterior, args, kwargs, seed)

    table, drawn = of_posterior(known, lambda _: export())
    return Page(
        name=program.name,
        about=(inspect.getdoc(program.model) or "A Pyro program.").partition("\n")[0],
        check=evidence,
        told=[_told(seen), *([origins.drawn(known)] if known is not None else [])],
        seen=list(_pictures(seen, export)) if known is not None else _none(evidence),
        drawn=drawn,
        summary=table,
        origins=origins.of_program(_arguments(program, args, kwargs), command or _command(program, seed), seed),
    )


def _exported(seen: Outline, posterior: Posterior, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> Any:
    """The container, without what takes too much room, or cannot be made of this program."""
    each = sum(site.shape.numel() for site in seen.observed.values())
    scored = bool(seen.observed) and each * posterior.chains * posterior.size <= settings.export_cells
    few = max(1, _DRAWS // posterior.chains)
    wanted: dict[str, Any] = {"predictive": few if seen.observed else False, "seed": seed}
    try:
        return to_arviz(seen.call.program, posterior, *args, log_likelihood=scored, **wanted, **kwargs)
    except (ValueError, NotImplementedError, RuntimeError):
        wanted["predictive"] = False
        return to_arviz(seen.call.program, posterior, *args, log_likelihood=False, **wanted, **kwargs)


def _none(evidence: Check) -> list[Part]:
    """In the place of pictures, of draws that are not this program's."""
    why = next((f.told for f in evidence.findings if f.name == BELONG), "there are no draws")
    return [Part("observed", "The data, and what the program draws in their place", missing=why)]


def _pictures(seen: Outline, export: Callable[[], Any]) -> Iterator[Part]:
    """A picture for each of the first observed sites."""
    for name, site in list(seen.observed.items())[:_SITES]:
        alt = f"the {site.shape.numel():,} observed values of {name}, beside what the program draws in their place"
        yield part("observed", alt, partial(_observed, name, export))


def _observed(name: str, export: Callable[[], Any]) -> Figure:
    """Observed values of a site over the bars that hold 50 and 90 % of draws; of many, shares of values."""
    container = export()
    try:
        made_all = container["posterior_predictive"]
        made = made_all[name]
    except KeyError:
        raise ValueError(f"'{name}' cannot be drawn from this program, or its predictions could not be made") from None
    values = np.asarray(container["observed_data"][name].values, dtype=float).ravel()
    drawn = np.asarray(made.values, dtype=float)
    drawn = drawn.reshape(drawn.shape[0] * drawn.shape[1], -1)
    if drawn.shape[1] != values.size:
        raise ValueError(f"'{name}': {drawn.shape[1]} values are drawn, {values.size} were observed")
    if values.size > _CELLS or values.size < 2:
        figure, axes = style.new_figure(6.4, 3.4)
        plots.compare(axes, values[np.isfinite(values)], drawn)
        style.labelled(axes, name, "share of values (%)")
        style.keyed(axes)
        return figure
    return _bars(name, values, drawn, *_across(container, values.size))


def _across(container: Any, size: int) -> tuple[Array, str]:
    """What the observations are drawn over: the first argument that has a number for each of them, else their order."""
    try:
        given = container["constant_data"]
    except KeyError:
        return np.arange(size), "observation"
    for name, variable in given.data_vars.items():
        found = np.asarray(variable.values)
        if found.shape == (size,) and found.dtype.kind == "f" and len(np.unique(found)) > size // 2:
            return found.astype(float), str(name)
    return np.arange(size), "observation"


def _bars(name: str, values: Array, drawn: Array, at: Array, across: str) -> Figure:
    figure, axes = style.new_figure(6.8, 3.6)
    low, lower, middle, upper, high = np.quantile(drawn, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    width = max(1.0, min(5.0, 260 / len(values)))
    axes.vlines(at, low, high, color=PALE, linewidth=width, label="model, 90 % of draws")
    axes.vlines(at, lower, upper, color=LIGHT, linewidth=width, label="50 %")
    axes.plot(at, middle, "_", color=COLOURS[0], markersize=width + 2, label="median")
    axes.plot(at, values, "o", color=INK, markersize=3, label="data")
    style.labelled(axes, across, name)
    style.keyed_above(figure, axes)
    return figure


def _told(seen: Outline) -> str:
    sites = [f"{name} ({' × '.join(map(str, site.shape)) or 'a number'})" for name, site in seen.observed.items()]
    return f"Data: {' and '.join(sites)}." if sites else "Data: none; the program observes nothing."


def _arguments(program: Program, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(inspect.signature(program.model).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {**{f"argument {i}": value for i, value in enumerate(args, 1)}, **kwargs}


def _command(program: Program, seed: int) -> str:
    return f'inference.report(zoo.program({program.name}), posterior, …, seed={seed}).save("report.html")'
