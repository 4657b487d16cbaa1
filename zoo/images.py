"""Images: rows of numbers inside a pair, (N, D), and images outside, (N, H, W) or (N, C, H, W).

A pair made with `image=(H, W)` or `image=(C, H, W)` models D = C H W features, in the order of a flattened image, and
takes and gives images of that shape: `inference.fit(pair, images)`, `inference.generate(pair, 5)["x"]`. Channels come
first, as in torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.rows import nth

Shape = tuple[int, ...]  # (H, W) or (C, H, W)
BYTE = 255


def channels_first(image: Shape) -> tuple[int, int, int]:
    """(C, H, W) of an image that may have been told as (H, W)."""
    channels, high, wide = (1, *image) if len(image) == 2 else image
    return channels, high, wide


def sized(name: str, config: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """The arguments of a pair with `features` = C H W, where an `image` says so.

    Args:
        name: of the pair.
        config: its arguments, defaults filled in.
        given: names of those that were told.

    Raises:
        ValueError: an image of other than two or three sizes, or `features` that contradict it.
    """
    image = config.get("image")
    if image is None or "features" not in config:
        return config
    if len(image) not in (2, 3):
        raise ValueError(f"{name}: argument 'image': expected (H, W) or (C, H, W), got {image}")
    features = math.prod(image)
    if "features" in given and config["features"] != features:
        raise ValueError(
            f"{name}: features={config['features']}, and image={image} has {features}: leave `features` out"
        )
    return {**config, "features": features}


def check_channels(image: Shape) -> None:
    """Refuse images that have their channels last, as NumPy and Pillow have them: (H, W, C) of 1, 3 or 4 channels.

    Raises:
        ValueError: with what to give instead.
    """
    if len(image) == 3 and image[2] in (1, 3, 4) and image[1] > image[2] and image[0] not in (1, 3, 4):
        high, wide, channels = image
        raise ValueError(
            f"x: images of shape (N, {high}, {wide}, {channels}) seem to have {channels} channels, last; channels come "
            f"first: a.transpose(0, 3, 1, 2) (image={image} takes them as {high} channels of {wide} x {channels})"
        )


def told(count: int, image: Shape) -> str:
    """A number of images of this shape, in words."""
    channels, high, wide = channels_first(image)
    return f"x holds {count:,} images of {high} x {wide}" + (f" in {channels} channels" if channels > 1 else "")


def counted(x: Tensor | None) -> Tensor | None:
    """Images as the counts they are: shares of 255 as bytes, the bytes 0 and 255 alone as 0 and 1; all else as is."""
    if x is None or x.dtype == torch.bool or x.ndim not in (3, 4) or not bool(x.isfinite().all()):
        return x
    if bool((x == BYTE).any()) and bool(((x == 0) | (x == BYTE)).all()):
        return x / BYTE
    whole = (x.double() * BYTE).round()
    shares = bool((x >= 0).all()) and bool((x <= 1).all()) and bool((x != x.round()).any())
    return whole.to(torch.uint8) if shares and bool(((whole / BYTE - x).abs() < 1e-6).all()) else x


def flattened(image: Shape, x: Tensor) -> Tensor:
    """Images of this shape as rows, (N, D); a single channel may be there or not. Rows are taken as they are.

    Raises:
        ValueError: images of another shape, of which the one that seems to be meant is told.
    """
    channels, high, wide = channels_first(image)
    found = tuple(x.shape[1:])
    if len(found) < 2 and tuple(x.shape) != (high, wide):
        return x
    if channels_first(found) == (channels, high, wide) if len(found) in (2, 3) else False:
        return x.flatten(1)
    hint = ""
    if found == (high, wide, channels):
        hint = "; channels come first: numpy.moveaxis(x, -1, 1)"
    elif tuple(x.shape) == image or tuple(x.shape) == (high, wide):
        hint = "; a single image is given as one of many: x[None]"
    wanted = ", ".join(["N", *map(str, image)])
    raise ValueError(f"field 'x': expected images of shape ({wanted}), got {tuple(x.shape)}{hint}")


def shaped(image: Shape | None, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values by site, `x` as images: (*, D) -> (*, H, W) or (*, C, H, W); of a pair without images as they are."""
    return {name: value.unflatten(-1, image) if image and name == "x" else value for name, value in found.items()}


def pixel_names(image: Shape) -> tuple[str, ...]:
    """What an error calls the features: `pixel[3, 5]`, row and column from 0, after the channel of several."""
    places = [()] if len(image) == 2 or image[0] == 1 else [(c,) for c in range(image[0])]
    high, wide = image[-2:]
    return tuple(f"pixel{[*place, i, j]}" for place in places for i in range(high) for j in range(wide))


def unequal(rows: Sequence[Any]) -> str:
    """What to say of arrays of two or three dimensions that are not all of one shape; empty where they are."""
    shapes = [tuple(getattr(row, "shape", ())) for row in rows]
    first = shapes[0] if shapes else ()
    if not all(len(shape) in (2, 3) for shape in shapes):
        return ""
    for i, shape in enumerate(shapes):
        if shape != first:
            told = f"row {nth(i)} is {_by(shape)}, and row {nth(0)} is {_by(first)}; images are of one size: "
            told += "crop or resize them"
            return f"{told}; " if len(shape) == len(first) and shape[1:] == first[1:] else told
    return ""


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
