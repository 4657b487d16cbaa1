"""Ranks of true codes among those that an encoder draws: rows from the trained model itself, and no fit at all.

Codes from their prior and rows from them are draws of the joint density, of which an exact encoder draws the
conditional one: a row's true code is one more draw of it. The log likelihood of the row is ranked besides, and so is
the distance of the whole code from a place (TARP: Lemos, Coogan, Hezaveh & Perreault-Levasseur 2023, "Sampling-based
accuracy testing of posterior estimators for general inference"): from one that goes with the row, which sees codes that
leave the data out, and from the middle of the row's codes, which sees those whose numbers are right one by one and
wrong together.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from inference.checking.bounds import Setting
from inference.posterior.draws import drawn
from inference.running.checked import Checked
from inference.running.densities import run
from inference.running.quiet import quietly
from inference.sampling.store import evenly
from zoo.base import ModelGuide, sample_sites

COLUMNS = 40
TARP, MIDDLE = "whole code (TARP)", "whole code, from its middle"
Array = np.ndarray[Any, Any]


def ranks_of_codes(given: Checked, rows: int, draws: int, seed: int) -> tuple[dict[str, Array], Array]:
    """Ranks of each number of a code, (n,), of the log likelihood and of whole codes, 0 to `draws`; and rows' means.

    Args:
        given: a trained pair whose rows have continuous latents.
        rows: how many are simulated, n.
        draws: codes of each, L.
        seed: of all that is drawn.

    Raises:
        ValueError: the pair is not trained, or draws no code.
    """
    pair = given.pair
    names = [name for name in given.locals if not given.sites[name].enumerated]
    if not names:
        raise ValueError(f"road: {pair.name} has no continuous latent of each row, so no encoder to calibrate")
    if not pair.trained:
        raise ValueError(f"road: {pair.name} is not trained: fit it first")
    with quietly(seed, pair):
        fixed = {
            name: value[0, 0] for name, value in drawn(given, 1, stats=False, seed=seed, rows=_none()).draws.items()
        }
        fixed = {name: value for name, value in fixed.items() if name in given.globals}
        template = pair.inputs(rows).to(pair.device, pair.dtype)
        trace = poutine.trace(poutine.condition(pair.model, data=fixed)).get_trace(template)
        values = {name: site["value"] for name, site in sample_sites(trace).items()}
        batch = template.but(**{name: values[name] for name in given.observed if name in values})
        found: dict[str, list[Tensor]] = {name: [values[name][None]] for name in names}
        guide = poutine.condition(pair.guide, data=fixed)
        for _ in range(draws):
            own = sample_sites(poutine.trace(guide).get_trace(batch))
            for name in names:
                found[name].append(own[name]["value"][None])
        codes = {name: torch.cat(parts) for name, parts in found.items()}  # (L + 1, n, *event)
        of = torch.stack([
            _likelihood(pair, batch, {**fixed, **{name: value[i] for name, value in codes.items()}})
            for i in range(draws + 1)
        ])  # fmt: skip
    generator = np.random.default_rng(seed)
    ranks = {"log likelihood": _ranks(of, generator)}
    for name, value in codes.items():
        flat = value.reshape(draws + 1, rows, -1)
        for i in evenly(flat.shape[2], COLUMNS).tolist():
            ranks[name if flat.shape[2] == 1 else f"{name}[{i}]"] = _ranks(flat[:, :, i], generator)
    seen = [batch.fields()[name].double().reshape(rows, -1) for name in given.observed if name in batch.fields()]
    data = torch.cat(seen, 1)
    whole = torch.cat([value.double().reshape(draws + 1, rows, -1) for value in codes.values()], 2)
    ranks[TARP] = _ranks(from_places(whole, data, seed), generator)
    ranks[MIDDLE] = _ranks(from_middle(whole), generator)
    return ranks, data.nanmean(1).cpu().numpy()


def from_middle(codes: Tensor) -> Tensor:
    """How far each code lies from the mean of all of its row, the true one among them, so that all are alike.

    Args:
        codes: the true ones and L that were drawn, (L + 1, n, P).

    Returns:
        (L + 1, n), in standard deviations of codes.
    """
    codes = codes.double().cpu()
    found: Tensor = ((codes - codes.mean(0)) / codes.flatten(0, 1).std(0).clamp(min=1e-300)).square().sum(2).sqrt()
    return found


def from_places(codes: Tensor, data: Tensor, seed: int) -> Tensor:
    """How far each code lies from the place of its row, a random one of the scale of codes that goes with the data.

    Any place will do, as long as the true code has no part in it but through the data; those that leave the data out
    do not see codes that do (Lemos et al. 2023, section 3).

    Args:
        codes: the true ones and L that were drawn, (L + 1, n, P).
        data: (n, D), NaN where missing.
        seed: of the places.

    Returns:
        (L + 1, n), in standard deviations of codes.
    """
    generator = torch.Generator().manual_seed(seed)
    codes, data = codes.double().cpu(), data.double().cpu()
    spread, centre = codes[0].std(0).clamp(min=1e-300), codes[0].mean(0)
    known = data.isfinite().double()
    filled = data.nan_to_num(0.0, 0.0, 0.0)
    mean = filled.sum(0) / known.sum(0).clamp(min=1)
    apart = (filled - mean) * known
    unit = apart / (apart.square().sum(0) / known.sum(0).clamp(min=1)).sqrt().clamp(min=1e-300)
    turned = unit @ torch.randn(data.shape[1], codes.shape[2], generator=generator, dtype=torch.float64)
    noise = torch.randn(turned.shape, generator=generator, dtype=torch.float64)
    places = turned / data.shape[1] ** 0.5 + noise  # (n, P)
    found: Tensor = ((codes - centre) / spread - places).square().sum(2).sqrt()
    return found


def _ranks(values: Tensor, generator: np.random.Generator) -> Array:
    """Of the first of L + 1 numbers among the others, (L + 1, n): (n,); among equal ones by chance."""
    first, rest = values[:1], values[1:]
    ties = (rest == first).sum(0).cpu().numpy()
    return np.asarray((rest < first).sum(0).cpu().numpy() + generator.integers(0, ties + 1))


def _likelihood(pair: ModelGuide, batch: Any, values: dict[str, Tensor]) -> Tensor:
    """log p(x_n | z_n, t), (B,)."""
    alone = SimpleNamespace(model=Setting(values)(pair.model), guide=lambda batch: None)
    terms = run(cast(ModelGuide, alone), batch)
    seen = [value for name, value in terms.sites.items() if any(part in batch.fields() for part in name.split("+"))]
    return torch.stack(seen).sum(0).double()


def _none() -> Tensor:
    """No rows."""
    return torch.zeros(0, dtype=torch.long)
