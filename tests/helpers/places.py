"""Where the tests find the project, its benchmarks, and the reference values that are not part of it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REFERENCE = Path(os.environ.get("ZOO_REFERENCE", ROOT.parent / "shared" / "reference"))


@cache
def benchmark(name: str) -> ModuleType:
    """A script of examples/benchmarks as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", EXAMPLES / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@cache
def package(name: str) -> ModuleType:
    """A package of examples/benchmarks, whose files know each other by its name."""
    with _also_from(EXAMPLES / "benchmarks"):
        return importlib.import_module(name)


@contextmanager
def _also_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
