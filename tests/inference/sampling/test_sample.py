"""`sample` against closed forms, reference posteriors and planted faults."""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import replace
from typing import ClassVar

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from pyro.poutine import condition, trace

import inference
import zoo
from inference.compiling.compiled import CompileError, TraceError
from inference.data.check import check
from inference.running.marginal import log_joint
from inference.sampling import adaptation, hamiltonian, labels, mixing
from inference.sampling.potential import Potential, SeenAll, Unconstrained
from inference.sampling.sample import SamplingError, sample
from tests.helpers.pairs import Coded
from tests.helpers.places import benchmark
from zoo import Batch, ModelGuide
from zoo.settings import settings

QUICK = {"progress": False}


sampling = benchmark("sampling")


class Normals(ModelGuide):
    """x_n ~ Normal(loc, 2), loc ~ Normal(1, 3): the posterior of loc is normal."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.one, 3 * self.one))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 2 * self.one), obs=batch.x)


class Scales(ModelGuide):
    """A normal in D dimensions, of scales 0.01 to 100; x tells nothing about it."""

    dims: ClassVar = {"z": ("dim",)}

    def __init__(self, size: int = 50):
        super().__init__()
        self.register_buffer("scales", torch.logspace(-2, 2, size))

    def model(self, batch):
        pyro.sample("z", dist.Normal(0 * self.scales, self.scales).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(0 * self.scales[0], 1 + 0 * self.scales[0]), obs=batch.x)


class Two(ModelGuide):
    """Two equal normals whose labels nothing tells apart."""

    dims: ClassVar = {"locs": ("component",)}

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(2))

    def model(self, batch):
        locs = pyro.sample("locs", dist.Normal(0 * self.one, 5 * self.one).to_event(1))
        with batch.plate():
            parts = dist.Normal(locs, self.one)
            return pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(self.one / 2), parts), obs=batch.x)


class Everything(ModelGuide):
    """Latents of many supports, one of which moves with another, global and local, and a discrete one summed out."""

    dims: ClassVar = {
        "weights": ("component",),
        "correlations": ("row", "column"),
        "locs": ("component",),
        "code": ("part",),
    }

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(3))

    def model(self, batch):
        one = self.one[0]
        top = pyro.sample("top", dist.Gamma(2 * one, one))
        low = pyro.sample("low", dist.Uniform(0 * top, top))
        weights = pyro.sample("weights", dist.Dirichlet(self.one))
        pyro.sample("correlations", dist.LKJCholesky(3, one))
        locs = pyro.sample("locs", dist.Normal(0 * self.one, self.one).to_event(1))
        with batch.plate():
            code = pyro.sample("code", dist.LogNormal(0 * self.one[:2], self.one[:2]).to_event(1))
            k = pyro.sample("k", dist.Categorical(weights), infer={"enumerate": "parallel"})
            loc = pyro.ops.indexing.Vindex(locs)[..., k] + low + code.sum(-1)
            return pyro.sample("x", dist.Normal(loc, one), obs=batch.x)


def data_of(pair, rows=4, seed=0):
    torch.manual_seed(seed)
    return pair.simulate(rows)[0]


def z_scores(draws, mean):
    """How many Monte Carlo errors the means lie from the truth; draws (C, n, ...)."""
    flat = draws.flatten(2) if draws.ndim > 2 else draws.unsqueeze(-1)
    error = np.array([az.mcse(flat[..., i].numpy()) for i in range(flat.shape[-1])])
    return (flat.mean((0, 1)) - torch.as_tensor(mean).flatten()).abs().numpy() / error


# --- the density ------------------------------------------------------------------------------------------------------


def test_log_density_is_the_traced_joint_plus_the_jacobians():
    pair = Everything().double()
    batch = data_of(pair)
    potential = Potential(check(pair, batch))
    points = potential.prior(5)
    values, jacobian = potential.constrain(points)
    torch.testing.assert_close(potential.free(values), points)
    for s in range(5):
        each = []
        for k in range(3**4):  # every assignment of the four rows
            codes = torch.tensor([k // 3**i % 3 for i in range(4)])
            fixed = {**{name: value[s] for name, value in values.items()}, "k": codes}
            each.append(trace(condition(pair.model, fixed)).get_trace(batch).log_prob_sum())
        joint = torch.stack(each).logsumexp(0)
        torch.testing.assert_close(potential.log_density(points)[s], joint + jacobian[s], rtol=1e-6, atol=0)


def test_the_jacobian_is_that_of_the_map():
    pair = Everything().double()
    potential = Potential(check(pair, data_of(pair)))
    point = potential.prior(1)

    def coordinates(free):
        """As many numbers as there are free ones: simplex and correlations without what the others determine."""
        free = free.unsqueeze(0)
        found = Unconstrained(potential.unflatten(free), last=frozenset(block.name for block in potential.blocks))
        with contextlib.suppress(SeenAll), pyro.plate("particles", 1, dim=-2), pyro.validation_enabled(False), found:
            pair.model(potential.batch)
        v = {name: value.reshape(-1) for name, value in found.values.items()}
        v["weights"], v["correlations"] = v["weights"][:-1], v["correlations"][[3, 6, 7]]
        return torch.cat([v[block.name] for block in potential.blocks])

    wanted = torch.linalg.slogdet(torch.autograd.functional.jacobian(coordinates, point[0])).logabsdet
    torch.testing.assert_close(potential.constrain(point)[1][0], wanted, rtol=1e-6, atol=1e-8)


def test_gradient_is_that_of_differences():
    pair = Everything().double()
    potential = Potential(check(pair, data_of(pair)))
    assert torch.autograd.gradcheck(potential.log_density, potential.prior(2).requires_grad_())


# --- the kernel -------------------------------------------------------------------------------------------------------


def normal_step(scale):
    """Leapfrog on independent normals of these scales."""

    def value_and_gradient(u):
        return -0.5 * (u / scale).square().sum(-1), -u / scale**2

    metric = hamiltonian.Metric(torch.zeros_like(scale), torch.ones_like(scale))
    step = hamiltonian.leapfrog(value_and_gradient)
    return lambda *arguments: step(metric.centre, metric.scale, *arguments)


def stationary(transition, chains=20_000):
    """Chains that start in the target of `normal_step` and should stay: z-score of their second moments."""
    torch.manual_seed(0)
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    step, z = normal_step(scale), torch.randn(chains, 3, dtype=torch.float64) * scale
    size = torch.full((chains, 1), 0.8, dtype=torch.float64)
    _, _, density, gradient = step(z, z, z, 0 * size)
    state = hamiltonian.State(z, density, gradient)
    for _ in range(10):
        state, _ = transition(step, state, torch.randn_like(z), torch.rand_like(density).log(), size, 2)
    square = (state.z / scale).square()
    return float(((square.mean(0) - 1).abs() / (square.std(0) / math.sqrt(chains))).max())


def test_a_transition_keeps_the_target_and_the_check_sees_a_planted_fault():
    assert stationary(hamiltonian.transition) < 4

    def always(step, state, noise, log_uniform, size, steps):
        return hamiltonian.transition(step, state, noise, log_uniform - 1e9, size, steps)

    def halved(step, state, noise, log_uniform, size, steps):
        return hamiltonian.transition(step, state, 0.8 * noise, log_uniform, size, steps)

    assert stationary(always) > 4
    assert stationary(halved) > 4


def test_leapfrog_goes_back_the_way_it_came():
    step = normal_step(torch.tensor([0.3, 2.0], dtype=torch.float64))
    z, momentum = torch.randn(2, 4, 2, dtype=torch.float64)
    size = torch.full((4, 1), 0.1, dtype=torch.float64)
    _, _, _, gradient = step(z, momentum, z, 0 * size)
    there = (z, momentum, gradient)
    for _ in range(7):
        found = step(*there, size)
        there = (found[0], found[1], found[3])
    back = (there[0], -there[1], there[2])
    for _ in range(7):
        found = step(*back, size)
        back = (found[0], found[1], found[3])
    torch.testing.assert_close(back[0], z)
    torch.testing.assert_close(-back[1], momentum)


@pytest.mark.parametrize("dense", [True, False])
def test_the_metric_whitens_its_draws(dense):
    torch.manual_seed(0)
    factor = torch.tensor([[2.0, 0.0], [1.5, 0.1]], dtype=torch.float64)
    scale = torch.eye(2).double() if dense else torch.ones(2).double()
    metric = hamiltonian.Metric(torch.ones(2).double(), 3 * scale)
    draws = 5 + torch.randn(200, 50, 2, dtype=torch.float64) @ factor.mT
    for _ in range(2):
        moments = adaptation.Moments(metric)
        for u in draws:
            moments.add(hamiltonian.State(metric.into(u), torch.randn(50).double(), u))
        metric = moments.metric()
    z = metric.into(draws.flatten(0, 1))
    torch.testing.assert_close(metric.out(z), draws.flatten(0, 1))
    assert z.mean(0).abs().max() < 1e-6
    covariance = z.mT @ z / len(z)
    torch.testing.assert_close(covariance.diagonal(), torch.ones(2).double(), rtol=1e-2, atol=0)
    assert (covariance[0, 1].abs() < 0.05) == dense


def test_trajectory_grows_to_the_quarter_period():
    torch.manual_seed(0)
    clock, z = adaptation.Trajectory(time=0.3), torch.randn(64, 5)
    for i in range(400):
        time = math.prod(hamiltonian.plan(clock.time, 0.1, i, 512))
        momentum = torch.randn_like(z)
        end, speed = z * math.cos(time) + momentum * math.sin(time), momentum * math.cos(time) - z * math.sin(time)
        one = torch.ones(64)
        clock.update(hamiltonian.Move(one, one, one < 0, end, speed, z), time, 0.01, 100)
        z = end
    assert 1.2 < clock.settled < 1.7  # 1.43 maximises ChEES of a normal under this jitter


# --- R-hat ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixed", "shifted", "wider"])
def test_rhat_is_that_of_arviz(kind):
    draws = np.random.default_rng(0).standard_normal((4, 101))
    draws[0] = draws[0] + 1 if kind == "shifted" else draws[0] * (3 if kind == "wider" else 1)
    assert float(mixing.rhat(torch.from_numpy(draws))) == pytest.approx(az.rhat(draws).item(), abs=1e-3)
    assert (float(mixing.rhat(torch.from_numpy(draws))) > 1.01) == (kind != "mixed")


def test_switched_labels_and_separate_modes_are_told_apart():
    torch.manual_seed(0)
    locs = torch.randn(8, 200, 2) * 0.1 + torch.tensor([-3.0, 3.0])
    dims, density = {"locs": ("component",), "rows": ("component", "other")}, torch.randn(8, 200)
    switched = locs.clone()
    switched[3:] = switched[3:].flip(-1)
    rows = switched.unsqueeze(-1) + torch.zeros(3)
    assert "labels switch along 'component'" in told({"locs": switched, "rows": rows}, dims, density)
    modes = locs.clone()
    modes[5:] += 4
    assert "several modes" in told({"locs": modes}, dims, density)
    walk = torch.randn(8, 200, 2).cumsum(1)
    assert "not mixed yet" in told({"locs": 1e-3 * walk + torch.randn(8, 200, 2) * 0.1}, dims, density)


def told(draws, dims, density):
    return mixing.disagreement(draws, dims, density, mixing.worst(draws))


def test_a_number_that_only_rounding_moves_has_mixed():
    ones = torch.ones(4, 50).double() + 1e-16 * torch.arange(4)[:, None] + torch.tensor([0.0, 2.0**-52]).repeat(25)
    assert mixing.worst({"one": ones}) == {"one": 1.0}


def test_nine_labels_are_put_into_one_order():
    torch.manual_seed(0)
    locs, moves = torch.randn(9), torch.rand(9, 9)
    orders = torch.stack([torch.randperm(9) for _ in range(6)])
    noise = 0.01 * torch.randn(6, 40, 9, 10)
    draws = {
        "locs": locs[orders].unsqueeze(1) + noise[..., 0],
        "moves": moves[orders.unsqueeze(2), orders.unsqueeze(1)].unsqueeze(1) + noise[..., 1:],
    }
    for kept in (["locs", "moves"], ["moves"]):
        found = labels.relabelled({n: draws[n] for n in kept}, {"locs": ("k",), "moves": ("k", "next_k")}, "k", 2)
        assert max(mixing.worst(found).values()) < 1.1
        torch.testing.assert_close(found["moves"][2], draws["moves"][2])
    assert "labels switch along 'k'" in told(draws, {"locs": ("k",), "moves": ("k", "next_k")}, noise[..., 0, 0])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("switched", "labels switch along 'k'"),
        ("modes", "groups far apart"),
        ("mixed", ""),
        ("slow", ""),
        ("stuck", ""),
    ],
)
def test_chains_that_stay_apart_for_good_are_told_from_slow_ones(kind, wanted):
    torch.manual_seed(0)
    locs, density = 0.1 * torch.randn(16, 50, 3) + torch.tensor([-3.0, 0.0, 3.0]), torch.randn(16, 50)
    if kind == "switched":
        locs[9:] = locs[9:, :, [2, 0, 1]]
    elif kind == "modes":
        locs[9:] += 5
    elif kind == "slow":  # each is somewhere in one wide mode, and goes a little way
        locs = 10 * torch.randn(16, 1, 3) + (0.3 * torch.randn(16, 50, 3)).cumsum(1)
    elif kind == "stuck":
        locs[0] = 4.0
    found = mixing.standstill({"locs": locs}, {"locs": ("k",)}, density)
    assert (wanted in found) if wanted else (found == "")


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def normals():
    pair = Normals().double()
    data = torch.linspace(-3, 5, 20).double()
    return pair, data, sample(pair, data, 300, **QUICK)


def test_normal_mean(normals):
    _, data, found = normals
    precision = 1 / 9 + 20 / 4
    mean, sd = (1 / 9 + data.sum() / 4) / precision, precision**-0.5
    assert z_scores(found["loc"], mean) < 4
    assert found["loc"].std() == pytest.approx(sd, rel=0.03)
    assert scipy.stats.kstest(found["loc"][:, ::10].flatten(), "norm", (float(mean), sd)).pvalue > 1e-3


def test_what_a_result_holds(normals):
    pair, data, found = normals
    assert (found.method, found.chains, found.size, found.local) == ("mcmc", 64, 300, frozenset())
    names = {"diverging", "energy", "acceptance_rate", "step_size", "n_steps", "lp", "log_p"}
    assert found.stats.keys() == names
    assert not found.stats["diverging"].any()
    assert found.rhat["loc"] < 1.01
    assert not found.notes
    few = {"loc": found["loc"][:, :5].flatten()}
    density = log_joint(check(pair, data), few).reshape(64, 5)
    torch.testing.assert_close(found.stats["log_p"][:, :5], density)


def test_arviz_takes_it(normals):
    pair, data, found = normals
    exported = inference.to_arviz(pair, found.thin(20), data, predictive=5)
    summary = az.summary(exported)
    assert summary["r_hat"].max() < 1.05
    # p(x_n | the others) of a normal mean, in closed form
    x = data.numpy()
    exact = 0.0
    for n in range(20):
        precision = 1 / 9 + 19 / 4
        mean = (1 / 9 + (x.sum() - x[n]) / 4) / precision
        exact += scipy.stats.norm(mean, math.sqrt(4 + 1 / precision)).logpdf(x[n])
    loo = az.loo(exported)
    elpd = loo.elpd_loo if hasattr(loo, "elpd_loo") else loo.elpd  # ArviZ 0.x, 1.x
    assert elpd == pytest.approx(exact, abs=0.1)
    assert az.plot_trace(exported) is not None


def test_polynomial_regression_has_its_exact_posterior():
    torch.manual_seed(0)
    pair = zoo.create("polynomial_regression", degree=2, noise_concentration=3.0, noise_rate=1.0).double()
    batch = data_of(pair, 30)
    found = sample(pair, batch, 300, **QUICK)
    basis, y = pair.basis(batch), (batch.y - pair.location) / pair.spread
    precision = basis.mT @ basis + torch.eye(3).double() / pair.coefficient_scale**2
    mean = torch.linalg.solve(precision, basis.mT @ y)
    concentration = pair.concentration + 15
    rate = pair.rate + (y @ y - mean @ precision @ mean) / 2
    assert z_scores(found["coefficients"], mean).max() < 4
    assert z_scores(found["variance"], rate / (concentration - 1)) < 4
    sd = (torch.linalg.inv(precision).diagonal() * rate / (concentration - 1)).sqrt()
    torch.testing.assert_close(found["coefficients"].flatten(0, 1).std(0), sd, rtol=0.05, atol=0)


def test_autoregressive_has_its_exact_posterior():
    torch.manual_seed(0)
    pair = zoo.create("autoregressive", order=2).double()
    found = sample(pair, data_of(pair, 3), 200, **QUICK)
    exact = inference.draw(pair, data_of(pair, 3), 4000, stats=False)  # the guide starts at the posterior
    for name in ("coefficients", "intercept", "variance"):
        one, other = found[name].flatten(0, 1), exact[name].flatten(0, 1)
        error = (one.var(0) / (len(one) / 4) + other.var(0) / len(other)).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() / error).max() < 4, name


def test_fifty_scales_from_a_hundredth_to_a_hundred():
    pair = Scales().double()
    found = sample(pair, torch.zeros(2), 300, **QUICK)
    z = found["z"] / pair.scales
    assert z_scores(z, torch.zeros(50)).max() < 4.5  # the largest of fifty
    torch.testing.assert_close(z.flatten(0, 1).std(0), torch.ones(50).double(), rtol=0.06, atol=0)
    assert max(found.rhat.values()) < 1.01
    assert found.warmup <= 400


def test_local_latents_are_drawn_with_the_global_ones():
    pair = sampling.EightSchools().double()
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    data = Batch.of(x=torch.full((8, 1), 10.0), y=y)
    found = sample(pair, data, 200, **QUICK)
    assert found.local == {"raw"}
    assert found["raw"].shape == (64, 200, 8)
    theta = found["mu"].unsqueeze(-1) + found["tau"].unsqueeze(-1) * found["raw"]
    grid = torch.linspace(-40, 40, 401).double()
    tau = torch.linspace(1e-3, 120, 1000).double()[:, None]
    total = (tau**2 + 100).sqrt()
    weight = dist.Normal(0, 5.0).log_prob(grid) + dist.HalfCauchy(5.0).log_prob(tau)
    for effect in y:
        weight = weight + dist.Normal(grid, total).log_prob(effect)
    weight = weight.flatten().softmax(0).reshape(weight.shape)
    shrunk = (tau**2 * 28.0 + 100 * grid) / (tau**2 + 100)  # of the first
    assert z_scores(theta[..., 0], (weight * shrunk).sum()) < 4
    assert z_scores(found["mu"], (weight * grid).sum()) < 4


def test_divergences_are_reported(monkeypatch):
    step, z = normal_step(torch.ones(2)), torch.ones(4, 2)
    state = hamiltonian.State(z, -z.square().sum(-1) / 2, -z)
    new, move = hamiltonian.transition(step, state, z, torch.zeros(4) - 1, torch.full((4, 1), 50.0), 3)
    assert move.diverging.all()
    assert torch.equal(new.z, z)

    def diverging(*arguments):
        state, move = hamiltonian.transition(*arguments)
        return state, replace(move, diverging=torch.arange(len(state.z)) == 1)

    monkeypatch.setattr("inference.sampling.chains.transition", diverging)
    with pytest.warns(UserWarning, match="30 of 120 transitions diverged"):
        found = sample(Normals().double(), torch.linspace(0, 1, 5), 30, 4, max_warmup=40, **QUICK)
    assert (found.stats["diverging"].sum(1) == torch.tensor([0, 30, 0, 0])).all()
    assert any("diverged" in note for note in found.notes)


# --- reference posteriors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(sampling.REFERENCED))
def test_reference_posterior(name):
    case = sampling.CASES[name]
    if not case.folder.exists():
        pytest.skip(f"no reference posteriors at {sampling.REFERENCE} (set ZOO_REFERENCE)")
    pair = case.pair().double()
    found = sample(pair, case.data(), 400, 16 if name == "low_dim_gauss_mix" else 64, **QUICK)  # a thousand rows
    for parameter, (z, shift, ratio) in sampling.compare(case.named(found.draws), case.reference()).items():
        assert z < 4, parameter
        assert shift < 0.1, parameter
        assert 0.9 < ratio < 1.1, parameter
    assert max(found.rhat.values()) < 1.01
    assert sampling.worst_ess(case.named(found.draws)) > 400
    assert not found.stats["diverging"].any()


def slow(step, state, noise, *rest):
    """A transition whose momentum is too small."""
    return hamiltonian.transition(step, state, 0.8 * noise, *rest)


@pytest.mark.parametrize("fault", ["jacobian", "momentum"])
def test_a_planted_fault_fails_against_the_truth(fault, monkeypatch):
    if fault == "jacobian":
        monkeypatch.setattr("torch.distributions.transforms.ExpTransform.log_abs_det_jacobian", lambda t, x, y: 0 * x)
    else:
        monkeypatch.setattr("inference.sampling.chains.transition", slow)
    torch.manual_seed(0)
    pair = zoo.create("polynomial_regression", degree=1, noise_concentration=3.0, noise_rate=1.0).double()
    batch = data_of(pair, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sample(pair, batch, 200, max_warmup=200, **QUICK)
    basis, y = pair.basis(batch), (batch.y - pair.location) / pair.spread
    precision = basis.mT @ basis + torch.eye(2).double() / pair.coefficient_scale**2
    mean = torch.linalg.solve(precision, basis.mT @ y)
    rate = pair.rate + (y @ y - mean @ precision @ mean) / 2
    assert z_scores(found["variance"], rate / (pair.concentration + 4)) > 4


# --- the ways to run it -----------------------------------------------------------------------------------------------


def test_graph_and_plain_pyro_walk_the_same_way():
    pair, data = Normals().double(), torch.linspace(0, 1, 5)
    options = {"draws": 20, "chains": 4, "max_warmup": 20, **QUICK}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = sample(pair, data, compile="graph", **options)
        plain, other = (sample(pair, data, compile="off", seed=seed, **options) for seed in (0, 1))
    torch.testing.assert_close(graph["loc"], plain["loc"])
    assert (graph.compile, plain.compile) == ("graph", "off")
    assert not torch.equal(plain["loc"], other["loc"])


def test_seeds_reproduce_and_the_random_state_of_the_caller_stays():
    pair, data = Normals(), torch.linspace(0, 1, 5)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (sample(pair, data, 10, 4, max_warmup=20, **QUICK) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one["loc"], other["loc"])
    assert one["loc"].dtype == torch.float32


def kept_in(folder, draws=40, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sample(
            sampling.EightSchools().double(), EIGHT, draws, 4, max_warmup=40, store=folder, **{**QUICK, **options}
        )


EIGHT = Batch.of(x=torch.full((8, 1), 10.0), y=torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]))


@pytest.mark.parametrize("stop", [None, 17])
def test_draws_written_out_are_those_in_memory(stop, tmp_path, monkeypatch):
    whole = kept_in(None)
    if stop:
        interrupted_after(stop, monkeypatch)
    with settings.using(memory=200):  # five draws a piece
        found = kept_in(tmp_path / "kept")
    assert found.size == (stop or 40)
    for folder, values, wanted in (("draws", found.draws, whole.draws), ("stats", found.stats, whole.stats)):
        assert values.keys() == wanted.keys()
        for name, value in values.items():
            torch.testing.assert_close(value, wanted[name][:, : found.size])
            np.testing.assert_array_equal(np.load(tmp_path / "kept" / folder / f"{name}.npy"), value)
    assert inference.to_arviz(sampling.EightSchools().double(), found, EIGHT).posterior["raw"].shape == (
        4,
        found.size,
        8,
    )
    with pytest.raises(ValueError, match="holds draws already"):
        kept_in(tmp_path / "kept")


def interrupted_after(draws, monkeypatch):
    """Ctrl-C when so many draws are there; none of them while warming up if 0."""
    real, count = inference.sampling.sample._drawn, [0]

    def drawn(*arguments):
        count[0] += 1
        if count[0] > draws:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr("inference.sampling.sample._drawn", drawn)


def test_a_folder_that_draws_cannot_go_into_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"store: cannot write into .*file"):
        kept_in(tmp_path / "file" / "below")
    with pytest.raises(ValueError, match=r"store: the draws take .* GB, and .* has .* GB left"):
        kept_in(tmp_path / "new", draws=10**12)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("start", ["prior", "jitter", "guide"])
def test_every_start_ends_in_the_same_posterior(start):
    pair, data = Normals().double(), torch.linspace(-3, 5, 20).double()
    if start == "guide":
        inference.fit(pair, data, steps=200, **QUICK)
    found = sample(pair, data, 150, start=start, **QUICK)
    precision = 1 / 9 + 20 / 4
    assert z_scores(found["loc"], (1 / 9 + data.sum() / 4) / precision) < 4


def test_few_chains_do():
    found = sample(Normals().double(), torch.linspace(-3, 5, 20).double(), 600, 4, **QUICK)
    assert found["loc"].shape == (4, 600)
    assert found.rhat["loc"] < 1.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("chains", "most"), [(1, 1), (2, 2), (2, 5)])
def test_hardly_any_warm_up_leaves_chains_that_move(chains, most):
    """From one draw or two no scale can be told."""
    torch.manual_seed(0)
    found = sample(Coded(), torch.randn(20, 4), 5, chains, max_warmup=most, **QUICK)
    assert (found["z"][:, -1] != found["z"][:, 0]).any()
    assert 0.01 < found.step_size < 10


def test_nuts_agrees():
    pair, data = Normals().double(), torch.linspace(-3, 5, 20).double()
    found = sample(pair, data, 200, 2, method="nuts", max_warmup=150, **QUICK)
    precision = 1 / 9 + 20 / 4
    assert z_scores(found["loc"], (1 / 9 + data.sum() / 4) / precision) < 4
    assert found.stats["diverging"].shape == (2, 200)


def test_thinned_draws_are_every_so_many():
    pair, data = Normals(), torch.linspace(0, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        full = sample(pair, data, 12, 4, max_warmup=20, **QUICK)
        thinned = sample(pair, data, 4, 4, thin=3, max_warmup=20, **QUICK)
    assert torch.equal(full["loc"][:, 2::3], thinned["loc"])


def test_an_interrupt_keeps_what_is_done(monkeypatch):
    interrupted_after(50, monkeypatch)
    with pytest.warns(UserWarning, match="interrupted: 50 of 2000 draws"):
        found = sample(Normals().double(), torch.linspace(0, 1, 5), 2000, max_warmup=40, **QUICK)
    assert found["loc"].shape == (64, 50)
    assert found["loc"].isfinite().all()


@pytest.mark.parametrize(
    "where",
    ["inference.compiling.compiled.record", "inference.sampling.warmup.harmonic", "inference.sampling.sample._drawn"],
)
def test_an_interrupt_before_the_first_draw_leaves_nothing(where, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    pair = zoo.create("polynomial_regression", degree=1).double().train()
    batch = data_of(pair, 10).but(x=5 + 7 * torch.rand(10, 1).double())
    before, state = {name: value.clone() for name, value in pair.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        sample(pair, batch, 20, 4, max_warmup=40, store=tmp_path, **QUICK)
    assert torch.equal(state, torch.get_rng_state())
    assert pair.training
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert not list(tmp_path.iterdir())


# --- refusals ---------------------------------------------------------------------------------------------------------


class Wall(dist.Normal):
    """Of density zero everywhere."""

    def expand(self, shape, _instance=None):
        return Wall(self.loc.expand(shape), self.scale.expand(shape))

    def log_prob(self, value):
        return super().log_prob(value) - math.inf


class Awkward(ModelGuide):
    """What `kind` says is wrong with it."""

    def __init__(self, kind: str = "none"):
        super().__init__()
        self.kind = "none"
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        one = self.one
        if self.kind == "discrete":
            pyro.sample("switch", dist.Bernoulli(one / 2))
        loc = pyro.sample("loc", dist.Normal(one, one)) if self.kind != "empty" else one
        if self.kind == "infinite":
            pyro.sample("wall", Wall(one, one))
        if self.kind == "improper":
            pyro.sample("flat", dist.ImproperUniform(dist.constraints.real, (), ()))
        if self.kind == "branch" and loc.sum() > 1e9:
            loc = loc + 1
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, one), obs=batch.x)


def awkward(kind):
    pair = Awkward().double()
    pair.kind = kind
    return pair


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("discrete", "discrete site 'switch' has no gradient"),
        ("empty", "no latents"),
        ("infinite", "not finite at site 'wall'"),
        ("improper", r"site 'flat' cannot be drawn from .*ImproperUniform"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(kind, message):
    with pytest.raises(ValueError, match=message):
        sample(awkward(kind), torch.zeros(3), 10, 4, **QUICK)


def test_a_part_of_the_data_is_refused():
    with pytest.raises(ValueError, match="all observations at once, got 3 of 10"):
        sample(Normals(), Batch(3, 10, torch.zeros(3)), 10, 4, **QUICK)


@pytest.mark.parametrize(
    "options", [{"draws": 0}, {"chains": 1.5}, {"thin": 0}, {"start": "here"}, {"method": "gibbs"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        sample(Normals(), torch.zeros(3), **options, **QUICK)


def test_a_model_that_branches_on_a_value_runs_as_plain_pyro():
    with pytest.warns(UserWarning, match="sampling with plain Pyro instead"):
        found = sample(awkward("branch"), torch.zeros(3), 10, 4, max_warmup=20, **QUICK)
    assert found.compile == "off"


def test_a_graph_that_was_asked_for_is_not_given_up_in_silence():
    with pytest.raises(
        TraceError, match=r"test_sample\.py:\d+: if self\.kind == .branch. and loc\.sum\(\).*, after site 'loc'"
    ):
        sample(awkward("branch"), torch.zeros(3), 10, 4, compile="graph", max_warmup=20, **QUICK)


@pytest.mark.parametrize("asked", ["auto", "inductor"])
@settings.using(worth_compiling=1)
def test_inductor_that_fails(asked, monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError("cache folder is not writable")

    monkeypatch.setattr("torch._inductor.compile", fail)
    options = {"draws": 40, "chains": 8, "max_warmup": 200, "compile": asked, **QUICK}
    if asked == "inductor":
        with pytest.raises(CompileError, match="cache folder is not writable"):
            sample(Normals().double(), torch.zeros(3), **options)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = sample(Normals().double(), torch.zeros(3), **options)
    (told,) = [one for one in caught if "sampling as a graph that is not compiled instead" in str(one.message)]
    assert told.filename == __file__
    assert found.compile == "graph"


def test_chains_that_cannot_move_end_in_words(monkeypatch):
    pair = Normals().double()
    real = Potential.value_and_gradient
    monkeypatch.setattr(Potential, "value_and_gradient", lambda p, u: (real(p, u)[0], torch.full_like(u, torch.nan)))
    with pytest.raises(SamplingError, match="every chain diverges or stands still"):
        sample(pair, torch.zeros(3), 10, 4, **QUICK)


def test_separate_modes_are_not_averaged_in_silence():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(4) - 4, torch.randn(4) + 4]).double()
    with pytest.warns(UserWarning, match="chains disagree .* labels switch along 'component'"):
        found = sample(Two().double(), x, 40, 16, start="prior", max_warmup=4000, **QUICK)
    assert found.warmup < 1000  # more of it would be in vain, and a note says so
    assert "more would not bring the chains together, for labels switch" in found.notes[0]


class Bent(ModelGuide):
    """A long narrow ridge: one mode, and slow to walk along."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        along = pyro.sample("along", dist.Normal(0 * self.one, 10 * self.one))
        pyro.sample("across", dist.Normal(along**2 / 4, self.one / 4))
        with batch.plate():
            return pyro.sample("x", dist.Normal(0 * self.one, self.one), obs=batch.x)


def test_a_slow_posterior_of_one_mode_warms_up_to_the_end():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sample(Bent().double(), torch.zeros(2), 20, 8, max_warmup=150, **QUICK)
    assert "warm-up stopped at max_warmup=" in found.notes[0]


# --- calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_simulation_based_calibration():
    """Ranks of the truth among draws are uniform (Talts et al. 2018)."""
    ranks = []
    for seed in range(60):
        torch.manual_seed(seed)
        pair = sampling.EightSchools().double()
        batch, truth = pair.simulate(5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = sample(pair, batch, 30, thin=2, seed=seed, **QUICK)
        ranks.append([float((found[name] < truth[name]).double().mean()) for name in ("mu", "tau")])
    for column in np.array(ranks).T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-3
