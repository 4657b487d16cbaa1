"""Draws in files, as what a `Posterior` is made of: saved whole, written by a run as it goes, or those of posterior.nc.

`save` writes `posterior-N.json` and `posterior-N.safetensors` into a folder (`zoo.state.packing`), whole or not at all,
and then lets the ones before go; nothing is pickled. A run with a store writes NumPy files, and `progress.json` says
how many of their draws are whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from torch import Tensor

from zoo.state import packing
from zoo.state.files import DamagedFile, locked

PART, PROGRESS = ".part", "progress.json"
_MADE = re.compile(r"posterior-(\d+)")
_ROWS = "obs"  # the dim of observations there


def save(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write what a posterior is made of into a folder, in the place of one that is there.

    Raises:
        ValueError: the folder cannot be made or written into.
    """
    told = {"method": fields["method"], "chains": fields["chains"], "size": fields["size"]}
    told["local"] = sorted(fields["local"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, exclusive=True):
            before = _names(folder)
            number = int(before[-1].split("-")[1]) + 1 if before else 0
            packing.save(folder, f"posterior-{number}", told, {what: dict(fields[what]) for what in ("draws", "stats")})
            for name in before:
                for end in (packing.TOLD, packing.TENSORS):
                    with suppress(OSError):
                        (folder / (name + end)).unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"cannot save draws into '{folder}': {error.strerror or error}") from error


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, or what a posterior.nc of `inference.to_arviz` or `zoo fit` holds.

    Raises:
        DamagedFile: it is not there, or not what was written.
    """
    if path.is_file():
        return _netcdf(path)
    names = _names(path)
    if not names:
        raise DamagedFile(f"'{path}' holds no draws that were saved")
    try:
        with locked(path, exclusive=False):
            told, state = packing.load(path, names[-1])
        for what in ("draws", "stats"):
            if not all(isinstance(value, Tensor) for value in state[what].values()):
                raise DamagedFile(f"'{what}': expected tensors")
        local = frozenset(str(name) for name in told["local"])
        sizes = {what: int(told[what]) for what in ("chains", "size")}
        return {
            "draws": state["draws"],
            "stats": state["stats"],
            "local": local,
            "method": str(told["method"]),
            **sizes,
        }
    except DamagedFile as error:
        raise DamagedFile(f"cannot load draws from '{path}': {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFile(f"cannot load draws from '{path}': not what was saved ({error})") from error


def _names(folder: Path) -> list[str]:
    """Those that are whole, the newest last."""
    found = [path.name.removesuffix(packing.TOLD) for path in folder.glob(f"posterior-*{packing.TOLD}")]
    return sorted((name for name in found if _MADE.fullmatch(name)), key=lambda name: int(name.split("-")[1]))


def stored(folder: Path) -> dict[str, Any]:
    """The draws that a run with a store has written, mapped into memory.

    Raises:
        ValueError: no draws are there, or none is whole yet.
    """
    try:
        known = json.loads((folder / PROGRESS).read_bytes())
        chains, draws, local = int(known["chains"]), int(known["draws"]), frozenset(known["local"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{folder}' holds no draws of which one was whole ({PROGRESS}: {error})") from error
    found = {what: _mapped(folder / what, chains, draws) for what in ("draws", "stats")}
    return {**found, "local": local, "method": "mcmc", "chains": chains, "size": draws}


def _mapped(folder: Path, chains: int, draws: int) -> dict[str, Tensor]:
    """The first so many draws of each array of a folder."""
    found = {}
    for path in sorted((*folder.glob("*.npy"), *folder.glob(f"*.npy{PART}"))):
        try:
            value = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"'{path}' cannot be read: {error}") from error
        if value.ndim < 2 or len(value) != chains or value.shape[1] < draws:
            raise ValueError(f"'{path}': expected ({chains}, {draws}, ...) numbers, got {value.shape}")
        found[unquote(path.name.removesuffix(PART).removesuffix(".npy"))] = torch.from_numpy(value)[:, :draws]
    return found


def _netcdf(path: Path) -> dict[str, Any]:
    """The draws of a posterior.nc, under the names that their sites have; of locals as many rows as were exported."""
    import xarray as xr

    try:
        with xr.open_dataset(path, group="posterior", engine="h5netcdf") as group:
            attrs, draws = dict(group.attrs), {}
            if "in_units" not in attrs:
                raise ValueError("it does not say which latents are in the data's units, as files of earlier versions")
            moved = set(json.loads(str(attrs["in_units"])))
            renamed = {new: old for old, new in json.loads(str(attrs.get("renamed", "{}"))).items()}
            local = set()
            for name, value in group.data_vars.items():
                site = renamed.get(str(name), str(name))
                if site in moved:
                    continue
                draws[site] = _tensor(value.transpose("chain", "draw", ...).values)
                if _ROWS in value.dims:
                    local.add(site)
        stats = {}
        with (
            suppress(OSError, KeyError, ValueError),
            xr.open_dataset(path, group="sample_stats", engine="h5netcdf") as s,
        ):
            stats = {str(name): _tensor(value.values) for name, value in s.data_vars.items() if str(name) != "lp"}
        chains, size = next(iter(draws.values())).shape[:2]
    except (OSError, KeyError, ValueError, TypeError, StopIteration, AttributeError) as error:
        raise DamagedFile(f"cannot read draws from '{path}': {error or type(error).__name__}") from error
    method = str(attrs.get("inference_method", "svi"))
    return {"draws": draws, "stats": stats, "local": frozenset(local), "method": method, "chains": chains, "size": size}


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))
