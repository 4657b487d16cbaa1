"""The `zoo` command: what is done when it is typed. `inference.parser` says what may be; help needs no torch.

Every error is one line on standard error and exit status 2; `--debug` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inference.command.parser import parser

if TYPE_CHECKING:
    pass
from inference.command.about import about_pair, overview
from inference.command.fit import fit_pair
from inference.command.words import named


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser(_RUNS, _with_run).parse_args(arguments)
    try:
        with warnings.catch_warnings():
            # What libraries will change one day is of no use to whoever typed `zoo`.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `zoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _complain(options, f"interrupted{'; nothing was written' if options.run is fit_pair else ''}", 130)
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
    print(f"zoo {options.command}: {' '.join(message.split())}", file=sys.stderr)
    return status


def _with_run(name: str) -> Callable[[argparse.Namespace], None]:
    """A command that works with a run folder; its code is loaded when it runs."""

    def run(options: argparse.Namespace) -> None:
        import torch

        from inference.command import use

        torch.set_num_threads(options.threads)
        if name == "query":
            wanted = "NAME=VALUE, such as smoke=yes"
            options.given = named(options.given, "--given", wanted)
            options.do = named(options.do, "--do", wanted)
        getattr(use, name)(options)

    return run


def _demo(options: argparse.Namespace) -> None:
    import torch

    from inference.command import demo

    torch.set_num_threads(options.threads)
    demo.run(Path(options.out))


_RUNS = {"list": overview, "info": about_pair, "fit": fit_pair, "demo": _demo}


if __name__ == "__main__":
    sys.exit(main())
