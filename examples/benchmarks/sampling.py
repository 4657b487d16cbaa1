"""How fast do chains tell what they know? `inference.sample` beside NumPyro's and nutpie's NUTS.

    python examples/benchmarks/sampling.py [--quick] [--out FILE.json] [--only CASE,CASE] [--methods METHOD,METHOD]
                                           [--seeds S] [--first S] [--limit SECONDS] [--write]

Score: the smallest bulk effective sample size of any parameter, by ArviZ, for each second of CPU time, warm-up
included; compiling is left out and told apart. A run counts where R-hat is below 1.01 and every mean lies within 4
standard errors of the reference: posteriordb's draws (the folder that ZOO_REFERENCE names), else all methods pooled.

Ours is the default configuration of `sample`, 64 chains of 500 draws, compiled by Inductor (`ours`) or traced only
(`ours_graph`). NumPyro runs 64 vectorised chains, 500 draws after 500 of warm-up, in double precision too; nutpie its
own default of tuning, 4 chains of 1,000 draws. All on one core, seed by seed in turn. The models of `breast_cancer` and
`sblrc` were looked at for the first time when `sample` was done. Peers that are not installed are named. With --limit
each run has a process of its own, which is stopped, and reported so, after so much CPU time (compiling included).
--write puts the table into README.md beside this file, between its two markers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

import inference
import zoo
from zoo import Batch, ModelGuide
from zoo.parts.chains.chain import HiddenMarkovChain

REFERENCE = Path(os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "shared/reference")) / "posteriordb"
METHODS = ("ours", "ours_graph", "numpyro", "nutpie")
Draws = dict[str, np.ndarray]  # parameter -> (chain, draw)


# ---------------------------------------------------------------- the pairs


class EightSchools(ModelGuide):
    """y_n ~ Normal(mu + tau raw_n, x_n), raw_n ~ Normal(0, 1), mu ~ Normal(0, 5), tau ~ HalfCauchy(5)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("five", torch.tensor(5.0))

    def inputs(self, n):
        return Batch(n, n, x=torch.full((n, 1), 10.0).to(self.five))

    def model(self, batch):
        mu = pyro.sample("mu", dist.Normal(0 * self.five, self.five))
        tau = pyro.sample("tau", dist.HalfCauchy(self.five))
        with batch.plate():
            raw = pyro.sample("raw", dist.Normal(0 * self.five, self.five / 5))
            return pyro.sample("y", dist.Normal(mu + tau * raw, batch.x[:, 0]), obs=batch.y)


class Mixture(ModelGuide):
    """x_n ~ theta Normal(m_1, s_1) + (1 - theta) Normal(m_2, s_2), m_1 < m_2 ~ Normal(0, 2), s ~ HalfNormal(2)."""

    dims: ClassVar = {"locs": ("component",), "scales": ("component",)}

    def __init__(self):
        super().__init__()
        self.register_buffer("two", torch.full((2,), 2.0))

    def model(self, batch):
        theta = pyro.sample("theta", dist.Beta(2.5 * self.two[0], 2.5 * self.two[0]))
        locs = pyro.sample("locs", OrderedNormal(0 * self.two, self.two))
        scales = pyro.sample("scales", dist.HalfNormal(self.two).to_event(1))
        weights = dist.Categorical(torch.stack([theta, 1 - theta], -1))
        with batch.plate():
            return pyro.sample("x", dist.MixtureSameFamily(weights, dist.Normal(locs, scales)), obs=batch.x)


class TwoStates(ModelGuide):
    """A hidden Markov chain of two states: x_t ~ Normal(m_z, 1), m_1 < m_2 ~ Normal((3, 10), 1), rows ~ Dirichlet."""

    dims: ClassVar = {"rows": ("state", "next_state"), "locs": ("state",), "x": ("step",)}

    def __init__(self, steps: int = 100):
        super().__init__()
        self.steps = steps
        self.register_buffer("one", torch.ones(2, 2))
        self.register_buffer("centre", torch.tensor([3.0, 10.0]))

    def model(self, batch):
        rows = pyro.sample("rows", dist.Dirichlet(self.one).to_event(1))
        locs = pyro.sample("locs", OrderedNormal(self.centre, self.one[0]))
        emission = dist.Normal(locs, self.one[0])
        with batch.plate():
            chain = HiddenMarkovChain(0 * self.centre, rows.log(), emission, self.steps)
            return pyro.sample("x", chain, obs=batch.x)


