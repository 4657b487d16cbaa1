"""The `zoo` command: what is done when it is typed. `inference.command.parser` says what may be; help needs no torch.

Every error is one line on standard error and exit status 2; `--debug` shows the traceback instead. What judges a run,
`zoo check` and `zoo report`, exits with 0, 1 or 2 for trust, caution and do not trust.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from inference.command.parser import parser
from inference.command.terminal import escaped, notes, plainly
from inference.command.words import evidence, named
from zoo.rows import counted_from

# What a command does, in which file of this folder; all others are functions of `use`, by their own names.
_HOMES = {
    "list": ("about", "overview"),
    "info": ("about", "about_pair"),
    "fit": ("fit", "fit_pair"),
    "score": ("rescore", "score_run"),
    "check": ("verdict", "check_run"),
    "report": ("report", "report_run"),
    "demo": ("demo", "show"),
    "compare": ("compare", "compare_runs"),
    "runs": ("runs", "list_runs"),
    "predict": ("designs", "predict"),
    "anomaly": ("rows", "anomaly"),
    "profile": ("rows", "profile"),
    "plot": ("plot", "draw"),
    "query": ("ask", "query"),
    "explain": ("ask", "explain"),
    "backtest": ("backtest", "backtest_pair"),
    "compress": ("compressing", "compress"),
    "decompress": ("compressing", "decompress"),
}
_JUDGING = ("check", "report")  # whose functions give the exit status
_WORDS = {  # options that are NAME=VALUE, and how to say so
    "set": "KEY=VALUE, such as --set components=3",
    "kind": "COLUMN=KIND, such as --kind stage=ordinal:low,mid,high",
    "given": "NAME=VALUE, such as smoke=yes, or a table file",
    "do": "NAME=VALUE, such as smoke=yes",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    with plainly():
        return _told(parser().parse_args(arguments))


def _told(options: argparse.Namespace) -> int:
    """Do what was typed, and say what went wrong; the exit status."""
    options.began = time.perf_counter()
    ended: list[int] = []
    try:
        with notes(), counted_from(1), _ending_alike(ended):
            status = _run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `zoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except KeyboardInterrupt as error:
        number = ended[0] if ended else signal.SIGINT
        words = f"interrupted{'' if number == signal.SIGINT else f' by {signal.Signals(number).name}'}"
        stands = str(error) or ("nothing was written" if options.command == "fit" else "")
        return _complain(options, f"{words}{stands and '; '}{stands}", 128 + number)
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        return _complain(options, str(error) or type(error).__name__, 2)
    except Exception as error:
        if options.debug:
            raise
        told = f"{type(error).__name__}: {error}"
        return _complain(options, f"internal error, {told} (run with --debug for the traceback, and report it)", 2)
    return status


@contextmanager
def _ending_alike(ended: list[int]) -> Iterator[None]:
    """A request to end, or a terminal that closes, interrupts as Ctrl-C does, and `ended` takes its number."""

    def interrupt(number: int, _: Any) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    wanted = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    in_main = threading.current_thread() is threading.main_thread()
    ours = [number for number in wanted if in_main and signal.getsignal(number) == signal.SIG_DFL]  # not under nohup
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _complain(options: argparse.Namespace, message: str, status: int) -> int:
    print(f"zoo {options.command}: {escaped(' '.join(message.split()))}", file=sys.stderr)
    return status


def _run(options: argparse.Namespace) -> int:
    """Do what was typed; the code of a command is loaded here, after its words have been looked at. The exit status."""
    if "given" in options:
        options.rows, options.given = evidence(options.given)
    for option, wanted in _WORDS.items():
        if option in options:
            setattr(options, option, named(getattr(options, option), f"--{option}", wanted))
    if getattr(options, "module", None):
        from inference.command import module

        module.load(options.module)
    if "threads" in options:
        import torch

        torch.set_num_threads(options.threads)
    home, function = _HOMES.get(options.command, ("use", options.command))
    found = getattr(importlib.import_module(f"inference.command.{home}"), function)(options)
    return int(found) if options.command in _JUDGING else 0


if __name__ == "__main__":
    sys.exit(main())
