"""A page: its parts, the HTML and the JSON of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from inference.checking.findings import Check, Verdict
from inference.reporting.numbers import Table, findings
from inference.reporting.parts import Part, affordable
from inference.reporting.words import EXITS, HEADS, MARKS, STATES, meaning, reasons
from zoo.state.files import write

_GENERATOR = "zoo report"  # by which a page knows another that it may replace


@dataclass(frozen=True, repr=False)
class Page:
    """One self-contained page about a posterior, from `report`. Printed, it is the verdict and why.

    Args:
        name: of the pair or program.
        about: what it is, in a line.
        check: the findings and the verdict.
        told: lines on what was looked at: data, draws.
        seen: pictures and texts of the data and what the model draws.
        drawn: pictures of the posterior.
        summary: ArviZ's table.
        origins: heading -> name -> value: data, arguments, fit, versions, seed, command.
        notes: what could not be made, or is of another version.
    """

    name: str
    about: str
    check: Check
    told: Sequence[str] = ()
    seen: Sequence[Part] = ()
    drawn: Sequence[Part] = ()
    summary: Table = field(default_factory=Table)
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def verdict(self) -> Verdict:
        """`trust`, `caution` or `do not trust`."""
        return self.check.verdict

    @property
    def exit(self) -> int:
        """The same as an exit status: 0, 1 or 2."""
        return EXITS[self.verdict]

    @cached_property
    def html(self) -> str:
        """The page: one text, which needs no other file and runs no script."""
        parts = affordable([*self.seen, *self.drawn])
        seen, drawn = parts[: len(self.seen)], parts[len(self.seen) :]
        return rendered(
            "template.html",
            page=self,
            title=f"{self.name}: {self.verdict}",
            head=HEADS[self.verdict],
            meaning=meaning(self.check),
            reasons=reasons(self.check),
            findings=findings(self.check),
            seen=seen,
            drawn=drawn,
            marks=MARKS,
            states=STATES,
        )

    @property
    def record(self) -> dict[str, Any]:
        """The same for a program: what JSON has of it."""
        return {
            "name": self.name,
            "about": self.about,
            "verdict": self.verdict,
            "exit": self.exit,
            "reasons": list(self.check.reasons),
            "findings": list(findings(self.check).values),
            "told": list(self.told),
            "pictures": [one.record() for one in (*self.seen, *self.drawn)],
            "summary": {"rows": list(self.summary.values), "note": self.summary.note},
            "origins": {head: dict(values) for head, values in self.origins.items()},
            "notes": list(self.notes),
        }

    def save(self, path: str | Path) -> Path:
        """Write the page, and beside it the JSON of the same; each file whole or not at all.

        Args:
            path: a name that ends in .html; a page that is there is replaced, anything else is not.

        Returns:
            The path.

        Raises:
            ValueError: a name of another ending, no such folder, or something else there.
        """
        return saved(Path(path), self.html, self.record)

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{_quoted(self.html)}" style="width:100%;height:40em;border:0"></iframe>'

    def __repr__(self) -> str:
        why = "".join(f"\n  {line}" for line in self.check.reasons)
        return f"{self.name}: {self.verdict}; a page of {len(self.html) / 1e6:.1f} MB, which .save(path) writes{why}"


def rendered(template: str, **values: Any) -> str:
    """A template of this package, in which every value is escaped, with the style in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("inference.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((files("inference.reporting") / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, generator=_GENERATOR, **values)


def saved(path: Path, html: str, record: Mapping[str, Any]) -> Path:
    """Write a page and its JSON; see `Page.save`."""
    check_place(path)
    told = {"made_by": _GENERATOR, **record}
    content = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    write(path.with_suffix(".json"), content.encode(errors="backslashreplace"))  # of half a letter in a column's name
    write(path, html.encode(errors="backslashreplace"))
    return path


def check_place(path: Path, *, replace: bool = False) -> None:
    """Refuse a place where no page can be, or where something else is.

    Args:
        path: where the page is to go.
        replace: whether what is there may be something else.

    Raises:
        ValueError: another ending, no such folder, a file there, or beside it the JSON, that is no page's.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: expected a name that ends in .html")
    if not path.parent.is_dir():
        raise ValueError(f"no folder '{path.parent}' to write '{path.name}' into")
    for place in (path, path.with_suffix(".json")) if not replace else ():
        if place.exists() and not _ours(place):
            raise ValueError(f"'{place}' is there already, and no page of this kind: it is not written over")


def _ours(path: Path) -> bool:
    """Whether a file is a page, or the JSON of one, that was written here, and may be replaced."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(2000)
    return f'content="{_GENERATOR}"'.encode() in head or f'"made_by": "{_GENERATOR}"'.encode() in head


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;")
