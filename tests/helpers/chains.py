"""Hidden Markov chains made at random, all their paths one by one, and draws of an hmm's latents."""

from __future__ import annotations

import itertools
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from inference.posterior.draws import Posterior
from zoo.base import ModelGuide
from zoo.parts.chains.chain import HiddenMarkovChain
from zoo.sequences.hmm import HMM

KINDS = ("normal", "diag", "full", "poisson", "categorical")


MISSING = torch.nan


def make(kind: str, K: int = 3, D: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, dist.TorchDistribution]:
    """Random initial logits, transition logits and emissions, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tril = torch.linalg.cholesky(torch.eye(D, dtype=torch.float64) + (f := normal(K, D, D)) @ f.mT)
    emission = {
        "normal": lambda: dist.Normal(2 * normal(K), normal(K).exp()),
        "diag": lambda: dist.Normal(2 * normal(K, D), normal(K, D).exp()).to_event(1),
        "full": lambda: dist.MultivariateNormal(2 * normal(K, D), scale_tril=tril),
        "poisson": lambda: dist.Poisson((normal(K) + 1).exp()),
        "categorical": lambda: dist.Categorical(normal(K, 4).softmax(-1)),
    }[kind]()
    return normal(K), normal(K, K), emission


def enumerate_paths(chain: HiddenMarkovChain, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """All K^length paths of one sequence, (P, length), and their log joint densities with x, one step at a time."""
    pi, A = chain.initial_logits.log_softmax(-1), chain.transition_logits.log_softmax(-1)
    paths = torch.tensor(list(itertools.product(range(chain.states), repeat=length)))
    total = pi[paths[:, 0]]
    for t in range(length):
        if t:
            total = total + A[paths[:, t - 1], paths[:, t]]
        total = total + one_step(chain.emission, x[t])[paths[:, t]]
    return paths, total


def one_step(emission: dist.TorchDistribution, x: Tensor) -> Tensor:
    """log p(x_t | k), (K,), of one step that may miss values."""
    if isinstance(emission, torch.distributions.Independent):
        seen = [d for d in range(len(x)) if not x[d].isnan()]
        return sum(
            (emission.base_dist.log_prob(x.nan_to_num())[:, d] for d in seen), torch.zeros(3, dtype=torch.float64)
        )
    return torch.zeros(3, dtype=torch.float64) if x.isnan().any() else emission.log_prob(x)


KINDS_OF_MOVES = ("free", "tied", "left_right")


def moving(kind: str, states: int = 3, seed: int = 0, **config: Any) -> tuple[HMM, dict[str, Tensor]]:
    """A pair with such transitions, in float64, and a draw of its global latents."""
    pair = HMM(states=states, transitions=kind, emission="categorical", categories=3, **config).double()
    torch.manual_seed(seed)
    return pair, pair.simulate(1)[1]


def posterior_of(pair: ModelGuide, count: int) -> Posterior:
    torch.manual_seed(0)
    values = [pair.simulate(1)[1] for _ in range(count)]
    return Posterior({name: torch.stack([v[name] for v in values])[None] for name in values[0]}, size=count)
