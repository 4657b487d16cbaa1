"""Saving and loading a pair: JSON and safetensors, no pickle.

A folder holds `config.json` (what to build), `model.safetensors` (its tensors) and `README.md` (a card for people).
config.json carries a checksum of itself and the size and SHA-256 of the weights, so a change of any bit is noticed.

A kill at any moment leaves the previous or the new checkpoint. Every file is written beside its place, synced and
renamed. The new config first takes a name that holds the digest of the weights it belongs to; renaming the weights is
the commit; then the config moves to its own name. A loader tries the configs by digest before config.json, so
between the two renames it finds the new pair and before them the old one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from zoo.held import again, recorded
from zoo.history import History, Mark
from zoo.making import making_in
from zoo.modules import given_again, spelled
from zoo.pair import Pair
from zoo.registry import names as known_names
from zoo.registry import registered
from zoo.settings import settings
from zoo.state import card, files
from zoo.state.budget import Budget
from zoo.state.files import DamagedFile, sealed
from zoo.structure import replaced
from zoo.threads.randomness import apart
from zoo.version import versions

__all__ = ["DamagedFile", "load", "save"]

FORMAT = 1
CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
_KEYS = {
    "format": int, "model": str, "class": str, "config": dict, "dtype": str, "training": bool,
    "files": dict, "versions": dict, "card": dict, "checksum": str,
}  # fmt: skip
_DTYPES = {str(dtype)[6:]: dtype for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def save(pair: Pair, folder: Path) -> Path:
    """Write config.json, model.safetensors and README.md into `folder`, atomically; other files there stay.

    Numbers in `pair.card` that are not finite are written as null.

    Raises:
        ValueError: the pair is not registered, an argument or the card is no JSON, a parameter or buffer is not finite
            (a good checkpoint is not replaced by a bad one), a part of the pair is another than its class makes, which
            could not be built again, or `folder` is no folder. Nothing has been written then.
    """
    cls = type(pair)
    known = registered(cls.registry_name) if cls.registry_name in known_names() else None
    if known is None or (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"cannot save {cls.__name__}: register it first, with @zoo.register(name) above the class")
    if wrong := _not_finite(pair):
        raise ValueError(f"not saved: {wrong} holds values that are not finite")
    if other := replaced(pair):
        raise ValueError(f"not saved: {other}")
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in pair.state_dict().items()}
    weights = to_safetensors(tensors)
    digest = hashlib.sha256(weights).hexdigest()
    record = {
        "format": FORMAT,
        "model": cls.registry_name,
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "config": _plain(spelled(pair.config), "argument", finite=True),
        "dtype": str(pair.dtype)[6:],
        "training": pair.training,
        "history": replace(pair._history, trained=pair.trained).record(),
        "files": {WEIGHTS: {"size": len(weights), "sha256": digest}},
        "versions": versions(),
        **({"held": kept} if (kept := recorded(pair)) is not None else {}),
        "card": _plain(pair.card, "card", finite=False),
    }
    text = sealed(record)
    if len(text) > settings.config_bytes:
        raise ValueError(
            f"not saved: {CONFIG} would have {len(text)} bytes, at most {settings.config_bytes}; shorten the card"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"cannot save into '{folder}': it is a file, not a folder") from None
    with files.locked(folder, exclusive=True):
        pending = folder / _pending(digest)
        files.write(pending, text)
        files.write(folder / WEIGHTS, weights)
        pending.replace(folder / CONFIG)
        files.sync(folder)
        if card.ours(folder / README):
            text = card.render(pair, record, folder.resolve().name).encode(errors="backslashreplace")
            files.write(folder / README, text)
        for left in folder.glob(".config-*"):  # by saves that were killed
            left.unlink(missing_ok=True)
    return folder


def load(folder: Path, modules: Mapping[str, Any] | None = None) -> Pair:
    """Rebuild the pair saved in `folder`, on the CPU and in the type it had; the caller's random state stays as it was.

    Raises:
        DamagedFile: anything missing, truncated, altered, oversized, of other names, shapes or types, linked from
            elsewhere, of an unknown model or format, or asking for more memory than its weights justify.
    """
    if not folder.is_dir():
        raise DamagedFile(f"cannot load '{folder}': {'it is a file' if folder.exists() else 'no such folder'}")
    try:
        with files.locked(folder, exclusive=False):
            record = _matching(folder)
            record["config"] = given_again(record["config"], modules or {})
            return _rebuilt(record, folder / WEIGHTS)
    except DamagedFile as error:
        raise DamagedFile(f"cannot load '{folder}': {error}") from error.__cause__
    except (OSError, MemoryError) as error:
        raise DamagedFile(f"cannot load '{folder}': {error or type(error).__name__}") from error


def _rebuilt(record: dict[str, Any], weights: Path) -> Pair:
    name, size = record["model"], weights.stat().st_size
    dtype = _DTYPES.get(record["dtype"])
    if dtype is None:
        raise DamagedFile(f"{CONFIG}: unknown dtype {record['dtype']!r}; known: {', '.join(_DTYPES)}")
    try:
        cls = cast("type[Pair]", registered(name))
    except ValueError as error:
        raise DamagedFile(f"{error}. It was saved by {record['class']}: import that module first") from error
    try:
        with apart(), Budget((1 << 30) + 64 * size), making_in(dtype):
            pair = cls(**record["config"])
            if pair.dtype != dtype:
                pair.to(dtype)
            again(pair, record.get("held"))
        expected = pair.state_dict()
    except Exception as error:  # the arguments come from a file: whatever they provoke is the file's fault
        raise DamagedFile(f"{CONFIG}: cannot build '{name}': {error or type(error).__name__}") from error
    later = {f"{at}.{name}" for at, part in pair.named_modules() if _optional(part) for name, _ in part.named_buffers()}
    pair.load_state_dict(_tensors(weights, expected, later))
    if wrong := _not_finite(pair):
        raise DamagedFile(f"{WEIGHTS}: {wrong} holds values that are not finite")
    pair.card = record["card"]
    start = Mark.of(pair.parameters())
    try:
        kept = "history" in record  # not in files from before it was
        pair._history = History.of(record["history"], start) if kept else History.before(pair.card, start)
    except ValueError as error:
        raise DamagedFile(f"{CONFIG}: {error}") from None
    return pair.train(record["training"])


def _optional(part: nn.Module) -> bool:
    """Whether files from before its buffers were kept may lack them, all of them: it then fills them itself."""
    return bool(getattr(part, "optional", False))


def _tensors(path: Path, expected: dict[str, Tensor], later: set[str]) -> dict[str, Tensor]:
    """The tensors of a file, once their names and shapes are known to be the expected ones, or all but `later`."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            if later.isdisjoint(names):
                expected = {name: value for name, value in expected.items() if name not in later}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            wanted = {name: tuple(value.shape) for name, value in expected.items()}
            _same(wanted, shapes, "shape")
            found = {name: file.get_tensor(name) for name in shapes}
    except DamagedFile:
        raise
    except Exception as error:
        raise DamagedFile(f"{WEIGHTS}: not a safetensors file ({error})") from error
    _same({name: value.dtype for name, value in expected.items()}, {n: v.dtype for n, v in found.items()}, "type")
    return found


