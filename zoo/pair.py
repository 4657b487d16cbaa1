"""The contract: a Pair of a model, which generates observations, and a guide, which infers what lies behind them.

A pair says everything once, in its `model` and `guide`. Tracing tells the rest: which sites are local (inside the
plate `data`) or global, discrete or continuous, observed or latent, and their shapes. Nothing else is declared.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import reprlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule
from pyro.nn.module import pyro_method
from torch import Tensor, nn

from zoo.batch import FIELDS, Batch, Site, is_local, sample_sites
from zoo.config import check_config
from zoo.guides import Family, build, refresh
from zoo.held import again, first, recorded
from zoo.history import History, Mark, fingerprint, near
from zoo.images import Shape, sized
from zoo.making import first_run, making_in
from zoo.modes import evaluating
from zoo.precision import check_precision, short
from zoo.schema.design import Design
from zoo.schema.schema import Column, Schema
from zoo.structure import note
from zoo.threads.handlers import PairContext, check_parameters, install, unvalidated
from zoo.threads.randomness import apart
from zoo.threads.turns import Turn, in_turn

_SHORT = reprlib.Repr()  # a schema of a hundred columns is no help
_SHORT.maxother = _SHORT.maxstring = 80

install()


class Pair(PyroModule):
    """All of `zoo.base.ModelGuide` but saving, so that what saves a pair can name its type."""

    step_size: ClassVar[float | None] = None  # of Adam in `inference.fit`, where its own default does not suit
    dims: ClassVar[dict[str, tuple[str, ...]]] = {}  # site name -> names of its event dims, for ArviZ
    schema: Schema | None = None  # the typed columns of `x`, of a pair that models tables
    target: Column | None = None  # the column that is `y`, of a pair that models tables with one
    design: Design | None = None  # the way from a frame to `x` and `y`, of a pair that explains y by x
    image: Shape | None = None  # (H, W) or (C, H, W) of an `x` that is an image, of a pair made for images
    registry_name: ClassVar[str] = ""
    config: dict[str, Any]

    def __init__(self, guide: Family = "normal") -> None:
        """`guide`: the automatic guide over the global latents, when the class does not bring its own."""
        super().__init__()
        self._pyro_context = PairContext()  # a pair's state is its state_dict, not the global param store
        self.turn = Turn()
        self._history = History()
        self.guide_family = guide
        self.card: dict[str, Any] = {}  # data, metrics, seed, versions of the last fit, for the model card

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # `model` and `guide` are entry points for Pyro: inside them reading a parameter is a `param` statement,
        # which is how plain `pyro.infer.SVI` finds what to optimise.
        for name in ("model", "guide"):
            if (own := cls.__dict__.get(name)) is not None:
                setattr(cls, name, pyro_method(first(own) if name == "guide" else own))
        for name, noted in (("measure", _measuring), ("initial", _starting)):
            if name in cls.__dict__:
                setattr(cls, name, noted(cls.__dict__[name]))
        cls.__init__ = _configured(cls, cls.__init__)  # type: ignore[method-assign]

    def model(self, batch: Batch) -> Tensor:
        """Sample the joint density; returns the observation, (B, *event)."""
        raise NotImplementedError(f"{type(self).__name__} defines no model(batch)")

    @pyro_method
    @first
    def guide(self, batch: Batch) -> Any:
        """Sample q(latents given batch). Default: the automatic guide over the global latents."""
        return self.global_guide(batch)

    def global_guide(self, batch: Batch) -> dict[str, Tensor]:
        """The automatic guide over the global latents, built on first use; an amortised `guide` may call it too."""
        if self.automatic is None:
            if not any(not site.local and not site.observed for site in self.sites(batch).values()):
                return {}
            self.auto = build(self.guide_family, self.model)
        return self.auto(batch)  # type: ignore[no-any-return]

    @property
    def automatic(self) -> AutoGuide | None:
        """The automatic guide over the global latents, if this pair uses one."""
        return self._modules.get("auto")  # type: ignore[return-value]

    @contextmanager
    def guided_by(self, guide: AutoGuide) -> Iterator[None]:
        """Another automatic guide in the place of the present one, for a while."""
        kept = self._modules["auto"]
        guide._pyro_set_supermodule("auto", self._pyro_context)
        try:
            self._modules["auto"] = guide
            yield
        finally:
            self._modules["auto"] = kept

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by name, without those of the automatic guide: networks and whatever else the class brings."""
        return {name: value for name, value in self.named_parameters() if not name.startswith("auto.")}

    @property
    def name(self) -> str:
        """What the pair is called: the name it is registered under, else that of its class."""
        return self.registry_name or type(self).__name__

    def inputs(self, n: int) -> Batch:
        """Covariates or lengths that n draws from the prior need."""
        return Batch(n, n)

    def check(self, batch: Batch) -> None:
        """Refuse data that cannot be fitted, with a ValueError; called before step one. Cells are valid already."""

    def measure(self, batch: Batch) -> None:
        """Take the constants of the data (centres, units, designs) into buffers, before the first fit; they then stay.

        `inference.fit`, `sample` and `fit_by_simulation` call it where nothing was measured yet, and so may you. It
        writes buffers and nothing else, and draws nothing.
        """

    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Good starting values of global latents, from data; sites left out start near their prior median.

        Parameters may be placed too: that is no training. Constants are measured first where that was not done yet.
        """
        return {}

    def maximise(self, batch: Batch) -> tuple[dict[str, Tensor], list[float]]:
        """The global latents of highest log joint density by expectation-maximisation, and its course.

        Returns:
            values by site, and the log joint density per observation (of constrained latents, or of unconstrained
            ones, as the pair says) after each iteration.

        Raises:
            ValueError: the pair has no such algorithm.
        """
        raise ValueError(f"{self.name} has no expectation-maximisation: use method='svi'")

    @in_turn
    @torch.no_grad()
    def simulate(self, n: int) -> tuple[Batch, dict[str, Tensor]]:
        """Draw n observations from the prior predictive. Returns the batch and the latents behind it, by site.

        Raises:
            ValueError: the pair is in half precision.
        """
        check_precision(self.name, self._tensors())
        batch = self.inputs(n)
        with evaluating(self):
            trace = poutine.trace(self.model).get_trace(batch)
        values = {name: site["value"] for name, site in sample_sites(trace).items() if not site["is_observed"]}
        made = {name: values.pop(name) for name in FIELDS if name in values}
        return batch.but(**made), values

    @in_turn
    @torch.no_grad()
    def sites(self, batch: Batch | None = None) -> dict[str, Site]:
        """The sample sites of the model, from one traced run; on two simulated observations when no batch is given.

        The caller's random state is left as it was.
        """
        with apart(), poutine.block(), evaluating(self):
            batch = self.simulate(2)[0] if batch is None else batch
            with poutine.trace() as recorder:
                self.model(batch)
        return {
            name: Site(
                name,
                local=is_local(node),
                observed=node["is_observed"],
                enumerated=node["infer"].get("enumerate") == "parallel",
                discrete=node["fn"].support.is_discrete,
                event_shape=torch.Size(node["fn"].event_shape),  # which may be a tuple
                fn=node["fn"],
                value=node["value"],
            )
            for name, node in sample_sites(recorder.trace).items()
            if not node["infer"].get("_deterministic")
        }

    @property
    def fitted(self) -> bool:
        """Whether anything was learned: by `fit`, `sample`, `fit_by_simulation`, or a training of your own."""
        return self._history.sampled or self.trained

    @property
    def trained(self) -> bool:
        """Whether the parameters are a result: of a fit, or of any training, seen by one that moved since creation.

        A change of type or device is no move; `load_state_dict` is one, whatever pair the values are of.
        """
        return self._history.trained or self._history.moved(self.parameters())

    @property
    def measured(self) -> bool:
        """Whether constants were taken from data."""
        return self._history.measured is not None

    @property
    def measures(self) -> bool:
        """Whether there are constants to take."""
        return type(self).measure is not Pair.measure

    def remember(self, batch: Batch) -> None:
        """Note which data were measured, where it was a part of them: a fit that holds rows out takes the others."""
        if self.measures:
            self._history = replace(self._history, measured=fingerprint(batch), told=frozenset())

    def tell(self, batch: Batch) -> bool:
        """Whether it is news that the constants are not those of these data; asked again, it is none."""
        before, data = self._history.told, fingerprint(batch)
        self._history = replace(self._history, told=before | {data})
        return data not in before

    @torch.no_grad()
    def kept(self, batch: Batch, whole: Batch) -> tuple[str, ...]:
        """Names of the constants that `batch`, of the `whole` data, would set otherwise; none if those were measured.

        The pair is left as it is.
        """
        if not self.measures or self._history.measured == fingerprint(whole):
            return ()
        history, before = self._history, {name: value.clone() for name, value in self.named_buffers()}
        try:
            self.measure(batch)
            return tuple(name for name, value in self.named_buffers() if not near(before[name], value))
        finally:
            self._history = history
            for name, value in self.named_buffers():
                value.copy_(before[name])

    @contextmanager
    def learning(self, what: Literal["trained", "sampled"]) -> Iterator[None]:
        """Note at the end that the pair has been `trained` or `sampled`; a run that raises leaves it what it was."""
        before, trained = self._history, self.trained
        try:
            yield
            self._history = replace(self._history, **{what: True})  # type: ignore[arg-type]
        except BaseException:
            self._history = before
            raise
        finally:
            if not trained:  # what was moved on the way is no training
                self._settle()

    def _settle(self) -> None:
        """Take the parameters as they are for the start."""
        self._history = replace(self._history, start=Mark.of(self.parameters()))

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of parameters and buffers."""
        return next((t.dtype for t in self._tensors() if t.is_floating_point()), torch.get_default_dtype())

    @property
    def device(self) -> torch.device:
        """Where parameters and buffers live."""
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    def _tensors(self) -> Iterator[Tensor]:
        return itertools.chain(self.parameters(), self.buffers())

    def __repr__(self) -> str:
        """Name, arguments that are not the default, fitted or not, parameters, type and device."""
        if getattr(self.__dict__.get("_history"), "start", None) is None:  # in a traceback out of `__init__`
            return f"{self.name}(): in the making"
        defaults = {name: value.default for name, value in inspect.signature(type(self).__init__).parameters.items()}
        config = {name: type(v).__name__ if isinstance(v, nn.Module) else v for name, v in self.config.items()}
        shown = {name: (_SHORT.repr(value), _SHORT.repr(defaults.get(name))) for name, value in config.items()}
        given = [f"{name}={value}" for name, (value, default) in shown.items() if value != default]
        state = "fitted" if self.trained else "sampled" if self.fitted else "not fitted"
        numbers = f"{sum(value.numel() for value in self.parameters()):,} parameters"
        return f"{self.name}({', '.join(given)}): {state}, {numbers}, {str(self.dtype)[6:]} on {self.device}"

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, (nn.Module, nn.Parameter)):
            self._announce()

    def _pyro_set_supermodule(self, name: str, context: Any) -> None:
        self._pyro_context.used = False  # it ran when it was made, and may still become part of another
        super()._pyro_set_supermodule(name, context)

    def _announce(self) -> None:
        for parameter in self.parameters():  # `pyro.infer.SVI` asks each for its unconstrained form
            parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]

    @in_turn
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Pair:
        before = [parameter.data for parameter in self.parameters()]
        nn.Module._apply(self, fn, recurse)
        changed = any(old.dtype != new.dtype for old, new in zip(before, self.parameters(), strict=True))
        if changed and self._history.at_start(before):
            self._settle()  # another type has other bits, and that is no training
        self._announce()
        # Its recorded supports hold tensors of the old device and type; in half precision no run is possible.
        if self.automatic is not None and not short(self._tensors()):
            with apart(), unvalidated():
                refresh(self.automatic, self.simulate(2)[0])
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies are rebuilt: copying an AutoGuide would break the original's link to its model.
        history = replace(self._history, trained=self.trained)
        kept = recorded(self)
        return rebuild, (type(self), self.config, self.state_dict(), self.card, self.training, history, kept)


