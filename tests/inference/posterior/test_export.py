"""The export to ArviZ: groups, names and labels, on both ArviZ lines; what `az` makes of it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from inference import to_arviz
from inference.posterior.containers import build, observations, save
from inference.posterior.draws import Posterior
from tests.helpers.places import ROOT
from zoo.base import Batch, ModelGuide
from zoo.settings import settings

ARVIZ_HERE = "1.x" if int(version("arviz").split(".")[0]) >= 1 else "0.x"
CHAINS, DRAWS, N, D = 2, 100, 30, 3


class Regression(ModelGuide):
    """Global latents on three kinds of support, and a deterministic site."""

    dims: ClassVar = {"coefficients": ("feature",), "shares": ("part",), "x": ("feature",)}

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def model(self, batch: Batch) -> torch.Tensor:
        zero, one = 0 * self.scale, self.scale
        coefficients = pyro.sample("coefficients", dist.Normal(zero, one).expand([D]).to_event(1))
        noise = pyro.sample("noise", dist.Gamma(2 * one, one))
        pyro.sample("shares", dist.Dirichlet(one.expand(4)))
        with batch.plate():
            mean = pyro.deterministic("mean", (batch.x * coefficients).sum(-1))
            return pyro.sample("y", dist.Normal(mean, noise), obs=batch.y)

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, x=torch.randn(n, D).to(self.scale))


class Counts(ModelGuide):
    """Local latents alone: counts with a factor analysis of their logits."""

    dims: ClassVar = {"z": ("latent",), "x": ("feature",)}

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.encoder = nn.Linear(2, D), nn.Linear(D, 2)

    def model(self, batch: Batch) -> torch.Tensor:
        zero = self.decoder.bias.new_zeros(2)
        with batch.plate():
            z = pyro.sample("z", dist.Normal(zero, 1).to_event(1))
            return pyro.sample("x", dist.Binomial(16, logits=self.decoder(z)).to_event(1), obs=batch.x)

    def guide(self, batch: Batch) -> None:
        with batch.plate():
            pyro.sample("z", dist.Normal(self.encoder(batch.x), 1).to_event(1))


class Walk(ModelGuide):
    """Sequences of normal steps around one global mean; NaN is a missing step."""

    dims: ClassVar = {"x": ("step",)}

    def __init__(self, steps: int = 5) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("zero", torch.tensor(0.0))

    def model(self, batch: Batch) -> torch.Tensor:
        mean = pyro.sample("mean", dist.Normal(self.zero, 1))
        with batch.plate():
            fn = Steps(mean, self.steps, batch.lengths)
            return pyro.sample("x", fn, obs=batch.x)

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, lengths=torch.full((n,), self.steps))


class _AnyNumber(dist.constraints.Constraint):
    """The reals and NaN."""

    is_discrete = False
    event_dim = 0

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(value, dtype=torch.bool)


class Steps(dist.TorchDistribution):
    """T independent normal steps of which `lengths` count; NaN counts for nothing."""

    arg_constraints: ClassVar = {}
    support = dist.constraints.independent(_AnyNumber(), 1)
    has_rsample = False

    def __init__(self, mean: torch.Tensor, steps: int, lengths: torch.Tensor) -> None:
        self.loc, self.steps, self.lengths = mean, steps, lengths
        shape = torch.broadcast_shapes(mean.shape, lengths.shape)
        super().__init__(shape, (steps,), validate_args=False)

    def expand(self, shape: torch.Size) -> Steps:
        return Steps(self.loc.expand(shape), self.steps, self.lengths)

    def sample(self, shape: tuple[int, ...] = ()) -> torch.Tensor:
        mean = self.loc.expand((*shape, *self.batch_shape)).unsqueeze(-1)
        return mean + torch.randn(*mean.shape[:-1], self.steps).to(mean)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        counts = (torch.arange(self.steps) < self.lengths.unsqueeze(-1)) & ~value.isnan()
        each = dist.Normal(self.loc.unsqueeze(-1), 1, validate_args=False).log_prob(value.nan_to_num())
        return (each * counts).sum(-1)


def made_up(truth: dict[str, torch.Tensor], local: frozenset[str] = frozenset()) -> Posterior:
    """A narrow posterior around the truth, on its support: jitter in log space for the positive sites."""
    torch.manual_seed(0)
    draws = {}
    for name, value in truth.items():
        noise = 0.06 * torch.randn(CHAINS, DRAWS, *value.shape)
        # in units of the residuals: a posterior much wider than they are would have infinite importance weights
        draws[name] = value * noise.exp() if name in ("noise", "shares") else value + noise * truth.get("noise", 1.0)
    if "shares" in draws:
        draws["shares"] = draws["shares"] / draws["shares"].sum(-1, keepdim=True)
    stats = {name: torch.randn(CHAINS, DRAWS) for name in ("log_p", "log_q")}
    return Posterior(draws, local, stats, chains=CHAINS, size=DRAWS)


def regression() -> tuple[ModelGuide, Posterior, Batch]:
    torch.manual_seed(1)
    pair = Regression()
    batch, truth = pair.simulate(N)
    return pair, made_up(truth), batch


def counts() -> tuple[ModelGuide, Posterior, Batch]:
    torch.manual_seed(1)
    pair = Counts()
    batch, truth = pair.simulate(N)
    return pair, made_up(truth, frozenset({"z"})), batch


def walk() -> tuple[ModelGuide, Posterior, Batch]:
    torch.manual_seed(1)
    pair = Walk()
    batch, truth = pair.simulate(N)
    x, lengths = batch.x.clone(), torch.full((N,), 5)
    x[0, 1], lengths[1] = torch.nan, 3
    return pair, made_up(truth), Batch(N, N, x=x, lengths=lengths)


CASES = {case.__name__: case for case in (regression, counts, walk)}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[ModelGuide, Posterior, Batch]:
    return CASES[request.param]()


# --- both lines of ArviZ, each in a process of its own ----------------------------------------------------------------

USE = """
import pickle, sys, warnings
import arviz as az
import numpy as np
from inference.posterior.containers import build, observations, save
assert "torch" not in sys.modules, "the shim loads torch"
one = int(az.__version__.split(".")[0]) >= 1
file, cases = sys.argv[1], pickle.load(sys.stdin.buffer)
for case, (groups, coords, attrs, own) in cases.items():
    made = build(groups, coords, attrs, own)
    for group, variables in groups.items():
        for name, (dims, values) in variables.items():
            found = made[group][name]
            assert found.dims == tuple(dims), (case, group, name, found.dims)
            assert np.array_equal(found.values, values, equal_nan=True), (case, group, name)
    assert made.attrs["inference_library"] == made["posterior"].attrs["inference_library"] == "zoo"
    scalars = sum(values[0, 0].size for dims, values in groups["posterior"].values())
    assert len(az.summary(made)) == scalars, case
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Pareto.*")
        loo = az.loo(made, pointwise=True)
    elpd, penalty = (loo.elpd, loo.p) if one else (loo.elpd_loo, loo.p_loo)
    az.plot_trace(made)
    az.plot_forest(made)
    (az.plot_ppc_dist if one else az.plot_ppc)(made)
    print(case, one, float(elpd), float(penalty), np.isfinite(loo.pareto_k.values).all())
