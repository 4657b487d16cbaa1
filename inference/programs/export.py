"""A program's posterior -> ArviZ: dims are its plates, and every observed site has its pointwise log-likelihood."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.compiling.fallback import somebodys_level
from inference.posterior import containers
from inference.posterior.containers import Variable
from inference.posterior.export import check_labels, check_options, sample_stats
from inference.posterior.latents import Posterior
from inference.programs import draws as drawing
from inference.programs.draws import check
from inference.programs.outline import Outline
from inference.programs.rows import outline_of_all
from inference.programs.visiting import Visit
from inference.running.quiet import quietly
from inference.running.words import told
from zoo.config import nearest
from zoo.programs import Program
from zoo.settings import settings
from zoo.version import __version__, versions

__all__ = ["to_arviz"]


def to_arviz(
    program: Program,
    posterior: Any,
    *args: Any,
    log_likelihood: bool = True,
    predictive: bool | int = True,
    prior: int = 0,
    coords: Mapping[str, Sequence[Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
    seed: int = 0,
    **kwargs: Any,
) -> Any:
    """All that is known of a program's posterior, in the container of the ArviZ that is installed.

    Dims are called after the plates that a site stands in; those of events `<site>_dim_0`, or as `zoo.program(dims=…)`
    says. Arguments that are arrays go to constant_data under the names the model gives them.

    Args:
        program: see `zoo.program`.
        posterior: from `inference.sample`; Pyro's own `MCMC` after its run; or draws by site, (chain, draw, ...) or, of
            one chain, (draw, ...), as `Predictive` gives them.
        args, kwargs: what the model was sampled with.
        log_likelihood: whether to work out the log-likelihood of each observation at each draw.
        predictive: the most posterior predictive draws to keep of each chain. True: as many as fit in 4 million
            numbers; False: none.
        prior: number of draws for the groups prior and prior_predictive.
        coords: dim -> labels, such as `{"school": names}`, besides those of the program.
        attrs: what else to write down.
        seed: seeds the draws.

    Returns:
        `arviz.InferenceData` under ArviZ 0.x, `xarray.DataTree` under 1.x.

    Warns:
        UserWarning: an observed site cannot be drawn from: it is left out of what is predicted.

    Raises:
        ValueError: draws that are not this program's, labels of an unknown dim or of another number.
    """
    check_options(log_likelihood, predictive, prior, None, coords, attrs)
    with quietly(seed):
        seen = outline_of_all(program, args, kwargs)
    posterior = check(seen, _posterior(seen, posterior), None)
    known = posterior.draws.keys()
    groups: dict[str, dict[str, Variable]] = {
        "posterior": _drawn(seen, posterior.draws),
        "sample_stats": sample_stats(posterior),
        "observed_data": {name: _variable(seen, name, site.value, 0) for name, site in seen.observed.items()},
        "constant_data": _constants(seen),
        "log_prior": _log_prior(seen, posterior, seed),
    }
    if log_likelihood:
        values = drawing.log_likelihood(program, posterior, *args, **kwargs)
        groups["log_likelihood"] = {name: _along_plates(seen, name, value) for name, value in values.items()}
    own: dict[str, dict[str, Sequence[Any]]] = {}
    if predictive is not False:
        each = sum(site.shape.numel() for site in seen.observed.values())
        most = max(1, settings.export_cells // max(1, each * posterior.chains)) if predictive is True else predictive
        some = check(seen, posterior, most)
        made = _drawable(seen, seed, lambda kept: drawing.made(seen, some, kept))
        groups["posterior_predictive"] = _drawn(seen, {name: made[name] for name in seen.observed if name in made})
        kept = torch.linspace(0, posterior.size - 1, min(most, posterior.size)).round().long()  # as `thin` does
        own["posterior_predictive"] = {"draw": kept.tolist()}
    if prior:
        drawing.check_proper(seen)
        values = _drawable(seen, seed, lambda kept: drawing.before(seen, prior, kept))
        before = {name: value[None] for name, value in values.items()}
        groups["prior"] = _drawn(seen, {name: value for name, value in before.items() if name in known})
        groups["prior_predictive"] = _drawn(seen, {n: v for n, v in before.items() if n in seen.observed})
    labels = {**program.coords, **(coords or {})}
    held = {dim for group in groups.values() for dims, _ in group.values() for dim in dims}
    labels |= {name: found for name, found in _cells(seen, labels).items() if name in held - labels.keys()}
    check_labels(labels, groups)
    groups, renamed = containers.distinct(groups)
    notes = {
        "inference_library": "zoo",
        "inference_library_version": __version__,
        "in_units": [],
        "inference_method": posterior.method,
        "model": program.name,
        "versions": versions(),
        **({"renamed": renamed} if renamed else {}),
        **(attrs or {}),
    }
    return containers.build(groups, labels, notes, own)


def check_names(seen: Outline) -> None:
    """Refuse names and labels of the program that fit none of its sites, before any work.

    Raises:
        ValueError: dims of an unknown site, or too many of them; labels of an unknown dim, or of another number.
    """
    program, sizes = seen.call.program, dict[str, int]()
    for name in program.dims:
        if name not in seen.sites:
            raise ValueError(f"dims: {program.name} has no site '{name}'{nearest(name, seen.sites)}")
    for name, site in seen.sites.items():
        sizes |= zip(seen.dims_of(name), site.shape, strict=True)
    for dim, labels in program.coords.items():
        if dim not in sizes and "_dim_" not in dim and not dim.endswith("_cell"):  # which arguments and masks make
            known = ", ".join(sorted(sizes))
            raise ValueError(f"coords: {program.name} has no dim '{dim}'{nearest(dim, sizes)}; there are: {known}")
        if sizes.get(dim, len(labels)) != len(labels):
            raise ValueError(f"coords: dim '{dim}' of {program.name} has size {sizes[dim]}, got {len(labels)} labels")


def _drawable(seen: Outline, seed: int, draw: Callable[[Collection[str]], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What is drawn, without the sites that cannot be."""
    with quietly(seed):
        try:
            return draw(())
        except drawing.UndrawableError as error:
            warnings.warn(f"{error}: left out of what is predicted", stacklevel=somebodys_level())
            return draw(error.sites)


