"""One door for posteriors and for counts: every public function refuses, by name, what it cannot use."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from functools import cache, partial

import pytest
import torch

import inference
import zoo
from inference.data.check import check
from inference.gallery.trees import picture
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from zoo.base import ModelGuide

PAIRS = {
    "mixture": ("gmm", {"features": 2, "components": 2}),
    "codes": ("bayesian_vae", {}),
    "table": ("naive_bayes", {}),
    "states": ("hmm", {"states": 2, "steps": 5}),
    "series": ("autoregressive", {}),
    "regression": ("polynomial_regression", {"features": 2, "degree": 2}),
    "network": ("bayesian_network", {}),
    "tree": ("decision_tree", {}),
    "poet": ("recurrent", {"alphabet": "ab\n", "output": "bayesian", "hidden": 3}),
    "without globals": ("gaussian_vae", {}),
}


class _Thing:
    """Something that no function can do anything with; its name is the same in every process."""

    def __repr__(self):
        return "a thing"


THING = _Thing()


@cache
def made(kind, draws=6):
    """A pair, data for it, and draws of its guide for them."""
    torch.manual_seed(0)
    name, config = PAIRS[kind]
    pair = zoo.create(name, **config)
    data = pair.simulate(12)[0]
    return pair, data, inference.draw(pair, data, draws, stats=False)


def with_holes(data):
    x = data.x.clone()
    x[0, 0] = math.nan
    return data.but(x=x)


def no_guides(posterior):
    """Draws that need no densities."""
    return replace(posterior, method="mcmc") if isinstance(posterior, Posterior) else posterior


simulate = partial(inference.fit_by_simulation, steps=2, batch_size=4, progress=False)
CALLS = {  # function -> which pair, and how it is called on it, its data and a posterior
    "predict": ("mixture", inference.predict),
    "generate": ("mixture", lambda pair, po, data, **given: inference.generate(pair, 3, posterior=po, **given)),
    "log_likelihood": ("mixture", inference.log_likelihood),
    "log_score": ("mixture", inference.log_score),
    "perplexity": ("poet", lambda pair, po, data: inference.perplexity(pair, "abba", po)),
    "write": ("poet", lambda pair, po, data: inference.write(pair, length=5, posterior=po)),
    "assignments": ("mixture", inference.assignments),
    "novelty": ("mixture", lambda pair, po, data, **given: inference.novelty(pair, data, po, **given)),
    "to_arviz": ("mixture", inference.to_arviz),
    "loo": ("mixture", lambda pair, po, data: inference.loo(pair, no_guides(po), data)),
    "encode": ("codes", lambda pair, po, data: inference.encode(pair, data, posterior=po)),
    "decode": ("codes", lambda pair, po, data: inference.decode(pair, torch.zeros(3, 2), posterior=po)),
    "reconstruct": ("codes", lambda pair, po, data: inference.reconstruct(pair, data, posterior=po)),
    "active_units": (
        "codes",
        lambda pair, po, data, **given: inference.active_units(pair, data, posterior=po, **given),
    ),
    "code_kl": ("codes", lambda pair, po, data: inference.code_kl(pair, data, posterior=po)),
    "collapsed": ("codes", lambda pair, po, data, **given: inference.collapsed(pair, data, posterior=po, **given)),
    "refine": ("codes", lambda pair, po, data: inference.refine(pair, data, steps=2, samples=4, posterior=po)),
    "gap": ("codes", lambda pair, po, data: inference.gap(pair, data, steps=2, particles=4, posterior=po)),
    "log_marginal": ("codes", lambda pair, po, data: inference.log_marginal(pair, data, particles=8, posterior=po)),
    "fit_by_simulation": ("codes", lambda pair, po, data: simulate(pair, data=data, posterior=po)),
    "impute": ("table", lambda pair, po, data: inference.impute(pair, with_holes(data), draws=3, posterior=po)),
    "query": ("network", lambda pair, po, data, **given: inference.query(pair, po, pair.schema.names[0], **given)),
    "marginals": ("network", lambda pair, po, data, **given: inference.marginals(pair, po, **given)),
    "explain": ("network", lambda pair, po, data, **given: inference.explain(pair, posterior=po, **given)),
    "tables": ("network", lambda pair, po, data, **given: inference.tables(pair, po, **given)),
    "smooth": ("states", inference.smooth),
    "viterbi": ("states", inference.viterbi),
    "sample_paths": ("states", inference.sample_paths),
    "forecast": ("states", lambda pair, po, data, **given: inference.forecast(pair, po, data, 2, **given)),
    "one_step_ahead": ("states", inference.one_step_ahead),
    "forecast_table": ("series", lambda pair, po, data: inference.forecast_table(pair, data, 2, po)),
    "importance": ("regression", inference.importance),
    "check": ("regression", lambda pair, po, data: inference.check(pair, data, po, run=False)),
    "calibrate": ("regression", lambda pair, po, data: inference.calibrate(pair, 1, data, draws=9, posterior=po)),
    "log_evidence": ("regression", lambda pair, po, data: inference.log_evidence(pair, data, no_guides(po))),
    "coefficients": ("regression", lambda pair, po, data, **given: inference.coefficients(pair, po, **given)),
    "effects": ("regression", inference.effects),
    "predictions": ("regression", inference.predictions),
    "r_squared": ("regression", inference.r_squared),
    "profile": ("mixture", lambda pair, po, data: inference.profile(pair, data, posterior=po)),
    "anomaly": ("mixture", lambda pair, po, data: inference.anomaly(pair, data, draws=4, posterior=po)),
    "bits_per_dimension": ("poet", lambda pair, po, data: inference.bits_per_dimension(pair, data, posterior=po)),
    "plot": ("mixture", lambda pair, po, data: inference.plot(pair, data, po, kind="posterior")),
    "picture": ("tree", picture),  # of `inference.gallery`
}


def first_of(posterior):
    return next(iter(posterior.draws))


def changed(posterior, change):
    name = first_of(posterior)
    return replace(posterior, draws={**posterior.draws, name: change(posterior[name].clone())})


def spoilt(value):
    value[0, 4].reshape(-1)[-1] = math.nan
    return value


WRONG = {  # what is given -> how it is made from a right one, and what the message says of the first site
    "None": (lambda right: None, "expected a Posterior.*got None"),
    "text": (lambda right: "x", "expected a Posterior.*got 'x'"),
    "dict": (lambda right: dict(right.draws), "expected a Posterior.*got dict"),
    "another's": (lambda right: Posterior({"nonsense": torch.zeros(1, 6)}, size=6), "lacks site '{}'.*'nonsense'"),
    "half": (
        lambda right: replace(right, draws={n: v for n, v in right.draws.items() if n != first_of(right)}),
        "lacks site '{}'",
    ),
    "NaN": (lambda right: changed(right, spoilt), "site '{}', chain 0, draw 4: expected a finite number, got nan"),
    "infinite": (lambda right: changed(right, lambda v: v / 0.0), "site '{}', chain 0, draw 0: expected a finite"),
    "shape": (lambda right: changed(right, lambda v: v[..., None]), r"site '{}': expected shape \(chain, draw.*, got"),
    "empty": (lambda right: Posterior({n: v[:, :0] for n, v in right.draws.items()}), "expected at least one draw"),
    "as local": (lambda right: replace(right, local=frozenset(right.draws)), "'{}': expected draws of a global latent"),
}


def refused(call, pair, words):
    """`call()` says these words, and leaves the pair and torch's random state alone."""
    state = {name: value.clone() for name, value in pair.state_dict().items()}
    modes, random = [module.training for module in pair.modules()], torch.get_rng_state()
    with pytest.raises(ValueError, match=words):
        call()
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [module.training for module in pair.modules()]
    after = pair.state_dict()
    assert state.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in state.items())


