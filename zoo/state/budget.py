"""A bound on what building from a file may cost, so that a crafted config cannot exhaust the machine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.settings import settings

_LENGTHS = {"n", "m", "end", "steps"}  # scalar arguments of arange, linspace, eye: eye(n) is n wide too


class Budget(TorchDispatchMode):
    """Within this context tensor operations may make at most `limit` bytes, and their number is bounded.

    Everything that an operation returns counts, views and in-place results aside, and freeing it gives nothing back.
    What is asked for by size, or follows from broadcasting, is refused before it is allocated. How many there may be
    is `settings.build_operations`, or `most`.

    Raises:
        MemoryError: the limit is passed.
    """

    def __init__(self, limit: int, most: int | None = None) -> None:
        """`limit`: bytes; `most`: operations."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit, self.used, self.operations = limit, 0, 0
        self.most = settings.build_operations if most is None else most

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, run, count."""
        kwargs = kwargs or {}
        self.operations += 1
        fresh = [value.alias_info is None for value in func._schema.returns]
        if any(fresh):
            self._check(_asked(func, args, kwargs))
        made = func(*args, **kwargs)
        results = made if isinstance(made, (tuple, list)) and len(fresh) > 1 else (made,)
        self.used += sum(
            _bytes(value.shape, value) for new, value in zip(fresh, results, strict=False) if new and _is(value)
        )
        self._check(0)
        return made

    def _check(self, asked: int) -> None:
        if self.used + asked > self.limit or self.operations > self.most:
            raise MemoryError(
                f"it takes more than {self.limit / 1e9:.1f} GB or {self.most:,} operations to build, "
                "which its weights do not justify"
            )


def _asked(func: Any, args: Any, kwargs: Any) -> int:
    """At least the bytes that an operation will make, as far as its arguments tell."""
    tensors = [value for value in args if _is(value)]
    given = dict(zip((spec.name for spec in func._schema.arguments), args, strict=False)) | kwargs
    if "size" in given:
        return _bytes(given["size"], *tensors)
    if "repeats" in given and tensors and isinstance(given["repeats"], (list, tuple)):
        return _bytes((*given["repeats"], *tensors[0].shape), tensors[0])
    if not tensors:
        lengths = [value for name, value in given.items() if name in _LENGTHS and isinstance(value, (int, float))]
        return _bytes(lengths * 2 if "n" in given and "m" not in given else lengths)
    ndim = max(value.ndim for value in tensors)
    sides = [set(side) - {1} for side in zip(*((1,) * (ndim - v.ndim) + tuple(v.shape) for v in tensors), strict=True)]
    if any(len(side) > 1 for side in sides):  # not broadcast: a product of matrices, a lookup
        return 0
    return _bytes((side.pop() for side in sides if side), *tensors)


def _is(value: Any) -> bool:
    return isinstance(value, Tensor)


def _bytes(shape: Iterable[Any], *like: Tensor) -> int:
    return int(math.prod(shape)) * max((value.element_size() for value in like), default=4)
