"""Networks that see images: convolutions by hand, mirrored, local, in row order."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import zoo
from zoo.parts import nets
from zoo.parts.nets import halvings


@pytest.mark.parametrize("net", ["conv", "residual"])
@pytest.mark.parametrize("side", [8, 28, 7])
@pytest.mark.parametrize("outputs", [1, 3])
def test_convolutions_by_hand(side, outputs, net):
    """A convolution as the sum it is, pixel by pixel, and images that come back whole from any side."""
    encoder = nets.encoder(net, side**2, (2, 3), 4).double()
    decoder = nets.decoder(net, 4, (2, 3), side**2, outputs).double()
    x = torch.randn(5, 2, side**2, dtype=torch.float64)
    code = encoder(x)
    image = decoder(code)
    assert code.shape == (5, 2, 4)
    assert image.shape == (5, 2, side**2, outputs)
    # leading dimensions are rows
    torch.testing.assert_close(code[3, 1], encoder(x[3, 1]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(image[3, 1], decoder(code[3, 1]), rtol=1e-12, atol=1e-12)
    layer, seen = encoder.layers[0], []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(x[0, 0])
    picture = x[0, 0].reshape(side, side)
    patch = functional.pad(picture, (1, 1, 1, 1))[2:5, 4:7]  # where output row 1, column 2 looks
    expected = (layer.weight[1, 0] * patch).sum() + layer.bias[1]
    torch.testing.assert_close(seen[0][0, 1, 1, 2], expected)


def test_decoded_pixels_lie_row_by_row():
    """Light one place of the smallest map: the pixels that change are a patch at that place of the image."""
    decoder = nets.decoder("conv", 2, (3,), 64, 2).double()
    with torch.no_grad():
        decoder.layers[-1].bias.copy_(torch.tensor([100.0, 200.0]))
        decoder.stem.weight.zero_()
        dark = decoder(torch.zeros(2, dtype=torch.float64))
        decoder.stem.bias.reshape(3, 4, 4)[:, 1, 2] = 1.0
        changed = (decoder(torch.zeros(2, dtype=torch.float64)) != dark)[:, 0].reshape(8, 8)
    torch.testing.assert_close(dark.mean(0).round(decimals=-2), torch.tensor([100.0, 200.0], dtype=torch.float64))
    rows, columns = changed.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 4, 3, 6)


def test_residual_blocks_add_to_the_plain_convolutions():
    """Silenced they leave `conv`; from the start they change the result, if not by much."""
    for make, shape in ((nets.encoder, (64, (3, 4), 5)), (nets.decoder, (5, (3, 4), 64, 2))):
        plain, residual = make("conv", *shape).double(), make("residual", *shape).double()
        residual.load_state_dict(plain.state_dict(), strict=False)
        x = torch.randn(7, shape[0], dtype=torch.float64)
        change = (residual(x) - plain(x)).std() / plain(x).std()
        assert 1e-3 < change < 0.5
        with torch.no_grad():
            for block in residual.blocks:
                block.change[-1].weight.zero_()
        assert torch.equal(residual(x), plain(x))


@pytest.mark.parametrize("net", ["conv", "residual"])
def test_a_code_moves_every_pixel(net):
    """No pixel is out of the decoder's reach, at odd sides neither."""
    decoder = nets.decoder(net, 2, (4, 4), 49, 1).double()
    jacobian = torch.autograd.functional.jacobian(decoder, torch.randn(2, dtype=torch.float64))  # (49, 1, 2)
    assert (jacobian.abs().amax((1, 2)) > 0).all()


def test_neighbouring_pixels_are_neighbours():
    """`conv` reads row by row: moving an image by the stride moves the feature maps by one."""
    encoder = nets.encoder("conv", 64, (3,), 2).double()
    picture = torch.zeros(1, 8, 8, dtype=torch.float64)
    picture[0, 2:5, 2:5] = torch.randn(3, 3, dtype=torch.float64)
    moved = picture.roll((2, 2), (1, 2))
    seen = []
    encoder.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(picture.reshape(1, 64))
    encoder(moved.reshape(1, 64))
    torch.testing.assert_close(seen[1][..., 1:, 1:], seen[0][..., :-1, :-1])


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_the_decoder_mirrors_the_encoder(net):
    pair = zoo.create("gaussian_vae", features=64, latent=2, hidden=(5, 4), net=net)
    widths = {
        part: [len(bias) for name, bias in pair.state_dict().items() if name.startswith(part) and name.endswith("bias")]
        for part in ("encoder", "decoder")
    }
    smallest = 1 if net == "mlp" else 2 * 2  # pixels of the smallest map
    assert widths["encoder"] == [5, 4, 4]
    assert widths["decoder"] == [4 * smallest, 5, 64 if net == "mlp" else 1]


def test_sides():
    assert halvings((1, 28, 20), (1, 1, 1)) == [(28, 20), (14, 10), (7, 5), (4, 3)]
    assert halvings((3, 9, 9), (1, 1)) == [(9, 9), (5, 5), (3, 3)]
