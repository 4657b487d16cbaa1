"""What belongs where is not known: annotators of unknown skill, topics of documents, parts of a mixture."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import OrderedTransform
from pyro.infer import config_enumerate
from pyro.ops.indexing import Vindex

from pyro_programs.example import Example, listed


@config_enumerate
def dawid_skene(annotations):
    """True classes of items and the confusions of the annotators (Dawid & Skene 1979)."""
    items, annotators = annotations.shape
    classes = 3
    with pyro.plate("annotator", annotators, dim=-2), pyro.plate("class", classes, dim=-1):
        beta = pyro.sample("beta", dist.Dirichlet(torch.ones(classes) + 3 * torch.eye(classes)))
    pi = pyro.sample("pi", dist.Dirichlet(torch.ones(classes)))
    with pyro.plate("item", items, dim=-2):
        c = pyro.sample("c", dist.Categorical(pi))
        with pyro.plate("position", annotators, dim=-1):
            pyro.sample("y", dist.Categorical(Vindex(beta)[torch.arange(annotators), c, :]), obs=annotations)


def dawid_skene_data():
    """40 items of 3 classes and 4 annotators, simulated."""
    rng = np.random.default_rng(15)
    truth = rng.choice(3, 40, p=[0.5, 0.3, 0.2])
    right = rng.random((40, 4)) < np.array([0.9, 0.8, 0.7, 0.6])
    return (np.where(right, truth[:, None], rng.integers(0, 3, (40, 4))).astype(np.int64),)


def latent_dirichlet(data, vocabulary):
    """Topics of documents, each with a word of its own to begin with."""
    words_per_doc, docs = data.shape
    topics = 3
    anchors = torch.eye(topics, vocabulary)
    with pyro.plate("topics", topics):
        topic_weights = pyro.sample("topic_weights", dist.Gamma(2.0, 2.0))
        topic_words = pyro.sample("topic_words", dist.Dirichlet(0.5 + 4 * anchors))
    with pyro.plate("documents", docs):
        doc_topics = pyro.sample("doc_topics", dist.Dirichlet(topic_weights))
        with pyro.plate("words", words_per_doc):
            word_topics = pyro.sample(
                "word_topics", dist.Categorical(doc_topics), infer={"enumerate": "parallel"}
            )  # fmt: skip
            pyro.sample("doc_words", dist.Categorical(topic_words[word_topics]), obs=data)


def latent_dirichlet_data():
    """12 documents of 24 words each of a vocabulary of 9, simulated."""
    rng = np.random.default_rng(16)
    topics = rng.dirichlet(np.full(9, 0.3), 3)
    topics = 0.7 * topics + 0.3 * np.eye(3, 9)
    mixed = rng.dirichlet(np.full(3, 0.5), 12) @ topics
    return np.stack([rng.choice(9, 24, p=row / row.sum()) for row in mixed], 1).astype(np.int64), 9


@config_enumerate
def gaussian_mixture(data):
    """Two normals, the lower one first."""
    K = 2
    weights = pyro.sample("weights", dist.Dirichlet(2 * torch.ones(K)))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    spread = dist.Normal(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 1.0])).to_event(1)
    locs = pyro.sample("locs", dist.TransformedDistribution(spread, OrderedTransform()))
    with pyro.plate("data", len(data)):
        assignment = pyro.sample("assignment", dist.Categorical(weights))
        pyro.sample("obs", dist.Normal(locs[assignment], scale), obs=data)


def gaussian_mixture_data():
    """60 points of two parts, simulated."""
    rng = np.random.default_rng(17)
    return (np.where(rng.random(60) < 0.4, rng.normal(-1, 1, 60), rng.normal(3, 1, 60)),)


EXAMPLES = listed(
    Example(dawid_skene, dawid_skene_data, "tutorial: inference with discrete latent variables"),
    Example(latent_dirichlet, latent_dirichlet_data, "examples/lda.py"),
    Example(gaussian_mixture, gaussian_mixture_data, "tutorial: Gaussian mixture model"),
)
