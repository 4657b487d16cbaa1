"""A program whose plates take a part of their rows, with all of them: what is said of its data is said of every row.

A fit takes other rows in each step. Draws, predictions and log-likelihoods of random rows, others at each draw, would
say nothing of any row, so that each such plate takes all of its rows there, as without `subsample_size`.

The rows may be the arguments' own: `plate("row", 60_000, subsample_size=len(batch))` around a batch that was chosen
outside. Those are all that there is to speak of, and the plate's own choice means nothing. Programs are told apart by
whether anything in a run depends on which rows the plates choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from inference.programs.outline import Outline, outline
from inference.programs.runs import Call, First, Kept, sites_of
from zoo.programs import Program
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart


def outline_of_all(
    program: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any], sampled: bool = False
) -> Outline:
    """What a program holds, with all rows; see `outline`.

    Raises:
        ValueError: see `outline`; rows that a plate chooses itself, of a program that cannot be run with all of them.
    """
    part = outline(program, args, kwargs, sampled, whole=False)
    if not part.partial:
        return part
    try:
        return outline(program, args, kwargs, sampled, whole=False, all_rows=True)
    except (RuntimeError, ValueError, IndexError) as error:
        if _rows_are_given(part):
            return part
        plate = part.partial[0]
        told = next(iter(str(error).splitlines()), "")
        raise ValueError(
            f"{program.name}: plate '{plate.name}' takes {plate.size} of {plate.full} rows, others in each run, and "
            f"the program cannot be run with all of them ({told}): leave `subsample_size` out here"
        ) from error


def _rows_are_given(seen: Outline) -> bool:
    """Whether nothing in a run depends on which rows its plates choose."""
    first, last = (_sites(seen, last) for last in (False, True))
    return first.keys() == last.keys() and all(
        torch.equal(one.nan_to_num(), other.nan_to_num())
        for name, values in first.items()
        for one, other in zip(values, last[name], strict=True)
    )


def _sites(seen: Outline, last: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Values and log densities of the sites of a run in which plates choose their first rows, or their last ones."""
    call: Call = seen.call
    with apart(0), torch.no_grad(), unvalidated(), Kept(seen.parameters), First(call.program.start, drawn=False):
        with _Chosen(last):
            trace = poutine.trace(call).get_trace()
        trace.compute_log_prob()
    nodes = sites_of(trace).items()
    return {name: (torch.as_tensor(node["value"]), torch.as_tensor(node["log_prob"])) for name, node in nodes}


class _Chosen(Messenger):
    """Gives plates their first rows, or their last ones."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last

    def _pyro_sample(self, message: Any) -> None:
        fn = message["fn"]
        if isinstance(fn, _Subsample) and message["value"] is None and fn.subsample_size is not None:
            begin = fn.size - fn.subsample_size if self.last else 0
            message["value"] = torch.arange(begin, begin + fn.subsample_size)
