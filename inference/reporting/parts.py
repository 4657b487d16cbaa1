"""A part of a page: its heading, how to read it, its picture or text; or why it could not be made."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inference.reporting.encoding import Encoded, encoded
from inference.reporting.words import PICTURES

MOST = 4_500_000  # characters of pictures: a page stays below 5 MB


@dataclass(frozen=True)
class Part:
    """A part of a page.

    Args:
        kind: what it shows, a key of `words.PICTURES`.
        title: its heading.
        reading: how to read it.
        alt: what is seen, for whoever sees no pictures.
        picture: the picture.
        text: in its place, a text.
        missing: why there is neither.
    """

    kind: str
    title: str
    reading: str = ""
    alt: str = ""
    picture: Encoded | None = None
    text: str = ""
    missing: str = ""

    def record(self) -> dict[str, str]:
        """What of it goes into JSON."""
        told = {"kind": self.kind, "title": self.title, "alternative_text": self.alt, "text": self.text}
        return {key: value for key, value in {**told, "missing": self.missing}.items() if value}


def part(kind: str, alt: str, make: Callable[[], Any]) -> Part:
    """A part whose picture, a figure, or whose text is made now; where that fails, the reason stands in its place.

    Args:
        kind: a key of `words.PICTURES`.
        alt: what is seen.
        make: makes the figure, or the text.
    """
    title, reading = PICTURES[kind]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = make()
            if isinstance(found, str):
                return Part(kind, title, reading, text=found)
            return Part(kind, title, reading, alt, encoded(found))
    except Exception as error:  # whatever it is, the rest of the page is still made
        return Part(kind, title, missing=reason(error))


def reason(error: BaseException) -> str:
    """Why something could not be made, in a line."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if isinstance(error, (ValueError, NotImplementedError)) else f"{type(error).__name__}: {line}"


def affordable(parts: list[Part], most: int = MOST) -> list[Part]:
    """The parts, of which the last are left without a picture where all together would make too large a page."""
    kept, total = list[Part](), 0
    for one in parts:
        size = one.picture.bytes if one.picture else 0
        if total + size > most:
            kept.append(Part(one.kind, one.title, missing="left out, since the page would be larger than 5 MB"))
        else:
            kept.append(one)
            total += size
    return kept
