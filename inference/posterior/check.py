"""One door for posteriors: whatever was given -> draws of this pair's latents, whole, finite, at home on its device.

Every function that takes a posterior calls `check_posterior` right after the data were checked. What a posterior has to
hold is read off the trace that `Checked` carries, so that nothing is run for it; the draws are read once.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.posterior.latents import Posterior
from inference.running.checked import Checked
from inference.running.words import listed, told
from zoo.base import Site


def check_posterior(given: Checked, posterior: Any, draws: int | None = None, *, local: bool = False) -> Posterior:
    """Refuse what is no posterior of this pair: a latent would silently be drawn from its prior, or the answer be NaN.

    Names that the pair has no site of are let by (the guide's own, deterministic ones), and so are local latents of
    other rows, unless they are used.

    Args:
        given: data that fit the pair, of which the trace tells what latents there are.
        posterior: what the user gave.
        draws: keep so many draws of each chain, evenly spaced; default all.
        local: the local latents that it holds are used, so they have to be of these rows.

    Returns:
        The draws, on the pair's device and in its floating-point type.

    Raises:
        ValueError: no `Posterior`, no draws, a global latent without draws, or draws of a wrong shape or not finite,
            by site, chain and draw.
    """
    if not isinstance(posterior, Posterior):
        raise ValueError(f"posterior: expected a Posterior, as from draw, sample or prior; got {told(posterior)}")
    if posterior.chains * posterior.size < 1:
        raise ValueError(
            f"posterior: expected at least one draw, got {posterior.chains} chains of {posterior.size} draws"
        )
    if draws is not None:
        posterior = posterior.thin(draws)
    wanted = [name for name in given.globals if not given.sites[name].enumerated]
    for name in wanted:
        if name not in posterior.draws:
            raise ValueError(
                f"the posterior lacks site '{name}'; {given.pair.name} needs {listed(wanted)}, "
                f"given: {listed(posterior.draws)}"
            )
    used = [name for name in posterior.draws if name in given.sites and (local or not given.sites[name].local)]
    device, dtype = given.pair.device, given.pair.dtype
    changed = {name: _value(given, posterior, given.sites[name], device, dtype) for name in used}
    found: Posterior = replace(posterior, draws={**posterior.draws, **changed})
    return found


def _value(given: Checked, posterior: Posterior, site: Site, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The draws of one site, as the pair takes them."""
    value = posterior.draws[site.name]
    if site.observed:
        raise ValueError(f"the posterior holds site '{site.name}', which {given.pair.name} observes: no latent")
    if site.local != (site.name in posterior.local):
        kind, other = ("local", "global") if site.local else ("global", "local")
        raise ValueError(
            f"posterior, site '{site.name}': expected draws of a {kind} latent, got those of a {other} one"
        )
    rows = (given.size,) if site.local else ()
    expected = (posterior.chains, posterior.size, *rows, *site.event_shape)
    if value.shape != expected:
        _refuse_shape(site, tuple(value.shape), expected)
    _check_finite(site, value)
    return value.to(device, dtype if value.is_floating_point() or not site.discrete else value.dtype)


def _refuse_shape(site: Site, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if site.local and len(found) > 2 and (*found[:2], *found[3:]) == (*expected[:2], *expected[3:]):
        raise ValueError(
            f"the posterior holds '{site.name}' of {found[2]} rows, the data have {expected[2]}: "
            "draw for these data first"
        )
    shape = ", ".join(["chain", "draw", *(["N"] if site.local else []), *map(str, site.event_shape)])
    raise ValueError(f"posterior, site '{site.name}': expected shape ({shape}) = {expected}, got {found}")


def _check_finite(site: Site, value: Tensor) -> None:
    if value.is_complex():
        raise ValueError(f"posterior, site '{site.name}': expected real numbers, got dtype {value.dtype}")
    if not value.is_floating_point() or math.isfinite(float(value.detach().sum())):  # one pass, and nothing is held
        return
    for chain, of_chain in enumerate(value):  # the sum alone may have overflowed
        bad = ~of_chain.isfinite()
        if bad.any():
            draw, *rest = bad.nonzero()[0].tolist()
            where = f"chain {chain}, draw {draw}" + (f", row {rest[0]}" if site.local else "")
            found = float(of_chain[(draw, *rest)])
            raise ValueError(f"posterior, site '{site.name}', {where}: expected a finite number, got {found:g}")
