"""Which site a run had reached when it failed, so that errors name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyro.poutine.messenger import Messenger

from inference.compiling.compiled import TraceError


class Last(Messenger):
    """Remembers the site that was met last, so that an error can name it."""

    name = ""

    def _pyro_sample(self, message: Any) -> None:
        self.name = message["name"]


@contextmanager
def proper() -> Iterator[None]:
    """Names the site whose distribution cannot be drawn from, where a model runs within.

    Raises:
        ValueError: there is such a site.
    """
    last = Last()
    try:
        with last:
            yield
    except NotImplementedError as error:
        told = next(iter(str(error).splitlines()), "")
        raise ValueError(
            f"site '{last.name}' cannot be drawn from ({told}): give it a proper prior, however wide"
        ) from error


class _LastSite(Messenger):
    """Remembers the sample site that was drawn last."""

    name = ""

    def _pyro_post_sample(self, message: Any) -> None:
        self.name = message["name"]


@contextmanager
def naming_the_site() -> Iterator[None]:
    """Add to a `TraceError` where in the model it arose."""
    with _LastSite() as last:
        try:
            yield
        except TraceError as error:
            told = str(error).splitlines()[0]  # Pyro adds the shapes of all sites
            raise TraceError(f"{told}, after site '{last.name}'" if last.name else told) from error
