"""`zoo check`: can the posterior in a run folder be believed?"""

from __future__ import annotations

import argparse

from inference.checking.door import check
from inference.command.inferring import kept
from inference.command.rescore import of_run


def check_run(options: argparse.Namespace) -> None:
    """`zoo check`: the findings about the guide of a fitted model, and a verdict."""
    pair, data, _, _ = of_run(options)
    print(check(pair, data, kept(pair), run=not options.no_run, seed=options.seed))