def _posterior(seen: Outline, given: Any) -> Any:
    """Draws as they come from elsewhere, as a `Posterior`.

    Raises:
        ValueError: arrays that have neither (chain, draw) nor (draw) before the shape of their site.
    """
    stats: dict[str, Tensor] = {}
    if hasattr(given, "get_samples") and hasattr(given, "kernel"):  # Pyro's MCMC
        told_of = given.diagnostics().get("divergences", {})
        given = given.get_samples(group_by_chain=True)
        chains, size = next(iter(given.values())).shape[:2]
        stats["diverging"] = torch.zeros(chains, size, dtype=torch.bool)
        for chain in range(chains):
            stats["diverging"][chain, list(told_of.get(f"chain {chain}", []))] = True
    if not isinstance(given, Mapping):
        return given
    found = {}
    for name, value in given.items():
        if name not in seen.sites or name in seen.observed:
            continue
        values, shape = torch.as_tensor(value), seen.sites[name].shape
        lead = values.shape[: values.ndim - len(shape)]
        if tuple(values.shape[values.ndim - len(shape) :]) != tuple(shape) or len(lead) not in (1, 2):
            raise ValueError(
                f"draws of '{name}': expected (chain, draw, ...) or (draw, ...) with shape {tuple(shape)} behind, got "
                f"{tuple(values.shape)}"
            )
        one = len(lead) == 1 or (lead[1] == 1 and lead[0] > 1)  # `Predictive` leaves room for plates
        found[name] = values.reshape(1, lead[0], *shape) if one else values
    if not found:
        raise ValueError(f"no draws of {seen.call.program.name}'s latents in {told(given)}")
    chains, size = next(iter(found.values())).shape[:2]
    return Posterior(found, frozenset(), stats, "mcmc", chains, size)


def _drawn(seen: Outline, values: Mapping[str, Tensor]) -> dict[str, Variable]:
    return {name: _variable(seen, name, value, 2) for name, value in values.items()}


