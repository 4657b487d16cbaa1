"""Networks of the user's own in a pair: they do what the pair's do at the same weights, and are given again to load."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import inference
import zoo
from zoo.state import DamagedFile


class Maps(nn.Module):
    """Codes (B, 2) to maps (B, C n, 4, 6), as convolutions give them."""

    def __init__(self, maps=3):
        super().__init__()
        self.stem, self.up = nn.Linear(2, 5 * 2 * 3), nn.ConvTranspose2d(5, maps, 4, 2, 1)

    def forward(self, z):
        return self.up(torch.relu(self.stem(z)).unflatten(-1, (5, 2, 3)))


def convolutions(outputs):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 2 * 3, outputs))


def counts():
    own = {"decoder": Maps(), "encoder": convolutions(4)}
    return zoo.create("gaussian_vae", image=(3, 4, 6), likelihood="binomial", trials=7, **own)


def elbo(pair, batch):
    torch.manual_seed(0)
    return inference.anomaly(pair, batch, draws=3)["score"].to_numpy()


@pytest.mark.parametrize("name", ["gaussian_vae", "neural_autoencoder"])
def test_the_same_networks_give_the_same_bound(name):
    config = {"features": 6, "latent": 2, "hidden": (5,), "likelihood": "bernoulli"}
    torch.manual_seed(0)
    pair = zoo.create(name, **config)
    decoder = nn.Sequential(*list(pair.decoder)[:-1])  # (B, 6), without the last dimension
    own = zoo.create(name, **config, encoder=pair.encoder, decoder=decoder)
    data = torch.randint(2, (7, 6))
    assert (elbo(own, data) == elbo(pair, data)).all()
    assert own.encoder.module is not pair.encoder  # a copy
    before = copy.deepcopy(pair.encoder.state_dict())
    inference.fit(own, data, steps=3, progress=False, compile="off")
    assert all(torch.equal(value, before[key]) for key, value in pair.encoder.state_dict().items())
    assert not all(torch.equal(v, before[k]) for k, v in own.encoder.module.state_dict().items())


def test_images_go_in_and_maps_come_out_channel_by_channel():
    pair = counts()
    z = torch.randn(5, 2)
    with torch.no_grad():
        maps = pair.decoder.module(z)
        torch.testing.assert_close(pair.decode(z).logits, maps.flatten(1))
        several = zoo.create("gaussian_vae", image=(3, 4, 6), likelihood="beta_binomial", decoder=Maps(6))
        h, given = several.decoder.module(z), several.decoder(z)  # (5, 6, 4, 6), (5, 72, 2)
        torch.testing.assert_close(given.unflatten(1, (3, 4, 6))[2, 1, 3, 4], h[2, [2, 3], 3, 4])
        particles = torch.randn(2, 5, 2)
        torch.testing.assert_close(several.decoder(particles)[1], several.decoder(particles[1]))
    images = torch.randint(8, (6, 3, 4, 6))
    inference.fit(pair, images, steps=3, progress=False, compile="off")
    assert inference.reconstruct(pair, images).shape == images.shape


def test_a_saved_one_is_given_its_networks_again(tmp_path):
    pair = counts().double()
    pair.save(tmp_path / "pair")
    images = torch.randint(8, (6, 3, 4, 6))
    again = zoo.load(tmp_path / "pair", decoder=Maps(), encoder=convolutions(4))
    for other in (again, copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert (elbo(other, images) == elbo(pair, images)).all()
        assert other.dtype == torch.float64
    assert "Maps" in (tmp_path / "pair" / "README.md").read_text()
    assert "decoder='Maps'" in repr(pair)
    with pytest.raises(ValueError, match=r"saved with encoder=torch\.nn\.modules\.container\.Sequential, .*encoder=…"):
        zoo.load(tmp_path / "pair", decoder=Maps())
    with pytest.raises(ValueError, match=r"argument 'decoder': expected a module of class .*\.Maps, .* got torch\.nn"):
        zoo.load(tmp_path / "pair", decoder=nn.Linear(2, 72), encoder=convolutions(4))
    with pytest.raises(ValueError, match=r"argument 'prior': the pair was saved without .* modules: encoder, decoder"):
        zoo.load(tmp_path / "pair", decoder=Maps(), encoder=convolutions(4), prior=Maps())
    with pytest.raises(DamagedFile, match=r"missing|shape"):
        zoo.load(tmp_path / "pair", decoder=Maps(), encoder=nn.Sequential(nn.Flatten(), nn.Linear(72, 4)))


@pytest.mark.slow
def test_an_export_names_the_networks():
    pair, images = counts(), torch.randint(8, (6, 3, 4, 6))
    idata = inference.to_arviz(pair, inference.draw(pair, images, 2), images)
    assert "Maps" in str(idata.posterior.attrs["config"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"encoder": nn.Linear(6, 3)},
            r"'encoder': Linear takes rows of shape \(B, 6\) and should give \(B, 4\), gives",
        ),
        ({"encoder": nn.Linear(5, 4)}, r"'encoder': Linear fails on rows of shape \(B, 6\): "),
        ({"decoder": nn.Linear(2, 7)}, r"'decoder': Linear .* should give \(B, 6\) or \(B, 6, 1\), gives \(B, 7\)"),
        ({"decoder": nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6))}, "BatchNorm1d '1' keeps running statistics"),
        ({"encoder": nn.LazyLinear(4)}, "a lazy module has no parameters yet"),
        ({"encoder": "resnet"}, "argument 'encoder': expected Module, got 'resnet'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_does_not_fit_is_refused_by_the_argument(config, words):
    with pytest.raises(ValueError, match=words):
        zoo.create("gaussian_vae", features=6, latent=2, **config)


def test_frozen_weights_stay():
    torch.manual_seed(0)
    frozen = nn.Linear(6, 4).requires_grad_(False)
    pair = zoo.create("gaussian_vae", features=6, latent=2, encoder=frozen)
    inference.fit(pair, torch.randint(2, (8, 6)), steps=3, progress=False, compile="off")
    assert torch.equal(pair.encoder.module.weight, frozen.weight)
