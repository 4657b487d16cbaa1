"""Columns given others, in whole numbers, beside SciPy's normals and tables multiplied out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import inference
import zoo
from inference.compression.container import Container
from inference.compression.errors import CompressionError
from inference.compression.network import _FINE, POINT, STEEP, Network, _below, _nodes
from tests.inference.compression.test_container import again


def test_the_distribution_function_is_the_normal_one():
    nodes = np.arange(-512, 513) / 64
    np.testing.assert_allclose(_nodes() / 2.0**36, stats.norm.cdf(nodes), rtol=0, atol=2.0**-36)
    z = np.random.default_rng(0).uniform(-9, 9, 5000)
    found = _below(np.rint(z * 2.0 ** (POINT + STEEP)).astype(np.int64)) / 2.0**36
    np.testing.assert_allclose(found, stats.norm.cdf(z), atol=8e-6)  # (1 / 64)^2 / 8 of the greatest curvature
    assert (np.diff(_below(np.arange(-9 << _FINE, 9 << _FINE, 7) << POINT + STEEP - _FINE)) >= 0).all()


def mixture(covariance, **config):
    """A gmm whose draws are all one, rows of it to two decimals, and their bits by SciPy."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 2000)
    L = np.array([[1, 0, 0], [0.8, 0.6, 0], [-0.5, 0.5, 0.7]])
    x = np.round(rng.normal(size=(2000, 3)) @ L.T * np.where(z, 1, 2)[:, None] + z[:, None] * 5, 2)
    pair = zoo.create("gmm", features=3, covariance=covariance, guide="delta").double()
    data = zoo.Batch.of(x=torch.from_numpy(x))
    inference.fit(pair, data, steps=5, progress=False, compile="off")
    values = {name: value[0, 0] for name, value in inference.draw(pair, data, 1, stats=False).draws.items()}
    tril = pair.factors(values)
    tril = tril if covariance in ("full", "tied") else torch.diag_embed(tril)
    tril = tril.expand(2, 3, 3).numpy()
    dense = sum(
        w * stats.multivariate_normal(m, T @ T.T).pdf(x)
        for w, m, T in zip(values["weights"].numpy(), values["locs"].numpy(), tril, strict=True)
    )
    return pair, data, -np.log2(dense * 0.01**3).sum()


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_a_mixture_of_normals_takes_the_bits_of_its_density(covariance, tmp_path):
    pair, data, bits = mixture(covariance)
    made = inference.compress(pair, data, tmp_path / "a.zoo", with_model=True)
    assert made.coded == "model"
    assert 8 * made.rates.chunks == pytest.approx(bits, rel=0.01, abs=64)
    assert torch.equal(inference.decompress(tmp_path / "a.zoo").x, data.x)
    assert torch.equal(inference.decompress(tmp_path / "a.zoo", pair, rows=slice(5, 9)).x, data.x[5:9])


def garden(rows=1500):
    """The network of the example, its draws all one; rows of it to two decimals."""
    torch.manual_seed(3)
    pair = zoo.create("bayesian_network").double()
    x = pair.simulate(rows)[0].x.clone()
    x[:, 3:] = (x[:, 3:] * 100).round() / 100 + 0.0
    data = zoo.Batch.of(x=x)
    inference.fit(pair, data, steps=5, progress=False, compile="off")
    return pair, data


def test_a_network_takes_the_bits_of_its_conditionals(tmp_path):
    """At the conjugate posterior means: (n_uc + alpha) / (n_u + C alpha), counted here, and regressions by NumPy."""
    pair, data = garden()
    x = data.x.numpy()
    made = inference.compress(pair, data, tmp_path / "a.zoo", with_model=True)
    assert made.coded == "model"
    bits = 0.0
    for column, parents, size in ((0, [], 2), (1, [0], 2), (2, [0, 1], 3)):
        u = x[:, parents] @ np.array([2, 1])[: len(parents)] if parents else np.zeros(len(x))
        for config in np.unique(u):
            cells = x[u == config, column].astype(int)
            counts = np.bincount(cells, minlength=size) + 1.0
            bits -= np.log2(counts / counts.sum())[cells].sum()
    for column, switch, slopes in ((3, 0, []), (4, 2, [3])):
        for config in np.unique(x[:, switch]):
            some = x[x[:, switch] == config]
            design = np.column_stack([np.ones(len(some)), some[:, slopes]])
            w, *_ = np.linalg.lstsq(design, some[:, column], rcond=None)
            rest = some[:, column] - design @ w
            bits -= (stats.norm(0, rest.std()).logpdf(rest) / np.log(2) + np.log2(0.01)).sum()
    assert 8 * made.rates.chunks == pytest.approx(bits, rel=0.01, abs=64)
    assert torch.equal(inference.decompress(tmp_path / "a.zoo").x, data.x)


def test_holes_and_what_the_network_does_not_know_come_back(tmp_path):
    pair, data = garden(400)
    rng = np.random.default_rng(0)
    x = data.x.masked_fill(torch.from_numpy(rng.random((400, 5)) < 0.3), torch.nan)
    x[3], x[4, 0], x[5, 2], x[6, 3], x[7, 4] = torch.nan, 7.0, 1.5, 1e9, -1e-7
    made = inference.compress(pair, data.but(x=x), tmp_path / "a.zoo", with_model=True, chunk=64)
    assert made.coded == "model"
    assert inference.decompress(tmp_path / "a.zoo").x.numpy().tobytes() == x.numpy().tobytes()


def test_hostile_parts_run_nothing(tmp_path):
    pair, data = garden(100)
    inference.compress(pair, data, tmp_path / "a.zoo", with_model=True)
    container, rng = Container(tmp_path / "a.zoo"), np.random.default_rng(0)
    names, refused = sorted(container.arrays), 0
    for _ in range(150):
        arrays = dict(container.arrays)
        name = names[int(rng.integers(len(names)))]
        old = arrays[name]
        new = [old + 1, -old - 1, old[..., :0], old * 0 + 30000, old[None], np.concatenate([old, old], -1), old * 0]
        arrays[name] = np.ascontiguousarray(new[int(rng.integers(len(new)))]).astype(old.dtype)
        again(container, container.header, arrays, tmp_path / "w.zoo")
        try:
            found = inference.decompress(tmp_path / "w.zoo")
        except CompressionError:
            refused += 1
        else:
            assert torch.equal(found.x, data.x)  # the change was none that counts
    assert refused > 50
    with pytest.raises(CompressionError):
        Network(np.zeros(0, np.int16), [])


def test_data_without_a_category_that_parents_may_have_come_back(tmp_path):
    """A table has rows for what the data do not hold: it is read by the model's categories, not by theirs."""
    pair, data = garden(300)
    x = data.x[(data.x[:, 0] == 0) & (data.x[:, 2] < 2)]
    assert len(x) > 20
    for rows in (x, torch.cat([x[:5], 7 + x[:5]])):
        made = inference.compress(pair, rows, tmp_path / "a.zoo", with_model=True)
        assert made.coded == "model"
        assert torch.equal(inference.decompress(tmp_path / "a.zoo"), rows)
