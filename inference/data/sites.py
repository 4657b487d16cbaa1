"""What a model's sites have to be, and by what words they are refused where they are not.

Observed sites are named after the fields that they observe: everything that inference does with data goes by that name,
which fields there are, their shapes, what is generated where one is left out. A site of another name would be observed
where nobody looks, or, its field dropped, not at all. And the plate `data` is the only one: other batch dimensions,
which would fall in with those of draws, go into the event.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inference.running.words import listed
from zoo.base import FIELDS, Batch, ModelGuide, Site


def check_sites(pair: ModelGuide, sites: Mapping[str, Site], batch: Batch | None = None) -> None:
    """Refuse a model with an observed site that is no field, or with batch dimensions beside those of rows.

    Args:
        pair: the pair.
        sites: of its trace.
        batch: of that trace, so that the field can be told that a site observes.

    Raises:
        ValueError: by site, and by field where that is known.
    """
    for name, site in sites.items():
        extra = site.fn.batch_shape[: -1 if site.local else None]
        if any(size > 1 for size in extra):
            where = "inside" if site.local else "outside"
            raise ValueError(
                f"{pair.name}: site '{name}', {where} the plate 'data', has batch dimensions {tuple(extra)} of its "
                "own, from a plate or from its parameters: put them into the event, with "
                f".to_event({len(extra)}) and no plate"
            )
        if not site.observed or name in FIELDS:
            continue
        if type(site.fn).__name__ == "Unit":
            raise ValueError(
                f"{pair.name}: site '{name}' is a pyro.factor, which is not supported here: say it by a distribution "
                "of a latent, or in the density of an observed site"
            )
        fields = batch.fields() if batch is not None else {}
        fields = {field: value for field, value in fields.items() if field not in sites}
        same = [field for field, value in fields.items() if _same(site.value, value)]
        if same:
            raise ValueError(
                f"{pair.name}: site '{name}' observes field '{same[0]}' under another name, and the data would not be "
                f"seen: call it '{same[0]}', as in pyro.sample(\"{same[0]}\", …, obs=batch.{same[0]})"
            )
        raise ValueError(
            f"{pair.name}: site '{name}' is observed, and no field of a batch has that name ({', '.join(FIELDS)}): "
            "call it after the field that it observes"
        )


def check_observes(pair: ModelGuide, sites: Mapping[str, Site]) -> None:
    """Refuse a model of which no site is named after a field: it would generate nothing.

    Raises:
        ValueError: with the sites that it has.
    """
    if not any(site.observed for site in sites.values()):
        raise ValueError(
            f"{pair.name}: no site is named after a field of a batch ({', '.join(FIELDS)}), so that nothing is "
            f"observed; sites: {listed(sites)}"
        )


def check_seen(pair: ModelGuide, batch: Batch, example: Batch) -> None:
    """Refuse a field that the pair leaves alone, or observes at a site of another name.

    Args:
        pair: the pair.
        batch: what was given, not checked yet.
        example: two simulated observations, with the fields that the model's sites are named after.

    Raises:
        ValueError: by site and field.
    """
    if batch.fields().keys() <= example.fields().keys():
        return
    few = batch.select(slice(0, min(2, batch.size)))
    try:
        sites = pair.sites(few.to(pair.device, pair.dtype))
    except Exception:  # nothing was checked yet: these data may be of any shape
        return
    check_sites(pair, sites, few.to(pair.device, pair.dtype))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
