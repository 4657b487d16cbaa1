"""The one error of a compressed file, and the one of a library that is not installed."""

from __future__ import annotations

from typing import Any


class CompressionError(ValueError):
    """A compressed file is damaged, foreign, of a newer version, or needs a model that is another or not there."""


def entropy_coder() -> Any:
    """constriction's stream coders.

    Raises:
        ValueError: it is not installed, with what to install.
    """
    try:
        from constriction import stream
    except ImportError:
        raise ValueError("compression needs constriction: pip install 'pyro-zoo[compress]'") from None
    return stream