made.to_netcdf(file)
again = az.from_netcdf(file)
for name, (dims, values) in groups["posterior"].items():
    assert np.array_equal(again["posterior"][name].values, values), (case, name)
"""


def arviz_0() -> str:
    """This Python; ArviZ 0.x is not looked for elsewhere."""
    if ARVIZ_HERE != "0.x":
        pytest.skip("ArviZ 0.x is tested where the whole suite runs on Python 3.11; this Python has 1.x")
    return sys.executable


@cache
def arviz_1() -> str:
    """A Python that has ArviZ 1.x: this one, the one `make test` puts into .venv, or one of the user's."""
    if ARVIZ_HERE == "1.x":
        return sys.executable
    given = os.environ.get("ZOO_PYTHON312")
    named = [shutil.which(f"python3.{minor}") for minor in range(12, 20)]
    made = [*Path(sys.prefix).glob("arviz1/bin/python"), *ROOT.glob(".venv/arviz1/bin/python")]
    check = "import sys, arviz; sys.exit(int(arviz.__version__.split('.')[0]) < 1)"
    for python in filter(None, [given] if given else [*made, *named]):
        if subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return str(python)
    if given:
        pytest.skip(f"ZOO_PYTHON312 is {given}, which has no ArviZ 1.x")
    pytest.skip("no Python 3.12 or newer with ArviZ 1.x: `make test-arviz1` makes one, or says why not")


