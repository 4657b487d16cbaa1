"""Words of a command line, `key=value` and the like, in the types of a pair's arguments."""

from __future__ import annotations

import json
import os
import shlex
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def named(
    assignments: Sequence[str], option: str = "--set", wanted: str = "KEY=VALUE, such as --set components=3"
) -> dict[str, str]:
    """`key=value` words as a dictionary of texts."""
    found: dict[str, str] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{option} {assignment}: expected {wanted}")
        if key.strip() in found:
            raise ValueError(f"{option} {assignment}: '{key.strip()}' is set twice")
        found[key.strip()] = text.strip()
    return found


def kinds(words: dict[str, str]) -> dict[str, str | tuple[str, list[str]]]:
    """What `--kind` says of each column: a kind, or a kind and its levels, as `ordinal:low,mid,high`, in their order.

    Levels that hold commas are written as JSON: `ordinal:["1,5","2,5"]`.
    """
    found: dict[str, str | tuple[str, list[str]]] = {}
    for name, text in words.items():
        kind, colon, levels = text.partition(":")
        value = _value(levels) if levels.startswith("[") else levels.split(",")
        found[name] = (kind, [str(level).strip() for level in value]) if colon else kind
    return found


def evidence(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The table file among the words of `--given`, if there is one, and the others."""
    files = [word for word in words if "=" not in word and Path(word).suffix]
    if len(files) > 1:
        raise ValueError(f"--given {files[1]}: one file holds all rows, and {files[0]} was given already")
    return (files[0] if files else None), [word for word in words if word not in files]


def arguments(name: str, words: dict[str, str]) -> dict[str, Any]:
    """Words as typed arguments of a model: JSON where it reads as JSON, else text; lists also as 256,128."""
    from zoo.base import registered
    from zoo.config import hints

    expected = hints(registered(name).__init__)
    found: dict[str, Any] = {}
    for key, text in words.items():
        value = _value(text)
        kinds = [typing.get_origin(kind) for kind in (expected.get(key), *typing.get_args(expected.get(key)))]
        if (tuple in kinds or list in kinds) and "," in text and not isinstance(value, (list, tuple)):
            value = [_value(part) for part in text.split(",")]
        elif kinds[0] in (tuple, list) and not isinstance(value, (list, tuple)):
            value = [_value(part) for part in text.split(",")] if text else []
        found[key] = value
    return found


def plain(words: dict[str, str]) -> dict[str, Any]:
    """Words as values of no known type: JSON where it reads as JSON, else text."""
    return {key: _value(text) for key, text in words.items()}


def _value(text: str) -> Any:
    known = {"True": True, "False": False, "None": None}
    if text in known:
        return known[text]
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def quoted(path: str | Path) -> str:
    """A path as one word of a command line that can be pasted into a shell, and is no option."""
    text = os.fspath(path)
    return shlex.quote(os.path.join(".", text) if text.startswith("-") else text)
