"""ArviZ, loaded when it is first asked for, beside other processes and on disks that nothing can be written to.

At the first import of a day ArviZ 0.23 writes the date to a file of the user's cache, by way of a second file whose
name is the same in every process: of two that import it at once, one finds its file gone. Nor can the file be written
where the home folder is read-only, or is none. The warning of that day, about ArviZ's next version, is nobody's here.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
import warnings
from types import ModuleType

_CACHE = "XDG_CACHE_HOME"  # where ArviZ's note of the day goes
_lock = threading.Lock()  # the environment is the process's


def arviz() -> ModuleType:
    """The module, whatever becomes of its note of the day."""
    with _lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\\s*ArviZ is undergoing", FutureWarning)
        try:
            return importlib.import_module("arviz")
        except OSError:
            return _elsewhere()


def _elsewhere() -> ModuleType:
    """The module, its note written to a folder of this process alone, and gone with it."""
    before = os.environ.get(_CACHE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[_CACHE] = folder
        try:
            return importlib.import_module("arviz")
        finally:
            if before is None:
                del os.environ[_CACHE]
            else:
                os.environ[_CACHE] = before
