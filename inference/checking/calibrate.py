"""`inference.calibrate`: data from the prior, draws from their posterior, and where the truth stands among them."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from pyro import poutine
from torch import Tensor
from tqdm.auto import tqdm

from inference.checking.calibration import Calibration
from inference.checking.diary import Diary
from inference.checking.encoded import ranks_of_codes
from inference.checking.joint import Joint
from inference.checking.refits import Refits, Road
from inference.data.check import check, example
from inference.data.learnable import check_learnable
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import scores
from inference.running.checked import Checked
from inference.running.constants import take
from inference.running.naming import proper
from inference.running.quiet import check_seed, quietly
from inference.running.words import check_bool, check_count
from inference.sampling.chains import SamplingError, clock
from inference.sampling.store import evenly
from zoo.base import Batch, ModelGuide, sample_sites
from zoo.threads.turns import in_turn

__all__ = ["Calibration", "calibrate"]
COLUMNS = 12  # numbers of each latent that are ranked, at most
LIKELIHOOD = "log likelihood"


@in_turn
def calibrate(
    pair: ModelGuide,
    n: int = 200,
    data: Any = None,
    *,
    road: Literal["auto", "infer", "fit", "sample", "joint", "encoder"] = "auto",
    rows: int = 50,
    draws: int = 99,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Calibration:
    """Simulation-based calibration: are draws what they say, of data whose latents are known?

    Each simulation draws latents from the prior and data from them, makes draws of the posterior of these data, and
    ranks the truth among them; the ranks of a right posterior are uniform. Ranked are global latents, number by number,
    and the log likelihood; and ranks must not go with the level of the data. A density of the model that is not that of
    its simulations (a prior that counts twice, a factor left out) shows as well as a guide or a sampler that errs.

    An encoder is asked without any fit: codes from their prior and rows from the trained model, its globals held at a
    draw of their guide; then `n` are the rows, and codes are ranked.

    Args:
        pair: the pair, left as it was. Constants that it has measured are kept in all simulations.
        n: simulations.
        data: rows like those to simulate: as many, with the same covariates and lengths. A pair that has measured
            nothing yet takes its constants from them.
        road: `infer`, `fit` or `sample`, each of them anew for every simulation; `joint`, chains through the truth,
            which no guide and no warm-up have a part in, so that a fault is one of the model; or `encoder`. By default
            `encoder` of a trained pair whose rows have continuous latents, else `infer`.
        rows: of each simulation, where there are no `data`.
        draws: of each posterior among which the truth is ranked, L.
        folder: where ranks are kept as they are made; a call with the same arguments goes on from there.
        seed: seeds everything drawn; the caller's random state is left as it was.
        progress: show a bar.
        options: of `inference.fit` or `inference.sample`, on these roads.

    Returns:
        A `Calibration`: its `verdict`, `findings`, `p`-values and the `ranks` themselves.

    Raises:
        ValueError: options out of range, data that do not fit the pair, no latent to rank, a folder of other arguments.

    Example::

        pair = zoo.create("polynomial_regression", features=1, degree=1)
        print(inference.calibrate(pair, 100))
    """
    for name, value in (("n", n), ("rows", rows), ("draws", draws)):
        check_count(name, value)
    check_bool("progress", progress)
    check_seed(seed)
    if road not in ("auto", "joint", "encoder", *get_args(Road)):
        raise ValueError(f"road: expected 'auto', 'infer', 'fit', 'sample', 'joint' or 'encoder', got {road!r}")
    given = example(pair) if data is None else check(pair, data)
    own = copy.deepcopy(pair)
    usual: Literal["encoder", "infer"] = "encoder" if given.continuous_locals and pair.trained else "infer"
    chosen = usual if road == "auto" else road
    if options and chosen not in ("fit", "sample"):
        raise ValueError(
            f"{', '.join(options)}: options of inference.fit or inference.sample, for road='fit', 'sample'"
        )
    began = clock()
    if chosen == "encoder":
        ranks, levels = ranks_of_codes(given, n, draws, seed)
        return Calibration(pair.name, chosen, ranks, draws, levels, cpu=clock()[1] - began[1])
    return _refitted(
        own, given, None if data is None else given.batch, n, chosen, rows, draws, folder, seed, progress, options
    )


def _refitted(
    own: ModelGuide, given: Checked, batch: Batch | None, n: int, road: Road | Literal["joint"], rows: int, draws: int,
    folder: str | Path | None, seed: int, progress: bool, options: dict[str, Any],
) -> Calibration:  # fmt: skip
    """Of the globals, a posterior for each simulation."""
    if road != "joint" and own.trained and own.own_parameters():
        raise ValueError(f"road: {own.name} has trained parameters, which every fit would change: take road='encoder'")
    if not given.globals:
        raise ValueError(
            f"{own.name}: no global latents, of which ranks could be told; fit it, and take road='encoder'"
        )
    with quietly(seed, own):
        if batch is not None and not own.trained:
            take(own, batch)
        template = (own.inputs(rows) if batch is None else batch).to(own.device, own.dtype)
        template = template.but(**{name: None for name in given.observed if hasattr(template, name)})
        own.remember(template if batch is None else batch)  # constants stay, whatever is simulated
        first, _ = simulated(own, template)
    like = check(own, first)
    with proper():
        check_learnable(like)
    joint = Joint(like, draws, seed) if road == "joint" else None
    refits = None if road == "joint" else Refits(like, road, draws, options)
    arguments = {"pair": own.name, "config": repr(own.config), "road": road, "rows": template.size, "draws": draws}
    diary = Diary(folder, {**arguments, "seed": seed, "options": repr(sorted(options.items()))})
    began = clock()
    for i in tqdm(range(n), disable=None if progress else True, unit="posterior", desc=f"calibrating {own.name}"):
        if i in diary:
            continue
        own_seed = (seed + i) % 2**63
        with quietly(own_seed, own):
            data, truth = simulated(own, template)
        try:
            found = refits(data, own_seed) if refits else cast(Joint, joint)(data, truth, own_seed)
            kept = _ranked(like.but(data), found.draws, truth, own_seed)
        except (SamplingError, ValueError, RuntimeError) as error:
            diary.fail(i, str(error).splitlines()[0])
        else:
            diary.keep(i, {name: int(rank) for name, rank in kept.items()}, _level(data, like), found.road)
    return _told(own.name, road, draws, diary, n, clock()[1] - began[1])


def simulated(pair: ModelGuide, template: Batch) -> tuple[Batch, dict[str, Tensor]]:
    """Data like a batch that lacks them, and the latents behind them, by site."""
    trace = poutine.trace(pair.model).get_trace(template)
    values = {name: site["value"] for name, site in sample_sites(trace).items() if not site["is_observed"]}
    made = {name: values.pop(name) for name in ("x", "y") if name in values}
    return template.but(**made), values


def _ranked(given: Checked, draws: dict[str, Tensor], truth: dict[str, Tensor], seed: int) -> dict[str, int]:
    """Ranks of true latents and of their log likelihood among draws, (S, ...); among ties by chance."""
    generator = np.random.default_rng(seed)
    both = {n: torch.cat([truth[n].detach()[None].to(v), v]) for n, v in draws.items() if n in given.globals}
    size = len(next(iter(both.values())))
    of = scores(given, Posterior({n: v[None] for n, v in both.items()}, size=size), seed=seed)[0].double().sum(-1)
    columns = {LIKELIHOOD: of}
    for name, value in both.items():
        flat = value.double().reshape(size, -1)
        for i in evenly(flat.shape[1], COLUMNS).tolist():
            columns[name if flat.shape[1] == 1 else f"{name}[{i}]"] = flat[:, i]
    return {name: rank(value.cpu().numpy(), generator) for name, value in columns.items() if _moves(value)}


def rank(values: np.ndarray[Any, Any], generator: np.random.Generator) -> int:
    """The rank of the first of S + 1 numbers among the others, from 0 to S; among equal ones by chance."""
    first, rest = values[0], values[1:]
    return int((rest < first).sum()) + int(generator.integers(0, int((rest == first).sum()) + 1))


def _moves(value: Tensor) -> bool:
    return bool(value.isfinite().all()) and bool((value[1:] != value[1]).any())


def _level(batch: Batch, given: Checked) -> float:
    """How high the data lie: their mean."""
    fields = batch.fields()
    return float(torch.stack([fields[n].double().nanmean() for n in given.observed if n in fields]).mean())


def _told(name: str, road: str, draws: int, diary: Diary, n: int, cpu: float) -> Calibration:
    """Ranks of all simulations."""
    kept = [diary.kept[i] for i in range(n) if i in diary.kept]
    failed = tuple(diary.failed[i] for i in range(n) if i in diary.failed)
    names = [one for one in (kept[0]["ranks"] if kept else {}) if all(one in entry["ranks"] for entry in kept)]
    ranks = {one: np.array([entry["ranks"][one] for entry in kept]) for one in names}
    levels = np.array([entry["level"] for entry in kept])
    if failed and not kept:
        warnings.warn(f"{name}: no simulation gave draws: {failed[0]}", stacklevel=2)
    return Calibration(name, road, ranks, draws, levels, failed, dict(Counter(entry["road"] for entry in kept)), cpu)
