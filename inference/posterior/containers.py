"""Groups of named arrays -> the container of whichever ArviZ line is installed. Free of torch.

ArviZ 0.x holds a set of `xarray.Dataset`s in an `InferenceData`, ArviZ 1.x in an `xarray.DataTree`. Both are filled
here from the same plain datasets, so nothing downstream asks which line it runs on.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from inference.running.loading import arviz

if TYPE_CHECKING:
    import xarray as xr  # of half a second, which chains do not need

Array = np.ndarray[Any, Any]
Variable = tuple[Sequence[str], Array]  # names of its dims, values
OBSERVED = ("observed_data", "constant_data")  # the groups without draws


def build(
    groups: Mapping[str, Mapping[str, Variable]],
    coords: Mapping[str, Sequence[Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
    own: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
) -> Any:
    """One container of all groups that hold something.

    Args:
        groups: group -> variable -> (dims, values). Drawn groups start with the dims `chain, draw`.
        coords: dim -> labels; a dim that is not named gets 0, 1, 2, …
        attrs: what to write on the container and on every group; what netCDF cannot hold goes in as JSON.
        own: group -> dim -> labels, for a group that holds a part of a dim only.

    Returns:
        An `arviz.InferenceData` under ArviZ 0.x, an `xarray.DataTree` under 1.x.

    Raises:
        ValueError: dims or labels that do not fit a variable, or a variable that shares its name with a dim.
    """
    notes = {key: _plain(value) for key, value in (attrs or {}).items()}
    taken = {dim for variables in groups.values() for dims, _ in variables.values() for dim in dims}
    datasets = {}
    for group, variables in groups.items():
        for name, (dims, values) in variables.items():
            _check(f"group '{group}', variable '{name}'", tuple(dims), values, group in OBSERVED)
            if name in taken:
                raise ValueError(
                    f"group '{group}': variable '{name}' may not share its name with a dim; rename the dim"
                )
        if variables:
            labels = {**(coords or {}), **(own or {}).get(group, {})}
            datasets[group] = _dataset(group, variables, labels).assign_attrs(notes)
    if int(version("arviz").split(".")[0]) >= 1:
        import xarray as xr

        tree = xr.DataTree.from_dict(datasets)
        tree.attrs.update(notes)
        return tree
    container: Any = arviz().InferenceData
    return container(attrs=notes, **datasets)


def distinct(groups: Mapping[str, Mapping[str, Variable]]) -> tuple[dict[str, dict[str, Variable]], dict[str, str]]:
    """The groups, with variables that share their name with a dim of any group called `<name>_value`; and which.

    Xarray takes such a variable for the labels of the dim. The dim keeps its name: users label and reduce by it.

    Returns:
        the groups, and old name -> new name.
    """
    dims = {dim for variables in groups.values() for dims, _ in variables.values() for dim in dims}
    names = {name for variables in groups.values() for name in variables}
    renamed: dict[str, str] = {}
    for name in sorted(names & dims):
        fresh = f"{name}_value"
        while fresh in names | dims:
            fresh += "_"
        renamed[name] = fresh
    found = {
        group: {renamed.get(name, name): variable for name, variable in variables.items()}
        for group, variables in groups.items()
    }
    return found, renamed


def save(container: Any, path: str | Path) -> None:
    """Write the container as netCDF; a file that stands at `path` is replaced whole or not at all.

    Raises:
        OSError: it cannot be written: the disk is full.
    """
    path = Path(path)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with half.open("w+b") as file:
            told = _Patient(file)
            try:
                _write(container, told)
            except Exception as error:
                raise told.failed or error from None
            if told.failed is not None:
                raise told.failed
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def _write(container: Any, file: Any) -> None:
    """All groups of a container, compressed, into an open file."""
    import h5netcdf
    import h5py
    import xarray as xr
    from xarray.backends import H5NetCDFStore

    groups = {name: container[name] for name in (container.children if _is_tree(container) else container.groups())}
    with h5py.File(file, "w") as opened, h5netcdf.File(opened, "a") as root:
        xr.Dataset(attrs=container.attrs).dump_to_store(H5NetCDFStore(root))
        for name, group in groups.items():
            dataset = group.to_dataset() if _is_tree(group) else group
            shrunk = {n: {"zlib": True} for n, v in dataset.variables.items() if v.dtype.kind in "biuf"}
            dataset.dump_to_store(H5NetCDFStore(root.create_group(name)), encoding=shrunk)


def _is_tree(value: Any) -> bool:
    return hasattr(value, "children")


class _Patient(io.RawIOBase):
    """A file whose writes never fail: the first failure is kept. HDF5 crashes the process where one does."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.failed = file, cast("OSError | None", None)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return self.file.seek(offset, whence)
        except OSError as error:  # of a buffer that cannot be written out
            self.failed = self.failed or error
            return offset

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: Any, /) -> int:
        found = self.file.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def write(self, content: Any, /) -> int:
        try:
            if self.failed is None:
                self.file.write(content)
        except OSError as error:
            self.failed = error
        return len(content)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return self.file.truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0

    def flush(self) -> None:
        try:
            self.file.flush()
        except OSError as error:
            self.failed = self.failed or error


def observations(container: Any) -> int:
    """The number of observations N."""
    return int(container["observed_data"].sizes["obs"])


def check_note(name: str, value: Any) -> None:
    """Refuse what can neither be written as it is nor as JSON.

    Raises:
        ValueError: by name.
    """
    try:
        _plain(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a text, a number or what JSON holds: {error}") from error


def _check(where: str, dims: tuple[str, ...], values: Array, observed: bool) -> None:
    if len(set(dims)) != len(dims) or len(dims) != values.ndim:
        raise ValueError(f"{where}: expected {values.ndim} distinct dims for shape {values.shape}, got {dims}")
    if not observed and dims[:2] != ("chain", "draw"):
        raise ValueError(f"{where}: expected dims that start with chain, draw; got {dims}")


def _dataset(group: str, variables: Mapping[str, Variable], labels: Mapping[str, Sequence[Any]]) -> xr.Dataset:
    coords: dict[str, Any] = {}
    for name, (dims, values) in variables.items():
        for dim, size in zip(dims, values.shape, strict=True):
            known = coords.setdefault(dim, np.asarray(labels.get(dim, range(size))))
            if len(known) != size:
                where = f"group '{group}', variable '{name}'"
                raise ValueError(
                    f"{where}: dim '{dim}' has {size} entries here, {len(known)} elsewhere or in its labels"
                )
    import xarray as xr

    return xr.Dataset({name: (tuple(dims), values) for name, (dims, values) in variables.items()}, coords=coords)


def _plain(value: Any) -> str | int | float:
    return value if isinstance(value, (str, int, float)) and not isinstance(value, bool) else json.dumps(value)
