"""The version of this release; everything else that names it reads it here."""

from __future__ import annotations

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions of what numbers depend on, for whatever is kept of a run."""
    import platform

    import pyro
    import torch

    return {
        "zoo": __version__,
        "torch": str(torch.__version__),
        "pyro": pyro.__version__,
        "python": platform.python_version(),
    }