def rebuild(
    cls: type[Pair],
    config: dict[str, Any],
    state: dict[str, Tensor],
    card: Any,
    training: bool,
    history: History | None = None,
    kept: dict[str, Any] | None = None,
) -> Pair:
    """A copy of a pair, from what `__reduce__` kept of it. Pickles name this function: it stays where it is."""
    tensor = next(iter(state.values()), torch.empty(0))
    floating = next((t.dtype for t in state.values() if t.is_floating_point()), None)
    with apart(), making_in(floating):
        pair = cls(**config)
    again(pair, kept)
    pair.to(device=tensor.device, dtype=floating)
    pair.load_state_dict(state)
    pair.card = copy.deepcopy(card)
    pair._history = History.before(card, Mark()) if history is None else history
    pair._settle()
    return pair.train(training)


def _configured(cls: type[Pair], init: Callable[..., None]) -> Callable[..., None]:
    """Wrap `__init__`: check the arguments, remember them, and make lazy guide parameters at once."""

    @functools.wraps(init)
    def wrapped(self: Pair, *args: Any, **kwargs: Any) -> None:
        if type(self) is not cls:  # a subclass's __init__ calling up
            return init(self, *args, **kwargs)
        name = cls.registry_name or cls.__name__
        told = list(inspect.signature(init).parameters)[1 : len(args) + 1] + list(kwargs)
        config = sized(name, check_config(name, init, args, kwargs), told)
        init(self, **config)
        self.config = config
        # Automatic guides make their parameters lazily: run once, so that optimisers and load_state_dict find them.
        with torch.no_grad(), poutine.block(), evaluating(self), first_run(self, self.name) as recorder:
            self.guide(self.simulate(2)[0])
        check_parameters(self.name, self, recorder.trace)
        self._announce()
        self._settle()
        note(self)

    return wrapped


def _measuring(measure: Callable[[Any, Batch], None]) -> Callable[[Any, Batch], None]:
    """Wrap `measure`: note that it was done, and on which data."""

    @functools.wraps(measure)
    def wrapped(self: Pair, batch: Batch) -> None:
        with torch.no_grad():
            measure(self, batch)
        self._history = replace(self._history, measured=fingerprint(batch), told=frozenset())

    return wrapped


def _starting(initial: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """Wrap `initial`: constants come first, and starting values are no training."""

    @functools.wraps(initial)
    def wrapped(self: Pair, batch: Batch, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        trained = self.trained
        if not (trained or self.measured):
            self.measure(batch)
        values = initial(self, batch, *args, **kwargs)
        if not trained:
            self._settle()
        return values

    return wrapped