class Regression(ModelGuide):
    """y_n ~ Normal(x_n . slopes (+ intercept), sigma), each with a prior scale of its own."""

    dims: ClassVar = {"slopes": ("feature",), "x": ("feature",)}

    def __init__(
        self,
        features: int = 5,
        scale: float = 10.0,
        intercept: float | None = 10.0,
        noise: float = 2.5,
        heavy: bool = True,
    ):
        super().__init__()
        self.heavy = heavy
        self.register_buffer("scale", torch.full((features,), scale))
        self.register_buffer("intercept", None if intercept is None else torch.tensor(intercept))
        self.register_buffer("noise", torch.tensor(noise))

    def inputs(self, n):
        return Batch(n, n, x=torch.randn(n, len(self.scale)).to(self.scale))

    def model(self, batch):
        loc = pyro.sample("slopes", dist.Normal(0 * self.scale, self.scale).to_event(1)) @ batch.x.mT
        loc = loc.squeeze(-2) if loc.ndim > 2 else loc  # (S, 1, N)
        if self.intercept is not None:
            loc = loc + pyro.sample("intercept_", dist.Normal(0 * self.intercept, self.intercept))
        sigma = pyro.sample("sigma", dist.HalfCauchy(self.noise) if self.heavy else dist.HalfNormal(self.noise))
        with batch.plate():
            return pyro.sample("y", dist.Normal(loc, sigma), obs=batch.y)


class Logistic(ModelGuide):
    """y_n ~ Bernoulli(sigmoid(intercept + x_n . slopes)), intercept and slopes ~ Normal(0, 1)."""

    dims: ClassVar = {"slopes": ("feature",), "x": ("feature",)}

    def __init__(self, features: int = 20):
        super().__init__()
        self.register_buffer("one", torch.ones(features))

    def inputs(self, n):
        return Batch(n, n, x=torch.randn(n, len(self.one)).to(self.one))

    def model(self, batch):
        intercept = pyro.sample("intercept", dist.Normal(0 * self.one[0], self.one[0]))
        logits = pyro.sample("slopes", dist.Normal(0 * self.one, self.one).to_event(1)) @ batch.x.mT
        logits = intercept + (logits.squeeze(-2) if logits.ndim > 2 else logits)
        with batch.plate():
            return pyro.sample("y", dist.Bernoulli(logits=logits), obs=batch.y)


class OrderedNormal(dist.TorchDistribution):
    """Independent normals, in increasing order; not normalised anew."""

    arg_constraints: ClassVar = {}
    support = constraints.ordered_vector

    def __init__(self, loc, scale):
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size((*batch_shape, *self.event_shape))
        return OrderedNormal(self.loc.expand(shape), self.scale.expand(shape))

    def sample(self, sample_shape=()):
        shape = (*sample_shape, *self.loc.shape)
        return torch.normal(self.loc.expand(shape), self.scale.expand(shape)).sort(-1).values

    def log_prob(self, value):
        return dist.Normal(self.loc, self.scale).log_prob(value).sum(-1)


# ---------------------------------------------------------------- the same in NumPyro and PyMC


def numpyro_eight(data):
    import numpyro
    from numpyro import distributions as nd

    def model():
        mu, tau = numpyro.sample("mu", nd.Normal(0, 5)), numpyro.sample("tau", nd.HalfCauchy(5))
        with numpyro.plate("data", len(data["y"])):
            raw = numpyro.sample("raw", nd.Normal(0, 1))
            numpyro.sample("y", nd.Normal(mu + tau * raw, data["x"][:, 0]), obs=data["y"])

    return model


def pymc_eight(data):
    import pymc as pm

    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    raw = pm.Normal("raw", 0, 1, shape=len(data["y"]))
    pm.Normal("y", mu + tau * raw, data["x"][:, 0], observed=data["y"])


def numpyro_mixture(data):
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as nd

    def model():
        theta = numpyro.sample("theta", nd.Beta(5, 5))
        locs = numpyro_ordered("locs", jnp.zeros(2), 2.0)
        scales = numpyro.sample("scales", nd.HalfNormal(2).expand([2]).to_event(1))
        weights = nd.Categorical(jnp.stack([theta, 1 - theta]))
        numpyro.sample("x", nd.MixtureSameFamily(weights, nd.Normal(locs, scales)), obs=data["x"])

    return model


