"""The `zoo` command as a user types it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from matplotlib.figure import Figure

from inference.command import exchange, run_folder
from inference.command.main import main

FEW = ["--steps", "3", "--draws", "20", "--score-seconds", "600"]
FIT = ["fit", "gmm", "--data", "faithful", "--out", "run"]


@contextmanager
def blank_pictures():
    """Half of the time of a short run goes into its pictures: for tests that do not look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "_pictures", lambda *_: [("predictive", Figure(figsize=(1, 1)))])
        patch.setattr(
            run_folder,
            "draw_loss",
            lambda folder, _: run_folder.picture(folder / exchange.LOSS, Figure(figsize=(1, 1))),
        )
        yield


def fails(capsys, *arguments):
    """The one line that a command with a fault prints; nothing else, and status 2."""
    try:
        status = main(arguments)
    except SystemExit as error:  # argparse's way out
        status = error.code
    printed = capsys.readouterr()
    assert status == 2, printed
    assert len(printed.err.splitlines()) == 1, printed.err
    assert printed.err.startswith("zoo")
    assert "Traceback" not in printed.err + printed.out
    return printed.err
