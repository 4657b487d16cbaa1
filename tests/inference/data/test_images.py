"""Images at the door: whatever they come as, the pair sees the same rows, and gives images back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import inference
import zoo
from inference.data.check import as_batch
from zoo.base import Batch
from zoo.notes import DataWarning

DIGITS = load_digits().images[:40]  # (40, 8, 8), whole numbers from 0 to 16
FEW = {"latent": 2, "hidden": (3,)}


def counts(**config):
    return zoo.create("gaussian_vae", likelihood="binomial", trials=16, **FEW, **config).double()


@pytest.mark.parametrize("image", [(8, 8), (1, 8, 8)])
def test_every_kind_of_images_gives_the_same_rows(image):
    pair = counts(image=image)
    assert pair.config["features"] == 64
    rows = torch.from_numpy(DIGITS.reshape(40, 64))
    stacked = torch.from_numpy(DIGITS)
    same = [DIGITS, DIGITS.astype(np.uint8), DIGITS[:, None], stacked, list(DIGITS), list(stacked), rows]
    for images in (*same, *map(Batch.of, same), TensorDataset(stacked)):
        assert torch.equal(as_batch(pair, images).x, rows)


def test_channels_stay_apart_and_images_come_back():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    pair = zoo.create("gaussian_vae", image=(3, 4, 6), net="conv", likelihood="beta_binomial", **FEW)
    assert torch.equal(as_batch(pair, images).x, torch.from_numpy(images.reshape(5, 72)).float())
    assert inference.generate(pair, 2)["x"].shape == (2, 3, 4, 6)
    again = inference.reconstruct(pair, images)
    assert again.shape == images.shape
    codes = inference.encode(pair, images).mean["z"]
    torch.testing.assert_close(inference.decode(pair, codes)["x"], again)
    flat = inference.reconstruct(pair, images.reshape(5, 72))  # of rows too
    assert torch.equal(flat, again)


def test_the_shape_is_saved(tmp_path):
    pair = counts(image=(8, 8), net="conv")
    pair.save(tmp_path / "pair")
    again = zoo.load(tmp_path / "pair")
    assert again.image == (8, 8)
    assert torch.equal(inference.reconstruct(again, DIGITS), inference.reconstruct(pair, DIGITS))


@pytest.mark.parametrize(
    "name",
    ["bayesian_vae", "gaussian_autoencoder", "linear_autoencoder", "neural_autoencoder", "masked_autoregressive"],
)
def test_each_pair_of_images_takes_them(name):
    likelihood = {"likelihood": "gaussian"} if name in ("bayesian_vae", "masked_autoregressive") else {}
    pair = zoo.create(name, image=(2, 3), **likelihood)
    assert as_batch(pair, DIGITS[:, 2:4, 3:6]).x.shape == (40, 6)
    assert inference.generate(pair, 3)["x"].shape == (3, 2, 3)


def test_shares_and_bytes_are_taken_for_counts_and_said():
    with pytest.warns(DataWarning, match="shares from 0 to 1 were taken for counts, times 16"):
        found = as_batch(counts(image=(8, 8)), DIGITS / 16)
    assert torch.equal(found.x, torch.from_numpy(DIGITS.reshape(40, 64)))
    black = 255 * (DIGITS > 7).astype(np.uint8)
    with pytest.warns(DataWarning, match="bytes of 0 and 255"):
        found = as_batch(zoo.create("gaussian_vae", image=(8, 8), **FEW), black)
    assert torch.equal(found.x, torch.from_numpy(black.reshape(40, 64) / 255).float())


def spoiled():
    images = DIGITS.copy()
    images[7, 3, 5] = 0.3
    return images


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([*DIGITS[:3], np.zeros((8, 9))], "row 3 is 8 x 9, and row 0 is 8 x 8; images are of one size"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 9, 8)], "row 1 is 3 x 9 x 8, and row 0 is 3 x 8 x 8"),
        (DIGITS[:, :7], r"expected images of shape \(N, 8, 8\), got \(40, 7, 8\)"),
        (DIGITS[..., None], r"channels come first: numpy.moveaxis\(x, -1, 1\)"),
        (DIGITS[0], r"a single image is given as one of many: x\[None\]"),
        (spoiled(), r"row 7, column 'pixel\[3, 5\]': expected a whole number from 0 to 16, got 0.3"),
    ],
)
def test_wrong_images_are_refused_by_name(images, words):
    pair = counts(image=(8, 8))
    with pytest.raises(ValueError, match=words):
        as_batch(pair, images)
    with pytest.raises(ValueError, match=words):
        inference.fit(pair, Batch.of(images))


def test_images_for_a_pair_that_was_made_for_rows():
    with pytest.raises(ValueError, match=r"make the pair with image=\(8, 8\), or give rows"):
        inference.fit(counts(features=64), DIGITS)
    with pytest.raises(ValueError, match=r"of images: give rows, x.reshape"):
        inference.fit(zoo.create("gmm", features=64), DIGITS)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"image": (8,)}, r"argument 'image': expected \(H, W\) or \(C, H, W\), got \(8,\)"),
        ({"image": (8, 0)}, "expected at least 1, got 0"),
        ({"image": (8, 8), "features": 60}, r"features=60, and image=\(8, 8\) has 64"),
    ],
)
def test_wrong_shapes_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        zoo.create("gaussian_vae", **config)
