"""Recurrent generative model: text, piano rolls and real series, one step after the other.

For sequences n = 1..N and their steps t = 1..T_n, with a GRU or an LSTM of parameters theta,

    state       h_nt = RNN(h_{n,t-1}, x_{n,t-1}; theta),     x_n0 a start of its own
    x           x_nt given x_n1..x_{n,t-1} ~ F(W^T h_nt + b)

and F, by `emission`, is

    categorical   Categorical of softmax                                          text, notes: x_nt a code 0..C-1
    bernoulli     independent Bernoulli for each of D features                    piano rolls
    gaussian      independent Normal(m_d, s_d), both from h_nt                    real series
    mixture       sum_k w_k prod_d Normal(m_kd, s_kd), all from h_nt              Graves (2013), eq. 23

theta is learned. The output layer is learned too, `output="point"`; or it has a prior and a posterior, "bayesian":

    weight      W ~ Normal(0, 1 / sqrt(H))       bias      b ~ Normal(0, 1)

Real numbers go in and out as (x_d - c_d) / u_d: mean c and deviation u of each feature are set by `fit`.

`weight` and `bias` are global latents; there are no local ones. The density of a sequence is exact, by the chain rule.

Limits: no latents but for a `bayesian` output layer: the density is exact, the other parameters are points.

Held against, in `test_recurrent.py`: probabilities of all sequences (their sum is off 1 by less than 1e-12); torch's
own cells in a plain loop (equal to 1e-12); an interpolated 5-gram on Python's help topics, held out, 1.905 bits a
character (here 1.893: `examples/benchmarks/text.py --steps 1300 --hidden 192`, 248 s; slow).

References: Graves (2013), "Generating sequences with recurrent neural networks"; Boulanger-Lewandowski, Bengio and
Vincent (2012), "Modeling temporal dependencies in high-dimensional sequences".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo import guides
from zoo.base import Batch, ModelGuide, register
from zoo.parts import layouts, likelihoods
from zoo.parts.nets import positive
from zoo.parts.recurrent.cells import Cell, Recurrence
from zoo.parts.recurrent.path import Path
from zoo.parts.sequence import inside, steps_of, whole
from zoo.parts.units import Units
from zoo.suiting import Suit, left_out

Emission = Literal["categorical", "bernoulli", "gaussian", "mixture"]


@register("recurrent")
class Recurrent(ModelGuide):
    """Recurrent generative model (Graves 2013).

    Its density stands at the top of this file. `x` is (N, T) with codes for categorical steps, else (N, T, D);
    `lengths`, (N,), says how many steps of each sequence count. What stands past the end, NaN or other, is ignored.

    Args:
        emission: distribution F of one step.
        categories: the number of categories C of a categorical emission; by default 8, or as the alphabet has.
        alphabet: the characters that codes 0, 1, ... stand for, where x is text (see `zoo.datasets.text.Alphabet`).
        features: the number of features D of a vector of each step; 1 for categorical emissions.
        components: the number of components K of a mixture.
        cell: `gru` or `lstm`.
        hidden: size of the hidden state H.
        layers: recurrent layers on top of each other.
        output: the output layer, learned (`point`) or with a posterior (`bayesian`).
        steps: the number of steps T of simulated sequences.
        guide: family of the automatic guide over the output layer.

    Raises:
        ValueError: numbers that do not go with the emission; an alphabet with a character twice.
    """

    adapts: ClassVar = ("emission", "categories")

    def __init__(
        self,
        emission: Emission = "categorical",
        categories: int | None = None,
        alphabet: str | None = None,
        features: int = 1,
        components: int | None = None,
        cell: Cell = "gru",
        hidden: int = 32,
        layers: int = 1,
        output: Literal["point", "bayesian"] = "point",
        steps: int = 6,
        guide: guides.Family = "normal",
    ) -> None:
        super().__init__(guide)
        discrete = emission == "categorical"
        if not discrete and (categories is not None or alphabet is not None):
            raise ValueError(f"recurrent: 'categories' and 'alphabet' go with emission='categorical', not '{emission}'")
        if discrete and features > 1:
            raise ValueError(f"recurrent: a categorical step has one feature, got features={features}")
        if emission != "mixture" and components is not None:
            raise ValueError(f"recurrent: 'components' goes with emission='mixture', not '{emission}'")
        if alphabet is not None:
            twice = [c for i, c in enumerate(alphabet) if c in alphabet[:i]]
            if twice:
                raise ValueError(f"recurrent: the alphabet has {twice[0]!r} twice")
            if categories not in (None, len(alphabet)):
                raise ValueError(f"recurrent: categories={categories}, but the alphabet has {len(alphabet)} characters")
        self.emission, self.features, self.steps, self.alphabet = emission, features, steps, alphabet
        self.categories = (categories or (len(alphabet) if alphabet else 8)) if discrete else 0
        self.components = components or 5
        inputs = self.categories if discrete else features
        outputs = {
            "categorical": self.categories,
            "bernoulli": features,
            "gaussian": 2 * features,
            "mixture": self.components * (1 + 2 * features),
        }[emission]
        self.net = Recurrence(cell, inputs + 1, hidden, layers)  # one more input says that this is the start
        self.real = emission in ("gaussian", "mixture")
        if self.real:
            self.units = Units(features)
        self.bayesian = output == "bayesian"
        if not self.bayesian:
            self.head = nn.Linear(hidden, outputs)
            nn.init.normal_(self.head.weight, std=0.5 / math.sqrt(hidden))
            nn.init.zeros_(self.head.bias)
        self.register_buffer("weight_scale", torch.full((hidden, outputs), 1 / math.sqrt(hidden)))
        self.register_buffer("bias_scale", torch.ones(outputs))
        self.dims = {  # type: ignore[misc]
            "weight": ("hidden", "output"),
            "bias": ("output",),
            "x": ("step",) if discrete else ("step", "feature"),
        }

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """The features of a step, and its emission; of an alphabet nothing is left to choose."""
        if not left_out(given, "alphabet"):
            return Suit()
        width = layouts.features(data)
        vector = width > 1 or given.get("features", 1) not in (None, 1)
        offers = {"binary": "bernoulli", "real": "gaussian"}
        offers |= {} if vector else {"count": "categorical", "byte": "categorical"}
        found = likelihoods.suited(data.x, given, offers, "emission", likelihoods.CATEGORIES)
        codes = found.arguments.get("emission", given.get("emission")) == "categorical"
        return found | Suit({} if codes or not left_out(given, "features") else {"features": width})

    def model(self, batch: Batch) -> Tensor:
        """Sample the sequences; returns x, (B, T) or (B, T, D)."""
        if self.bayesian:
            weight = pyro.sample("weight", dist.Normal(0, self.weight_scale).to_event(2))  # (*, H, O)
            bias = pyro.sample("bias", dist.Normal(0, self.bias_scale).to_event(1))  # (*, O)
        else:
            weight, bias = self.head.weight.mT, self.head.bias
        with batch.plate():
            path = Path(self, self.net, weight, bias, steps_of(batch, self.steps), batch.lengths)
            return pyro.sample("x", path, obs=batch.x)

    def inputs(self, n: int) -> Batch:
        """Lengths: all steps of every sequence."""
        return whole(self, n, self.steps)

    def measure(self, batch: Batch) -> None:
        """Centre and unit of real features."""
        if self.real and batch.x is not None:
            self.units.place(inside(batch.x, batch.lengths))

    def encode(self, x: Tensor) -> Tensor:
        """What the network is told of steps (*, T) or (*, T, D): (*, T, I), the last entry 0."""
        codes = torch.arange(self.categories, dtype=x.dtype, device=x.device)
        told = (x.unsqueeze(-1) == codes).to(x.dtype) if self.categories else self.units(x) if self.real else x
        return functional.pad(told, (0, 1))

    def decode(self, h: Tensor) -> Any:
        """The distribution of one step given outputs (*, O)."""
        if self.emission == "categorical":
            return dist.Categorical(logits=h)
        if self.emission == "bernoulli":
            return dist.Bernoulli(logits=h).to_event(1)
        if self.emission == "gaussian":
            return self._normal(h)
        logits, h = h[..., : self.components], h[..., self.components :].unflatten(-1, (self.components, -1))
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), self._normal(h))  # (*, K), (D)

    def _normal(self, h: Tensor) -> Any:
        loc, scale = h[..., : self.features], positive(h[..., self.features :])
        return dist.Normal(self.units.inverse(loc), self.units.unit * scale).to_event(1)
