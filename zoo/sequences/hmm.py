"""Bayesian hidden Markov model.

For states k = 1..K, features d = 1..D, sequences n = 1..N and their steps t = 1..T_n,

    initial            pi ~ Dirichlet(alpha, ..., alpha)          or the stationary distribution of A, pi = pi A
    transition     A(k,.) ~ Dirichlet(alpha + persistence at k, alpha elsewhere)
    state      z_n1 ~ pi,   z_nt given z_n,t-1 = k ~ A(k,.)       summed out, all K^T paths
    x          x_nt given z_nt = k ~ F_k,                         a NaN adds no factor

and F_k, by `emission`, is

    gaussian     Normal(m_k, S_k S_k^T),  S_k = diag(s_k) if the covariance is diag, diag(s_k) (C_k + I / 1000) if full
                 m_kd ~ Cauchy(0, loc_scale)      s_kd ~ InverseGamma(1, scale)      C_k ~ LKJCholesky(eta)
    poisson      Poisson(r_k),      r_k ~ LogNormal(log rate, 2)
    categorical  Categorical(p_k),  p_k ~ Dirichlet(alpha, ..., alpha)

All latents are global: `initial`, `transition`, and `locs` m, `scales` s, `correlations` C, `rates` r or `probs` p. The
priors of m and s suit data in raw units and keep the likelihood times the prior bounded; `scale` should lie below the
deviations of the data.

References: Rabiner (1989), "A tutorial on hidden Markov models"; Zucchini, MacDonald & Langrock (2016), "Hidden Markov
models for time series"; Scott (2002), "Bayesian methods for hidden Markov models".
"""

from __future__ import annotations

from typing import Literal

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo import guides
from zoo.base import Batch, ModelGuide, register
from zoo.mixtures import em
from zoo.sequences.chain import HiddenMarkovChain

FLOOR = 1e-3  # least conditional deviation of a feature given the others, in its own scale