def test_every_public_function_that_takes_a_posterior_is_here():
    functions = {name: getattr(inference, name) for name in inference.__all__}
    taking = {
        name
        for name, function in functions.items()
        if inspect.isfunction(function) and {"pair", "posterior"} <= inspect.signature(function).parameters.keys()
    }
    assert taking - {"report"} == CALLS.keys() - {"picture"}  # a page says so, as `test_page.py` sees, and is made


def test_every_seed_is_given_by_name_and_zero_by_default():
    """So a call without one says the same whenever it is made, and none is taken for a number of draws."""
    functions = {name: getattr(inference, name) for name in inference.__all__}
    seeds = {
        name: inspect.signature(function).parameters["seed"]
        for name, function in functions.items()
        if inspect.isfunction(function) and "seed" in inspect.signature(function).parameters
    }
    assert {"draw", "fit", "khat", "predict", "prior", "resample", "sample"} <= seeds.keys()
    assert {(seed.kind, seed.default) for seed in seeds.values()} == {(inspect.Parameter.KEYWORD_ONLY, 0)}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", CALLS)
def test_a_posterior_that_is_not_the_pairs_is_refused(name, kind):
    on, call = CALLS[name]
    pair, data, right = made(on)
    make, words = WRONG[kind]
    if kind == "None" and "None" in str(inspect.signature(getattr(inference, name, picture)).parameters["posterior"]):
        pytest.skip("None stands for draws from the guide")
    right = replace(right, draws={n: v for n, v in right.draws.items() if n not in right.local}, local=frozenset())
    first = next(name for name in check(pair, data, complete=False).globals if name in right.draws)
    right = replace(right, draws={first: right[first], **right.draws})
    refused(lambda: call(pair, make(right), data), pair, words.format(first))