def numpyro_ordered(name, loc, scale):
    import numpyro
    from numpyro import distributions as nd

    site = nd.ImproperUniform(nd.constraints.ordered_vector, (), (2,))
    value = numpyro.sample(name, site)
    numpyro.factor(f"{name}_prior", nd.Normal(loc, scale).log_prob(value).sum())
    return value


def pymc_mixture(data):
    import pymc as pm
    from pymc.distributions.transforms import ordered

    theta = pm.Beta("theta", 5, 5)
    locs = pm.Normal("locs", 0, 2, shape=2, transform=ordered, initval=[-1.0, 1.0])
    scales = pm.HalfNormal("scales", 2, shape=2)
    weights = pm.math.stack([theta, 1 - theta])
    pm.NormalMixture("x", w=weights, mu=locs, sigma=scales, observed=data["x"])


def numpyro_states(data):
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as nd

    x = data["x"][0]

    def model():
        rows = numpyro.sample("rows", nd.Dirichlet(jnp.ones((2, 2))).to_event(1))
        locs = numpyro_ordered("locs", jnp.array([3.0, 10.0]), 1.0)
        emission = nd.Normal(locs, 1).log_prob(jnp.asarray(x)[:, None])  # (T, 2)

        def ahead(alpha, log_p):
            return jax.nn.logsumexp(alpha[:, None] + jnp.log(rows), axis=0) + log_p, None

        alpha, _ = jax.lax.scan(ahead, emission[0], emission[1:])
        numpyro.factor("x", jax.nn.logsumexp(alpha))

    return model


def numpyro_regression(scale, intercept, noise, heavy):
    def build(data):
        import numpyro
        from numpyro import distributions as nd

        def model():
            width = data["x"].shape[1]
            loc = data["x"] @ numpyro.sample("slopes", nd.Normal(0, scale).expand([width]).to_event(1))
            if intercept:
                loc = loc + numpyro.sample("intercept_", nd.Normal(0, intercept))
            sigma = numpyro.sample("sigma", nd.HalfCauchy(noise) if heavy else nd.HalfNormal(noise))
            numpyro.sample("y", nd.Normal(loc, sigma), obs=data["y"])

        return model

    return build


def pymc_regression(scale, intercept, noise, heavy):
    def build(data):
        import pymc as pm

        loc = data["x"] @ pm.Normal("slopes", 0, scale, shape=data["x"].shape[1])
        if intercept:
            loc = loc + pm.Normal("intercept_", 0, intercept)
        sigma = pm.HalfCauchy("sigma", noise) if heavy else pm.HalfNormal("sigma", noise)
        pm.Normal("y", loc, sigma, observed=data["y"])

    return build


def numpyro_logistic(data):
    import numpyro
    from numpyro import distributions as nd

    def model():
        intercept = numpyro.sample("intercept", nd.Normal(0, 1))
        slopes = numpyro.sample("slopes", nd.Normal(0, 1).expand([data["x"].shape[1]]).to_event(1))
        numpyro.sample("y", nd.Bernoulli(logits=intercept + data["x"] @ slopes), obs=data["y"])

    return model


def pymc_logistic(data):
    import pymc as pm

    slopes = pm.Normal("slopes", 0, 1, shape=data["x"].shape[1])
    pm.Bernoulli("y", logit_p=pm.Normal("intercept", 0, 1) + data["x"] @ slopes, observed=data["y"])


# ---------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Case:
    """One posterior: our pair, its data, the same model elsewhere, and the reference's names of its parameters."""

    pair: Callable[[], ModelGuide]
    load: Callable[[dict[str, Any]], dict[str, Any]]  # from posteriordb's data.json, if any, to fields of a Batch
    numpyro: Callable[[Any], Any]
    pymc: Callable[[Any], None] | None
    reference_name: str = ""
    names: Callable[[dict[str, np.ndarray]], Draws] | None = None

    @property
    def folder(self) -> Path:
        return REFERENCE / self.reference_name

    def fields(self) -> dict[str, np.ndarray]:
        raw = json.loads((self.folder / "data.json").read_text()) if self.reference_name else {}
        return {name: np.asarray(value, dtype=np.float64) for name, value in self.load(raw).items()}

    def data(self) -> Batch:
        return Batch.of(**{name: torch.from_numpy(value) for name, value in self.fields().items()})

    def reference(self) -> dict[str, dict[str, float]] | None:
        if not self.reference_name:
            return None
        return json.loads((self.folder / "reference_summary.json").read_text())["parameters"]

    def named(self, draws: dict[str, Any]) -> Draws:
        arrays = {name: np.asarray(value) for name, value in draws.items()}
        return self.names(arrays) if self.names else scalars(arrays)


