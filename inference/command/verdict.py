"""`zoo check`: can the posterior in a run folder be believed?"""

from __future__ import annotations

import argparse
import json

from inference.checking.door import check
from inference.command.inferring import kept
from inference.command.rescore import of_run
from inference.reporting.numbers import findings
from inference.reporting.words import EXITS


def check_run(options: argparse.Namespace) -> int:
    """`zoo check`: the findings about the guide of a fitted model, and a verdict; 0, 1 or 2 by that."""
    pair, data, _, _ = of_run(options)
    found = check(pair, data, kept(pair), run=not options.no_run, seed=options.seed)
    status = EXITS[found.verdict]
    if options.json:
        told = {"name": found.name, "verdict": found.verdict, "exit": status, "reasons": list(found.reasons)}
        print(json.dumps({**told, "findings": list(findings(found).values)}, indent=2, ensure_ascii=False))
    else:
        print(found)
    return status
