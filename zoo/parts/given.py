"""A network of the user's own in the place of one that a pair makes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter


class Given(nn.Module):
    """A copy of a module, with any leading dimensions: (*, D) -> (*, n), or (*, D, n) of a decoder.

    The module itself takes rows, (B, …) -> (B, …), with the shapes that are asked for; what it gives is checked.

    Args:
        name: of the argument.
        module: it is copied, and moved to the CPU and to torch's default type.
        takes: shape of what it is given for a row.
        gives: shapes that it may give for a row, each of as many numbers as `result`.
        result: the shape that is made of that, (n,) or (D, n).
        maps: (C n, H, W), of these the one that holds n maps for each channel of an image.

    Raises:
        ValueError: a module whose parameters are not made yet, or that keeps running statistics.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        takes: tuple[int, ...],
        gives: tuple[tuple[int, ...], ...],
        result: tuple[int, ...],
        maps: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        for at, part in module.named_modules():
            if isinstance(part, _BatchNorm) and part.track_running_stats:
                raise ValueError(
                    f"argument '{name}': {type(part).__name__} '{at}' keeps running statistics, which every look at "
                    "the data would change; take LayerNorm or GroupNorm"
                )
        if any(isinstance(value, UninitializedParameter) for value in module.parameters()):
            raise ValueError(f"argument '{name}': a lazy module has no parameters yet; run it once on a row first")
        self.name, self.takes, self.gives, self.result, self.maps = name, takes, gives, result, maps
        self.module = copy.deepcopy(module).to("cpu", torch.get_default_dtype())

    def forward(self, x: Tensor) -> Tensor:
        """Rows through the module.

        Raises:
            ValueError: it takes no such rows, or gives others than it should.
        """
        lead = x.shape[:-1]
        rows = x.reshape(-1, *self.takes)
        kind = type(self.module).__name__
        try:
            found = self.module(rows)
        except (RuntimeError, TypeError, IndexError) as error:
            said = str(error).strip().partition("\n")[0][:200]
            raise ValueError(
                f"argument '{self.name}': {kind} fails on rows of shape {_shape(self.takes)}: {said}"
            ) from error
        if not isinstance(found, Tensor) or found.shape[:1] != rows.shape[:1] or found.shape[1:] not in self.gives:
            wanted = " or ".join(_shape(shape) for shape in self.gives)
            got = _shape(found.shape[1:]) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"argument '{self.name}': {kind} takes rows of shape {_shape(self.takes)} and should give {wanted}, "
                f"gives {got}"
            )
        if found.shape[1:] == self.maps:  # (B, C n, H, W) -> (B, C, n, H W) -> (B, C, H W, n)
            found = found.flatten(2).unflatten(1, (-1, self.result[1])).mT
        made: Tensor = found.reshape(*lead, *self.result)
        return made


def _shape(shape: tuple[int, ...]) -> str:
    return f"(B, {', '.join(map(str, shape))})"
