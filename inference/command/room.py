"""Whether memory and disk bear what a run will leave, looked at before its first step."""

from __future__ import annotations

import shutil
from pathlib import Path

from inference.posterior.draws import check_draws
from inference.running.checked import Checked
from zoo.settings import settings
from zoo.state.memory import check_room, told

_PACKED = 0.8  # of their size in memory, at the least, is what compressed draws take on the disk


def check(out: Path, given: Checked, draws: int | None) -> None:
    """Refuse a run that cannot be kept, or scored under so many draws.

    Args:
        out: the run folder, which need not be there.
        given: the data that are fitted.
        draws: those of its scores; None for a run without.

    Raises:
        ValueError: memory does not hold the draws, or the disk not the weights and them.
    """
    pair = given.pair
    weights = sum(value.nbytes for value in pair.state_dict().values())
    posterior = 0
    if draws is not None:
        rows, bytes_each = min(given.size, settings.summary_rows), pair.dtype.itemsize
        check_draws("--draws", draws, given, given.globals + given.locals, rows)
        check_room("--draws", draws, draws * rows * bytes_each)  # their scores
        numbers = sum(given.sites[name].event_shape.numel() for name in given.globals)
        posterior = int(_PACKED * draws * (2 * numbers + rows) * bytes_each)  # as they are, and unconstrained
    free = shutil.disk_usage(_standing(out)).free
    if weights + posterior > free:
        scores = f" and {told(posterior)} of scores of {draws:,} draws" if draws is not None else ""
        cure = "name a folder on another disk" + ("" if draws is None else ", or take fewer --draws, or --no-score")
        raise ValueError(f"--out {out}: {told(weights)} of weights{scores}, and the disk has {told(free)} left; {cure}")


def _standing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
