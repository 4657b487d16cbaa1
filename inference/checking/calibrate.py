"""`inference.calibrate`: data from the prior, draws from their posterior, and where the truth stands among them."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from inference.checking.calibration import Calibration
from inference.checking.diary import Diary
from inference.checking.encoded import ranks_of_codes
from inference.checking.refits import Road
from inference.checking.simulations import Simulations, joined, simulated
from inference.data.check import check, example
from inference.data.learnable import check_learnable
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.running.checked import Checked
from inference.running.constants import take
from inference.running.naming import proper
from inference.running.quiet import check_seed, quietly
from inference.running.words import check_bool, check_count
from inference.sampling.chains import clock
from zoo.base import Batch, ModelGuide
from zoo.threads.turns import in_turn

__all__ = ["Calibration", "calibrate"]


@in_turn
def calibrate(
    pair: ModelGuide,
    n: int = 200,
    data: Any = None,
    *,
    road: Literal["auto", "infer", "fit", "sample", "joint", "encoder"] = "auto",
    rows: int = 50,
    draws: int = 99,
    posterior: Posterior | None = None,
    workers: int = 1,
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
        posterior: draws given the `data`, whose latents simulations then come from, and not from the prior: each is of
            the data and as many rows simulated, so that what is asked is whether draws near these data are right
            (posterior SBC: Säilynoja et al. 2025); these draws are judged with those of the road.
        workers: processes that simulate side by side, each with the memory of a fit; the ranks are those of one.
        folder: where ranks are kept as they are made; a call with the same arguments goes on from there.
        seed: seeds everything drawn; the caller's random state is left as it was.
        progress: show a bar.
        options: of `inference.fit` or `inference.sample`, on these roads.

    Returns:
        A `Calibration`: its `verdict`, `findings`, `p`-values and the `ranks` themselves.

    Raises:
        ValueError: options out of range, data that do not fit the pair, a posterior that is not of it, no latent to
            rank, a folder of other arguments.
        RuntimeError: a process of several died.

    Example::

        pair = zoo.create("polynomial_regression", features=1, degree=1)
        print(inference.calibrate(pair, 100))
    """
    for name, value in (("n", n), ("rows", rows), ("draws", draws), ("workers", workers)):
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
    if posterior is not None:
        if data is None:
            raise ValueError("posterior: draws given data, which are to be given too")
        if chosen == "encoder":
            raise ValueError("posterior: of global latents, for a road that infers them; road='encoder' asks of codes")
        posterior = check_posterior(given, posterior)
    began = clock()
    if chosen == "encoder":
        ranks, levels = ranks_of_codes(given, n, draws, seed)
        return Calibration(pair.name, chosen, ranks, draws, levels, cpu=clock()[1] - began[1])
    return _refitted(
        own,
        given,
        None if data is None else given.batch,
        posterior,
        n,
        chosen,
        rows,
        draws,
        folder,
        workers,
        seed,
        progress,
        options,
    )


def _refitted(
    own: ModelGuide, given: Checked, batch: Batch | None, posterior: Posterior | None, n: int,
    road: Road | Literal["joint"], rows: int, draws: int, folder: str | Path | None, workers: int, seed: int,
    progress: bool, options: dict[str, Any],
) -> Calibration:  # fmt: skip
    """Of the globals, a posterior for each simulation."""
    if road != "joint" and own.trained and own.own_parameters():
        raise ValueError(f"road: {own.name} has trained parameters, which every fit would change: take road='encoder'")
    if not given.globals:
        raise ValueError(
            f"{own.name}: no global latents, of which ranks could be told; fit it, and take road='encoder'"
        )
    latents = None if posterior is None else posterior.flat(frozenset(given.globals))
    seen = batch.to(own.device, own.dtype) if batch is not None and posterior is not None else None
    with quietly(seed, own):
        if batch is not None and not own.trained:
            take(own, batch)
        template = (own.inputs(rows) if batch is None else batch).to(own.device, own.dtype)
        template = template.but(**{name: None for name in given.observed if hasattr(template, name)})
        own.remember(template if batch is None else batch)  # constants stay, whatever is simulated
        first, _ = simulated(own, template)
    like = check(own, first if seen is None else joined(seen, first))
    with proper():
        check_learnable(like)
    run = Simulations(own, template, like, road, draws, options, seed, seen, latents)
    arguments = {"pair": own.name, "config": repr(own.config), "road": road, "rows": template.size, "draws": draws}
    arguments |= {"posterior": _fingerprint(latents)} if latents else {}
    diary = Diary(folder, {**arguments, "seed": seed, "options": repr(sorted(options.items()))})
    if 0 in diary:
        run.learn(diary.kept.get(0, {}).get("road", ""))
    todo, began = [i for i in range(n) if i not in diary], clock()
    bar = tqdm(total=n, initial=n - len(todo), disable=None if progress else True, unit="posterior")
    bar.set_description(f"calibrating {own.name}")
    with bar:
        for i, made in run.all_of(todo, workers):
            if made.failed:
                diary.fail(i, made.failed)
            else:
                diary.keep(i, made.ranks, made.level, made.road)
            bar.update()
    return _told(own.name, road, draws, diary, n, clock()[1] - began[1])


def _fingerprint(latents: dict[str, Tensor]) -> str:
    """Which draws they are."""
    found = hashlib.sha256()
    for name in sorted(latents):
        found.update(latents[name].detach().double().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


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