def _variable(seen: Outline, name: str, value: Tensor, lead: int) -> Variable:
    """A site's values, without the dims of size 1 that only make room for plates it does not stand in.

    Of a site that a mask hides in part only the cells that count, side by side.
    """
    site, dims = seen.sites[name], seen.dims_of(name)
    batch = len(site.shape) - site.event
    if site.cells is not None:
        array = _numpy(value.flatten(lead, lead + batch - 1).movedim(lead, 0)[site.cells.reshape(-1)].movedim(0, lead))
        return (*("chain", "draw")[:lead], f"{name}_cell", *dims[batch:]), array
    plates = {plate.name for plate in site.plates}
    room = [i for i in range(batch) if dims[i] not in plates and site.shape[i] == 1]
    array = _numpy(value).squeeze(tuple(lead + i for i in room))
    return ((*("chain", "draw")[:lead], *(dim for i, dim in enumerate(dims) if i not in room)), array)


def _along_plates(seen: Outline, names: str, value: Tensor) -> Variable:
    """Log-likelihoods along the plates of their site, or of the sites that share a latent."""
    site = seen.sites[names.split("+", maxsplit=1)[0]]
    width = value.ndim - 2
    if site.cells is not None and value.shape[2:] == site.cells.shape:
        return ("chain", "draw", f"{names}_cell"), _numpy(value[:, :, site.cells])
    places = {width + plate.dim: plate.name for plate in site.plates}
    room = [i for i in range(width) if i not in places and value.shape[2 + i] == 1]
    dims = [places.get(i, f"{names}_dim_{i}") for i in range(width) if i not in room]
    return ("chain", "draw", *dims), _numpy(value).squeeze(tuple(2 + i for i in room))


def _cells(seen: Outline, labels: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Which cells stand side by side, of sites that a mask hides in part: the plate's labels, or those of several."""
    found: dict[str, list[Any]] = {}
    for name, site in seen.sites.items():
        if site.cells is not None:
            dims = seen.dims_of(name)[: site.cells.ndim]
            each = [labels.get(dim, range(size)) for dim, size in zip(dims, site.cells.shape, strict=True)]
            places = [[own[i] for own, i in zip(each, at, strict=True)] for at in site.cells.nonzero().tolist()]
            found[f"{name}_cell"] = [at[0] if len(at) == 1 else ", ".join(map(str, at)) for at in places]
    return found


def _log_prior(seen: Outline, posterior: Posterior, seed: int) -> dict[str, Variable]:
    with quietly(seed):
        found = drawing.at_draws(seen, Visit(seen).log_prior, posterior)
    return {name: (("chain", "draw"), _numpy(value)) for name, value in found.items()}


def _constants(seen: Outline) -> dict[str, Variable]:
    """Arguments of the model that are arrays, by its own names for them."""
    call = seen.call
    observed = [site.value for site in seen.observed.values()]
    try:
        model = call.program.model
        bound = inspect.signature(getattr(model, "forward", model)).bind(*call.args, **call.kwargs).arguments
    except (TypeError, ValueError):
        bound = {**{f"argument_{i}": value for i, value in enumerate(call.args)}, **call.kwargs}
    found: dict[str, Variable] = {}
    for name, value in _flattened(bound.items()):
        if not isinstance(value, (Tensor, np.ndarray)) or any(value is other for other in observed):
            continue
        array = _numpy(torch.as_tensor(value))
        if name not in seen.observed and array.dtype.kind in "biuf":
            found[name] = tuple(_plate_of(seen, size) or f"{name}_dim_{i}" for i, size in enumerate(array.shape)), array
            if len(set(found[name][0])) < array.ndim:
                found[name] = tuple(f"{name}_dim_{i}" for i in range(array.ndim)), array
    return found


def _flattened(items: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    """`*args` and `**kwargs` of a model one by one."""
    for name, value in items:
        if isinstance(value, dict):
            yield from value.items()
        elif isinstance(value, tuple):
            yield from ((f"{name}_{i}", part) for i, part in enumerate(value))
        else:
            yield name, value


def _plate_of(seen: Outline, size: int) -> str | None:
    """The one plate of this size, if just one has it."""
    known = {plate.name for site in seen.sites.values() for plate in site.plates if plate.size == size}
    return known.pop() if len(known) == 1 and size > 1 else None


def _numpy(value: Tensor) -> Any:
    array = value.detach().cpu().numpy()
    return np.ascontiguousarray(array).reshape(array.shape)  # it gives a single number a dim
