"""The log density of a program with its arguments, for S points at once: what gradient MCMC walks on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.compiling.fallback import somebodys_level
from inference.programs.outline import Latent, Outline
from inference.programs.visiting import Visit
from inference.running.mapped import Mapped, TraceError, elsewhere, one_by_one
from inference.running.pieces import pieces
from inference.sampling.centring import better, shifted


class ProgramPotential:
    """Flat log density of a program; see `inference.sampling.density`.

    Args:
        seen: the program with its arguments.
        recorded: whether its run is written down once; else every point is a run of plain Pyro.
        required: whether what cannot be written down is an error; else it runs plain, with a warning.
        fixed: whether a density that is drawn anew each time is refused.
        recentred: whether `recentre` may choose other coordinates for latents of a scale that others decide.

    Raises:
        TraceError: a run cannot be written down, and that is required.
        ValueError: the density is another each time: the program draws from torch's generator by itself.
    """

    def __init__(
        self, seen: Outline, recorded: bool = True, required: bool = False, fixed: bool = True,
        recentred: bool = False,
    ) -> None:  # fmt: skip
        self.seen, self.visit, self.size = seen, Visit(seen), seen.size
        if recentred:
            self.visit.centre()
        self._maps: dict[str, Mapped | None] = {}
        self.plain = not recorded
        point = torch.zeros(self.size, dtype=seen.dtype, device=seen.device)
        if recorded:
            try:
                for what, function in {
                    "density": self.visit.value_and_gradient,
                    "constrain": self.visit.constrain,
                }.items():
                    self._maps[what] = Mapped(function, point, self.name, self.held, other=elsewhere(point))
            except TraceError as error:
                if required:
                    raise
                self.plain = True
                warnings.warn(f"{self.name}: {error}; sampling with plain Pyro instead", stacklevel=somebodys_level())
        if fixed:
            self._check_fixed()

    @property
    def name(self) -> str:
        """What the program is called."""
        return self.seen.call.program.name

    @property
    def blocks(self) -> tuple[Latent, ...]:
        """The latents, in order."""
        return self.seen.latents

    @property
    def local(self) -> frozenset[str]:
        """None: a latent of a program stands along its plates, whichever they are."""
        return frozenset()

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Names of all dims of the latents, by site: plates and events; those of a mixture's parts tell labels."""
        return {latent.name: self.seen.dims_of(latent.name) for latent in self.seen.latents}

    @property
    def dtype(self) -> torch.dtype:
        """Of the draws."""
        return self.seen.dtype

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.seen.device

    @property
    def held(self) -> tuple[Tensor, ...]:
        """What the coordinates are, as far as that can change: the shares of locations, (P,), or nothing."""
        return (self.visit.shares,) if self.visit.centrable else ()

    def value_and_gradient(self, points: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        """(S, P) -> (S,), (S, P), in the coordinates of now or in those of `held`."""
        if self.plain:
            return one_by_one(self.visit.value_and_gradient, points)  # type: ignore[no-any-return]
        return self._maps["density"](points, held or self.held)  # type: ignore[misc,no-any-return]

    def parts(self, points: Tensor, beta: Tensor, *held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(u) and log p(x | u), each (S,), and the gradient of log p(u) + b log p(x | u): (S, P), (S,)."""
        zero = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        return self._run("parts", self.visit.parts, (zero, zero.sum()), held)((points, beta))  # type: ignore[no-any-return]

    def log_density(self, points: Tensor) -> Tensor:
        """(S, P) -> (S,)."""
        return self.value_and_gradient(points)[0]

    @torch.no_grad()
    def constrain(self, points: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(S, P) -> values of latents and deterministic sites, each (S, ...), and the log Jacobian, (S,)."""
        run = self._run("constrain", self.visit.constrain)
        parts = [run(points[piece]) for piece in pieces(len(points), self.size)]
        values = {name: torch.cat([found[name] for found, _ in parts]) for name in parts[0][0]}
        return values, torch.cat([jacobian for _, jacobian in parts])

    @torch.no_grad()
    def prior(self, draws: int) -> Tensor:
        """Free latents drawn from the prior, (S, P); 0 of those that cannot be drawn."""
        points = torch.zeros(draws, self.size, dtype=self.dtype, device=self.device)
        if "prior" not in self._maps:
            try:
                self._maps["prior"] = (
                    None if self.plain else Mapped(self.visit.prior, points[0], self.name, other=points[0])
                )
            except TraceError:  # what draws by turns of its own, as a von Mises does
                self._maps["prior"] = None
        found = self._maps["prior"]
        return found(points) if found else one_by_one(self.visit.prior, points)  # type: ignore[no-any-return]

    @torch.no_grad()
    def recentre(self, draws: Tensor, dense: bool) -> Callable[[Tensor], Tensor] | None:
        """Choose coordinates by draws of the posterior, (S, P); see `inference.sampling.centring`.

        Args:
            draws: in the coordinates of now.
            dense: whether the metric is to be a full one.

        Returns:
            What takes points of the old coordinates, (S, P), to the new ones; None where they stay as they are.
        """
        if not self.visit.centrable:
            return None
        old, places = self.visit.shares, self._places(draws)
        shares = old.clone()
        for latent in self.seen.latents:
            if latent.name in places:
                own = slice(latent.begin, latent.end)
                shares[own] = better(draws[:, own], places[latent.name], old[own], dense)
        if torch.equal(shares, old):
            return None

        self.visit.shares = shares
        return lambda points: self._moved(points, old, shares)

    def _moved(self, points: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Points in the coordinates of old shares, (S, P), in those of new ones."""
        found, points = self._places(points, old), points.clone()
        for latent in self.seen.latents:
            if latent.name in found:
                own = slice(latent.begin, latent.end)
                points[:, own] = shifted(points[:, own], found[latent.name], old[own], new[own])
        return points

    def centre_at(self, shares: Tensor) -> None:
        """Take the coordinates of these shares."""
        self.visit.shares = shares

    def uncentre(self) -> None:
        """Go back to the program's own coordinates."""
        self.visit.shares = torch.ones_like(self.visit.shares)

    def _places(self, points: Tensor, shares: Tensor | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """Location and log scale of centrable latents at points, each (S, n)."""
        now = self.visit.shares
        try:
            if shares is not None:
                self.visit.shares = shares
            found = self._run("places", self.visit.places)(points)
        finally:
            self.visit.shares = now
        rows = len(points)
        return {name: (loc.reshape(rows, -1), scale.reshape(rows, -1)) for name, (loc, scale) in found.items()}

    def _run(
        self, name: str, function: Callable[[Any], Any], example: Any = None, held: Sequence[Tensor] = ()
    ) -> Callable[[Any], Any]:
        """A function of one point, for many: in the coordinates of now or in those of `held`."""
        if self.plain:
            return lambda points: one_by_one(function, points)
        if name not in self._maps:
            example = torch.zeros(self.size, dtype=self.dtype, device=self.device) if example is None else example
            self._maps[name] = Mapped(function, example, self.name, self.held)
        mapped = self._maps[name]
        return lambda points: mapped(points, held or self.held)  # type: ignore[misc]

    @torch.no_grad()
    def free(self, values: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `constrain`, of values of all latents, each (S, ...): (S, P), in the coordinates of now."""
        given = {latent.name: values[latent.name] for latent in self.seen.latents}
        example = {name: value[0] for name, value in given.items()}
        own: Tensor = self._run("free", self.visit.free, example)(given)
        ones = torch.ones_like(self.visit.shares)
        return own if torch.equal(self.visit.shares, ones) else self._moved(own, ones, self.visit.shares)

    def culprits(self, point: Tensor) -> list[str]:
        """Sites whose value or log density is not finite at a point, (P,)."""
        return self.visit.culprits(point)

    def _check_fixed(self) -> None:
        """Refuse a density that is drawn anew each time."""
        density = self._maps.get("density")
        if density and density.random:
            raise ValueError(
                f"{self.name}: its log density draws random numbers itself ({density.random[0]}), so it is another "
                "each time: draw them before, and hand them in as an argument"
            )
