"""A state that a run can go on from, as two files: JSON beside safetensors. Nothing is pickled, nothing is run.

`NAME.json` says what the state is, with numbers and words as they are and tensors by name, and carries a checksum of
itself and the size and SHA-256 of `NAME.safetensors`, which holds the tensors. The JSON is the last to arrive, so that
a state is whole where it is there; every file is written beside its place, synced and renamed (`zoo.state.files`).

A state is made of dicts with words for keys, lists, tensors, NumPy arrays, numbers, words, True, False and None.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as of_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from zoo.state import files
from zoo.state.files import DamagedFile, sealed

FORMAT = 1
TOLD, TENSORS = ".json", ".safetensors"
_MOST = 1 << 26  # bytes of JSON that are read
_TENSOR, _NUMBER, _ITEMS = "tensor", "number", "items"


def save(folder: Path, name: str, told: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state into a folder, whole or not at all.

    Args:
        folder: which is there.
        name: of the two files, which no other state has.
        told: what can be read without the tensors, of JSON.
        state: to go on from.

    Raises:
        OSError: it cannot be written.
        TypeError: it holds something else than a state is made of.
    """
    tensors: dict[str, Tensor] = {}
    tree = _packed(state, "", tensors)
    content = to_safetensors(tensors)
    known = {name + TENSORS: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    record = {"format": FORMAT, "told": dict(told), "state": tree, "files": known}
    files.write(folder / (name + TENSORS), content)
    files.write(folder / (name + TOLD), sealed(record))


def digest(value: Any) -> str:
    """The SHA-256 of what a state is made of, in hexadecimal; other things count by their type alone."""
    total = hashlib.sha256()
    _add(value, total)
    return total.hexdigest()


def _add(value: Any, total: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        total.update(f"{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    elif isinstance(value, Mapping):
        total.update(b"{")
        for key, item in value.items():
            total.update(repr(key).encode())
            _add(item, total)
    elif isinstance(value, (list, tuple)):
        total.update(b"[")
        for item in value:
            _add(item, total)
    else:
        plain = value is None or isinstance(value, (str, bool, int, float, complex))
        total.update((repr(value) if plain else f"<{type(value).__qualname__}>").encode())
    total.update(b";")


def told(folder: Path, name: str) -> dict[str, Any]:
    """What a state says of itself, without its tensors.

    Raises:
        DamagedFile: it is not there, or not what `save` wrote.
    """
    return _record(folder, name)[0]


def load(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a state says of itself, and the state, every bit of it as it was.

    Raises:
        DamagedFile: a file is missing, truncated, altered, oversized, linked from elsewhere, or of another format.
    """
    known, tree, expected = _record(folder, name)
    path = folder / (name + TENSORS)
    try:
        size = files.size(path)
        if size != expected.get("size"):
            raise DamagedFile(f"{path.name}: expected {expected.get('size')} bytes, got {size}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected.get("sha256"):
            raise DamagedFile(f"{path.name}: altered, its SHA-256 is not the one in {name}{TOLD}")
        state = _unpacked(tree, of_safetensors(content))
    except DamagedFile:
        raise
    except Exception as error:  # whatever bytes from a file provoke is the file's fault
        raise DamagedFile(f"{path.name}: not a state ({error or type(error).__name__})") from error
    if not isinstance(state, dict):
        raise DamagedFile(f"{name}{TOLD}: expected a state, got {type(state).__name__}")
    return known, state


def _record(folder: Path, name: str) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """What is told, the state without its tensors, and what is said of their file."""
    path = folder / (name + TOLD)
    try:
        size = files.size(path)
        if size > _MOST:
            raise DamagedFile(f"{path.name}: oversized, {size} bytes, at most {_MOST}")
        text = path.read_bytes()
        record = json.loads(text)
        again = sealed({key: value for key, value in record.items() if key != "checksum"})
    except DamagedFile:
        raise
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise DamagedFile(f"{path.name}: not the JSON that was saved ({error or type(error).__name__})") from error
    if record.get("format") != FORMAT:
        raise DamagedFile(f"{path.name}: format {record.get('format')!r:.50}, this version reads format {FORMAT}")
    if text != again:
        raise DamagedFile(f"{path.name}: altered, its content does not fit its checksum")
    known, expected = record.get("told"), record.get("files")
    one = expected.get(name + TENSORS) if isinstance(expected, dict) else None
    if not isinstance(known, dict) or not isinstance(one, dict):
        raise DamagedFile(f"{path.name}: expected 'told', 'state' and 'files', got {', '.join(record)}")
    return known, record.get("state"), one


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A state in the types of JSON; its tensors go into `tensors`."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_NUMBER: str(value)}
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"state '{name}': expected words for keys, got {key!r:.50}")
        return {_ITEMS: {key: _packed(item, f"{name}/{key}", tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_packed(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
    raise TypeError(f"state '{name}': {type(value).__name__} cannot be kept")


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, inner),) = value.items()
        if kind == _TENSOR:
            return tensors[inner]
        if kind == _NUMBER and inner in ("nan", "inf", "-inf"):
            return float(inner)
        if kind == _ITEMS and isinstance(inner, dict):
            return {key: _unpacked(item, tensors) for key, item in inner.items()}
    raise ValueError(f"got {value!r:.50}")
