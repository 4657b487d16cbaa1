"""Network pieces that two or more models share.

Every network takes and gives rows with any leading dimensions, (*, inputs) -> (*, outputs): a batch (B,), or S
particles of it, (S, B). Hidden activations are SiLU (smooth, so that Hamiltonian samplers can use a decoder).
Weights start with variance 1 / fan-in (LeCun et al. 1998), a quarter of it in the last layer, and biases at zero.

`mlp` takes any rows; `conv` and `residual` take images, flattened channel by channel and row by row, and halve their
sides once for each hidden width. `residual` adds to each of those maps two more convolutions and a way around them (He
et al. 2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.distributions import AffineTransform, Independent, MultivariateNormal, Normal, register_kl
from torch.nn import functional

from zoo.base import Batch, ModelGuide
from zoo.flows import zuko
from zoo.images import Shape, channels_first
from zoo.parts.given import Given

Net = Literal["mlp", "conv", "residual"]
SCALE = constraints.greater_than(1e-6)  # of a learned noise scale: a constant feature would take it to zero


def positive(x: Tensor) -> Tensor:
    """Map reals to scales: softplus, kept off zero by the type's rounding unit, with no flat region to get stuck in."""
    return functional.softplus(x) + torch.finfo(x.dtype).eps


def scale_tril(x: Tensor, size: int) -> Tensor:
    """Map reals (*, size (size + 1) / 2) to Cholesky factors (*, size, size): lower triangular, positive diagonal."""
    rows, columns = torch.tril_indices(size, size, device=x.device)
    lower = x.new_zeros(*x.shape[:-1], size, size)
    lower[..., rows, columns] = x
    return lower.tril(-1) + positive(lower.diagonal(dim1=-2, dim2=-1)).diag_embed()


def seen(pair: ModelGuide, batch: Batch) -> Tensor:
    """The observations x that an amortised guide reads.

    Raises:
        ValueError: the batch has none.
    """
    if batch.x is None:
        raise ValueError(f"{pair.name}: the guide needs the observations, got a batch without 'x'")
    return batch.x


def encoder(
    net: Net,
    features: int,
    hidden: Sequence[int],
    outputs: int,
    image: Shape | None = None,
    own: nn.Module | None = None,
) -> nn.Module:
    """A network (*, D) -> (*, outputs); convolutions are over an `image` of (H, W) or (C, H, W), else over a square.

    The user's own network in its place takes rows (B, D), or images (B, *image), to (B, outputs).
    """
    if own is not None:
        return Given("encoder", own, image or (features,), ((outputs,),), (outputs,))
    if net == "mlp":
        return mlp(features, hidden, outputs)
    return ConvEncoder(channels_first(image or square(features)), hidden, outputs, residual=net == "residual")


def decoder(
    net: Net,
    latent: int,
    hidden: Sequence[int],
    features: int,
    outputs: int,
    image: Shape | None = None,
    own: nn.Module | None = None,
) -> nn.Module:
    """A network (*, L) -> (*, D, outputs): `outputs` numbers for each feature. `hidden` is the encoder's, mirrored.

    The user's own network in its place takes codes (B, L) to (B, D, outputs), (B, *image, outputs) or maps (B, C
    outputs, H, W); the last dimension may be left out where it is 1.
    """
    if own is not None:
        channels, high, wide = channels_first(image) if image else (0, 0, 0)
        maps = (channels * outputs, high, wide) if image else None
        gives = [(features, outputs), *([(*image, outputs)] if image else []), *([maps] if maps else [])]
        gives = [(features,), *([image] if image else []), *gives] if outputs == 1 else gives
        return Given("decoder", own, (latent,), tuple(dict.fromkeys(gives)), (features, outputs), maps)
    if net == "mlp":
        layers = mlp(latent, hidden[::-1], features * outputs)
        return nn.Sequential(*layers, nn.Unflatten(-1, (features, outputs)))
    return ConvDecoder(latent, hidden, channels_first(image or square(features)), outputs, net == "residual")


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with SiLU between them; no hidden widths make one linear map."""
    widths = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [_start(nn.Linear(before, after), before), nn.SiLU()]
    _start(layers[-2], widths[-2], gain=0.5)
    return nn.Sequential(*layers[:-1])


class ConvEncoder(nn.Module):
    """Images (*, D), D = C H W -> (*, outputs): one 3x3 convolution of stride 2 a hidden width, then a linear map.

    Each halves both sides, rounding up, so that 8 x 8, 28 x 28 and odd sides all do. With `residual` a `Residual`
    follows each.
    """

    def __init__(
        self, image: tuple[int, int, int], hidden: Sequence[int], outputs: int, residual: bool = False
    ) -> None:
        super().__init__()
        self.image, last = image, halvings(image, hidden)[-1]
        channels = [image[0], *hidden]
        self.layers = nn.ModuleList(
            _start(nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1), 9 * before)
            for before, after in zip(channels, hidden, strict=False)
        )
        self.blocks = nn.ModuleList(Residual(width) if residual else nn.Identity() for width in hidden)
        inputs = hidden[-1] * math.prod(last)
        self.head = _start(nn.Linear(inputs, outputs), inputs, gain=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of pixels to rows of outputs."""
        lead = x.shape[:-1]
        x = x.reshape(-1, *self.image)  # (*, D) -> (rows, C, H, W)
        for layer, block in zip(self.layers, self.blocks, strict=True):
            x = functional.silu(block(layer(x)))
        return self.head(x.flatten(1)).reshape(*lead, -1)  # type: ignore[no-any-return]


