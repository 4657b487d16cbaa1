"""The class of an estimator, made from what the trace of its pair can do."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin

from inference.data.suited import adaptable
from inference.estimator.base import OPTIONS, RENAMED
from inference.estimator.cells import Cells
from inference.estimator.classes import Classes
from inference.estimator.codes import Codes
from inference.estimator.responses import Labels, Response
from inference.estimator.rows import Density
from inference.estimator.sequences import Ahead, States
from inference.running.expectation import base_of
from zoo.abilities import HiddenStates, Network, OneStepAhead
from zoo.base import registered
from zoo.config import nearest


def Estimator(model: str, **params: Any) -> Any:  # noqa: N802 - users meet it as a class
    """An estimator of a registered pair.

    Args:
        model: its name.
        params: arguments of the pair (`features`, `columns`, `target`, `classes`, `likelihood` and the like are read
            off the data when left out; `task="classification"` makes a classifier where a pair has the choice), and of
            the fit: `epochs`, `steps`, `batch_size`, `lr`, `objective`, `particles`, `validation`, `device` as in
            `inference.fit`; `draws` of the global latents to average over; `double` to compute in float64;
            `random_state`, a whole number; `unknown`: what a category of a table is that was not seen in the fit, an
            `error` or `missing`. What a pair calls `transform` is `transformation` here.

    Raises:
        ValueError: unknown name or argument (with the nearest that exists).
    """
    cls = estimator_class(model, params.get("task"))
    known = inspect.signature(cls).parameters
    for key in params:
        if key not in known:
            raise ValueError(f"{model}: no argument '{key}'{nearest(key, known)}; it takes: {', '.join(known)}")
    return cls(**params)


@functools.cache
def estimator_class(model: str, task: str | None = None) -> type[BaseEstimator]:
    """The estimator class of a registered pair, made from what its trace can do; `task` is an argument of some."""
    pair_class = registered(model)
    chosen: dict[str, Any] = {"task": task} if task is not None else {}
    pair = pair_class(**chosen)
    example = pair.simulate(2)[0]
    sites = pair.sites(example).values()
    classes = any(site.local and site.enumerated for site in sites)
    codes = any(site.local and not site.observed and not site.discrete for site in sites)
    observed = {site.name: base_of(site.fn) for site in sites if site.observed}
    bases: list[type] = [Density]
    if any(isinstance(fn, OneStepAhead) for fn in observed.values()):
        bases = [States if any(isinstance(fn, HiddenStates) for fn in observed.values()) else Ahead]
    elif isinstance(pair, Network):
        bases = [Cells]
    elif codes:
        bases = [TransformerMixin, Codes]
    elif classes:
        bases = [*([ClassifierMixin] if "y" in observed else []), Classes]
    elif "y" in observed:
        discrete = any(site.name == "y" and site.discrete for site in sites)
        bases = [ClassifierMixin, Labels] if discrete else [RegressorMixin, Response]
    from_data = adaptable(pair_class)
    defaults = {name: parameter.default for name, parameter in inspect.signature(pair_class).parameters.items()}
    defaults |= dict.fromkeys(from_data) | chosen | OPTIONS
    own_names = {theirs: ours for ours, theirs in RENAMED.items()}
    defaults = {own_names.get(name, name): default for name, default in defaults.items()}

    def initialise(self: Any, **params: Any) -> None:
        for name, default in defaults.items():
            setattr(self, name, params.pop(name, default))
        if params:
            raise TypeError(f"{model}: unexpected arguments {', '.join(params)}")

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    keywords = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d) for n, d in defaults.items()]
    initialise.__signature__ = inspect.Signature([own, *keywords])  # type: ignore[attr-defined]
    body = {
        "__init__": initialise,
        "__doc__": pair_class.__doc__,
        "model": model,
        "chosen": task,
        "from_data": from_data,
        "sequences": example.lengths is not None,
        "remade": staticmethod(blank),
        "__module__": __name__,
    }
    return type(f"{pair_class.__name__}Estimator", tuple(bases), body)


def blank(model: str, task: str | None = None) -> Any:
    """An estimator without a state, for a pickle to fill. Pickles name this function: it stays where it is."""
    cls: Any = estimator_class(model, task)
    return cls.__new__(cls)
