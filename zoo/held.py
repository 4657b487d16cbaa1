"""Draws of a pair's global latents that stand in the place of its guide.

A posterior that no guide of the pair can hold, because chains found it, or weights corrected it, is kept as draws. From
then on `guide` takes one of them at random, and so does everything that draws from the guide; what the guide was before
stays beside it, and `release` brings it back. Draws have no density: importance weights and bounds that need the
entropy of the guide say nothing of them.

    pair.held.draws["locs"]     (chain, draw, *event)
    pair.held.method            how they were made, as a `Posterior` says it
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.nn import PyroModule
from torch import Tensor
from torch.distributions import constraints

NAME = "held"
_INDEX = "_held"  # of the draw that is taken: an auxiliary site


class Numbers(TorchDistribution):
    """Numbers of draws, 0 to count - 1: each comes once before any comes again."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - as torch's own distributions have it
    support = constraints.nonnegative_integer
    has_rsample = True  # in that no parameter moves them

    def __init__(self, count: int, batch_shape: torch.Size | None = None, device: torch.device | None = None) -> None:
        self.count, self.device = count, device
        super().__init__(torch.Size() if batch_shape is None else batch_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Numbers:
        """So many of them."""
        return Numbers(self.count, torch.Size(batch_shape), self.device)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Shuffled, in rounds of all."""
        shape = torch.Size(sample_shape) + self.batch_shape
        rounds = -(-max(1, shape.numel()) // self.count)
        order = torch.cat([torch.randperm(self.count, device=self.device) for _ in range(rounds)])
        return order[: shape.numel()].reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0: draws have no density."""
        return torch.zeros(value.shape, device=value.device)


class Held(PyroModule):
    """The draws, as buffers.

    Args:
        draws: site -> (chain, draw, *event).
        method: how they were made.
    """

    def __init__(self, draws: Mapping[str, Tensor], method: str) -> None:
        super().__init__()
        self.method, self.names = method, tuple(draws)
        self.chains, self.size = next(iter(draws.values())).shape[:2]
        for i, value in enumerate(draws.values()):
            self.register_buffer(f"value{i}", value.detach().clone().contiguous())

    @property
    def draws(self) -> dict[str, Tensor]:
        """Site -> (chain, draw, *event)."""
        return {name: getattr(self, f"value{i}") for i, name in enumerate(self.names)}

    def forward(self) -> dict[str, Tensor]:
        """Take one of them, or as many as the plates around ask for."""
        draws = self.draws
        device = next(iter(draws.values())).device
        numbers = Numbers(self.chains * self.size, device=device)
        picked = pyro.sample(_INDEX, numbers, infer={"is_auxiliary": True})
        found = {}
        for name, value in draws.items():
            taken = value.flatten(0, 1)[picked]  # (*, *event)
            found[name] = pyro.sample(name, dist.Delta(taken, event_dim=value.ndim - 2))
        return found

    def record(self) -> dict[str, Any]:
        """What a file says of it, besides its numbers."""
        return {"method": self.method, "shapes": {name: list(value.shape) for name, value in self.draws.items()}}


def of(pair: Any) -> Held | None:
    """The draws that a pair holds."""
    found: Held | None = pair._modules.get(NAME)
    return found


def hold(pair: Any, draws: Mapping[str, Tensor], method: str) -> None:
    """Put draws of all global latents in the place of the guide.

    Args:
        pair: without continuous latents of single observations, whose guide is a network that stays.
        draws: site -> (chain, draw, *event).
        method: how they were made.

    Raises:
        ValueError: a latent without draws, one too many, or shapes that do not fit.
    """
    sites = {name: site for name, site in pair.sites().items() if not (site.observed or site.enumerated)}
    if local := [name for name, site in sites.items() if site.local]:
        raise ValueError(
            f"{pair.name}: draws of {', '.join(local)} are those of single observations: they are not kept"
        )
    if sites.keys() != draws.keys():
        raise ValueError(f"{pair.name}: expected draws of {', '.join(sites)}, got {', '.join(draws) or 'none'}")
    count = next((value.shape[:2] for value in draws.values()), ())
    for name, value in draws.items():
        if value.shape != (*count, *sites[name].event_shape) or 0 in count:
            told = ", ".join(map(str, sites[name].event_shape))
            raise ValueError(f"{pair.name}, site '{name}': expected (chain, draw, {told}), got {tuple(value.shape)}")
    release(pair)
    setattr(pair, NAME, Held({name: value.to(pair.device) for name, value in draws.items()}, method))


def recorded(pair: Any) -> dict[str, Any] | None:
    """What a file says of the draws that a pair holds."""
    held = of(pair)
    return None if held is None else held.record()


def again(pair: Any, record: Any) -> None:
    """Make room for the draws of a record, which are read next; None is that of a pair that holds none.

    Raises:
        ValueError: it is no record.
    """
    if record is None:
        return
    shapes = record.get("shapes") if isinstance(record, dict) else None
    if not isinstance(shapes, dict) or not shapes or not isinstance(record.get("method"), str):
        raise ValueError(f"'{NAME}': expected method and shapes, got {record!r:.50}")
    for name, shape in shapes.items():
        if not _is_shape(shape):
            raise ValueError(f"'{NAME}': '{name}': got {shape!r:.50}")
    hold(pair, {name: torch.zeros(shape, dtype=pair.dtype) for name, shape in shapes.items()}, record["method"])


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, Sequence) and len(shape) > 1 and all(type(size) is int and size >= 0 for size in shape)


def release(pair: Any) -> bool:
    """Bring the guide back; whether draws were in its place."""
    if of(pair) is None:
        return False
    delattr(pair, NAME)
    return True


def first(guide: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wrap a guide: draws that are held come first."""

    @functools.wraps(guide)
    def wrapped(self: Any, batch: Any) -> Any:
        held = of(self)
        return guide(self, batch) if held is None else held()

    return wrapped
