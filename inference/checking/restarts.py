"""Do fits that begin with other random numbers end at one guide?

Each restart is a chain: draws of guides that agree have an R-hat of 1 (Vehtari, Gelman, Simpson, Carpenter & Bürkner
2021). Labels that a model does not tell apart are put in one order first (Stephens 2000).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch

from inference.checking.findings import Finding, graded
from inference.fitting.fit import fit
from inference.posterior.draws import draw
from inference.running.checked import Checked
from inference.sampling.labels import aligned, stems
from inference.sampling.mixing import worst
from zoo.base import ModelGuide
from zoo.threads.randomness import apart

DRAWS = 400
AGREED, APART = 1.01, 1.1


def of_restarts(pair: ModelGuide, given: Checked, restarts: int, seed: int) -> Iterator[Finding]:
    """R-hat over guides that are fitted anew.

    Args:
        pair: left as it is; its constants are those of the restarts.
        given: what it was fitted to.
        restarts: how many.
        seed: of their beginnings, each of its own.
    """
    if not given.globals:
        return
    found = []
    for i in range(restarts):
        with apart(seed + 1 + i):
            twin = type(pair)(**pair.config).to(pair.device, pair.dtype)
        own, other = dict(twin.named_buffers()), dict(pair.named_buffers())
        with torch.no_grad():
            for name in own.keys() & other.keys():
                if own[name].shape == other[name].shape and not name.startswith("auto."):
                    own[name].copy_(other[name])
        twin.remember(given.batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(twin, given.batch, seed=seed + 1 + i, progress=False)
        found.append(draw(twin, given.batch, DRAWS, stats=False, seed=seed + i))
    names = [name for name in given.globals if name in found[0].draws]
    draws = {name: torch.cat([one.draws[name] for one in found]) for name in names}
    for stem in stems(pair.dims):
        draws = aligned(draws, pair.dims, stem) or draws
    rhats = worst(draws)
    site = max(rhats, key=rhats.__getitem__, default="")
    value = rhats.get(site, 1.0)
    yield Finding(
        "restarts", graded(value, AGREED, APART),
        f"R-hat of {restarts} fits at most {value:.3f}" + (f" (of '{site}')" if site else "") + f", {AGREED} allowed",
        value, "Vehtari et al. 2021", "More steps; or the bound has several tops: look at which is highest",
    )  # fmt: skip
