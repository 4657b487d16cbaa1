"""Bayesian hidden Markov model.

For states k = 1..K, features d = 1..D, sequences n = 1..N and their steps t = 1..T_n,

    initial            pi ~ Dirichlet(alpha, ..., alpha)          or the stationary distribution of A, pi = pi A
    transition     A(k,.) ~ Dirichlet(alpha + persistence at k, alpha elsewhere)
                            or, by `transitions`, tied or left to right: see `zoo.parts.chains.transitions`
    state      z_n1 ~ pi,   z_nt given z_n,t-1 = k ~ A(k,.)       summed out, all K^T paths
    x          x_nt given z_nt = k ~ F_k,                         a NaN adds no factor

and F_k, by `emission`, is

    gaussian     Normal(m_k, S_k S_k^T),  S_k = diag(s_k) if the covariance is diag, diag(s_k) (C_k + I / 1000) if full
                 m_kd ~ Cauchy(c_d, 10 u_d)       or  Cauchy(0, loc_scale)
                 s_kd ~ InverseGamma(1, u_d / 10) or  InverseGamma(1, scale)         C_k ~ LKJCholesky(eta)
    poisson      Poisson(r_k),      r_k ~ LogNormal(log rate, 2)
    categorical  Categorical(p_k),  p_k ~ Dirichlet(alpha, ..., alpha)

All latents are global: `initial`; `transition`, `stay` and `destination`, or `sticks`; and `locs` m, `scales` s,
`correlations` C, `rates` r or `probs` p. Median c_d and spread u_d of a feature (by its quartiles) are set by `fit`, so
the prior knows no units; a constant that is given instead is in those of the data. Before a fit c_d = 0 and u_d = 1.
Likelihood times prior is bounded; `scale` should lie below the deviations of the data.

Limits: MCMC does not get over between far modes: where labels of states may switch it stops warming up once chains are
seen to stay apart, and says so.

Held against, in `test_hmm.py`: all K^T paths, with lengths and missing steps (equal to 1e-9); hmmlearn (1e-8), and EM
from its start (not below it by more than 1e-6); published maxima of -log L on earthquakes (Zucchini et al. 2016) with
1, 2 and 3 states: 391.9189, 342.3183, 329.4603 (here the same); the float64 gradient over 10,000 steps, in float32
(5e-5 relative or better); posteriordb's `hmm_example`: ELBO -173.435 of a log evidence of -173.41, means within
0.25 sd, k̂ below 2/3 (slow).

References: Rabiner (1989), "A tutorial on hidden Markov models"; Zucchini, MacDonald & Langrock (2016), "Hidden Markov
models for time series"; Scott (2002), "Bayesian methods for hidden Markov models".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from zoo import guides
from zoo.base import Batch, ModelGuide, register
from zoo.config import AtLeast, Positive
from zoo.parts import layouts, likelihoods
from zoo.parts.chains import baum_welch, transitions
from zoo.parts.chains.chain import HiddenMarkovChain
from zoo.parts.conjugate.inverse_gamma import InverseGamma
from zoo.parts.constants import constants
from zoo.parts.sequence import inside, steps_of, whole
from zoo.parts.tables import masses
from zoo.parts.units import measured, spread, usual
from zoo.suiting import Suit, left_out

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
        start: `free` (its own Dirichlet prior) or `stationary`; from left to right it is state 1.
        transitions: `free`; `tied`: one probability p of keeping the state, whichever it is, and one distribution q of
            the next state when it is not kept (q may draw the same one); `left_right` (Bakis): to later states only.
        steps: the number of steps T of simulated sequences.
        concentration: alpha, of the Dirichlet priors.
        persistence: what the prior adds to alpha for staying in a state.
        loc_scale: scale of the Cauchy prior of the locs, around zero; by default 10 units of the data around their
            median.
        scale: rate of the inverse-gamma prior of the scales, the smallest deviations to expect; by default a tenth of
            a unit.
        correlation: eta of the LKJ prior; 1 is uniform over correlation matrices, larger is nearer to none.
        rate: prior median of the Poisson rates.
        guide: family of the automatic guide over the global latents.
    """

    adapts: ClassVar = ("emission", "categories")
    alpha: Tensor
    moves: Tensor
    loc: Tensor
    scale: Tensor
    loc_scale: Tensor
    log_rate: Tensor

    def __init__(
        self,
        states: int = 2,
        features: int = 1,
        emission: Literal["gaussian", "poisson", "categorical"] = "gaussian",
        covariance: Literal["diag", "full"] = "diag",
        categories: int = 4,
        start: Literal["free", "stationary"] = "free",
        transitions: transitions.Transitions = "free",
        steps: int = 20,
        concentration: Positive = 1.0,
        persistence: Annotated[float, AtLeast(0)] = 1.0,
        loc_scale: Positive | None = None,
        scale: Positive | None = None,
        correlation: Positive = 1.0,
        rate: Positive = 10.0,
        guide: guides.Family = "normal",
    ) -> None:
        super().__init__(guide)
        if emission != "gaussian" and (features > 1 or covariance == "full"):
            raise ValueError(f"hmm: 'features' and 'covariance' go with emission='gaussian', not '{emission}'")
        if transitions == "left_right" and (states < 2 or start == "stationary"):
            raise ValueError(
                "hmm: transitions='left_right' starts in the first of at least 2 states, "
                f"got states={states}, start='{start}'"
            )
        self.states, self.features, self.categories, self.steps = states, features, categories, steps
        self.emission, self.start, self.transitions = emission, start, transitions
        self.correlated = covariance == "full" and features > 1
        constants(self, alpha=concentration, eta=correlation)
        self.register_buffer("loc", torch.zeros(features), persistent=loc_scale is None)
        usual(self, (features,), loc_scale=(loc_scale, 10.0), scale=(scale, 0.1))
        self.register_buffer("moves", concentration + persistence * torch.eye(states))
        self.register_buffer("log_rate", torch.tensor(rate).log())
        self.dims = {  # type: ignore[misc]
            "initial": ("state",),
            "transition": ("state", "next_state"),
            "destination": ("next_state",),
            "sticks": ("stick",),
            "locs": ("state", "feature"),
            "scales": ("state", "feature"),
            "correlations": ("state", "feature", "feature_given"),
            "rates": ("state",),
            "probs": ("state", "category"),
            "x": ("step", "feature") if emission == "gaussian" else ("step",),
        }

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """The features of a step, and the emission of one that is a single number: 0 or 1, a count, or real."""
        width = layouts.features(data)
        offers = {"binary": "categorical", "count": "poisson", "real": "gaussian"}
        vector = width > 1 or given.get("features", 1) not in (None, 1) or given.get("covariance") == "full"
        offers = {"real": "gaussian"} if vector else offers
        found = likelihoods.suited(data.x, given, offers, "emission", likelihoods.CATEGORIES)
        real = found.arguments.get("emission", given.get("emission")) == "gaussian"
        return found | Suit({"features": width} if real and left_out(given, "features") else {})

    def prior(self) -> dict[str, dist.TorchDistribution]:
        """The prior of each global latent, by site."""
        K, D = self.states, self.features
        free_start = self.start == "free" and self.transitions != "left_right"
        priors = {"initial": dist.Dirichlet(self.alpha.expand(K))} if free_start else {}
        priors |= transitions.prior(self.transitions, self.moves, self.alpha)
        if self.emission == "poisson":
            priors["rates"] = dist.LogNormal(self.log_rate, 2).expand((K,)).to_event(1)
        elif self.emission == "categorical":
            priors["probs"] = dist.Dirichlet(self.alpha.expand(K, self.categories)).to_event(1)
        else:
            priors["locs"] = dist.Cauchy(self.loc, self.loc_scale).expand((K, D)).to_event(2)
            priors["scales"] = InverseGamma(torch.ones_like(self.scale), self.scale).expand((K, D)).to_event(2)
        if self.correlated:
            priors["correlations"] = dist.LKJCholesky(D, self.eta).expand((K,)).to_event(1)
        return priors

    def model(self, batch: Batch) -> Tensor:
        """Sample the joint density; returns x, (B, T, D) or (B, T)."""
        values = {name: pyro.sample(name, fn) for name, fn in self.prior().items()}
        with batch.plate():
            x: Tensor = pyro.sample("x", self.chain(values, steps_of(batch, self.steps), batch.lengths), obs=batch.x)
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
        moves = transitions.log_matrix(values, self.states)
        return HiddenMarkovChain(transitions.log_start(values, moves), moves, emission, steps, lengths)

    def transition(self, values: dict[str, Tensor]) -> Tensor:
        """The transition matrix, (..., K, K), that global latents make."""
        return transitions.log_matrix(values, self.states).exp()

    def state_tables(
        self, values: Mapping[str, Tensor], cuts: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]] | None:
        """Probabilities of the first state (S, K), of the next (S, K, K), and of each feature (S, K, C)."""
        if self.correlated:
            return None
        known = dict(values)
        moves = transitions.log_matrix(known, self.states)
        if "rates" in known:
            found = [masses.poisson(cuts[0], known["rates"])]
        elif "probs" in known:
            found = [masses.codes(cuts[0], known["probs"])]
        else:
            locs, scales = known["locs"], known["scales"]
            found = [masses.normal(cut, locs[..., d], scales[..., d]) for d, cut in enumerate(cuts)]
        return transitions.log_start(known, moves).exp(), moves.exp(), found

    def inputs(self, n: int) -> Batch:
        """Lengths: all steps of every sequence."""
        return whole(self, n, self.steps)

    def measure(self, batch: Batch) -> None:
        """Where the priors of a Gaussian emission stand: median and spread of each feature."""
        if batch.x is not None and self.emission == "gaussian":
            centre, unit = spread(inside(batch.x, batch.lengths))
            measured(self, loc_scale=10 * unit, scale=0.1 * unit)
            if "loc_scale" in self.from_data:
                self.loc.copy_(centre)

    def initial(self, batch: Batch, starts: int = 10, iterations: int = 50) -> dict[str, Tensor]:
        """What `maximise` finds, from all steps, or from as many at random as take some seconds."""
        if batch.x is not None:
            limit = max(1000, 5_000_000 // (starts * self.states**3))  # steps
            batch = batch.select(torch.randperm(batch.size, device=batch.x.device)[: max(1, limit // batch.x.shape[1])])
            cut = None if batch.lengths is None else batch.lengths.clamp(max=limit)
            batch = batch.but(x=batch.x[:, :limit], lengths=cut)  # type: ignore[index]
        return self.maximise(batch, starts, iterations, 1e-4)[0]

    @torch.no_grad()
    def maximise(
        self,
        batch: Batch,
        starts: int = 10,
        iterations: int = 200,
        tolerance: float = 1e-5,
        start: dict[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], list[float]]:
        """Global latents near the mode of the log joint density, of logits and logs, by Baum-Welch; see `baum_welch`.

        Args:
            batch: the sequences; all of them are used.
            starts: R, by k-means on single steps, and as many on what is near, or random cuts; `iterations` each.
            tolerance: a run ends once its log joint density per sequence rises by less.
            start: values by site to start from instead.

        Returns:
            values by site, of the run with the highest log joint density, states in order of their means, or of time;
            and the course of that, per sequence.

        Raises:
            ValueError: no sequences, of another width, infinite or all missing; wrong lengths; no starts or iterations.
        """
        if min(starts, iterations) < 1:
            raise ValueError(f"hmm: starts and iterations must be positive, got {starts} and {iterations}")
        return baum_welch.maximise(self, batch, starts, iterations, tolerance, start)
