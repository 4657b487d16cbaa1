"""Codes, reconstructions and imputations against closed forms; dead codes are named; memory stays bounded."""

from __future__ import annotations

import math
import warnings
import weakref
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import inference
import zoo
from inference.codes.collapse import CollapseWarning, active_units, code_kl, collapsed
from inference.codes.encoding import decode, encode, reconstruct
from inference.codes.gaps import gap, log_marginal
from inference.codes.imputation import Imputation, impute
from inference.codes.refinement import refine
from inference.posterior.draws import Posterior
from zoo.base import ModelGuide
from zoo.settings import settings

# --- little pairs with exact answers ----------------------------------------------------------------------------------


class OrMissing(constraints.Constraint):
    def __init__(self, base):
        self.base = base

    def check(self, value):
        return self.base.check(value) | value.isnan()


class HoleyNormal(dist.TorchDistribution):
    """Independent normals, (D,); a NaN adds no factor."""

    arg_constraints = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, loc, scale):
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @property
    def support(self):
        return constraints.independent(OrMissing(constraints.real), 1)

    @property
    def mean(self):
        return self.loc

    def expand(self, batch_shape, _instance=None):
        shape = (*batch_shape, *self.event_shape)
        return HoleyNormal(self.loc.expand(shape), self.scale.expand(shape))

    def rsample(self, sample_shape=()):
        shape = (*sample_shape, *self.loc.shape)
        return self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype)

    def log_prob(self, value):
        known = ~value.isnan()
        density = dist.Normal(self.loc, self.scale).log_prob(torch.where(known, value, 0.0))
        return torch.where(known, density, 0.0).sum(-1)


class HoleyFactors(ModelGuide):
    """Factor analysis with holes: z ~ N(0, I), x_d | z ~ N(w_d z, psi_d). The guide knows the posterior, but is off."""

    dims = {"z": ("latent",), "x": ("feature",)}  # noqa: RUF012

    def __init__(self, features: int = 5, latent: int = 2, shift: float = 0.7, widen: float = 1.4):
        super().__init__()
        self.shift, self.widen = shift, widen
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(features, latent, generator=generator))
        self.register_buffer("scale", torch.linspace(0.4, 0.9, features))
        self.register_buffer("zero", torch.zeros(latent))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.zero, self.zero + 1).to_event(1))
            return pyro.sample("x", HoleyNormal(z @ self.weight.T, self.scale), obs=batch.x)

    def guide(self, batch):
        known = (~batch.x.isnan()).to(self.weight)  # (B, D)
        loading = self.weight / self.scale[:, None]
        precision = torch.diag(self.zero + 1) + torch.einsum("bd,dl,dm->blm", known, loading, loading)
        covariance = precision.inverse()
        loc = torch.einsum("blm,dm,bd->bl", covariance, loading, batch.x.nan_to_num() * known / self.scale)
        sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        with batch.plate():
            wide = dist.MultivariateNormal(loc + self.shift * sd, self.widen**2 * covariance)
            return pyro.sample("z", wide)

    def conditional(self, row):
        """Mean and covariance of the missing cells of one row, given the rest."""
        covariance = self.weight @ self.weight.T + torch.diag(self.scale**2)
        m, o = row.isnan(), ~row.isnan()
        gain = covariance[m][:, o] @ covariance[o][:, o].inverse()
        return gain @ row[o], covariance[m][:, m] - gain @ covariance[o][:, m]