@pytest.fixture(scope="module")
def handed_over() -> bytes:
    """What `to_arviz` hands to the shim, for every case."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, case in CASES.items():
            patch.setattr("inference.posterior.containers.build", lambda *given, name=name: seen.update({name: given}))
            to_arviz(*case(), rows=2, prior=5)
    return pickle.dumps(seen)


@pytest.mark.parametrize("line", ["0.x", "1.x"])
def test_arviz_takes_it_as_it_is(line, handed_over, tmp_path):
    python = arviz_1() if line == "1.x" else arviz_0()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling all of ArviZ takes several seconds
    told = subprocess.run(
        [python, "-c", USE, str(tmp_path / "posterior.nc")],
        input=handed_over,
        capture_output=True,
        env=env,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()[-3000:]
    lines = [row.split() for row in told.stdout.decode().splitlines()]
    assert [(row[0], row[1], row[4]) for row in lines] == [(name, str(line == "1.x"), "True") for name in CASES]
    found = {row[0]: (float(row[2]), float(row[3])) for row in lines}
    # Without globals nothing is learnt from the other observations: elpd is the sum, and the penalty is zero.
    groups = pickle.loads(handed_over)["counts"][0]
    assert found["counts"][0] == pytest.approx(groups["log_likelihood"]["x"][1].mean((0, 1)).sum(), abs=1e-3)
    assert abs(found["counts"][1]) < 1e-6
    assert found["regression"][1] > 0.1


# --- what is in it ----------------------------------------------------------------------------------------------------


def group(made, name):
    """One group as a plain Dataset, on either line."""
    return made[name].to_dataset() if hasattr(made[name], "to_dataset") else made[name]


def test_every_group_is_there(case):
    pair, posterior, batch = case
    made = to_arviz(pair, posterior, batch, prior=3)
    wanted = {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "posterior_predictive",
        "observed_data",
        "prior",
        "prior_predictive",
    }
    if posterior.globals:
        wanted |= {"log_prior", "unconstrained_posterior"}
    if batch.fields().keys() - pair.sites(batch).keys():
        wanted |= {"constant_data"}
    found = {g.strip("/") for g in made.groups() if g != "/"} if callable(made.groups) else set(made.children)
    assert found == wanted
    assert group(made, "prior").sizes["draw"] == 3
    assert "obs" in group(made, "observed_data").dims
    for name in wanted - {"observed_data", "constant_data"}:
        for variable in group(made, name).data_vars.values():
            assert variable.dims[:2] == ("chain", "draw")


def test_values_and_dims_are_those_of_the_posterior():
    pair, posterior, batch = regression()
    made = to_arviz(pair, posterior, batch, predictive=False)
    assert group(made, "posterior")["coefficients"].dims == ("chain", "draw", "feature")
    for name, value in posterior.draws.items():
        np.testing.assert_array_equal(group(made, "posterior")[name], value)
    for name, value in posterior.stats.items():
        np.testing.assert_array_equal(group(made, "sample_stats")[name], value)
    np.testing.assert_array_equal(group(made, "sample_stats")["lp"], posterior.stats["log_p"])
    np.testing.assert_array_equal(group(made, "observed_data")["y"], batch.y)
    np.testing.assert_array_equal(group(made, "constant_data")["x"], batch.x)


def test_log_prior_and_log_likelihood_are_the_densities():
    pair, posterior, batch = regression()
    made = to_arviz(pair, posterior, batch, predictive=False)
    fns = {
        "coefficients": dist.Normal(torch.zeros(D), 1).to_event(1),
        "noise": dist.Gamma(2.0, 1.0),
        "shares": dist.Dirichlet(torch.ones(4)),
    }
    for name, fn in fns.items():
        np.testing.assert_allclose(group(made, "log_prior")[name], fn.log_prob(posterior[name]), rtol=1e-5, atol=1e-5)
    mean = torch.einsum("cdf,nf->cdn", posterior["coefficients"], batch.x)
    direct = dist.Normal(mean, posterior["noise"].unsqueeze(-1)).log_prob(batch.y)
    np.testing.assert_allclose(group(made, "log_likelihood")["y"], direct, rtol=1e-4, atol=1e-5)


def test_unconstrained_draws_lead_back_to_the_posterior():
    pair, posterior, batch = regression()
    made = group(to_arviz(pair, posterior, batch, predictive=False, log_likelihood=False), "unconstrained_posterior")
    assert made["shares"].shape == (CHAINS, DRAWS, 3)
    np.testing.assert_allclose(np.exp(made["noise"]), posterior["noise"], rtol=1e-5)
    back = torch.distributions.biject_to(dist.constraints.simplex)(torch.tensor(made["shares"].values))
    np.testing.assert_allclose(back, posterior["shares"], rtol=1e-4, atol=1e-6)


def test_a_draw_on_the_edge_of_its_support_has_no_unconstrained_group():
    pair, posterior, batch = regression()
    posterior["shares"][0, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    made = to_arviz(pair, posterior, batch, predictive=False, log_likelihood=False)
    assert set(group(made, "unconstrained_posterior").data_vars) <= {"coefficients", "noise", "shares"}
    for variable in group(made, "unconstrained_posterior").data_vars.values():
        assert np.isfinite(variable).all()


def test_missing_steps_and_padding_are_nan():
    pair, posterior, batch = walk()
    made = to_arviz(pair, posterior, batch)
    gone = np.zeros((N, 5), dtype=bool)
    gone[1, 3:] = True
    predicted = group(made, "posterior_predictive")["x"]
    assert predicted.dims == ("chain", "draw", "obs", "step")
    assert (np.isnan(predicted) == gone).all()
    gone[0, 1] = True
    assert (np.isnan(group(made, "observed_data")["x"]) == gone).all()
    np.testing.assert_array_equal(group(made, "constant_data")["lengths"], batch.lengths)


def test_counts_are_integers():
    made = to_arviz(*counts(), log_likelihood=False)
    for name in ("observed_data", "posterior_predictive"):
        assert group(made, name)["x"].dtype.kind == "i"


def test_labels_come_from_a_frame_and_from_the_user():
    pair, posterior, batch = counts()
    frame = pd.DataFrame(batch.x.numpy(), columns=["eyes", "ears", "legs"])
    who = [f"cat {i}" for i in range(N)]
    made = to_arviz(pair, posterior, frame, rows=4, log_likelihood=False, predictive=2, coords={"obs": who})
    assert list(group(made, "observed_data")["feature"].values) == ["eyes", "ears", "legs"]
    assert list(group(made, "observed_data")["obs"].values) == who
    assert list(group(made, "posterior")["obs"].values) == who[:4]
    given = to_arviz(
        pair, posterior, frame, log_likelihood=False, predictive=False, coords={"feature": ["a", "b", "c"]}
    )
    assert list(group(given, "observed_data")["feature"].values) == ["a", "b", "c"]


def test_predictive_draws_are_few_enough_and_numbered_as_in_the_posterior():
    pair, posterior, batch = regression()
    posterior["coefficients"].mul_(torch.linspace(-9, 9, DRAWS).unsqueeze(-1))  # no two draws alike
    made = to_arviz(pair, posterior, batch, predictive=5, log_likelihood=False)
    predicted = group(made, "posterior_predictive")
    assert predicted["y"].shape == (CHAINS, 5, N)
    # They are numbered by the draws they were made from: against those means they scatter by the noise.
    chosen = predicted["draw"].values.tolist()
    mean = torch.einsum("cdf,nf->cdn", posterior["coefficients"][:, chosen], batch.x)
    score = (predicted["y"].values - mean.numpy()) / posterior["noise"][:, chosen].unsqueeze(-1).numpy()
    assert abs((score**2).mean() - 1) < 4 * np.sqrt(2 / score.size)
    with settings.using(export_cells=CHAINS * N * 7):
        made = to_arviz(pair, posterior, batch, log_likelihood=False)
    assert group(made, "posterior_predictive").sizes["draw"] == 7


def test_local_latents_are_few_enough_to_summarise():
    pair, posterior, batch = counts()
    with settings.using(export_latents=10):  # two numbers an observation: five observations
        made = to_arviz(pair, posterior, batch, predictive=False, log_likelihood=False)
    assert group(made, "posterior")["z"].shape == (CHAINS, DRAWS, 5, 2)
    np.testing.assert_array_equal(group(made, "posterior")["z"], posterior["z"][:, :, :5])
    assert group(made, "observed_data").sizes["obs"] == N


def test_it_says_where_it_comes_from():
    pair, posterior, batch = regression()
    pair.card["metrics"] = {"khat": 0.25}
    made = to_arviz(
        pair, posterior, batch, predictive=False, log_likelihood=False, attrs={"data": "made up", "ok": True}
    )
    for attrs in (made.attrs, group(made, "posterior").attrs, group(made, "observed_data").attrs):
        assert attrs["inference_method"] == "svi"
        assert attrs["model"] == "Regression"
        assert json.loads(attrs["config"]) == {"scale": 1.0}
        assert attrs["khat"] == 0.25
        assert attrs["data"] == "made up"
        assert attrs["ok"] == "true"


def test_the_same_seed_gives_the_same_export_and_leaves_the_random_state_alone(case):
    pair, posterior, batch = case
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = (to_arviz(pair, posterior, batch, predictive=3, seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    other = to_arviz(pair, posterior, batch, predictive=3, seed=4)
    assert group(first, "posterior_predictive").identical(group(second, "posterior_predictive"))
    assert group(first, "log_likelihood").identical(group(second, "log_likelihood"))
    assert not group(first, "posterior_predictive").equals(group(other, "posterior_predictive"))


def test_a_log_likelihood_worked_out_before_is_taken():
    pair, posterior, batch = regression()
    values = torch.randn(CHAINS, DRAWS, N)
    made = to_arviz(pair, posterior, batch, predictive=False, log_likelihood=values)
    np.testing.assert_array_equal(group(made, "log_likelihood")["y"], values.double())
    with pytest.raises(ValueError, match=r"log_likelihood.*\(2, 100, 30\)"):
        to_arviz(pair, posterior, batch, predictive=False, log_likelihood=values[..., 1:])


def test_what_does_not_fit_is_refused():
    pair, posterior, batch = counts()
    with pytest.raises(ValueError, match="no dim 'featur', did you mean 'feature'"):
        to_arviz(pair, posterior, batch, coords={"featur": [1, 2, 3]}, log_likelihood=False)
    with pytest.raises(ValueError, match="dim 'feature' has 3 entries here, 2"):
        to_arviz(pair, posterior, batch, coords={"feature": [1, 2]}, log_likelihood=False)
    with pytest.raises(ValueError, match="'z' of 30 rows, the data have 10"):
        to_arviz(pair, posterior, batch.select(slice(0, 10)))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {
                "posterior": {
                    "a": (("chain", "draw", "b"), np.zeros((1, 2, 3))),
                    "b": (("chain", "draw"), np.zeros((1, 2))),
                }
            },
            "'b' may not share its name with a dim",
        ),
        ({"posterior": {"a": (("chain", "draw"), np.zeros((1, 2, 3)))}}, "expected 3 distinct dims"),
        ({"posterior": {"a": (("sample",), np.zeros(3))}}, "start with chain, draw"),
        ({"observed_data": {"a": (("i",), np.zeros(3)), "b": (("i",), np.zeros(4))}}, "dim 'i' has 4 entries here, 3"),
    ],
)
def test_the_shim_refuses_what_xarray_would_bend(groups, message):
    with pytest.raises(ValueError, match=message):
        build(groups)


def test_a_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    made = to_arviz(*regression(), predictive=False, log_likelihood=False)
    assert observations(made) == N
    file = tmp_path / "posterior.nc"
    save(made, file)
    first = file.read_bytes()

    def fail(path, **_):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(type(made), "to_netcdf", lambda self, path, **options: fail(path))
    with pytest.raises(OSError, match="disk full"):
        save(made, file)
    assert file.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["posterior.nc"]
