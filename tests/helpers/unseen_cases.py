"""All of them, by name."""

from tests.helpers import unseen_modes, unseen_shapes
from tests.helpers.unseen import UNSEEN

__all__ = ["UNSEEN", "unseen_modes", "unseen_shapes"]
