"""Which site a run had reached when it failed, so that errors name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyro.poutine.messenger import Messenger

from inference.compiling.compiled import TraceError


class _LastSite(Messenger):
    """Remembers the site that a run met last, and the one that it was through with last."""

    met = drawn = ""

    def _pyro_sample(self, message: Any) -> None:
        self.met = message["name"]

    def _pyro_post_sample(self, message: Any) -> None:
        self.drawn = message["name"]


@contextmanager
def proper() -> Iterator[None]:
    """Names the site whose distribution cannot be drawn from, where a model runs within.

    Raises:
        ValueError: there is such a site.
    """
    with _LastSite() as last:
        try:
            yield
        except NotImplementedError as error:
            told = next(iter(str(error).splitlines()), "")
            raise ValueError(
                f"site '{last.met}' cannot be drawn from ({told}): give it a proper prior, however wide"
            ) from error


@contextmanager
def naming_the_site() -> Iterator[None]:
    """Add to a `TraceError` where in the model it arose."""
    with _LastSite() as last:
        try:
            yield
        except TraceError as error:
            told = str(error).splitlines()[0]  # Pyro adds the shapes of all sites
            raise TraceError(f"{told}, after site '{last.drawn}'" if last.drawn else told) from error