@pytest.mark.filterwarnings("ignore::inference.codes.collapse.CollapseWarning")
@pytest.mark.parametrize("name", [name for name in CALLS if name != "fit_by_simulation"])  # it trains
def test_a_right_posterior_is_taken_with_names_that_the_pair_does_not_know(name):
    on, call = CALLS[name]
    pair, data, right = made(on, 25)  # as many as `loo` needs
    more = replace(right, draws={**right.draws, "of_the_guide": torch.full((1, 25), math.nan)})
    call(pair, more, data)


@pytest.mark.parametrize("given", ["x", 7, {}, None])
def test_pairs_without_globals_look_too(given):
    pair, data, _ = made("without globals")
    for name in ("predict", "log_likelihood", "to_arviz"):
        refused(partial(getattr(inference, name), pair, given, data), pair, "posterior: expected a Posterior")
    if given is not None:
        for name in ("encode", "reconstruct", "log_marginal"):
            refused(partial(getattr(inference, name), pair, data, posterior=given), pair, "expected a Posterior")
    assert inference.log_likelihood(pair, Posterior({}, size=3), data, particles=2).shape == (1, 3, 12)


@pytest.mark.parametrize("name", zoo.names())
def test_what_guide_and_prior_draw_is_taken_by_every_pair(name):
    pair = zoo.create(name)
    given = check(pair, pair.simulate(4)[0])
    for posterior in (inference.draw(pair, given, 2, stats=False), inference.prior(pair, given, 2)):
        assert check_posterior(given, posterior, local=True).draws.keys() == posterior.draws.keys()


def test_nothing_is_run_for_it_and_it_comes_home(monkeypatch):
    pair, data, posterior = made("mixture")
    given = check(pair, data)
    monkeypatch.setattr(ModelGuide, "sites", None)
    monkeypatch.setattr(type(pair), "model", None)
    wide = replace(posterior, draws={name: value.double() for name, value in posterior.draws.items()})
    assert {value.dtype for value in check_posterior(given, wide).draws.values()} == {torch.float32}
    assert check_posterior(given, posterior, 2).size == 2
    huge = changed(posterior, lambda v: torch.full_like(v, 3e38))  # their sum overflows, they do not
    assert check_posterior(given, huge).size == 6


def test_local_latents_are_of_these_rows_where_they_are_used():
    pair, data, posterior = made("without globals")
    few = data.select(slice(0, 5)).but(total=5)
    for name in ("predict", "to_arviz"):
        refused(partial(getattr(inference, name), pair, posterior, few), pair, "'z' of 12 rows, the data have 5")
    assert inference.log_likelihood(pair, posterior, few, particles=2).shape == (1, 6, 5)
    lost = replace(posterior, draws={"z": spoilt(posterior["z"].clone())})
    refused(lambda: inference.predict(pair, lost, data), pair, "site 'z', chain 0, draw 4, row 11: expected a finite")


