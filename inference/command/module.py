"""`--module FILE.py`: pairs of the user's own on the command line. A file is run only because it was named there."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path


def load(name: str) -> None:
    """Run a Python file, whose pairs are registered then.

    Raises:
        ValueError: no such file, an error in it (with its line), no pair registered, or a module of that name is there.
    """
    from zoo.base import registry

    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"--module {name}: {'expected a .py file' if path.suffix != '.py' else 'no such file'}")
    known = sys.modules.get(path.stem)
    if known is not None:
        if getattr(known, "__file__", None) and Path(str(known.__file__)).resolve() == path.resolve():
            return
        raise ValueError(f"--module {name}: there is a module called '{path.stem}' already; rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--module {name}: not a file that Python can run")
    module = importlib.util.module_from_spec(spec)
    before, folder = set(registry()), str(path.resolve().parent)
    sys.modules[path.stem] = module
    sys.path.insert(0, folder)  # what stands beside the file may be imported, as when it is run by itself
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[path.stem]
        if not isinstance(error, Exception):
            raise
        raise ValueError(f"--module {name}{_line(error, path)}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    if not set(registry()) - before:
        raise ValueError(f"--module {name}: it registers no pair: @register('name') above its class does")


def _line(error: Exception, path: Path) -> str:
    """Where in the file an error is."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == path.resolve()
    ]
    return f", line {frames[-1].lineno}" if frames else ""
