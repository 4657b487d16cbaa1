"""Values that leave torch while a function is written down: what Python or NumPy makes of them is no operation.

`float(x)` and `if x > 0` are operations that read a value, and seen as such. `x.numpy()`, `x.tolist()`, `np.asarray(x)`
and `torch.tensor([x, y])` are none: what is made of them later would be a constant of the graph, the same for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_READING = frozenset(
    {
        Tensor.numpy,
        Tensor.tolist,
        Tensor.__array__,
        Tensor.__dlpack__,
        Tensor.__reduce_ex__,
    }
)
_COPYING = frozenset(
    {
        torch.tensor,
        torch.as_tensor,
        torch.asarray,
        torch.scalar_tensor,
        Tensor.new_tensor,
        Tensor.__deepcopy__,
    }
)


class Leaving(TorchFunctionMode):
    """Inside, values that leave are told.

    Args:
        varies: whether the value of a tensor depends on an input or a random draw.
        refuse: is told what was called, and raises.
    """

    def __init__(self, varies: Callable[[Tensor], bool], refuse: Callable[[str], None]) -> None:
        super().__init__()
        self.varies, self.refuse = varies, refuse

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READING and any(map(self.varies, _tensors((args, kwargs)))):
            self.refuse(f"{func.__name__}, which no gradient goes through")
        result = func(*args, **(kwargs or {}))
        if func in _COPYING and not self.varies(result) and any(map(self.varies, _tensors((args, kwargs)))):
            self.refuse(f"{func.__name__}, which no gradient goes through")
        return result


def _tensors(arguments: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Tensor)]
