"""Fits that are broken off, for tests of checkpoints."""

from __future__ import annotations

import pytest
import torch

import inference
import zoo
from inference.running.checkpoints import Checkpoints

QUIET = {"progress": False, "compile": "off"}


class Broken(Exception):
    """Ends a fit where a test wants it to."""


def data():
    return zoo.datasets.load("faithful")


def mixture(seed=0):
    torch.manual_seed(seed)
    return zoo.create("gmm", features=2, components=2)


def vae(seed=0):
    torch.manual_seed(seed)
    return zoo.create("gaussian_vae", features=6, latent=2, hidden=[8])


def tree(seed=0):
    torch.manual_seed(seed)
    return zoo.create("decision_tree", features=2, depth=1)


def table():
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    return zoo.Batch.of(x=x, y=(x[:, 0] > 0.5).float() + 0.1 * x[:, 1])


def rows():
    return torch.rand(90, 6, generator=torch.Generator().manual_seed(0)).round()


def broken_off(make, given, folder, at, *, every=5, **options):
    """A fit that ends with an error after so many steps."""

    def callback(step, *_):
        if step + 1 == at:
            raise Broken

    with pytest.raises(Broken):
        inference.fit(
            make(), given, callbacks=[callback], checkpoint=Checkpoints(folder, steps=every), **QUIET | options
        )


def same(one, other):
    """Whether two pairs hold the same bits."""
    tensors = one.state_dict(), other.state_dict()
    return tensors[0].keys() == tensors[1].keys() and all(torch.equal(v, tensors[1][n]) for n, v in tensors[0].items())


def told(fit):
    return {
        **{n: v for n, v in vars(fit).items() if n not in ("losses", "seconds", "trace_seconds", "resumed")},
        "losses": fit.losses.tobytes(),
    }


def steps_of(folder):
    return sorted(int(path.stem.split("-")[-1]) for path in folder.glob("*.json"))
