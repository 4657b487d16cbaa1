"""Figures -> pictures inside a page: PNG in the page itself, as it was drawn and once more for a phone.

A picture that is shown at half of its width has letters of half their size. So the same figure is laid out anew for a
narrow screen: panels one below the other, texts wrapped; the page shows whichever fits.
"""

from __future__ import annotations

import base64
import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PHONE = 3.7  # inches: at 330 pixels a letter of 9 points is 11 pixels high
_WIDE = 4.4  # inches: what is wider than this is drawn twice
_DOTS = 144
_COLOURS = 128
_LETTERS = 15.5  # of 9 points in an inch


@dataclass(frozen=True)
class Encoded:
    """A picture as `data:` addresses: as it was drawn, and for a phone where that is another."""

    wide: str
    size: tuple[int, int]
    narrow: str = ""

    @property
    def bytes(self) -> int:
        """How much of a page it takes."""
        return len(self.wide) + len(self.narrow)


def encoded(figure: Figure) -> Encoded:
    """Both renderings of a figure, which is changed.

    Args:
        figure: made without pyplot.
    """
    style.literal(figure)
    wide, size = _png(figure)
    narrow = _png(figure)[0] if _made_narrow(figure) else ""
    return Encoded(wide, size, narrow)


def _png(figure: Figure) -> tuple[str, tuple[int, int]]:
    """A figure in few colours, which halves its size and shows nowhere, and its size in pixels."""
    from PIL import Image

    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DOTS)
    with Image.open(content) as image:
        few = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        size = (image.width, image.height)
    shrunk = io.BytesIO()
    few.save(shrunk, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(shrunk.getvalue()).decode("ascii"), size


def _made_narrow(figure: Figure) -> bool:
    """Lay a figure out anew for a phone; whether that could be done."""
    width, height = figure.get_size_inches()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    if width <= _WIDE or figure.get_layout_engine() is None:
        return False
    grids = {spec.get_gridspec() for axes in shown if (spec := axes.get_subplotspec()) is not None}
    if len(grids) != 1 or any(axes.get_subplotspec() is None for axes in shown):
        return False
    (grid,) = grids
    if grid.ncols > 1:
        height = _below(figure, shown, height / grid.nrows)
    elif len(shown) == 1 and shown[0].images and shown[0].get_aspect() != "auto":
        height *= _PHONE / width  # an image keeps its shape
    elif len(shown) == 1:
        height = min(height, 1.1 * _PHONE)
    figure.set_size_inches(_PHONE, max(2.4, height))
    _wrap(figure, shown)
    return True


def _below(figure: Figure, shown: list[Axes], each: float) -> float:
    """Panels one below the other, of many without numbers at their left two and two; the height of all."""
    for axes in figure.axes:
        if axes not in shown:
            axes.remove()
    across = 2 if len(shown) > 4 and not any(len(axes.get_yticks()) for axes in shown) else 1
    grid = figure.add_gridspec(-(-len(shown) // across), across)
    for k, axes in enumerate(shown):
        axes.set_subplotspec(grid[k // across, k % across])
    return each * grid.nrows


def _wrap(figure: Figure, shown: list[Axes]) -> None:
    """Texts above panels and legends below them in as many lines as they need."""
    most = int(_LETTERS * _PHONE)
    if figure.get_suptitle():
        figure.suptitle(
            "\n".join(textwrap.wrap(figure.get_suptitle(), most)), color=style.MUTED, fontsize=9, x=0.02, ha="left"
        )
    for axes in shown:
        title = axes.get_title(loc="left")
        if len(title) > most - 8:
            axes.set_title("\n".join(textwrap.wrap(title, most - 8)), loc="left", fontsize=9, color=style.MUTED)
    for legend in list(figure.legends):
        handles = [handle for handle in legend.legend_handles if handle is not None]
        labels = [text.get_text() for text in legend.get_texts()]
        legend.remove()
        figure.legend(
            handles, labels, fontsize=8, labelcolor=style.INK, edgecolor="none", ncols=2, loc="outside lower left"
        )
