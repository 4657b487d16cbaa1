"""Pairs that run in double precision only are made in it, and a first run that fails says where."""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from zoo import registry
from zoo.base import ModelGuide


class Smooth(ModelGuide):
    """f ~ MultivariateNormal(0, K) with K so smooth that single precision does not factorise it; x_n ~ Normal(f, 1)."""

    dims = {"f": ("point",), "x": ("point",)}  # noqa: RUF012

    def __init__(self, guide: zoo.guides.Family = "normal") -> None:
        super().__init__(guide)
        self.register_buffer("grid", torch.linspace(0, 1, 20))
        self.register_buffer("zero", torch.zeros(20))

    def model(self, batch):
        K = (-0.5 * ((self.grid[:, None] - self.grid) / 0.3) ** 2).exp() + 1e-10 * torch.eye(20).to(self.grid)
        f = pyro.sample("f", dist.MultivariateNormal(self.zero, scale_tril=torch.linalg.cholesky(K)))
        with batch.plate():
            return pyro.sample("x", dist.Normal(f, 1.0).to_event(1), obs=batch.x)


@pytest.fixture
def smooth():
    before = dict(registry._registry)
    zoo.register("smooth")(Smooth)
    yield
    registry._registry.clear()
    registry._registry.update(before)


def test_a_pair_for_double_precision_is_made_copied_fitted_saved_and_loaded_in_it(smooth, tmp_path):
    with pytest.raises(ValueError, match=r"smooth: its first run.* in float32, fails .*dtype=torch\.float64"):
        zoo.create("smooth")
    pair = zoo.create("smooth", dtype=torch.float64)
    assert pair.dtype == torch.float64
    assert "dtype" not in pair.config
    data, _ = pair.simulate(30)
    inference.fit(pair, data, steps=5, progress=False, compile="off")
    for again in (copy.deepcopy(pair), zoo.load(pair.save(tmp_path))):
        assert again.dtype == torch.float64
        assert again.fitted
        assert torch.equal(again.auto.loc, pair.auto.loc)


def test_any_pair_may_be_asked_for_by_type():
    assert zoo.create("gmm", dtype=torch.float64).dtype == torch.float64
    assert zoo.create("gmm").dtype == torch.float32
    for wrong in (torch.float16, torch.int64, "float64", 64):
        with pytest.raises(ValueError, match=r"dtype: expected torch\.float32 or torch\.float64"):
            zoo.create("gmm", dtype=wrong)


def test_a_first_run_that_fails_below_names_the_site():
    class Improper(Smooth):
        def model(self, batch):
            a = pyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
            with batch.plate():
                return pyro.sample("x", dist.Normal(a, 1.0), obs=batch.x)

    with pytest.raises(ValueError, match=r"its first run.* fails at site 'a' with NotImplementedError: Improper"):
        Improper()


@pytest.mark.parametrize("kind", ["indexed", "computed with", "fed to a layer", "an attribute"])
def test_a_covariate_that_no_hook_makes_is_told_by_the_name_of_the_hook(kind):
    class Reading(Smooth):
        def __init__(self, guide: zoo.guides.Family = "normal") -> None:
            super().__init__(guide)
            self.layer = torch.nn.Linear(1, 1)

        def mean(self, w, x):
            return {
                "indexed": lambda: w * x[..., 0],
                "computed with": lambda: (w * x).squeeze(-1),
                "fed to a layer": lambda: self.layer(x).squeeze(-1),
                "an attribute": lambda: w.expand(x.shape[:-1]),
            }[kind]()

        def model(self, batch):
            w = pyro.sample("w", dist.Normal(self.zero[0], 1.0))
            mean = self.mean(w, batch.x)
            with batch.plate():
                return pyro.sample("y", dist.Normal(mean, 1.0), obs=batch.y)

    class Whole(Reading):
        def inputs(self, n):
            return zoo.Batch(n, n, x=torch.zeros(n, 1).to(self.zero))

    with pytest.raises(ValueError, match=r"its first run.*fails after site 'w' with .*its method inputs\(n\)"):
        Reading()
    assert Whole().simulate(3)[0].y.shape == (3,)

    class Broken(Whole):
        def mean(self, w, x):
            return w * self.automatic.nothing  # no fault of the hook, which is there

    with pytest.raises(AttributeError, match="NoneType"):
        Broken()


def test_what_a_pair_says_itself_is_let_through():
    class Own(Smooth):
        def model(self, batch):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Own()


@pytest.mark.filterwarnings("ignore:warm-up stopped")
def test_priors_of_plain_numbers_run_in_double_precision():
    class Plain(ModelGuide):
        def __init__(self, guide: zoo.guides.Family = "normal") -> None:
            super().__init__(guide)

        def model(self, batch):
            loc = pyro.sample("loc", dist.Uniform(-10.0, 10.0))
            scale = pyro.sample("scale", dist.HalfNormal(1.0))
            with batch.plate():
                return pyro.sample("x", dist.Normal(loc, scale), obs=batch.x)

    pair, x = Plain().double(), torch.randn(30, dtype=torch.float64)
    inference.fit(pair, x, steps=5, progress=False, compile="off")
    posterior = inference.draw(pair, x, 5)
    assert inference.log_likelihood(pair, posterior, x).dtype == torch.float64
    chains = inference.sample(pair, x, 5, 4, max_warmup=20, compile="graph", progress=False)
    assert chains["loc"].dtype == torch.float64