@register("hmm")
class HMM(ModelGuide):
    """Bayesian hidden Markov model (Scott 2002).

    Its joint density stands at the top of this file. `x` is (N, T, D) for Gaussian and (N, T) for Poisson and
    categorical emissions; `lengths`, (N,), says how many steps of each sequence count. NaN is a missing value, and good
    to fill the steps past the end with.

    Args:
        states: the number of states K.
        features: the number of features D of a Gaussian emission.
        emission: `gaussian`, `poisson` (counts) or `categorical` (codes from 0).
        covariance: of a Gaussian emission, `diag` or `full`. A step with one NaN is missing as a whole when `full`.
        categories: the number of categories of a categorical emission.
        start: `free` (its own Dirichlet prior) or `stationary`.
        steps: the number of steps T of simulated sequences.
        concentration: alpha, of the Dirichlet priors.
        persistence: what the prior adds to alpha for staying in a state.
        loc_scale: scale of the Cauchy prior of the locs.
        scale: rate of the inverse-gamma prior of the scales, the smallest deviations to expect.
        correlation: eta of the LKJ prior; 1 is uniform over correlation matrices, larger is nearer to none.
        rate: prior median of the Poisson rates.
        guide: family of the automatic guide over the global latents.
    """

    def __init__(
        self,
        states: int = 2,
        features: int = 1,
        emission: Literal["gaussian", "poisson", "categorical"] = "gaussian",
        covariance: Literal["diag", "full"] = "diag",
        categories: int = 4,
        start: Literal["free", "stationary"] = "free",
        steps: int = 20,
        concentration: float = 1.0,
        persistence: float = 1.0,
        loc_scale: float = 10.0,
        scale: float = 0.1,
        correlation: float = 1.0,
        rate: float = 10.0,
        guide: guides.Family = "normal",
    ) -> None:
        super().__init__(guide)
        if emission != "gaussian" and (features > 1 or covariance == "full"):
            raise ValueError(f"hmm: 'features' and 'covariance' go with emission='gaussian', not '{emission}'")
        self.states, self.features, self.categories, self.steps = states, features, categories, steps
        self.emission, self.start = emission, start
        self.correlated = covariance == "full" and features > 1
        self.register_buffer("alpha", torch.tensor(concentration))
        self.register_buffer("moves", concentration + persistence * torch.eye(states))
        self.register_buffer("loc_scale", torch.tensor(loc_scale))
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("eta", torch.tensor(correlation))
        self.register_buffer("log_rate", torch.tensor(rate).log())
        self.dims = {  # type: ignore[misc]
            "initial": ("state",),
            "transition": ("state", "next_state"),
            "locs": ("state", "feature"),
            "scales": ("state", "feature"),
            "correlations": ("state", "feature", "feature_given"),
            "rates": ("state",),
            "probs": ("state", "category"),
            "x": ("step", "feature") if emission == "gaussian" else ("step",),
        }

    def prior(self) -> dict[str, dist.TorchDistribution]:
        """The prior of each global latent, by site."""
        K, D = self.states, self.features
        priors = {"initial": dist.Dirichlet(self.alpha.expand(K))} if self.start == "free" else {}
        priors["transition"] = dist.Dirichlet(self.moves).to_event(1)
        if self.emission == "poisson":
            priors["rates"] = dist.LogNormal(self.log_rate, 2).expand((K,)).to_event(1)
        elif self.emission == "categorical":
            priors["probs"] = dist.Dirichlet(self.alpha.expand(K, self.categories)).to_event(1)
        else:
            priors["locs"] = dist.Cauchy(0 * self.loc_scale, self.loc_scale).expand((K, D)).to_event(2)
            priors["scales"] = dist.InverseGamma(torch.ones_like(self.scale), self.scale).expand((K, D)).to_event(2)
        if self.correlated:
            priors["correlations"] = dist.LKJCholesky(D, self.eta).expand((K,)).to_event(1)
        return priors

    def model(self, batch: Batch) -> Tensor:
        """Sample the joint density; returns x, (B, T, D) or (B, T)."""
        values = {name: pyro.sample(name, fn) for name, fn in self.prior().items()}
        with batch.plate():
            x: Tensor = pyro.sample("x", self.chain(values, self._length(batch), batch.lengths), obs=batch.x)
            return x

    def chain(self, values: dict[str, Tensor], steps: int, lengths: Tensor | None) -> HiddenMarkovChain:
        """The density of one sequence given the global latents."""
        if "rates" in values:
            emission = dist.Poisson(values["rates"])
        elif "probs" in values:
            emission = dist.Categorical(values["probs"])
        elif "correlations" in values:
            eye = torch.eye(self.features, dtype=values["scales"].dtype, device=values["scales"].device)
            tril = values["scales"].unsqueeze(-1) * (values["correlations"] + FLOOR * eye)
            emission = dist.MultivariateNormal(values["locs"], scale_tril=tril)
        else:
            emission = dist.Normal(values["locs"], values["scales"]).to_event(1)
        transition = values["transition"]
        initial = values["initial"] if self.start == "free" else stationary(transition)
        return HiddenMarkovChain(_log(initial), _log(transition), emission, steps, lengths)

    def _length(self, batch: Batch) -> int:
        if batch.x is not None:
            return batch.x.shape[1]
        return self.steps if batch.lengths is None else int(batch.lengths.max())

    def inputs(self, n: int) -> Batch:
        """Lengths: all steps of every sequence."""
        return Batch(n, n, lengths=torch.full((n,), self.steps, device=self.device))

    @torch.no_grad()
    def initial(self, batch: Batch, starts: int = 10, iterations: int = 50) -> dict[str, Tensor]:
        """The best, by log joint density, of several Baum-Welch runs from k-means; states in order of their means."""
        if batch.x is None:
            raise ValueError("hmm: starting values need the observations, got a batch without 'x'")
        x, K = batch.x.double(), self.states
        limit = max(1000, 5_000_000 // (starts * K**3))  # steps; bounds the memory
        x = x[torch.randperm(len(x), device=x.device)[: max(1, limit // x.shape[1])], :limit]
        T = x.shape[1]
        lengths = torch.full((len(x),), T, device=x.device) if batch.lengths is None else batch.lengths.clamp(max=T)
        over = torch.arange(T, device=x.device) >= lengths.unsqueeze(-1)  # (B, T)
        seen = ~x.isnan() & ~(over if x.ndim == 2 else over.unsqueeze(-1))
        points = self._points(x, seen)  # (B, T, P)
        some = seen if x.ndim == 2 else seen.any(-1)
        states = x.new_zeros(starts, len(x), T, K)
        states[:, some] = em.kmeans(points[some], K, starts)
        pairs = states[:, :, :-1, :, None] * states[:, :, 1:, None, :]
        for _ in range(iterations):
            values = self._m_step(x, seen, states, pairs)
            chain = self.chain(values, T, lengths)
            states, pairs = chain.expectations(x)
            pairs = pairs * ~over[:, 1:, None, None]
        log_prior = [fn.log_prob(values[name]).squeeze(-1) for name, fn in self.prior().items()]
        score = chain.log_prob(x).sum(-1) + sum(log_prior)
        best = {name: value[score.argmax(), 0] for name, value in values.items()}
        order = self._means(best).argsort()
        best = {name: value[order] for name, value in best.items()}
        best["transition"] = best["transition"][:, order]
        return {name: best[name].to(batch.x.dtype) for name in self.prior()}

    def _points(self, x: Tensor, seen: Tensor) -> Tensor:
        """What k-means looks at, (B, T, P), features in equal units and missing ones at their mean."""
        if self.emission == "categorical":  # which categories are common around each step
            codes = torch.where(seen, x, 0).long()
            marks = F.one_hot(codes, self.categories).to(x.dtype) * seen.unsqueeze(-1)
            return F.avg_pool1d(marks.mT, 9, stride=1, padding=4).mT
        x = x if x.ndim == 3 else x.unsqueeze(-1).sqrt()
        flat = torch.where(seen if seen.ndim == 3 else seen.unsqueeze(-1), x, torch.nan).flatten(0, 1)
        centred = x - flat.nanmean(0).nan_to_num()
        sd = (flat - flat.nanmean(0)).square().nanmean(0).sqrt()
        return torch.where(flat.view_as(x).isnan(), 0, centred / torch.where(sd > 0, sd, 1))

    def _m_step(self, x: Tensor, seen: Tensor, states: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """Global latents, each (R, 1, ...), given states (R, B, T, K) and pairs of states (R, B, T - 1, K, K)."""
        values = {
            "initial": F.normalize(states[:, :, 0].sum(1) + self.alpha, 1, -1),
            "transition": F.normalize(pairs.sum((1, 2)) + self.moves, 1, -1),
        }
        weights, seen = states.flatten(1, 2), seen.flatten(0, 1)  # (R, n, K), (n) or (n, D)
        x = torch.where(seen, x.flatten(0, 1), 0)
        if self.emission == "gaussian":
            middle = x.sum(0) / seen.sum(0).clamp(min=1)  # squares of centred values do not cancel
            x = torch.where(seen, x - middle, 0)
            if self.correlated:
                weights = weights * seen.all(-1, keepdim=True)
                count, locs, scatter = em.moments(x, weights)
                squares = scatter.diagonal(dim1=-2, dim2=-1)
                values["correlations"] = em.correlation_tril(count, scatter, float(self.features))
                count = count.unsqueeze(-1)
            else:
                count = weights.mT @ seen.to(x.dtype)  # (R, K, D)
                locs = weights.mT @ x / count.clamp(min=1e-9)
                squares = (weights.mT @ x.square() - count * locs.square()).clamp(min=0)
            values["locs"] = locs + middle
            values["scales"] = em.scale_mode(count, squares, self.scale.double())
        elif self.emission == "poisson":
            values["rates"] = (weights.mT @ x + 0.1) / (weights.mT @ seen.to(x.dtype) + 0.1)
        else:
            marks = F.one_hot(x.long(), self.categories).to(x.dtype) * seen.unsqueeze(-1)
            values["probs"] = F.normalize(weights.mT @ marks + self.alpha, 1, -1)
        return {name: value.unsqueeze(1) for name, value in values.items()}

    def _means(self, values: dict[str, Tensor]) -> Tensor:
        """The mean of each state's (first) feature, (K,): the order in which states are numbered."""
        if "locs" in values:
            return values["locs"][..., 0]
        if "rates" in values:
            return values["rates"]
        codes = torch.arange(values["probs"].shape[-1], device=values["probs"].device)
        return (values["probs"] * codes).sum(-1)


def stationary(transition: Tensor) -> Tensor:
    """The distribution pi with pi = pi A, (..., K): solves pi (I - A + 1) = 1 (Zucchini et al. 2016, section 1.3.2)."""
    system = torch.eye(transition.shape[-1], dtype=transition.dtype, device=transition.device) - transition + 1
    probs: Tensor = torch.linalg.solve_ex(system.mT, torch.ones_like(transition[..., :1]))[0].squeeze(-1)
    return probs


def _log(probs: Tensor) -> Tensor:
    # a probability that has underflowed keeps a finite gradient
    return probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
