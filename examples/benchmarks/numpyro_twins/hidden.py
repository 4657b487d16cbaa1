"""Hidden states in time, in NumPyro: forward recursions as scans."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import lax
from jax.nn import logsumexp
from numpyro.distributions.transforms import OrderedTransform


def forward(initial, transition, emission, seen=None):
    """log p of chains: logits (..., K) and (..., K, K) of states, log p (T, ..., K) of what is `seen` (T, ...)."""
    seen = jnp.ones(emission.shape[:-1], bool) if seen is None else seen

    def ahead(alpha, step):
        log_p, is_seen = step
        moved = logsumexp(alpha[..., :, None] + transition, axis=-2) + log_p
        return jnp.where(is_seen[..., None], moved, alpha), None

    alpha, _ = lax.scan(ahead, initial, (emission, seen))
    return logsumexp(alpha, axis=-1)


def capture_recapture(capture_history):
    animals, _ = capture_history.shape
    phi = numpyro.sample("phi", dist.Uniform(0.0, 1.0))
    rho = numpyro.sample("rho", dist.Uniform(0.0, 1.0))
    history = jnp.asarray(capture_history).T
    marked = jnp.cumsum(history, 0) - history > 0  # before this occasion
    tiny = jnp.finfo(history.dtype).tiny

    def ahead(alive_or_dead, step):
        seen, counts = step
        alive, dead = alive_or_dead
        moved = alive * phi * jnp.where(seen > 0, rho, 1 - rho), (dead + alive * (1 - phi)) * (seen == 0)
        return tuple(jnp.where(counts, new, old) for new, old in zip(moved, alive_or_dead, strict=True)), None

    (alive, dead), _ = lax.scan(ahead, (jnp.ones(animals), jnp.zeros(animals)), (history, marked))
    numpyro.factor("seen", jnp.log(alive + dead + tiny).sum())


def mixed_hidden_markov(steps, angles, seen):
    individuals, groups, _ = steps.shape
    states = 2
    base = dist.Normal(jnp.array([-1.0, 0.5]), 0.5).to_event(1)
    mean_step = jnp.exp(numpyro.sample("log_step", dist.TransformedDistribution(base, OrderedTransform())))
    with numpyro.plate("states", states):
        straight = numpyro.sample("straight", dist.LogNormal(0.0, 1.0))
    with numpyro.plate("group", groups, dim=-1):
        eps_g = numpyro.sample("eps_g", dist.Normal(0, 1.0).expand([states**2]).to_event(1))
        with numpyro.plate("individual", individuals, dim=-2):
            eps_i = numpyro.sample("eps_i", dist.Normal(0, 0.5).expand([states**2]).to_event(1))
    gamma = (eps_g + eps_i).reshape(individuals, groups, states, states) + 2 * jnp.eye(states)
    log_p = dist.Gamma(2.0, 2.0 / mean_step).log_prob(jnp.asarray(steps)[..., None])
    log_p = log_p + dist.VonMises(0.0, straight).log_prob(jnp.asarray(angles)[..., None])
    first = jnp.where(jnp.arange(states) == 0, 0.0, -jnp.inf) * jnp.ones((individuals, groups, 1))
    in_time = jnp.moveaxis(log_p, 2, 0), jnp.moveaxis(jnp.asarray(seen), 2, 0)
    numpyro.factor("seen", forward(first, jax.nn.log_softmax(gamma, -1), *in_time).sum())


def hidden_markov(sequences):
    states = 3
    initial = numpyro.sample("initial", dist.Dirichlet(jnp.ones(states)))
    rows = jnp.ones((states, states)) + 2 * jnp.eye(states)
    transition = numpyro.sample("transition", dist.Dirichlet(rows).to_event(1))
    base = dist.Normal(jnp.array([-2.0, 0.5, 0.5]), 1.0).to_event(1)
    locs = numpyro.sample("locs", dist.TransformedDistribution(base, OrderedTransform()))
    scale = numpyro.sample("scale", dist.LogNormal(-0.5, 0.5))
    emission = dist.Normal(locs, scale).log_prob(jnp.asarray(sequences).T[..., None])
    first = jnp.broadcast_to(jnp.log(initial), (len(sequences), states))
    numpyro.factor("x", forward(first, jnp.log(transition), emission).sum())


def changepoint(disasters):
    years = len(disasters)
    early = numpyro.sample("early", dist.Exponential(0.5))
    late = numpyro.sample("late", dist.Exponential(0.5))
    rate = jnp.where(jnp.arange(years) < jnp.arange(years)[:, None], early, late)  # (switch, year)
    whole = dist.Poisson(rate).log_prob(disasters).sum(-1)
    numpyro.factor("disasters", logsumexp(whole) - jnp.log(years))
