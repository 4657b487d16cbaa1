"""`inference.report`: one page about a posterior, the verdict first."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from inference.checking.door import check
from inference.checking.findings import Check, Finding
from inference.data.check import check as accepted
from inference.posterior.check import check_posterior
from inference.posterior.comparing import of_container
from inference.posterior.draws import draw
from inference.posterior.export import to_arviz
from inference.posterior.latents import Posterior
from inference.reporting import latents, observed, origins
from inference.reporting.numbers import Table, summary
from inference.reporting.page import Page
from inference.reporting.parts import Part, part, reason
from inference.running.checked import Checked
from inference.running.programmed import or_program
from inference.running.words import check_bool, told
from zoo.base import ModelGuide
from zoo.settings import settings
from zoo.threads.turns import in_turn

__all__ = ["Page", "report"]
DRAWS = 1000
BELONG = "posterior and data"


@in_turn
@or_program("programmed", "inference.reporting")
def report(
    pair: ModelGuide,
    data: Any,
    posterior: Posterior | None = None,
    *,
    found: Check | None = None,
    run: bool = True,
    command: str = "",
    seed: int = 0,
) -> Page:
    """One self-contained page about a posterior: a verdict in plain words, pictures, numbers, where they come from.

    What cannot be made says why in its place, and the rest is made. The page needs no network and no script, reads on a
    phone and in print, in light and dark, and is below 5 MB.

    Args:
        pair: the pair.
        data: what it was fitted to; see `inference.data`.
        posterior: from `draw`, `sample`, `infer` or `resample`; by default draws of the fitted guide. One that is not
            of this pair and these data is not to be trusted, and the page says so.
        found: what `inference.check` found; by default it is asked now.
        run: whether it may run chains from draws of a guide.
        command: the command that made this page, to be written on it.
        seed: seeds what is drawn here; the caller's random state is left as it was.

    Returns:
        A `Page`: its `save` writes the HTML and, beside it, JSON; it has the `verdict`, and as `exit` 0, 1 or 2.

    Raises:
        ValueError: data that do not fit the pair; a posterior or findings that are none.

    Example::

        inference.report(pair, data, posterior).save("report.html")
    """
    check_bool("run", run)
    given = accepted(pair, data)
    if posterior is not None and not isinstance(posterior, Posterior):
        check_posterior(given, posterior)
    check_found(found)
    known, evidence = _judged(given, posterior, found, run, seed)
    about = (inspect.getdoc(type(pair)) or "").partition("\n")[0]
    notes = [note for note in (origins.other_versions(pair),) if note]
    table, drawn = of_posterior(known, lambda draws: _exported(given, draws, seed))
    return Page(
        name=pair.name,
        about=about,
        check=evidence,
        told=[origins.told(given), *([origins.drawn(known)] if known is not None else [])],
        seen=list(observed.pictures(given, known, seed)),
        drawn=drawn,
        summary=table,
        origins=origins.of_pair(given, command or _command(seed), seed),
        notes=notes,
    )


def check_found(found: Any) -> None:
    """Refuse findings that are none."""
    if found is not None and not isinstance(found, Check):
        raise ValueError(f"found: expected a Check, as inference.check returns it, got {told(found)}")


def unfit(name: str, error: BaseException, advice: str) -> Check:
    """The verdict on a posterior that is not of this model and these data."""
    return Check(name, (Finding(BELONG, "wrong", reason(error), advice=advice, bears=True),))


def of_posterior(known: Posterior | None, export: Callable[[Posterior], Any]) -> tuple[Table, list[Part]]:
    """The summary of a posterior, and its pictures in ArviZ's style.

    Args:
        known: the draws; None: there are none that belong to the data.
        export: draws -> their ArviZ container.
    """
    if known is None:
        return Table(note="There is no table: these draws are not of this model and these data."), []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            container = export(known)
            entries, total = latents.of_globals(_group(container, "posterior"))
    except Exception as error:  # the rest of the page is still made
        return Table(note=f"The posterior could not be laid out: {reason(error)}"), []
    if not entries:
        return Table(note=_points(known)), list(_beside(known, container))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table, hats = summary(entries, total, known.method)
    except Exception as error:
        table, hats = Table(note=f"The summary could not be made: {reason(error)}"), {}
    first = ", ".join(list(entries)[:6]) + (" and others" if len(entries) > 6 else "")
    alt = f"densities of {first}; the table below has their means and intervals"
    shown = [part("densities", alt, partial(latents.densities, entries))]
    if known.method == "mcmc" and known.chains > 1:
        alt = f"ranks of the draws of {known.chains} chains, as differences from even ones"
        shown.append(part("chains", alt, partial(latents.chains, entries, hats)))
    return table, [*shown, *_beside(known, container)]


def _points(known: Posterior) -> str:
    if known.draws and known.local >= known.draws.keys():
        return (
            "All parameters are points, a network's weights for example: only each observation's own latents have "
            "draws, and these are on the pictures above."
        )
    return "No latent of all observations varies: all parameters are points, and there is nothing to summarise."


def _beside(known: Posterior, container: Any) -> Iterator[Part]:
    """Weights of the draws of a guide; k̂ of the rows, left out."""
    if known.method == "svi" and {"log_p", "log_q"} <= known.stats.keys() and known.globals:
        ratios = (known.stats["log_p"] - known.stats["log_q"]).double().cpu().numpy()
        yield part(
            "weights", "share of the weight over the share of draws that carry it", partial(latents.weights, ratios)
        )
    likelihood = _group(container, "log_likelihood")
    if likelihood is not None and known.globals and sum(v[0, 0].size for v in likelihood.data_vars.values()) > 1:
        yield part(
            "left_out",
            "Pareto k̂ of each row and its threshold",
            lambda: latents.left_out(of_container(container).scores),
        )


def _judged(
    given: Checked, posterior: Posterior | None, found: Check | None, run: bool, seed: int
) -> tuple[Posterior | None, Check]:
    """The draws, None where they do not belong to the data, and what was found."""
    pair = given.pair
    if posterior is not None:
        try:
            check_posterior(given, posterior, local=True)
        except ValueError as error:
            return None, unfit(pair.name, error, "Draw for this pair and these data: inference.draw(pair, data)")
    known = draw(pair, given, DRAWS, seed=seed) if posterior is None else posterior
    return known, check(pair, given, known, run=run, seed=seed) if found is None else found


def _exported(given: Checked, known: Posterior, seed: int) -> Any:
    """The container that tables and pictures of the posterior are made of."""
    few = _few(known)
    scored = bool(known.globals) and not given.continuous_locals
    affordable = given.size * few.chains * few.size <= settings.export_cells
    return to_arviz(given.pair, few, given, log_likelihood=scored and affordable, predictive=False, rows=1, seed=seed)


def _few(known: Posterior) -> Posterior:
    """Draws that summaries are made of, without the latents of single observations, of which others tell."""
    kept = {name: value for name, value in known.draws.items() if name not in known.local} or known.draws
    return replace(known, draws=kept, local=known.local & kept.keys())


def _group(container: Any, name: str) -> Any:
    """A group of a container of either line of ArviZ, or None."""
    try:
        found = container[name]
    except (KeyError, AttributeError):
        return None
    return found.to_dataset() if hasattr(found, "to_dataset") and not hasattr(found, "data_vars") else found


def _command(seed: int) -> str:
    return f'inference.report(pair, data, posterior, seed={seed}).save("report.html")'