def _same(wanted: dict[str, Any], found: dict[str, Any], what: str) -> None:
    for names, word in ((wanted.keys() - found.keys(), "missing"), (found.keys() - wanted.keys(), "not of this model")):
        if names:
            raise DamagedFile(f"{WEIGHTS}: {word}: {', '.join(sorted(names)[:5])}{' …' if len(names) > 5 else ''}")
    for name, value in wanted.items():
        if found[name] != value:
            raise DamagedFile(f"{WEIGHTS}: '{name}': expected {what} {value}, got {found[name]}")


def _matching(folder: Path) -> dict[str, Any]:
    """The config that belongs to the weights in the folder, both verified."""
    weights = folder / WEIGHTS
    size = files.size(weights)
    names = sorted(path.name for path in folder.glob(_pending("*")))
    digest = files.digest(weights) if names else ""
    record = _parsed(folder / (_pending(digest) if _pending(digest) in names else CONFIG))
    expected = record["files"].get(WEIGHTS)
    if record["files"].keys() != {WEIGHTS} or not isinstance(expected, dict):
        raise DamagedFile(f"{CONFIG}: expected one file, {WEIGHTS}, got {sorted(record['files'])}")
    if size != expected.get("size"):
        raise DamagedFile(f"{WEIGHTS}: expected {expected.get('size')} bytes, got {size}")
    if (digest or files.digest(weights)) != expected.get("sha256"):
        raise DamagedFile(f"{WEIGHTS}: altered, its SHA-256 is not the one in {CONFIG}")
    return record


def _parsed(path: Path) -> dict[str, Any]:
    """The config in a file, once its checksum and the types of its entries are right."""
    size = files.size(path)
    if size > settings.config_bytes:
        raise DamagedFile(f"{CONFIG}: oversized, {size} bytes, at most {settings.config_bytes}")
    text = path.read_bytes()
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError(f"expected an object, got {type(record).__name__}")
        again = sealed({key: value for key, value in record.items() if key != "checksum"})
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{CONFIG}: not the JSON that was saved ({error})") from error
    if record.get("format") != FORMAT:
        raise DamagedFile(f"{CONFIG}: format {record.get('format')!r}, this version reads format {FORMAT}")
    if text != again:
        raise DamagedFile(f"{CONFIG}: altered, its content does not fit its checksum")
    for key, kind in _KEYS.items():
        if type(record.get(key)) is not kind:
            raise DamagedFile(f"{CONFIG}: '{key}': expected {kind.__name__}, got {record.get(key)!r:.50}")
    return dict(record)


def _plain(value: Any, where: str, *, finite: bool) -> Any:
    """`value` in the types of JSON."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where} '{key}'", finite=finite) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where, finite=finite) for item in value]
    if isinstance(value, float) and (math.isfinite(value) or not finite):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # NumPy's and torch's numbers and arrays
        return _plain(value.tolist(), where, finite=finite)
    raise ValueError(f"not saved: {where}: {value!r:.50} of type {type(value).__name__} cannot be written as JSON")


def _not_finite(pair: Pair) -> str | None:
    for kind, tensors in (("parameter", pair.named_parameters()), ("buffer", pair.named_buffers())):
        for name, value in tensors:
            if not torch.isfinite(value).all():
                return f"{kind} '{name}'"
    return None


def _pending(digest: str) -> str:
    return f".config-{digest}.json"