def scalars(draws):
    """Every number of every site under a name of its own."""
    return {
        f"{name}[{i + 1}]": value.reshape(*value.shape[:2], -1)[..., i]
        for name, value in draws.items()
        for i in range(math.prod(value.shape[2:]))
    }


def eight_names(d):
    theta = d["mu"][..., None] + d["tau"][..., None] * d["raw"]
    return {"mu": d["mu"], "tau": d["tau"], **{f"theta[{i + 1}]": theta[..., i] for i in range(8)}}


def mixture_names(d):
    pairs = {"mu": "locs", "sigma": "scales"}
    return {"theta": d["theta"], **{f"{n}[{k + 1}]": d[site][..., k] for n, site in pairs.items() for k in range(2)}}


def states_names(d):
    rows = {f"theta{i + 1}[{j + 1}]": d["rows"][..., i, j] for i in range(2) for j in range(2)}
    return {**rows, **{f"mu[{k + 1}]": d["locs"][..., k] for k in range(2)}}


def ar_names(d):
    return {"alpha": d["intercept_"], "sigma": d["sigma"], **{f"beta[{k + 1}]": d["slopes"][..., k] for k in range(5)}}


def kid_names(d):
    return {"beta[1]": d["intercept_"], "beta[2]": d["slopes"][..., 0], "sigma": d["sigma"]}


def blr_names(d):
    return {"sigma": d["sigma"], **{f"beta[{k + 1}]": d["slopes"][..., k] for k in range(5)}}


def lags(raw):
    y = np.asarray(raw["y"])
    return {"x": np.stack([y[4 - k : len(y) - 1 - k] for k in range(5)], -1), "y": y[5:]}


def simulated(_):
    rng = np.random.default_rng(0)
    x, slopes = rng.standard_normal((1000, 20)), rng.standard_normal(20) / 2
    return {"x": x, "y": rng.random(1000) < 1 / (1 + np.exp(-x @ slopes))}


def breast_cancer(_):
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return {"x": (found.data - found.data.mean(0)) / found.data.std(0), "y": found.target}


def regression(features, scale, intercept, noise, heavy=True):
    arguments = (scale, intercept, noise, heavy)
    return lambda: Regression(features, *arguments), numpyro_regression(*arguments), pymc_regression(*arguments)


def _regression_case(load, name, names, *arguments):
    pair, in_numpyro, in_pymc = regression(*arguments)
    return Case(pair, load, in_numpyro, in_pymc, name, names)


CASES = {
    "eight_schools": Case(
        EightSchools,
        lambda raw: {"x": np.asarray(raw["sigma"])[:, None], "y": raw["y"]},
        numpyro_eight,
        pymc_eight,
        "eight_schools-eight_schools_noncentered",
        eight_names,
    ),
    "logistic": Case(Logistic, simulated, numpyro_logistic, pymc_logistic),
    "low_dim_gauss_mix": Case(
        Mixture,
        lambda raw: {"x": raw["y"]},
        numpyro_mixture,
        pymc_mixture,
        "low_dim_gauss_mix-low_dim_gauss_mix",
        mixture_names,
    ),
    "hmm_example": Case(
        TwoStates, lambda raw: {"x": [raw["y"]]}, numpyro_states, None, "hmm_example-hmm_example", states_names
    ),
    "ar5": _regression_case(lags, "arK-arK", ar_names, 5, 10.0, 10.0, 2.5),
    "kidiq": _regression_case(  # flat priors in the reference
        lambda raw: {"x": np.asarray(raw["mom_iq"])[:, None], "y": raw["kid_score"]},
        "kidiq-kidscore_momiq", kid_names, 1, 1e3, 1e4, 2.5,
    ),
    "sblrc": _regression_case(
        lambda raw: {"x": raw["X"], "y": raw["y"]}, "sblrc-blr", blr_names, 5, 10.0, None, 10.0, False
    ),
    "breast_cancer": Case(lambda: Logistic(30), breast_cancer, numpyro_logistic, pymc_logistic),
}  # fmt: skip
REFERENCED = [name for name, case in CASES.items() if case.reference_name and name != "sblrc"]


