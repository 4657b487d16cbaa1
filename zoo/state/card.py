"""The model card: README.md beside the weights, for people."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from zoo.pair import Pair

_MARK = "<!-- Written by pyro-zoo; the next save overwrites it. -->"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_MARKUP = re.compile(rf"[<>&`*\[\]\\#|!~$]|://|{_CONTROL.pattern}")
_SECTIONS = ("data", "metrics", "seed")  # always there, whatever else the card says


def ours(path: Path) -> bool:
    """Whether a save may write here: nothing is there, or a card that a save wrote."""
    try:
        return _MARK in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return not path.exists()


def render(pair: Pair, record: dict[str, Any], folder: str) -> str:
    """The text of the card, from what config.json holds."""
    name, module = record["model"], type(pair).__module__
    about = (inspect.getdoc(type(pair)) or "No description.").split("\n\n")[0]
    foreign = [] if module.startswith("zoo.") else [f"import {module}  # registers '{name}'"]
    if module == "__main__":
        foreign = [f"# first run the script whose class registers '{name}'"]
    card = {**dict.fromkeys(_SECTIONS), **record["card"]}
    versions = card.pop("versions", record["versions"])  # of the fit, else of the save
    parts = [
        f"---\nlibrary_name: pyro-zoo\ntags: [pyro, {name}]\n---",
        _MARK,
        f"# {name}",
        about,
        "## Use it",
        "\n".join(
            [
                "```python",
                "import inference",
                "import zoo",
                *foreign,
                "",
                f"pair = zoo.load({json.dumps(folder, ensure_ascii=False)})",
                "posterior = inference.draw(pair, data, draws=1000)",
                "```",
            ]
        ),
        "## Arguments",
        _listed(record["config"]),
        *(part for key, value in card.items() for part in (f"## {key.capitalize()}", _listed(value))),
        "## Versions",
        _listed(versions),
        "## Licence",
        "The code of pyro-zoo is under the MIT licence. The weights carry whatever terms the data above set.",
    ]
    return "\n\n".join(parts) + "\n"


def _listed(value: Any) -> str:
    if value is None or value in ({}, []):
        return "Not recorded."
    if isinstance(value, dict):
        return "\n".join(f"- {_literal(str(key))}: {_short(item)}" for key, item in value.items())
    return _short(value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return _literal(text if len(text) <= 200 else text[:200] + " …")


def _literal(text: str) -> str:
    """The text as it stands, whatever Markdown or HTML it holds: names of columns come from data.

    What could be either is put into a code span, which no reader interprets, its control characters escaped.
    """
    if not _MARKUP.search(text):
        return text
    shown = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if shown[:1] in ("`", " ", "") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{space}{shown}{space}{fence}"
