"""Pyro programs as people write them, each with its arguments: nothing in them knows of points side by side."""

import functools

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample

import zoo

SCHOOLS = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]).double()
SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18]).double()
_made = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(*shape, generator=_made, dtype=torch.float64)


def schools(y=SCHOOLS, sigma=SIGMA):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * z)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def conjugate(y):
    """Normal-normal: the posterior of mu is Normal(sum(y) / (N + 1/25), 1 / (N + 1/25))."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def groups(x, group, y=None):
    """Effects in a plate of their own, rows in another, indexed from the left, written into in place."""
    scale = pyro.sample("scale", dist.HalfNormal(torch.ones(3)).to_event(1))
    with pyro.plate("group", 4):
        effect = pyro.sample("effect", dist.Normal(torch.zeros(3), scale).to_event(1))
    shift = torch.zeros(4)
    shift[1] = effect[1, 0]
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=(effect[group] * x).sum(1) + shift[group]), obs=y)


def mixture(data):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("part", 3):
        loc = pyro.sample("loc", dist.Normal(0.0, 5.0))
    with pyro.plate("row", len(data)):
        which = pyro.sample("which", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(loc[which], 1.0), obs=data)


def chain(data):
    """A hidden Markov chain, step by step."""
    moves = pyro.sample("moves", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
    state = 0
    for t in pyro.markov(range(len(data))):
        state = pyro.sample(f"state_{t}", dist.Categorical(moves[state]))
        pyro.sample(f"y_{t}", dist.Normal(loc[state], 1.0), obs=data[t])


def crossed(ratings):
    """Two crossed plates, and a joint observation outside any."""
    people, items = ratings.shape
    skill_scale = pyro.sample("skill_scale", dist.HalfNormal(1.0))
    with pyro.plate("person", people, dim=-2):
        skill = pyro.sample("skill", dist.Normal(0.0, skill_scale))
    with pyro.plate("item", items, dim=-1):
        ease = pyro.sample("ease", dist.Normal(0.0, 1.0))
    with pyro.plate("people", people, dim=-2), pyro.plate("items", items, dim=-1):
        pyro.sample("rating", dist.Normal(skill + ease, 1.0), obs=ratings)
    pyro.sample("total", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)), obs=torch.ones(2))


def factored():
    x = pyro.sample("x", dist.ImproperUniform(dist.constraints.positive, (), ()))
    pyro.factor("penalty", -0.5 * (x - 3.0) ** 2)
    with poutine.scale(scale=2.0):
        pyro.sample("seen", dist.Normal(x, 1.0), obs=torch.tensor(2.0))


def gaussian_process(x, y):
    length = pyro.sample("length", dist.LogNormal(0.0, 1.0))
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    covariance = scale**2 * torch.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 0.1 * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance), obs=y)


def correlated(data):
    root = pyro.sample("root", dist.LKJCholesky(3, 2.0))
    scale = pyro.sample("scale", dist.HalfNormal(torch.ones(3)).to_event(1))
    with pyro.plate("row", len(data)):
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), scale_tril=scale[:, None] * root), obs=data)


def uniform_of_uniform():
    """A support that moves with another latent."""
    top = pyro.sample("top", dist.Uniform(0.0, 10.0))
    low = pyro.sample("low", dist.Uniform(0.0, top))
    pyro.sample("y", dist.Normal(top + low, 1.0), obs=torch.tensor(7.0))


def partly_seen(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    seen = ~y.isnan()
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y.nan_to_num(), obs_mask=seen)


def answers(right, seen):
    """Answers of people to items, some missing: a missing one is a discrete latent."""
    people, items = pyro.plate("people", right.shape[0], dim=-2), pyro.plate("items", right.shape[1], dim=-1)
    with people:
        skill = pyro.sample("skill", dist.Normal(0.0, 1.0))
    with items:
        ease = pyro.sample("ease", dist.Normal(0.0, 1.0))
    with people, items:
        pyro.sample("right", dist.Bernoulli(logits=skill + ease), obs=right, obs_mask=seen)


class Network(PyroModule):
    """A Bayesian network of one hidden layer, by `PyroSample`."""

    def __init__(self):
        super().__init__()
        self.hidden = PyroModule[torch.nn.Linear](2, 3)
        self.hidden.weight = PyroSample(dist.Normal(0.0, 1.0).expand([3, 2]).to_event(2))
        self.hidden.bias = PyroSample(dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        self.out = PyroModule[torch.nn.Linear](3, 1)
        self.out.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))

    def forward(self, x, y=None):
        mean = self.out(self.hidden(x).tanh()).squeeze(-1)
        with pyro.plate("row", len(x)):
            return pyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def _centred(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, SIGMA), obs=y)


def _open():
    x = pyro.sample("x", dist.Gamma(2.0, 1.0))
    return pyro.sample("y", dist.Normal(x, 1.0))


X = noise(20, 3)
Y = (noise(20) > 0).double()
GROUP = torch.arange(20) % 4
PROGRAMS = {
    "schools": (schools, ()),
    "conjugate": (conjugate, (noise(12) + 2,)),
    "groups": (groups, (X, GROUP, Y)),
    "mixture": (mixture, (noise(15) * 2,)),
    "chain": (chain, (noise(6),)),
    "crossed": (crossed, (noise(5, 4),)),
    "factored": (zoo.program(factored, start={"x": 1.0}), ()),
    "gaussian_process": (gaussian_process, (torch.linspace(-1, 1, 9).double(), noise(9))),
    "correlated": (correlated, (noise(10, 3),)),
    "uniform_of_uniform": (uniform_of_uniform, ()),
    "partly_seen": (partly_seen, (torch.tensor([1.0, float("nan"), 2.0, 3.0]).double(),)),
    "reparametrised": (
        poutine.reparam(_centred, config={"theta": LocScaleReparam(0.0)}), (SCHOOLS,),
    ),
    "conditioned": (poutine.condition(_open, data={"y": torch.tensor(1.0).double()}), ()),
    "network": (Network, (X[:, :2], Y)),
    "answers": (answers, ((noise(4, 3) > 0).double(), noise(4, 3) > -1)),
}  # fmt: skip


@functools.cache
def program(name):
    """A model and its arguments, by name."""
    model, arguments = PROGRAMS[name]
    return (model().double() if isinstance(model, type) else model), arguments
