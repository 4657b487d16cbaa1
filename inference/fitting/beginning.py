"""How a fit begins: constants from the data, a guide at a good start, and whether there is anything to climb."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.fitting import curvature, exact, search
from inference.fitting.course import Begun
from inference.fitting.keeping import HIGHEST, Keeping, KeepingGuide
from inference.fitting.objective import Objective, plain
from inference.running.checked import Checked
from inference.running.constants import take
from zoo import guides, held
from zoo.base import Batch, ModelGuide
from zoo.history import Mark
from zoo.settings import settings
from zoo.threads.handlers import unvalidated


def take_in(pair: ModelGuide, train: Batch, whole: Batch, initialise: bool | None) -> tuple[bool, tuple[str, ...]]:
    """Bring the guide back where draws stood in its place, and take constants.

    Returns:
        whether the fit is to begin at a start of its own, and names of constants that are of earlier data.
    """
    released = held.release(pair)  # of draws in the place of the guide: steps are its own
    started = released or not pair.trained if initialise is None else initialise
    return started, take(pair, train, anew=bool(initialise), whole=whole)


def begin(
    given: Checked,
    train: Batch,
    chosen: Objective,
    started: bool,
    kept: tuple[str, ...],
    converges: bool,
    compile: str,  # noqa: A002 - as in `fit`
) -> Begun:
    """Put the guide where steps begin.

    Args:
        given: the data.
        train: what is fitted.
        chosen: the objective.
        started: at a start of its own.
        kept: names of constants of earlier data.
        converges: it is not known how many steps will be taken.
        compile: see `inference.fit`.
    """
    pair = given.pair
    before = list(pair.own_parameters().values())
    mark = Mark.of(before)
    placed = _start(pair, train, chosen, started)
    alone = chosen.has_globals and not given.continuous_locals and not pair.own_parameters()
    searches = alone and type(pair).initial is ModelGuide.initial  # else the pair knows better where to start
    keeping: Keeping | KeepingGuide | None = None
    if not chosen.has_globals and mark.left(before):
        keeping = Keeping(pair, train)
    else:
        placed = placed or (searches and search.move(pair, train, plain(chosen), compile))
        stands = alone and placed and (searches or (converges and train.size <= settings.hessian_rows))
        if stands and chosen.bound == "elbo" and isinstance(pair.automatic, guides.Standardised):
            keeping = KeepingGuide(pair, train, plain(chosen))
    return Begun(started, kept, placed, keeping)


def _start(pair: ModelGuide, batch: Batch, objective: Objective, initialise: bool) -> bool:
    """Move global latents to where the data suggest, and undo an earlier Laplace curvature.

    Returns whether the guide's widths suit the posterior already.
    """
    if isinstance(pair.automatic, guides.AutoLaplace):
        pair.automatic.curve(None)
    if initialise:
        with torch.no_grad(), unvalidated():
            return place(pair, batch, objective, pair.initial(batch))
    return True


def place(pair: ModelGuide, batch: Batch, objective: Objective, values: dict[str, Tensor]) -> bool:
    """Move the automatic guide to these values of the global latents; True if the curvature there gave it widths."""
    if (auto := pair.automatic) is not None and values:
        guides.start(auto, pair.guide_family, pair.model, batch.select(slice(0, min(2, batch.size))), values)
    return curvature.set_widths(pair, batch, plain(objective), values)


def done(
    pair: ModelGuide,
    train: Batch,
    objective: Objective,
    seed: int,
    keeping: Keeping | KeepingGuide | None,
    tolerance: float,
    held_out: Batch | None,
) -> tuple[float, str] | None:
    """Loss per observation, and why there is nothing to do; else None."""
    if isinstance(keeping, Keeping):
        highest = objective.plain and held_out is None and keeping.highest(tolerance)
        return (-float(keeping.bounds.mean()), HIGHEST) if highest else None
    evidence = exact.exact_evidence(pair, train, seed)
    return None if evidence is None else (-evidence / train.total, exact.REASON)
