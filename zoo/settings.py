"""Budgets and sizes that a user may want to set, in one object: `zoo.settings`, the same as `inference.settings`.

    zoo.settings.memory = 2**24  # from now on
    with zoo.settings.using(memory=2**18, minibatch=64):  # for a while
        ...

Each is read when it is needed, so that a change counts from the next call on. It counts in this process only: saved
pairs and other processes know nothing of it. A copy, or what a pickle gives, is an object of its own with the values of
that moment, which nothing here reads. Numbers that mathematics or an algorithm's paper asks for are no settings;
they stand beside the algorithm.

A seed repeats what was drawn only under the same settings: budgets cut work into pieces, and each piece draws anew. It
repeats every bit only under the same number of processor threads (`torch.set_num_threads`), which sum in another order.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any


class _Size:
    """One setting: how many of what, what they bound, and at least how many."""

    def __init__(self, default: int, unit: str, bounds: str, least: int = 1) -> None:
        self.default, self.unit, self.bounds, self.least = default, unit, bounds, least
        self.name = ""

    def __set_name__(self, owner: type[Settings], name: str) -> None:
        self.name = name

    def __get__(self, instance: Settings | None, owner: type[Settings]) -> int:
        return self.default if instance is None else instance._values[self.name]

    def __set__(self, instance: Settings, value: int) -> None:
        instance._assign(self.name, self.checked(value))

    def checked(self, value: Any) -> int:
        """The value, if it is one."""
        try:
            whole = None if isinstance(value, bool) else operator.index(value)
        except TypeError:
            whole = None
        if whole is None:
            raise ValueError(f"settings.{self.name}: expected a whole number, got {value!r}")
        if whole < self.least:
            raise ValueError(f"settings.{self.name}: expected at least {self.least}, got {whole}")
        return whole


class Settings:
    """Budgets and sizes that a user may want to set; whole numbers, checked when they are assigned.

    A seed repeats what was drawn only under the same settings.
    """

    __slots__ = ("_layers", "_lock", "_values")
    _layers: list[dict[str, int]]
    _lock: threading.Lock
    _values: dict[str, int]

    memory = _Size(1 << 22, "numbers", "what a piece of work over rows and draws may hold; some hold four times it")
    draws_at_once = _Size(16, "draws", "for how many of them a piece of rows leaves room")

    full_batch = _Size(512, "rows", "data that `fit` does not cut into minibatches by default", least=0)
    minibatch = _Size(128, "rows", "the minibatches that `fit` takes by default")
    hessian_latents = _Size(128, "numbers", "global latents whose curvature starts the widths of a guide", least=0)
    hessian_rows = _Size(2048, "rows", "those that the curvature is taken over")
    worth_recording = _Size(50, "runs", "from how many on steps, of a fit or of anything else, are recorded", least=0)
    worth_compiling = _Size(15_000, "runs", "from how many on recorded steps are compiled", least=0)

    global_draws = _Size(30, "draws", "global latents behind codes, where no posterior is given")
    gap_draws = _Size(10, "draws", "global latents behind `gap` and `log_marginal`, where no posterior is given")
    moment_draws = _Size(1000, "draws", "codes behind a mean that is not known in closed form")
    start_draws = _Size(256, "draws", "the encoder's, behind the moments that `refine` starts at")
    query_draws = _Size(200, "draws", "parameters behind the answer of `query`, where no posterior is given")
    rhat_numbers = _Size(1000, "numbers", "how many of each draw R-hat is worked out for while chains run")
    export_latents = _Size(200, "numbers", "local latents of each draw that `to_arviz` takes by default")
    export_cells = _Size(4_000_000, "numbers", "a predictive group that `to_arviz` makes by default")

    picture_rows = _Size(5000, "rows", "observations that a picture is drawn from, evenly spaced")
    picture_draws = _Size(1000, "draws", "observations given a code, behind the bands of a path")
    picture_columns = _Size(12, "columns", "those of a table that a picture shows")
    profile_labels = _Size(50, "labels", "the different values of labels that `profile` compares rows by")
    picture_categories = _Size(8, "categories", "those that a picture names; the rarest others are one")
    picture_states = _Size(8, "states", "those of a node that the picture of a network shows")
    picture_nodes = _Size(200, "nodes", "the largest network that is drawn")

    summary_rows = _Size(2000, "rows", "observations behind the diagnostics and pictures of a run of the command")
    summary_lines = _Size(40, "lines", "the table of a run's summary")
    loo_draws = _Size(100, "draws", "from how many on a run's summary holds a leave-one-out score")
    text_length = _Size(10_000, "characters", "one continuation that the command writes")

    start_rows = _Size(10_000, "rows", "those among which a Gaussian mixture seeks its starting means")
    em_numbers = _Size(20_000_000, "numbers", "what EM of naive Bayes holds; of more rows it takes a share")
    polynomial_terms = _Size(10_000, "terms", "the largest polynomial that is built")
    network_table = _Size(1 << 22, "numbers", "the largest table of a node of a Bayesian network")
    network_row = _Size(1 << 20, "numbers", "what one row of a Bayesian network may need")
    network_question = _Size(1 << 26, "numbers", "the largest factor of a question to a Bayesian network")

    file_bytes = _Size(1 << 30, "bytes", "what a compressed data file may hold beyond 64 times its own size")
    bif_bytes = _Size(1 << 25, "bytes", "the largest BIF file that is read")
    bif_cells = _Size(1 << 23, "numbers", "all tables of a BIF file together")
    config_bytes = _Size(1 << 20, "bytes", "the description of a saved pair, its card included")
    build_operations = _Size(200_000, "operations", "what building a pair from a saved file may take")

    def __init__(self) -> None:
        keep = super().__setattr__  # past the check of names
        keep("_values", {name: size.default for name, size in _sizes().items()})
        keep("_layers", [dict(self._values)])  # what was assigned, and what each `using` in force put over it
        keep("_lock", threading.Lock())

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _sizes():
            raise ValueError(_unknown(name))
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name not in _sizes():
            raise ValueError(_unknown(name))
        default = _sizes()[name].default
        raise ValueError(f"settings.{name} cannot be deleted; settings.{name} = {default:_} sets the default again")

    if not TYPE_CHECKING:  # where types are checked, a misspelt setting is an error anyway

        def __getattr__(self, name: str) -> int:
            raise AttributeError(_unknown(name))

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied, (self._values,)

    def __dir__(self) -> list[str]:
        return [*_sizes(), "using"]

    def __repr__(self) -> str:
        lines = []
        for name, size in _sizes().items():
            default = "" if self._values[name] == size.default else f"; by default {size.default:_}"
            lines.append(f"    {name}={self._values[name]:_},  # {size.unit}: {size.bounds}{default}\n")
        return f"Settings(\n{''.join(lines)})"

    @contextmanager
    def using(self, **values: int) -> Iterator[Settings]:
        """These values within a `with` block; afterwards what held before, also where the block raises.

        Blocks nest, and what is assigned to a field inside a block that set it ends with the block. Threads share the
        values: while two of them are in blocks that set the same field, both read the newer one; when both have left,
        in whatever order, it is as before.

        Raises:
            ValueError: a field that does not exist (with the nearest that does), or a value out of range; nothing is
                set then.
        """
        sizes = _sizes()
        for name in values:
            if name not in sizes:
                raise ValueError(_unknown(name))
        layer = {name: sizes[name].checked(value) for name, value in values.items()}
        with self._lock:
            self._layers.append(layer)
            self._merge()
        try:
            yield self
        finally:
            with self._lock:
                self._layers[:] = [other for other in self._layers if other is not layer]
                self._merge()

    def _assign(self, name: str, value: int) -> None:
        with self._lock:
            next(layer for layer in reversed(self._layers) if name in layer)[name] = value
            self._merge()

    def _merge(self) -> None:
        super().__setattr__("_values", {name: value for layer in self._layers for name, value in layer.items()})


def _copied(values: dict[str, int]) -> Settings:
    copy = Settings()
    for name, value in values.items():
        setattr(copy, name, value)
    return copy


def _sizes() -> dict[str, _Size]:
    return {name: value for name, value in vars(Settings).items() if isinstance(value, _Size)}


def _unknown(name: str) -> str:
    from zoo.config import nearest

    return f"settings: no setting '{name}'{nearest(name, _sizes()) or '; they are: ' + ', '.join(_sizes())}"


Settings.__doc__ = f"{Settings.__doc__}\n\nArgs:\n" + "\n".join(
    f"    {name}: {size.default:_} {size.unit}; {size.bounds}." for name, size in _sizes().items()
)

settings = Settings()