# ---------------------------------------------------------------- the methods


@dataclass
class Run:
    """One run: its draws, and seconds of CPU time."""

    draws: Draws
    cpu: float  # warm-up and draws
    compile: float  # CPU (and, for ours, without the compiler's own processes)
    divergences: int
    wall: float = 0.0


@dataclass
class Methods:
    """Peers keep what they compiled for a case."""

    quick: bool = False
    kept: dict[tuple[str, str], Any] = field(default_factory=dict)

    def ours(self, name: str, seed: int, mode: str = "inductor") -> Run:
        case = CASES[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = inference.sample(
                case.pair().double(), case.data(), 100 if self.quick else 500, seed=seed, compile=mode, progress=False
            )
        cpu = found.cpu["warmup"] + found.cpu["draws"]
        named = case.named({n: v.numpy() for n, v in found.draws.items()})
        return Run(named, cpu, found.cpu["compile"], int(found.stats["diverging"].sum()), found.seconds["compile"])

    def ours_graph(self, name: str, seed: int) -> Run:
        return self.ours(name, seed, "graph")

    def numpyro(self, name: str, seed: int) -> Run:
        case, count, began = CASES[name], 100 if self.quick else 500, time.process_time()
        if ("numpyro", name) not in self.kept:
            self.kept["numpyro", name] = numpyro_chains(case.numpyro(case.fields()), (), count, 64)
        compiled = time.process_time()
        draws, diverging = self.kept["numpyro", name](seed)
        done = time.process_time()
        return Run(case.named(draws), done - compiled, compiled - began, int(diverging.sum()))

    def nutpie(self, name: str, seed: int) -> Run:
        import nutpie

        case, began = CASES[name], time.process_time()
        if ("nutpie", name) not in self.kept:
            self.kept["nutpie", name] = compiled_for_nutpie(case)
        compiled = time.process_time()
        options = {"draws": 200, "tune": 200} if self.quick else {"draws": 1000}
        found = nutpie.sample(
            self.kept["nutpie", name], chains=4, cores=1, seed=seed, progress_bar=False, save_warmup=False, **options
        )
        cpu = time.process_time() - compiled
        draws = {str(n): found.posterior[n].values for n in found.posterior.data_vars}
        named = case.named({n: v for n, v in draws.items() if not n.endswith("__")})
        return Run(named, cpu, compiled - began, int(found.sample_stats["diverging"].sum()))


def numpyro_chains(model, arguments, count, chains):
    """A run of NumPyro's NUTS, by seed, as one compiled function; `MCMC.run` by itself compiles anew on every call."""
    import jax
    from numpyro import infer

    jax.config.update("jax_enable_x64", True)

    def whole(key):
        kernel = infer.NUTS(model)
        run = infer.MCMC(
            kernel, num_warmup=count, num_samples=count, num_chains=chains, chain_method="vectorized",
            progress_bar=False,
        )  # fmt: skip
        run.run(key, *arguments, extra_fields=("diverging",))
        return run.get_samples(group_by_chain=True), run.get_extra_fields()["diverging"]

    compiled = jax.jit(whole).lower(jax.random.key(0)).compile()
    return lambda seed: jax.device_get(compiled(jax.random.key(seed)))


def compiled_for_nutpie(case):
    import nutpie

    if case.pymc is not None:
        import pymc as pm

        with pm.Model() as model:
            case.pymc(case.fields())
        return nutpie.compile_pymc_model(model)
    import jax
    from jax.flatten_util import ravel_pytree
    from numpyro.infer.util import initialize_model

    jax.config.update("jax_enable_x64", True)
    start = initialize_model(jax.random.key(0), case.numpyro(case.fields()))
    flat, unravel = ravel_pytree(start.param_info.z)
    both = jax.jit(jax.value_and_grad(lambda u: -start.potential_fn(unravel(u))))
    expand = jax.jit(lambda u: start.postprocess_fn(unravel(u)))
    example = {n: np.asarray(v) for n, v in expand(flat).items() if not n.endswith("_prior") and n != "x"}

    def density(u):
        value, gradient = both(u)
        return float(value), np.asarray(gradient)

    def constrained(u):
        found = expand(u)
        return {n: np.asarray(found[n]) for n in example}

    return nutpie.compiled_pyfunc.from_pyfunc(
        len(flat),
        lambda: density,
        lambda *_: constrained,
        [value.dtype for value in example.values()],
        [value.shape for value in example.values()],
        list(example),
    )


def installed(method):
    return method.startswith("ours") or importlib.util.find_spec(method) is not None


# ---------------------------------------------------------------- scores


def worst_ess(draws: Draws) -> float:
    """The smallest bulk effective sample size of any parameter."""
    import arviz as az

    return min(float(np.squeeze(az.ess(value, method="bulk"))) for value in draws.values() if np.ptp(value) > 0)


def worst_rhat(draws: Draws) -> float:
    import arviz as az

    return max(float(np.squeeze(az.rhat(value))) for value in draws.values() if np.ptp(value) > 0)


def mcse(draws: np.ndarray) -> float:
    """Monte Carlo error of the mean of (chain, draw)."""
    import arviz as az

    return float(draws.std() / math.sqrt(float(np.squeeze(az.ess(draws, method="mean")))))


def compare(draws: Draws, reference: dict[str, dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """Of each parameter: distance of the means in Monte Carlo errors and in deviations, and ratio of deviations."""
    found = {}
    for name, truth in reference.items():
        if name not in draws:
            continue
        away = abs(float(draws[name].mean()) - truth["mean"])
        error = math.hypot(mcse(draws[name]), truth["mcse_mean"])
        found[name] = away / error, away / truth["sd"], float(draws[name].std()) / truth["sd"]
    return found


def summary(draws: Draws) -> dict[str, list[float]]:
    return {name: [float(v.mean()), float(v.std()), mcse(v)] for name, v in draws.items()}


def pooled(results):
    """A reference from several runs, weighted by their errors."""
    reference = {}
    for name in results[0]["summary"]:
        mean, sd, error = np.array([result["summary"][name] for result in results]).T
        weight = error**-2 / (error**-2).sum()
        reference[name] = {
            "mean": float(weight @ mean),
            "sd": float(sd.mean()),
            "mcse_mean": float((error**-2).sum() ** -0.5),
        }
    return reference


# ---------------------------------------------------------------- running and telling


def main(arguments=None):
    """Run what is missing in turn and print the table; returns the results by case, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs, to see that they run; numbers mean nothing")
    parser.add_argument("--out", type=Path, help="where results are kept (sampling.json, or sampling_quick.json)")
    parser.add_argument("--only", default=",".join(CASES), help=f"of: {', '.join(CASES)}")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of: {', '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--limit", type=int, help="CPU seconds of one run, compiling included")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity") and not options.quick:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    path = options.out or Path("sampling_quick.json" if options.quick else "sampling.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    names, methods = options.only.split(","), options.methods.split(",")
    for unknown in {*names, *methods} - {*CASES, *METHODS}:
        parser.error(f"no case or method {unknown!r}")
    for method in methods:
        if not installed(method):
            print(f"{method} is not installed: left out")
    running = Methods(options.quick)
    for name in names:
        if CASES[name].reference_name and not CASES[name].folder.exists():
            print(f"{name}: no reference posteriors at {REFERENCE} (set ZOO_REFERENCE): left out")
            continue
        for seed in range(options.first, options.first + options.seeds):
            for method in filter(installed, methods):
                key = f"{name}/{method}/{seed}"
                if key in results:
                    continue
                results[key] = limited(key, options) if options.limit else outcome(running, name, method, seed)
                shown = {k: v for k, v in results[key].items() if k != "summary"}
                print(key, shown, flush=True)
                path.write_text(json.dumps(results))
    print(table(results, names, methods))
    print()
    print(brief(results, names, methods))
    if options.write:
        write(brief(results, list(CASES), METHODS))
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    return results


def outcome(running, name, method, seed):
    """What one run gives: its scores, or why it failed."""
    try:
        run = getattr(running, method)(name, seed)
    except Exception as error:  # a peer's failure is a result too
        return {"failed": f"{type(error).__name__}: {error}"[:200]}
    ess = worst_ess(run.draws)
    return {
        "ess": ess, "cpu": run.cpu, "compile": run.compile, "rhat": worst_rhat(run.draws),
        "divergences": run.divergences, "rate": ess / run.cpu, "summary": summary(run.draws),
    }  # fmt: skip


def limited(key, options, script=__file__):
    """The same by a script in a process of its own, for so much CPU time."""
    name, method, seed = key.split("/")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, script, "--only", name, "--methods", method, "--first", seed, "--seeds", "1"]
        command += ["--out", str(out)] + ["--quick"] * options.quick
        limits = (options.limit, options.limit + 5)
        done = subprocess.run(  # XLA and nutpie cannot be interrupted from within
            command, check=False, capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limits),
        )  # fmt: skip
        if out.exists():
            return json.loads(out.read_text())[key]
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        return {"failed": f"over {options.limit} s of CPU"}
    return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]}


def scored(results, name, methods):
    """Runs of one case by method, each with how many errors its furthest mean lies from the reference."""
    runs = {method: [r for key, r in results.items() if key.startswith(f"{name}/{method}/")] for method in methods}
    everyone = [r for found in runs.values() for r in found if "rate" in r]
    reference = CASES[name].reference() if CASES[name].folder.exists() else None
    reference = reference or (pooled(everyone) if everyone else {})
    for r in everyone:
        r["away"] = max(
            abs(r["summary"][p][0] - truth["mean"]) / math.hypot(r["summary"][p][2], truth["mcse_mean"])
            for p, truth in reference.items()
            if p in r["summary"]
        )
    return runs


def holds(run):
    """Whether a run counts."""
    return run["rhat"] < 1.01 and run["away"] < 4


def spread(values, digits=0):
    """Median, and the range where there are several."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def brief(results, names, methods):
    """One line a case: effective samples a CPU second by method, and what did not hold."""
    lines = [f"| posterior | {' | '.join(f'`{method}`' for method in methods)} |", "| --- " * (len(methods) + 1) + "|"]
    for name in names:
        cells = []
        for runs in scored(results, name, methods).values():
            whole = [r for r in runs if "rate" in r]
            failed = next((r["failed"] for r in runs if "failed" in r), "")
            good = sum(map(holds, whole))
            cell = spread([r["rate"] for r in whole]) if whole else ""
            cell += f"; {good} of {len(whole)} hold" if good < len(whole) else ""
            cells.append("; ".join(filter(None, [cell, failed])) or "not run")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(text, name="sampling"):
    """Put the table between the markers of README.md."""
    path = Path(__file__).with_name("README.md")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{path}: no place for the table; put {begin} and {end} where it should stand")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def table(results, names, methods):
    """One line a case and method, in Markdown; medians over seeds, smallest and largest."""
    heads = (
        "posterior", "method", "effective samples a CPU second", "ours / it", "effective samples", "CPU s", "compile s",
        "largest R-hat", "divergences", "furthest mean, errors", "R-hat < 1.01, means within 4 errors",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in names:
        runs = scored(results, name, methods)
        ours = [r["rate"] for r in runs.get("ours", []) if "rate" in r]
        for method, found in runs.items():
            whole = [r for r in found if "rate" in r]
            failed = sorted({r["failed"] for r in found if "failed" in r})
            lines += [f"| {name} | {method} | failed: {why} |{' |' * (len(heads) - 3)}" for why in failed]
            if not whole:
                continue
            ratio = f"{statistics.median(ours) / statistics.median(r['rate'] for r in whole):.2f}" if ours else "-"
            shown = [spread([r[key] for r in whole], digits) for key, digits in _SHOWN.items()]
            good = sum(map(holds, whole))
            cells = [name, method, shown[0], ratio, *shown[1:], f"{max(r['rhat'] for r in whole):.4f}"]
            cells += [str(sum(r["divergences"] for r in whole)), f"{max(r['away'] for r in whole):.1f}"]
            lines.append(f"| {' | '.join(cells)} | {'all' if good == len(whole) else good} of {len(whole)} |")
    return "\n".join(lines)


_SHOWN = {"rate": 0, "ess": 0, "cpu": 2, "compile": 1}  # and with how many digits


def versions():
    found = {"python": platform.python_version(), "torch": torch.__version__, "pyro": pyro.__version__}
    found["zoo"] = zoo.__version__
    for name in ("numpyro", "jax", "nutpie", "pymc"):
        if importlib.util.find_spec(name):
            found[name] = importlib.import_module(name).__version__
    return found


if __name__ == "__main__":
    main()