class Classes(ModelGuide):
    """Two classes, each with its own normals, and holes."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self, holes: bool = True):
        super().__init__()
        self.holes = holes
        self.register_buffer("weights", torch.tensor([0.3, 0.7]))
        self.register_buffer("locs", torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, -1.5]]))
        self.register_buffer("scale", torch.tensor([0.8, 1.0, 0.6]))

    def model(self, batch):
        with batch.plate():
            k = pyro.sample("k", dist.Categorical(self.weights), infer={"enumerate": "parallel"})
            return pyro.sample("x", HoleyNormal(self.locs[k], self.scale), obs=batch.x)

    def posterior(self, x):
        """p(k | observed cells), (N, 2)."""
        density = dist.Normal(self.locs, self.scale).log_prob(x[:, None].nan_to_num())  # (N, 2, D)
        return (torch.where(x.isnan()[:, None], 0.0, density).sum(-1) + self.weights.log()).softmax(-1)


class TwoLevels(ModelGuide):
    """A guide whose second code depends on its first, and whose third has no moments in closed form."""

    dims = {"x": ("feature",), "c": ("latent",)}  # noqa: RUF012

    def __init__(self, slope: float = 0.5):
        super().__init__()
        self.slope = slope
        self.register_buffer("zero", torch.zeros(2))

    def model(self, batch):
        with batch.plate():
            a = pyro.sample("a", dist.Normal(self.zero[0], self.zero[0] + 1))
            b = pyro.sample("b", dist.Normal(a, self.zero[0] + 1))
            pyro.sample("c", dist.LogNormal(self.zero, self.zero + 1).to_event(1))
            loc = torch.stack(torch.broadcast_tensors(a, b), -1)
            return pyro.sample("x", dist.Normal(loc, self.zero + 1).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            a = pyro.sample("a", dist.Normal(batch.x[:, 0], 1.0))
            pyro.sample("b", dist.Normal(self.slope * a, 0.3))
            squashed = dist.TransformedDistribution(
                dist.Normal(batch.x, 0.5).to_event(1), [dist.transforms.ExpTransform()]
            )
            pyro.sample("c", squashed)


class Pointed(dist.Normal):
    """A normal that recommends another number than its mean."""

    @property
    def point(self):
        return self.loc + 100


class Emitting(ModelGuide):
    """x given z by any distribution; the guide is a point at the data's first column."""

    def __init__(self, kind: str = "categorical"):
        super().__init__()
        self.kind = kind
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.zero, self.zero + 1))[..., None]
            logits = torch.stack([0 * z, z, 2 * z], -1)  # (*, B, 1, 3)
            fn = {
                "categorical": lambda: dist.Categorical(logits=logits),
                "pointed": lambda: Pointed(z, 1.0),
                "meanless": lambda: dist.TransformedDistribution(
                    dist.Normal(z, 0.1), [dist.transforms.TanhTransform()]
                ),
            }[self.kind]()
            return pyro.sample("x", fn.to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            return pyro.sample("z", dist.Delta(batch.x[..., 0].to(self.zero)))


def linear(features=6, latent=3, off=0.0, seed=0):
    """A gaussian_autoencoder in float64, its guide moved off by `off`, with 40 of its own observations."""
    torch.manual_seed(seed)
    pair = zoo.create("gaussian_autoencoder", features=features, latent=latent).double()
    batch, _ = pair.simulate(40)
    with torch.no_grad():
        for parameter in (pair.encoder, pair.scale_tril_unconstrained):
            parameter.add_(off * torch.randn_like(parameter))
    return pair, batch


def globally(pair, draws=6):
    """A posterior of global latents, from the guide."""
    return inference.draw(pair, pair.simulate(2)[0], draws=draws, seed=1)


# --- encode -----------------------------------------------------------------------------------------------------------


def test_encode_is_the_guide_in_closed_form():
    pair, batch = linear(off=0.3)
    found = encode(pair, batch, draws=4000)
    loc = (batch.x / pair.scale - pair.offset) @ pair.encoder.mT
    sd = pair.scale_tril.square().sum(-1).sqrt().expand(40, 3)
    torch.testing.assert_close(found.mean["z"], loc.detach())
    torch.testing.assert_close(found.sd["z"], sd.detach())
    assert found.draws["z"].shape == (1, 4000, 40, 3)
    z = found.draws["z"][0]
    assert ((z.mean(0) - loc).abs() < 5 * sd / math.sqrt(4000)).all()
    assert ((z.std(0) / sd - 1).abs() < 5 / math.sqrt(2 * 4000)).all()


@pytest.mark.parametrize("name", ["gaussian_vae", "gaussian_autoencoder", "gmm"])
def test_codes_do_not_depend_on_the_other_rows(name):
    pair = zoo.create(name).double()
    batch, _ = pair.simulate(30)
    posterior = globally(pair)
    whole = encode(pair, batch, posterior=posterior)
    some = encode(pair, batch.x[[7, 3]], posterior=posterior, seed=5)
    for part in ("mean", "sd"):
        for site, value in getattr(whole, part).items():
            torch.testing.assert_close(getattr(some, part)[site], value[[7, 3]], rtol=1e-10, atol=1e-10)


def test_moments_are_averaged_over_what_they_depend_on():
    """b | a ~ N(a / 2, 0.3) with a ~ N(x, 1); log c ~ N(x, 0.5), whose moments torch does not know."""
    pair = TwoLevels().double()
    x = torch.randn(5, 2, dtype=torch.float64)
    found = encode(pair, x)
    error = 5 / math.sqrt(1000)
    wanted = {"a": (x[:, 0], 1.0), "b": (x[:, 0] / 2, math.sqrt(0.3**2 + 0.5**2))}
    grow = math.exp(0.5**2)
    wanted["c"] = ((x + 0.125).exp(), (x + 0.125).exp() * math.sqrt(grow - 1))
    for site, (mean, sd) in wanted.items():
        assert ((found.mean[site] - mean).abs() <= error * sd).all(), site
        kurtosis = 3 if site != "c" else grow**4 + 2 * grow**3 + 3 * grow**2 - 3
        tolerance = 5 * math.sqrt((kurtosis - 1) / 4 / 1000)
        assert ((found.sd[site] / sd - 1).abs() < tolerance).all(), site
    assert found.mean["c"].shape == (5, 2)


def test_classes_have_their_exact_probabilities():
    pair = Classes().double()
    x = pair.simulate(50)[0].x
    x[::3, 1] = torch.nan
    x[0] = torch.nan
    found = encode(pair, x, draws=3000)
    wanted = pair.posterior(x)
    torch.testing.assert_close(found.mean["k"], wanted)
    assert "k" not in found.sd
    share = found.draws["k"][0].double().mean(0)
    assert ((share - wanted[:, 1]).abs() < 5 * (wanted[:, 0] * wanted[:, 1] / 3000).sqrt() + 1e-3).all()


def test_gmm_codes_are_the_assignments():
    pair = zoo.create("gmm", components=3).double()
    batch, _ = pair.simulate(30)
    posterior = globally(pair)
    found = encode(pair, batch, posterior=posterior)
    torch.testing.assert_close(found.mean["component"], inference.assignments(pair, posterior, batch)["component"])


# --- decode and reconstruct -------------------------------------------------------------------------------------------


def test_decode_and_reconstruct_by_hand():
    pair, batch = linear(off=0.3)
    z = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(decode(pair, z)["x"], (z @ pair.weight.mT + pair.loc).detach())
    torch.testing.assert_close(decode(pair, {"z": z.numpy()})["x"], decode(pair, z)["x"])
    mean = encode(pair, batch).mean["z"]
    one = reconstruct(pair, batch)
    torch.testing.assert_close(one, decode(pair, mean)["x"])
    # A linear decoder: the mean over codes is that of the mean code.
    many = reconstruct(pair, batch, draws=2000)
    spread = (pair.weight @ pair.scale_tril).square().sum(-1).sqrt().detach()
    assert ((many - one).abs() < 5 * spread / math.sqrt(2000)).all()
    assert (many != one).any()


def test_expected_values():
    z = torch.linspace(-1, 1, 5, dtype=torch.float64)
    weights = torch.stack([torch.ones(5).double(), z.exp(), (2 * z).exp()], -1)
    categories = (weights[:, 1] + 2 * weights[:, 2]) / weights.sum(-1)
    torch.testing.assert_close(decode(Emitting().double(), z)["x"][:, 0], categories)
    torch.testing.assert_close(decode(Emitting("pointed").double(), z)["x"][:, 0], z + 100)
    meanless = decode(Emitting("meanless").double(), z)["x"][:, 0]
    assert ((meanless - z.tanh()).abs() < 0.05).all()


def test_global_latents_are_averaged_over():
    pair = zoo.create("bayesian_vae", likelihood="gaussian").double()
    posterior = globally(pair)
    z = torch.randn(4, 2, dtype=torch.float64)
    by_hand = torch.zeros(4, 16, dtype=torch.float64)
    for s in range(6):
        alone = Posterior({n: v[:, s : s + 1] for n, v in posterior.draws.items()}, posterior.local, size=1)
        by_hand += decode(pair, z, posterior=alone)["x"] / 6
    torch.testing.assert_close(decode(pair, z, posterior=posterior)["x"], by_hand)
    batch, _ = pair.simulate(3)
    assert reconstruct(pair, batch, posterior=posterior).shape == (3, 16)
    assert not torch.equal(decode(pair, z, seed=0)["x"], decode(pair, z, seed=1)["x"])


def test_reconstruction_of_a_mixture_weighs_its_classes():
    pair = Classes().double()
    x = pair.simulate(20)[0].x
    torch.testing.assert_close(reconstruct(pair, x), pair.posterior(x) @ pair.locs)
    torch.testing.assert_close(decode(pair, torch.tensor([1, 0]))["x"], pair.locs[[1, 0]])


# --- impute -----------------------------------------------------------------------------------------------------------


def holed(pair, rows, rate=0.35, seed=2):
    torch.manual_seed(seed)
    x = pair.simulate(rows)[0].x
    holes = torch.rand(x.shape) < rate
    holes[0] = True
    holes[1] = False
    return torch.where(holes, torch.nan, x), x


def test_imputations_have_the_exact_conditional_distribution():
    """The guide is moved and widened: only the importance weights can bring the imputations back."""
    pair = HoleyFactors().double()
    x, truth = holed(pair, 400)
    draws, proposals = 200, 1000
    found = impute(pair, x, draws=draws, proposals=proposals)
    exact = [pair.conditional(row) for row in x if row.isnan().any()]
    mean = torch.cat([loc for loc, _ in exact])
    sd = torch.cat([covariance.diagonal().sqrt() for _, covariance in exact])
    values = found.values[0]
    # Each draw has its own noise; the codes behind them vary with what the weights leave of the proposals.
    error = sd * (1 / draws + 1 / found.ess[found.rows]).sqrt()
    z = (values.mean(0) - mean) / error
    assert abs(z.mean()) < 5 / math.sqrt(len(exact))  # cells of one row go together
    assert z.abs().max() < 5
    ratio = values.var(0) / sd.square()
    assert abs(ratio.mean() - 1) < 4 * math.sqrt(2 / draws / len(exact)) + 4 / proposals
    low, high = found.interval(0.9)
    hidden = truth[found.rows, found.columns]
    inside = ((low <= hidden) & (hidden <= high)).double()
    by_row = torch.zeros(len(x), dtype=torch.float64).index_add_(0, found.rows, inside - 0.9)
    # Cells of one row share a code: count rows, and what a quantile of 200 draws costs.
    assert abs(inside.mean() - 0.9) < 4 * by_row.norm() / len(hidden) + 1 / draws
    assert found.ess[1].isnan()
    assert (found.ess[2:].nan_to_num(300) > 100).all()


def test_imputations_keep_what_cells_of_a_row_share():
    pair = HoleyFactors().double()
    x = torch.full((1, 5), torch.nan, dtype=torch.float64)
    found = impute(pair, x, draws=4000, proposals=4000)
    _, covariance = pair.conditional(x[0])
    sample = torch.cov(found.values[0].T)
    spread = (covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()).sqrt()
    assert ((sample - covariance).abs() < 5 * spread * math.sqrt(2 / 4000)).all()


def test_imputations_of_classes():
    pair = Classes().double()
    x, _ = holed(pair, 60)
    draws = 4000
    found = impute(pair, x, draws=draws)
    weight = pair.posterior(x)[found.rows]  # (M, 2)
    locs = pair.locs.T[found.columns]
    mean = (weight * locs).sum(-1)
    sd = (pair.scale[found.columns].square() + (weight * locs.square()).sum(-1) - mean.square()).sqrt()
    assert ((found.values[0].mean(0) - mean).abs() < 5 * sd / math.sqrt(draws)).all()


def test_tables_points_and_intervals():
    observed = torch.tensor([[1.0, torch.nan], [torch.nan, 2.0]])
    rows, columns = torch.tensor([0, 1]), torch.tensor([1, 0])
    values = torch.tensor([[[1.0, 10.0], [1.0, 20.0], [4.0, 60.0]]])
    found = Imputation(observed, rows, columns, values, torch.ones(2), ("real", "categorical"))
    assert found.table(2).tolist() == [[1, 4], [60, 2]]
    assert found.mean().tolist() == [[1, 2], [30, 2]]
    assert found.point().tolist() == [[1, 1], [30, 2]]
    low, high = found.interval(0.5)
    assert low.tolist() == [1.0, 15.0]
    assert high.tolist() == [2.5, 40.0]
    with pytest.raises(ValueError, match="expected 0 to 2, got 3"):
        found.table(3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        found.interval(90)


def test_a_full_table_has_nothing_to_impute():
    found = impute(HoleyFactors().double(), torch.zeros(3, 5), draws=7)
    assert found.values.shape == (1, 7, 0)
    assert torch.equal(found.mean(), torch.zeros(3, 5).double())


# --- dead codes -------------------------------------------------------------------------------------------------------


def planted(dead):
    """A linear pair at its exact posterior whose decoder does not use the dimensions `dead`."""
    pair, batch = linear()
    with torch.no_grad():
        pair.loading[:, dead] = 0
        loading = pair.loading
        covariance = (torch.eye(3).double() + loading.mT @ loading).inverse()
        pair.encoder.copy_(covariance @ loading.mT)
        pair.scale_tril = torch.linalg.cholesky(covariance)
    return pair, batch


def test_a_dead_dimension_is_found():
    pair, batch = planted([1])
    assert active_units(pair, batch)["z"].tolist() == [True, False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (note,) = collapsed(pair, batch)
    assert "1 of 3 dimensions of the code 'z' are unused (1)" in note
    assert collapsed(*linear()) == []


def test_a_collapsed_posterior_is_announced():
    pair, batch = planted([0, 1, 2])
    with pytest.warns(CollapseWarning, match="the code 'z' has collapsed: all 3 dimensions carry less than 0.01 nats"):
        notes = collapsed(pair, batch)
    assert len(notes) == 1


def test_dead_dimensions_of_a_factorised_guide():
    pair = zoo.create("gaussian_vae", features=5, latent=3, hidden=()).double()
    x = torch.rand(50, 5).round()
    with torch.no_grad():
        layer = pair.encoder[-1]
        layer.weight[1] = layer.weight[4] = 0.0
        layer.bias[1], layer.bias[4] = 0.0, math.log(math.expm1(1.0))
        layer.weight[0] *= 10
        layer.weight[2], layer.bias[2] = 0.0, 2.0  # costs nats, and says the same of every row
    kl = code_kl(pair, x)["z"]
    mean, sd = (encode(pair, x).mean["z"], encode(pair, x).sd["z"])
    by_hand = 0.5 * (mean.square() + sd.square() - 1) - sd.log()
    torch.testing.assert_close(kl, by_hand.mean(0))
    assert kl[1] < 1e-12
    assert kl[2] > 1
    assert active_units(pair, x)["z"].tolist() == [True, False, False]
    assert "2 of 3 dimensions of the code 'z' are unused (1, 2)" in collapsed(pair, x)[0]


def test_kl_without_closed_form_is_the_total():
    """log c ~ N(x, 0.5) against log c ~ N(0, 1), sampled; the codes a and b have theirs exactly."""
    pair = TwoLevels().double()
    x = torch.randn(60, 2, dtype=torch.float64)
    found = code_kl(pair, x, draws=400)
    wanted = (0.5 * (x.square() + 0.25 - 1) - math.log(0.5)).sum(-1)
    spread = 2 * (0.5**2 + 0.5**4 / 2 + (0.5 * x).square().mean())
    assert abs(found["c"] - wanted.mean()) < 5 * math.sqrt(spread / 400 / 60)
    torch.testing.assert_close(found["a"], (0.5 * x[:, 0].square()).mean(), rtol=1e-9, atol=1e-9)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["polynomial_regression", "hmm"])
@pytest.mark.parametrize("function", [encode, reconstruct, impute, active_units, code_kl, collapsed, log_marginal])
def test_pairs_without_codes_are_refused(name, function):
    pair = zoo.create(name)
    with pytest.raises(ValueError, match=f"{name} has no local latents"):
        function(pair, pair.simulate(3)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode(zoo.create("gaussian_vae"), torch.zeros(2, 64), draws=-1), "draws: expected a whole number"),
        (lambda: decode(zoo.create("gaussian_vae"), torch.zeros(2, 3)), r"codes 'z': expected shape \(M, 2\), got"),
        (lambda: decode(zoo.create("gaussian_vae"), {"w": torch.zeros(2, 2)}), "expected codes z, got w"),
        (lambda: decode(zoo.create("gaussian_vae"), torch.full((2, 2), torch.nan)), "expected finite numbers"),
        (lambda: decode(Classes(), torch.tensor([0.5])), "expected whole numbers"),
        (lambda: decode(TwoLevels(), torch.zeros(2)), "TwoLevels has several codes: give a dict of a, b, c"),
        (lambda: impute(zoo.create("gaussian_vae"), torch.zeros(2, 64)), "no table that may have missing values"),
        (lambda: impute(HoleyFactors(), torch.zeros(2, 5), proposals=0), "proposals: expected a whole number"),
        (lambda: active_units(Classes(), torch.zeros(2, 3)), "draws no code; 'k' is summed out exactly"),
        (lambda: code_kl(Emitting(), torch.zeros(2, 1)), "point mass at 'z'"),
        (
            lambda: encode(zoo.create("bayesian_vae"), torch.zeros(2, 16), posterior=Posterior({}, size=1)),
            "no draws of",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_point_guide_encodes():
    pair = Emitting("pointed").double()
    x = torch.tensor([[0.5], [-1.0]])
    found = encode(pair, x, draws=2)
    assert found.mean["z"].tolist() == [0.5, -1.0]
    assert found.sd["z"].tolist() == [0.0, 0.0]
    assert reconstruct(pair, x)[:, 0].tolist() == [100.5, 99.0]
    assert active_units(pair, x)["z"].item()


@pytest.mark.parametrize("make", [partial(zoo.create, "gaussian_vae"), partial(zoo.create, "bayesian_vae"), Classes])
def test_seeds_and_the_callers_random_state(make):
    pair = make()
    batch, _ = pair.simulate(4)
    state = torch.get_rng_state()
    first, again, other = (encode(pair, batch, draws=20, seed=seed) for seed in (0, 0, 1))
    reconstruct(pair, batch, draws=2)
    assert torch.equal(state, torch.get_rng_state())
    for site in first.draws:
        assert torch.equal(first.draws[site], again.draws[site])
        assert first.mean[site].dtype == torch.float32
    assert any(not torch.equal(first.draws[site], other.draws[site]) for site in first.draws)


# --- memory -----------------------------------------------------------------------------------------------------------


class Peak(TorchDispatchMode):
    """The largest number of bytes in tensors made while it stands, at any one time."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.seen and storage._cdata not in known:
                    self.add(storage)
        self.peak = max(self.peak, self.now)
        return result

    def add(self, storage):
        key, size = storage._cdata, storage.nbytes()

        def gone(_):
            self.now -= size
            self.seen.pop(key, None)

        self.seen[key] = weakref.ref(storage, gone)
        self.now += size


SMALL = 2**14  # the budget of these tests
BOUND = 12 * 4 * SMALL  # bytes beyond the result that any function may hold: a dozen of the largest tensors at once


def peak(function):
    """Bytes beyond the result at the worst moment, and those of the result."""
    with Peak() as watch:
        result = function()
        held = watch.now
    del result
    return watch.peak - held, held


def test_the_watch_sees_what_is_held_at_once():
    def function():
        kept = [torch.zeros(1000) for _ in range(3)]
        total = torch.stack(kept).sum(0)
        del kept
        for _ in range(5):
            total = total + torch.ones(1000).reshape(10, -1).reshape(-1)
        return total

    extra, held = peak(function)
    assert held == 4000
    assert extra == 4000 * (3 + 3 + 1 - 1)


def log_marginal_of(trials):
    config = {"likelihood": "categorical", "trials": trials} if trials else {}
    pair = zoo.create("gaussian_vae", hidden=(16,), **config)
    return lambda rows, count: lambda: log_marginal(pair, torch.ones(rows, 64), particles=count)


def predictions(rows, count):
    pair = zoo.create("gaussian_vae", hidden=(16,))
    posterior = inference.draw(pair, torch.ones(rows, 64), draws=count)
    return lambda: inference.predict(pair, posterior, torch.ones(rows, 64))


def imputations(rows, count):
    x = torch.ones(rows, 5)
    x[:, 2] = torch.nan
    return lambda: impute(HoleyFactors(), x, draws=count, proposals=count)


def refinements(rows, count):
    pair = zoo.create("gaussian_vae", hidden=(16,))
    return lambda: refine(pair, torch.ones(rows, 64), covariance="full", steps=2, samples=count)


def gaps(rows, count):
    pair = zoo.create("gaussian_vae", hidden=(16,))
    options = {"steps": 1, "temperatures": 2, "method": "annealed"}
    return lambda: gap(pair, torch.ones(rows, 64), chains=max(2, count // 8), particles=count, **options)


def reconstructions(rows, count):
    pair = zoo.create("bayesian_vae", features=64, hidden=(16,))
    posterior = globally(pair, draws=3)
    return lambda: reconstruct(pair, torch.ones(rows, 64), draws=count, posterior=posterior)


def slow(task, name):
    return pytest.param(task, id=name, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(log_marginal_of(None), id="log_marginal"),
        pytest.param(predictions, id="predict"),
        pytest.param(imputations, id="impute"),
        slow(log_marginal_of(10), "log_marginal of categories"),
        slow(reconstructions, "reconstruct"),
        slow(refinements, "refine"),
        slow(gaps, "gap"),
    ],
)
@settings.using(memory=SMALL)
def test_memory_is_bounded_whatever_the_numbers_of_rows_and_draws(task, monkeypatch):
    monkeypatch.setattr("inference.data.check._CHUNK", 16)  # the check of the data has its own bound, of 4096 rows
    extras = {(rows, count): peak(task(rows, count))[0] for rows, count in ((40, 40), (160, 40), (40, 160))}
    assert max(extras.values()) < BOUND, extras
