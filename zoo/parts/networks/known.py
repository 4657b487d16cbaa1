"""Known tables as an argument of a pair: numbers by the name of their node, in the types of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Tables(dict[str, Any]):
    """P(node | parents) by node, nested lists (*parents, C)."""

    @classmethod
    def of(cls, value: Any) -> Tables:
        """Tables from a mapping of nodes to nested lists, arrays or tensors.

        Raises:
            ValueError: no mapping, or an entry that is no table.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a mapping of nodes to tables, got {value!r}")
        return cls({str(node): _plain(str(node), table) for node, table in value.items()})


def _plain(node: str, table: Any) -> list[Any]:
    table = table.tolist() if hasattr(table, "tolist") else table
    if not isinstance(table, (list, tuple)):
        raise ValueError(f"table of '{node}': expected nested lists of numbers, got {table!r}")
    return [
        _plain(node, item) if isinstance(item, (list, tuple)) or hasattr(item, "tolist") else item for item in table
    ]
