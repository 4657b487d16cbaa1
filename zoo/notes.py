"""The warning that data were read otherwise than they stand there; the `zoo` command prints it as a note."""

from __future__ import annotations


class DataWarning(UserWarning):
    """Part of the data was left out, or taken for something: the message says what, and how to have it otherwise."""
