"""Pictures and texts of the data, and of what the model draws in their place, of the kinds that suit a pair."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from inference.gallery.door import kinds, plot
from inference.gallery.panels import as_pixels
from inference.posterior.latents import Posterior
from inference.questions.texts import write
from inference.reporting.parts import Part, part
from inference.reporting.words import PICTURES
from inference.running.checked import Checked
from zoo.abilities import Text

_MOST = 5  # pictures of the data
_ELSEWHERE = ("posterior", "coefficients", "interpolations")  # or of no use to whoever sees a model first
_LINES, _LETTERS = 3, 160


def pictures(given: Checked, posterior: Posterior | None, seed: int) -> Iterator[Part]:
    """A part for each kind of picture that suits a pair and its data, the predictive check first.

    Args:
        given: the pair and its data.
        posterior: its draws; None: draws of the guide, where a picture needs some.
        seed: seeds what is drawn.
    """
    pair = given.pair
    if isinstance(pair, Text) and pair.alphabet is not None:
        yield part("text", "", lambda: _lines(given, posterior, seed))
    for kind in chosen(given):
        known = None if kind == "samples" and posterior is not None and not posterior.globals else posterior
        made = part(kind, _seen(given, kind), partial(plot, pair, given, known, kind, seed=seed))
        if kind != "map" or not made.missing:  # which columns of words have not, and nobody misses
            yield made


def chosen(given: Checked) -> list[str]:
    """The kinds of pictures on a page, the predictive check first."""
    left = [kind for kind in kinds(given) if kind in PICTURES and kind not in _ELSEWHERE]
    idle = set[str]()
    if not as_pixels(given):
        idle.add("traversals")
    elif "reconstructions" in left:
        idle.add("predictive")  # of images, the same picture
    if "curve" in left:
        idle.add("map")
    text = isinstance(given.pair, Text) and given.pair.alphabet is not None
    if text or not (as_pixels(given) or given.example.lengths is not None):
        idle.add("samples")  # lines of text stand above; columns of a table are in the predictive check
    left = [kind for kind in left if kind not in idle]
    return sorted(left, key=lambda kind: kind != "predictive")[:_MOST]


def _lines(given: Checked, posterior: Posterior | None, seed: int) -> str:
    return "\n".join(write(given.pair, number=_LINES, length=_LETTERS, posterior=posterior, seed=seed))


def _seen(given: Checked, kind: str) -> str:
    """What a picture of this kind shows, in words."""
    batch, name = given.batch, given.pair.name
    rows = f"{given.size:,} {'series' if given.example.lengths is not None else 'observations'}"
    columns = f" of {', '.join(map(str, batch.columns[:6]))}" if batch.columns else ""
    return {
        "predictive": f"{rows}{columns}, beside what {name} draws in their place",
        "samples": f"observations drawn from {name}, none of them from the data",
        "reconstructions": f"observations beside what their codes in {name} tell of them",
        "network": f"the graph of {name}, an arrow for each direct dependence",
        "tree": f"a tree of {name}: its splits from the top, its leaves below",
        "curve": f"{rows} as dots over the covariate, with the median of {name} and its band of 90 %",
        "states": "the first series over stripes of the hidden state that each step was decoded to",
        "forecast": "the end of each series, and behind it the median and bands of its forecast",
        "density": f"{rows}{columns} as dots over contours of the density of {name}",
        "imputations": f"the missing cells of {rows}, filled, beside the values that were observed",
        "map": f"{rows} as dots in the plane, alike ones near one another",
        "traversals": f"rows of images: each dimension of the code of {name} from low to high",
    }[kind]