COUNT = [0, -1, 2.5, "3", True, [3]]
NUMBER = [-1, math.nan, math.inf, "a", None, True]
MASS = [0, 1, -0.5, math.nan, "a", None, True]
OPTIONS = {  # argument -> which functions take it, and what none of them does
    "draws": (["predict", "smooth", "viterbi", "sample_paths", "forecast", "importance", "picture", "novelty"], COUNT),
    "particles": (["log_likelihood", "log_score", "novelty"], [*COUNT, None]),
    "threshold": (["active_units", "collapsed"], NUMBER),
    "mass": (["query", "marginals", "explain", "tables", "coefficients"], MASS),
    "predictive": (["to_arviz"], [0, -1, 2.5, "a", None]),
    "prior": (["to_arviz"], [-1, 2.5, "a", None, True]),
    "rows": (["to_arviz"], COUNT),
    "log_likelihood": (["to_arviz"], ["yes", 1, None]),
    "coords": (["to_arviz"], ["ab", 3, {1: [2]}, {"component": 3}, {"component": "ab"}]),
    "attrs": (["to_arviz"], [3, "ab", {1: 2}, {"a": THING}]),
    "inputs": (["forecast"], ["x", THING, 3, torch.zeros(2, 2)]),
    "names": (["importance"], ["ab", 3, ["a"]]),
    "evidence": (["query", "marginals", "explain"], ["x", 3, ["a"]]),
    "given": (["query", "marginals", "explain"], ["x", 3, ["a"]]),
    "do": (["query", "marginals", "explain"], ["x", 3, ["a"]]),
}
CASES = [(name, option, value) for option, (names, values) in OPTIONS.items() for name in names for value in values]


@pytest.mark.parametrize(("name", "option", "value"), CASES, ids=str)
def test_options_are_refused_by_name(name, option, value):
    on, call = CALLS[name]
    pair, data, right = made(on)
    refused(lambda: call(pair, right, data, **{option: value}), pair, rf"^(field ')?{option}")


@pytest.mark.parametrize("value", [*COUNT, None], ids=str)
def test_counts_of_functions_without_a_posterior(value):
    pair, data, posterior = made("without globals")
    refused(
        lambda: inference.khat(pair, data, particles=value), pair, "^particles: expected a whole number of at least 1"
    )
    refused(lambda: inference.khat(pair, data, draws=value), pair, "^draws: expected a whole number of at least 1")
    refused(lambda: posterior.thin(value), pair, "^draws: expected a whole number of at least 1")


@pytest.mark.parametrize("codes", [None, "x", THING, torch.zeros(3, 2) * 1j, {"z": "x"}], ids=str)
def test_codes_that_are_no_numbers_are_refused(codes):
    pair = made("without globals")[0]
    refused(lambda: inference.decode(pair, codes), pair, "^codes.*'z'.*: expected")


@pytest.mark.parametrize("variables", [None, 5, True, [1], THING], ids=str)
def test_variables_that_are_no_names_are_refused(variables):
    pair, _, posterior = made("network")
    refused(lambda: inference.query(pair, posterior, variables), pair, "^variables: expected the name of a node")


def test_intervals_hold_a_mass_between_0_and_1():
    pair, data, posterior = made("regression")
    found = inference.importance(pair, posterior, data)
    for value in MASS:
        refused(partial(found.interval, value), pair, "^mass: expected a number between 0 and 1")


def test_a_store_is_a_path():
    pair, data, _ = made("mixture")
    refused(lambda: inference.sample(pair, data, 2, 2, store=3, progress=False), pair, "^store: expected the path")


@pytest.mark.parametrize(
    ("draws", "words"),
    [(3, "draws: expected a dict"), ({"a": [1.0]}, "draws of 'a': expected a tensor, got list")],
)
def test_a_posterior_is_made_of_tensors(draws, words):
    with pytest.raises(ValueError, match=words):
        Posterior(draws, size=1)