class ConvDecoder(nn.Module):
    """Codes (*, L) -> (*, D, outputs): a linear map, then one transposed 4x4 convolution of stride 2 a hidden width.

    The mirror of `ConvEncoder`: each layer doubles both sides and drops the last row or column where one was odd.
    Kernels are a multiple of the stride, which leaves no chequered pattern (Odena et al. 2016).
    """

    def __init__(
        self,
        latent: int,
        hidden: Sequence[int],
        image: tuple[int, int, int],
        outputs: int,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.sides = image[0], halvings(image, hidden)
        self.stem = _start(nn.Linear(latent, hidden[-1] * math.prod(self.sides[-1])), latent)
        channels = [self.channels * outputs, *hidden][::-1]
        self.blocks = nn.ModuleList(Residual(width) if residual else nn.Identity() for width in hidden[::-1])
        self.layers = nn.ModuleList(
            _start(nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1), 4 * before)
            for before, after in pairwise(channels)
        )
        _start(self.layers[-1], 4 * hidden[0], gain=0.5)

    def forward(self, z: Tensor) -> Tensor:
        """Rows of codes to rows of `outputs` numbers a pixel."""
        lead = z.shape[:-1]
        x = self.stem(z.reshape(-1, z.shape[-1])).unflatten(-1, (-1, *self.sides[-1]))  # (rows, hidden, high, wide)
        for block, layer, (high, wide) in zip(self.blocks, self.layers, self.sides[-2::-1], strict=True):
            x = layer(functional.silu(block(x)))[..., :high, :wide]
        # (rows, C outputs, H, W) -> (rows, C, outputs, H W) -> (*, D, outputs)
        x = x.flatten(-2).unflatten(1, (self.channels, -1)).mT
        return x.reshape(*lead, -1, x.shape[-1])  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Maps x, (rows, C, side, side), to x + W' silu(W silu(x)): W is a 3x3 convolution, W' a 1x1 that starts small."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = _start(nn.Conv2d(channels, channels, kernel_size=3, padding=1), 9 * channels)
        second = _start(nn.Conv2d(channels, channels, kernel_size=1), channels, gain=0.1)
        self.change = nn.Sequential(nn.SiLU(), first, nn.SiLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        """The maps, changed."""
        return x + self.change(x)  # type: ignore[no-any-return]


class Flow(nn.Module):
    """Conditional distribution of z = loc + scale * F(e; h) with e ~ N(0, I), near N(loc, scale^2) at the start.

    F is inverse autoregressive (Kingma et al. 2016): F_l(e; h) is a monotonic rational-quadratic spline in e_l (Durkan
    et al. 2019) that h and e_1..e_(l-1) shape, on [-5, 5]; beyond, it is the identity. So a draw and its density, which
    the distribution keeps for Pyro, take one pass of the network; the density of any other value takes L.

    Args:
        latent: dimension of z, L.
        context: length of h.

    Raises:
        ValueError: zuko, of the extra `flows`, is not installed.
    """

    def __init__(self, latent: int, context: int) -> None:
        super().__init__()
        (self.transform,) = zuko().flows.NSF(latent, context, transforms=1, activation=nn.SiLU).transform.transforms
        for parameter in self.transform.hyper[-1].parameters():
            parameter.data *= 0.1  # at zero all bins are equal and all slopes one: the identity

    def forward(self, loc: Tensor, scale: Tensor, context: Tensor) -> ZukoToPyro:
        """From (*, L), (*, L) and (*, context), the distribution of batch shape (*) and event shape (L,)."""
        made = zuko()
        # from z to e, as zuko has it; the inverse is the fast way
        transform = made.transforms.ComposedTransform(_Affine(loc, scale, event_dim=1).inv, self.transform(context).inv)
        noise = Normal(torch.zeros_like(loc), torch.ones_like(loc))
        return ZukoToPyro(made.distributions.NormalizingFlow(transform, noise))


class _Affine(AffineTransform):
    """torch's, of which zuko asks the event shape alone."""

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        return shape


def square(features: int) -> Shape:
    """(H, W) of a square image.

    Raises:
        ValueError: `features` is not a square.
    """
    side = math.isqrt(features)
    if side * side != features:
        raise ValueError(
            f"convolutions need the shape of an image: features={features} is not a square ({side}x{side}={side**2}); "
            "give image=(H, W) or (C, H, W)"
        )
    return side, side


def halvings(image: tuple[int, int, int], hidden: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the image (C, H, W) and of each convolution's output.

    Raises:
        ValueError: there is no hidden width, or more of them than the sides can be halved.
    """
    if not hidden:
        raise ValueError("convolutions need at least one hidden width, got hidden=()")
    sides = [image[1:]]
    for _ in hidden:
        high, wide = sides[-1]
        if high == wide == 1:
            raise ValueError(
                f"convolutions: each hidden width halves the image; {image[1]}x{image[2]} takes at most "
                f"{len(sides) - 1}, got hidden={tuple(hidden)}"
            )
        sides.append(((high + 1) // 2, (wide + 1) // 2))
    return sides


def _start(layer: nn.Module, fan_in: int, gain: float = 1.0) -> nn.Module:
    nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


@register_kl(MultivariateNormal, Independent)  # type: ignore[untyped-decorator]
def _kl_mvn_independent(q: MultivariateNormal, p: Independent[Any]) -> Tensor:
    """KL(N(m, T T') || product of N(a_l, b_l^2)), which torch and Pyro leave out."""
    if not isinstance(p.base_dist, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    a, b = p.base_dist.loc, p.base_dist.scale
    tril = q.scale_tril
    spread = tril.square().sum(-1) + (q.loc - a).square()  # (*, L), second moments about a
    log_ratio = b.log() - tril.diagonal(dim1=-2, dim2=-1).log()
    return (log_ratio + 0.5 * (spread / b.square() - 1)).sum(-1)
