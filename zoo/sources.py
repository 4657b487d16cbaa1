"""What the source of the zoo's models tells of them: names and a line each, without importing torch for it.

A file is read, not run. Nothing is kept by hand: whatever has `@register("name")` above a class, in a folder of one of
the families, is a model.
"""

from __future__ import annotations

import ast
import functools
import inspect
from pathlib import Path
from typing import NamedTuple

FAMILIES = ("autoencoders", "mixtures", "sequences", "graphs", "regression")


class Source(NamedTuple):
    """Where a model stands.

    Args:
        module: that registers it, such as "zoo.mixtures.gmm".
        called: the name of its class there.
        summary: the first line of the docstring of the class.
    """

    module: str
    called: str
    summary: str

    @property
    def family(self) -> str:
        """The folder that it stands in."""
        return self.module.split(".")[1]


def modules() -> list[str]:
    """The modules that may register models."""
    import pkgutil

    here = Path(__file__).parent
    return [f"zoo.{family}.{found.name}" for family in FAMILIES for found in pkgutil.iter_modules([str(here / family)])]


@functools.cache
def sources() -> dict[str, Source]:
    """The zoo's models by name, sorted; those whose source is not there, or is read otherwise, are left out."""
    found: dict[str, Source] = {}
    here = Path(__file__).parent
    for family in FAMILIES:
        for path in sorted((here / family).glob("*.py")):
            try:
                tree = ast.parse(path.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and (name := _registered(node)) is not None:
                    lines = inspect.cleandoc(ast.get_docstring(node) or "").split("\n", maxsplit=1)
                    found[name] = Source(f"zoo.{family}.{path.stem}", node.name, lines[0])
    return dict(sorted(found.items()))


@functools.cache
def complete() -> bool:
    """Whether the source of every model could be read: each of the modules is known to register one."""
    return {source.module for source in sources().values()} == set(modules())


def _registered(node: ast.ClassDef) -> str | None:
    """The name in `@register("name")` above a class."""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="register"), args=[ast.Constant(value=str(name))]):
                return name
    return None
