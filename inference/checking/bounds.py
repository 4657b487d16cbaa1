"""Findings on what a guide and its fit say of the evidence: no bound lies above it, and no part of the data is lost.

    E_q[log p - log q]  <=  E[log 1/S sum_s p / q]  <=  log p(data)          (Burda, Grosse & Salakhutdinov 2016)

A bound above the evidence is an error of the model's or the guide's code. So is a density of rows that is another in a
part of the data than in all of them: the scale of minibatches is lost then. What an encoder loses has two parts
(Cremer, Li & Duvenaud 2018, "Inference suboptimality in variational autoencoders"): its family, and that all rows share
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.checking.findings import Finding
from inference.posterior.psis import Numbers
from inference.running.checked import Checked
from inference.running.densities import GIVEN, run
from zoo.base import ModelGuide, sample_sites

_BURDA, _CREMER = "Burda et al. 2016", "Cremer et al. 2018"
ERRORS = 4.0  # standard errors
PART = 0.05  # of the divergence of codes from their prior, that gaps may come to
FEW = 16  # rows of which densities are compared


def of_bound(log_ratios: Numbers, evidence: float, error: float, reported: float | None = None) -> Iterator[Finding]:
    """The bound, its importance-weighted form and the evidence.

    Args:
        log_ratios: log p - log q at draws of a guide, (S,).
        evidence, error: log p(data), in nats, and its standard error; NaN where only the weights tell it.
        reported: the bound that the fit reported, in nats, of all the data.
    """
    count = len(log_ratios)
    bound, spread = float(log_ratios.mean()), float(log_ratios.std()) / math.sqrt(count)
    top = float(log_ratios.max())
    weights = np.exp(log_ratios - top)
    weighted, unsure = top + math.log(weights.mean()), float(weights.std() / weights.mean()) / math.sqrt(count)
    known, by = (evidence, "evidence") if math.isfinite(evidence) else (weighted, "importance-weighted bound")
    room = ERRORS * math.hypot(spread, error if math.isfinite(evidence) else unsure) + 1e-6 * abs(known)
    over = [value for value in (bound, reported) if value is not None and value > known + room]
    told = f"{bound:.2f} ± {spread:.2g} nats, importance-weighted {weighted:.2f}"
    told += f", evidence {evidence:.2f} ± {error:.2g}" if math.isfinite(evidence) else ""
    if over:
        which = "the bound that the fit reported" if reported in over else "the bound"
        told += f": {which}, {max(over):.2f}, lies above the {by}"
    yield Finding(
        "bound on the evidence", "wrong" if over else "ok", told, bound, _BURDA,
        "An error in the code of model or guide: a density that is counted twice, or not, or of a part of the data",
    )  # fmt: skip


def of_scale(given: Checked, seed: int = 0) -> Iterator[Finding]:
    """Whether rows have the same density in a minibatch as where they are all the data."""
    part = given.batch.select(slice(0, min(FEW, given.size)))
    values = _latents(given, part)
    alone, among = (
        _log_p(given.pair, batch, values)
        for batch in (part.but(total=part.size), part.but(total=10 * part.size))
    )  # fmt: skip
    apart = float((alone - among).abs().max() / (1 + alone.abs().max()))
    close = 1e-9 if given.pair.dtype == torch.float64 else 1e-4
    yield Finding(
        "scale of minibatches", "ok" if apart <= close else "wrong",
        "a row's density is the same in a part of the data" if apart <= close
        else f"a row's density differs by {apart:.1%} where it stands in a part of the data: steps weigh it wrongly",
        apart, "Hoffman et al. 2013", "Sample local sites inside batch.plate(), which scales them",
    )  # fmt: skip


def of_gap(amortisation: Tensor, approximation: Tensor, divergence: float) -> Iterator[Finding]:
    """What an encoder loses, beside what its codes say.

    Args:
        amortisation, approximation: in nats, of some rows, (M,).
        divergence: of codes from their prior, in nats, a row.
    """
    for name, gap, advice in (
        ("amortisation gap", amortisation, "inference.refine fits the rows themselves; or a larger encoder"),
        ("approximation gap", approximation, "A richer family of guides, or draws by inference.sample"),
    ):
        mean, error = float(gap.mean()), float(gap.std()) / math.sqrt(max(1, len(gap)))
        share = max(0.0, mean) / max(divergence, 1e-12)
        held = mean - 2 * error <= PART * divergence
        yield Finding(
            name, "ok" if held else "look",
            f"{mean:.3g} ± {error:.2g} nats a row, {share:.0%} of the {divergence:.3g} that a code says; 5 % allowed",
            share, _CREMER, advice, counts=False,
        )  # fmt: skip


def of_idle(name: str, rows: Tensor) -> Iterator[Finding]:
    """Components or states that hardly any row is in.

    Args:
        name: what they are called.
        rows: expected number of rows (or steps) in each, (K,).
    """
    idle = (rows < 1).nonzero().flatten().tolist()
    listed = ", ".join(map(str, idle))
    yield Finding(
        f"idle {name}", "look" if idle else "ok",
        f"{len(idle)} of {len(rows)} hold less than one row ({listed})" if idle
        else f"each of {len(rows)} holds {float(rows.min()):.1f} rows or more",
        float(len(idle)), "share ≥ 1/N", "Fewer of them say as much", counts=False,
    )  # fmt: skip


def _latents(given: Checked, part: Any) -> dict[str, Tensor]:
    """A value of each latent that is not summed out, as one run of the model draws them, by site."""
    sites = sample_sites(poutine.trace(given.pair.model).get_trace(part))
    known = {name for name, site in given.sites.items() if site.observed or site.enumerated}
    return {name: site["value"] for name, site in sites.items() if name not in known and not site["is_observed"]}


def _log_p(pair: ModelGuide, batch: Any, values: dict[str, Tensor]) -> Tensor:
    """log p(x_n, z_n | t) of each row, (B,)."""
    alone = SimpleNamespace(model=Setting(values)(pair.model), guide=lambda batch: None)
    return run(cast(ModelGuide, alone), batch).likelihood.double()


class Setting(Messenger):
    """Gives latents these values, which nothing has drawn."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.given = values

    def _pyro_sample(self, message: Any) -> None:
        if message["name"] in self.given and not message["is_observed"]:
            message["value"] = self.given[message["name"]]
            message["infer"] = {**message["infer"], GIVEN: True}
