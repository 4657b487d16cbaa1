"""Hidden states in time: animals marked and seen again, seals that move, a chain as one distribution, a change."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.transforms import OrderedTransform
from pyro.infer import config_enumerate
from pyro.ops.indexing import Vindex

from pyro_programs.example import Example, listed


def capture_recapture(capture_history):
    """Chances of survival and of being caught again, from the first capture on (Cormack, Jolly, Seber)."""
    animals, occasions = capture_history.shape
    phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    with pyro.plate("animals", animals, dim=-1):
        alive = torch.ones(animals)
        marked = torch.zeros(animals).bool()
        for t in pyro.markov(range(occasions)):
            survives = torch.where(marked, phi * alive, torch.ones(()))
            alive = pyro.sample(f"alive_{t}", dist.Bernoulli(survives), infer={"enumerate": "parallel"})
            with poutine.mask(mask=marked):
                pyro.sample(f"seen_{t}", dist.Bernoulli(rho * alive), obs=capture_history[:, t])
            marked = marked | capture_history[:, t].bool()


def capture_recapture_data():
    """60 birds in 7 years, simulated."""
    rng = np.random.default_rng(18)
    history, first = np.zeros((60, 7)), rng.integers(0, 6, 60)
    for i, begin in enumerate(first):
        history[i, begin] = 1
        for t in range(begin + 1, 7):
            if rng.random() > 0.6:
                break
            history[i, t] = rng.random() < 0.85
    return (history,)


@config_enumerate
def mixed_hidden_markov(steps, angles, seen):
    """Groups of animals that rest or travel; each group and animal changes between the two in its own way."""
    individuals, groups, times = steps.shape
    states = 2
    base = dist.Normal(torch.tensor([-1.0, 0.5]), 0.5).to_event(1)
    mean_step = pyro.sample("log_step", dist.TransformedDistribution(base, OrderedTransform())).exp()
    with pyro.plate("states", states):
        straight = pyro.sample("straight", dist.LogNormal(0.0, 1.0))
    with pyro.plate("group", groups, dim=-1):
        eps_g = pyro.sample("eps_g", dist.Normal(torch.zeros(states**2), 1.0).to_event(1))
        with pyro.plate("individual", individuals, dim=-2):
            eps_i = pyro.sample("eps_i", dist.Normal(torch.zeros(states**2), 0.5).to_event(1))
            gamma = eps_g + eps_i
            gamma = gamma.reshape((*gamma.shape[:-1], states, states)) + 2 * torch.eye(states)
            state = torch.tensor(0)
            for t in pyro.markov(range(times)):
                with poutine.mask(mask=seen[..., t]):
                    state = pyro.sample(f"state_{t}", dist.Categorical(logits=Vindex(gamma)[..., state, :]))
                    rate = 2.0 / Vindex(mean_step)[..., state]
                    pyro.sample(f"step_{t}", dist.Gamma(2.0, rate), obs=steps[..., t])
                    turn = dist.VonMises(0.0, Vindex(straight)[..., state])
                    pyro.sample(f"angle_{t}", turn, obs=angles[..., t])


def mixed_hidden_markov_data():
    """4 animals in each of 2 groups at 12 times, of which some records end early; simulated."""
    rng = np.random.default_rng(19)
    shape, stay = (4, 2), np.array([0.8, 0.7])
    state, steps, angles = np.zeros(shape, int), [], []
    for _ in range(12):
        state = np.where(rng.random(shape) < stay[state], state, 1 - state)
        steps.append(rng.gamma(2.0, np.array([0.4, 2.5])[state] / 2.0))
        angles.append(rng.vonmises(0.0, np.array([0.5, 4.0])[state]))
    ends = rng.integers(8, 13, shape)
    return np.stack(steps, -1), np.stack(angles, -1), np.arange(12) < ends[..., None]


def hidden_markov(sequences):
    """Three states in order of their means, all sequences at once as one distribution."""
    states = 3
    initial = pyro.sample("initial", dist.Dirichlet(torch.ones(states)))
    transition = pyro.sample(
        "transition", dist.Dirichlet(torch.ones(states, states) + 2 * torch.eye(states)).to_event(1)
    )
    base = dist.Normal(torch.tensor([-2.0, 0.5, 0.5]), 1.0).to_event(1)
    locs = pyro.sample("locs", dist.TransformedDistribution(base, OrderedTransform()))
    scale = pyro.sample("scale", dist.LogNormal(-0.5, 0.5))
    with pyro.plate("sequences", len(sequences)):
        chain = dist.DiscreteHMM(initial.log(), transition.log(), dist.Normal(locs, scale), duration=sequences.shape[1])
        pyro.sample("x", chain, obs=sequences)


def hidden_markov_data():
    """4 sequences of 30 steps, simulated."""
    rng = np.random.default_rng(20)
    state, rows = rng.integers(0, 3, 4), []
    for _ in range(30):
        state = np.where(rng.random(4) < 0.8, state, rng.integers(0, 3, 4))
        rows.append(rng.normal(np.array([-2.0, 0.0, 2.5])[state], 0.6))
    return (np.stack(rows, 1),)


@config_enumerate
def changepoint(disasters):
    """Accidents whose rate changes once, in a year that is summed out."""
    years = len(disasters)
    early = pyro.sample("early", dist.Exponential(0.5))
    late = pyro.sample("late", dist.Exponential(0.5))
    switch = pyro.sample("switch", dist.Categorical(torch.ones(years) / years))
    with pyro.plate("year", years) as year:
        rate = torch.where(year < switch, early, late)
        pyro.sample("disasters", dist.Poisson(rate), obs=disasters)


def changepoint_data():
    """Disasters in British coal mines, 1851 to 1962 (Jarrett 1979)."""
    counts = (
        "4545013422 0433446404 0315430324 4514405534 0301002232 3513131222 3134201231 2324310212"
        " 0101001001 0211333031 0024101424 2101"
    )
    return (np.array([float(digit) for digit in counts.replace(" ", "")]),)


EXAMPLES = listed(
    Example(capture_recapture, capture_recapture_data, "examples/capture_recapture/cjs.py"),
    Example(mixed_hidden_markov, mixed_hidden_markov_data, "examples/mixed_hmm"),
    Example(hidden_markov, hidden_markov_data, "pyro.distributions.DiscreteHMM"),
    Example(changepoint, changepoint_data, "tutorial: inference with discrete latent variables"),
)
