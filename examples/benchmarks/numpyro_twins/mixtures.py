"""What belongs where is not known, in NumPyro: sums over classes, topics and parts are written out."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions.transforms import OrderedTransform


def dawid_skene(annotations):
    _, annotators = annotations.shape
    classes = 3
    with numpyro.plate("annotator", annotators, dim=-2), numpyro.plate("class", classes, dim=-1):
        beta = numpyro.sample("beta", dist.Dirichlet(jnp.ones(classes) + 3 * jnp.eye(classes)))
    pi = numpyro.sample("pi", dist.Dirichlet(jnp.ones(classes)))
    each = jnp.log(beta)[jnp.arange(annotators), :, annotations]  # (item, annotator, class)
    numpyro.factor("y", jax.nn.logsumexp(jnp.log(pi) + each.sum(1), axis=-1).sum())


def latent_dirichlet(data, vocabulary):
    _, docs = data.shape
    topics = 3
    with numpyro.plate("topics", topics):
        topic_weights = numpyro.sample("topic_weights", dist.Gamma(2.0, 2.0))
        topic_words = numpyro.sample("topic_words", dist.Dirichlet(0.5 + 4 * jnp.eye(topics, vocabulary)))
    with numpyro.plate("documents", docs):
        doc_topics = numpyro.sample("doc_topics", dist.Dirichlet(topic_weights))
    words = doc_topics @ topic_words  # (document, word)
    numpyro.factor("doc_words", jnp.log(words)[jnp.arange(docs), data].sum())


def gaussian_mixture(data):
    weights = numpyro.sample("weights", dist.Dirichlet(2 * jnp.ones(2)))
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
    spread = dist.Normal(jnp.array([0.0, 1.0]), jnp.array([5.0, 1.0])).to_event(1)
    locs = numpyro.sample("locs", dist.TransformedDistribution(spread, OrderedTransform()))
    with numpyro.plate("data", len(data)):
        mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, scale))
        numpyro.sample("obs", mixture, obs=data)
