"""Parameters of a program: the very tensors that plain Pyro would optimise, in the user's store or modules."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def leaves_of(*traces: Any) -> dict[str, Tensor]:
    """What is optimised behind the `pyro.param` statements of runs, by name, without constraint."""
    found: dict[str, Tensor] = {}
    for trace in traces:
        for name, node in trace.nodes.items():
            if node["type"] == "param":
                value = node["value"]
                leaf = value.unconstrained() if hasattr(value, "unconstrained") else value
                if leaf is not None and leaf.requires_grad and leaf.is_leaf:
                    found[name] = leaf
    return found
