"""The `zoo` command: what is done when it is typed. `inference.command.parser` says what may be; help needs no torch.

Every error is one line on standard error and exit status 2; `--debug` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from inference.command.parser import parser
from inference.command.terminal import escaped, notes, plainly
from inference.command.words import named

# What a command does, in which file of this folder; all others are functions of `use`, by their own names.
_HOMES = {
    "list": ("about", "overview"),
    "info": ("about", "about_pair"),
    "fit": ("fit", "fit_pair"),
    "demo": ("demo", "show"),
}
_WORDS = {  # options that are NAME=VALUE, and how to say so
    "set": "KEY=VALUE, such as --set components=3",
    "kind": "COLUMN=KIND, such as --kind stage=ordinal",
    "given": "NAME=VALUE, such as smoke=yes",
    "do": "NAME=VALUE, such as smoke=yes",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    with plainly():
        return _told(parser().parse_args(arguments))


def _told(options: argparse.Namespace) -> int:
    """Do what was typed, and say what went wrong; the exit status."""
    try:
        with notes():
            _run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `zoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _complain(options, f"interrupted{'; nothing was written' if options.command == 'fit' else ''}", 130)
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        return _complain(options, str(error) or type(error).__name__, 2)
    except Exception as error:
        if options.debug:
            raise
        told = f"{type(error).__name__}: {error}"
        return _complain(options, f"internal error, {told} (run with --debug for the traceback, and report it)", 2)
    return 0


def _complain(options: argparse.Namespace, message: str, status: int) -> int:
    print(f"zoo {options.command}: {escaped(' '.join(message.split()))}", file=sys.stderr)
    return status


def _run(options: argparse.Namespace) -> None:
    """Do what was typed; the code of a command is loaded here, after its words have been looked at."""
    for option, wanted in _WORDS.items():
        if option in options:
            setattr(options, option, named(getattr(options, option), f"--{option}", wanted))
    if "threads" in options:
        import torch

        torch.set_num_threads(options.threads)
    home, function = _HOMES.get(options.command, ("use", options.command))
    getattr(importlib.import_module(f"inference.command.{home}"), function)(options)


if __name__ == "__main__":
    sys.exit(main())
