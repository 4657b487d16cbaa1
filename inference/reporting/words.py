"""What verdicts and pictures mean, in plain words."""

from __future__ import annotations

from inference.checking.findings import Check, Finding

MARKS = {"ok": "✓", "look": "!", "wrong": "✗", "could not be judged": "?"}
STATES = {"ok": "ok", "look": "look", "wrong": "wrong", "could not be judged": "unjudged"}  # as a class of the style
EXITS = {"trust": 0, "caution": 1, "do not trust": 2}
HEADS = {"trust": "Trust it", "caution": "Use it with caution", "do not trust": "Do not trust it"}
_MEANS = {
    "trust": "Every check that could prove these results wrong was passed. The estimates and intervals on this page "
    "may be read as they stand; whether the model itself is a good one for the question, the pictures help to tell.",
    "caution": "Nothing proves these results wrong, but something is not as it should be, or could not be judged. "
    "Read the points below before an interval on this page is believed.",
    "do not trust": "At least one check says that these results are wrong: estimates or intervals on this page may be "
    "far from what model and data imply. The points below say what was found, and what to do.",
}
PICTURES = {  # kind -> its heading, and how to read it
    "predictive": (
        "The data, and what the model draws in their place",
        (
            "A model that describes the data draws such data itself. Where its bands or bars leave the data aside, it "
            "misses something."
        ),
    ),
    "samples": ("New observations from the model", "None of these was observed: the model made them up."),
    "reconstructions": (
        "Observations, and what the model keeps of each",
        "Above or across what was observed, below or upwards what its code tells of it. What is lost was not kept.",
    ),
    "network": ("The network", "Arrows are direct dependences; bars how probable each state is."),
    "tree": ("The tree", "From the top: the question at each split, and what is expected in each leaf."),
    "curve": (
        "The response over its covariate",
        "Dots are data. The band holds 90 % of what the model expects to observe: about nine in ten dots belong there.",
    ),
    "states": (
        "Hidden states of the first series",
        "Stripes are the most probable state of each step, given the whole series.",
    ),
    "forecast": (
        "How the series may go on",
        "Bands hold 50 % and 90 % of the futures that the model draws; they widen where it knows less.",
    ),
    "density": (
        "The density that was learned, over the data",
        "Dots are data, darker regions those where the model expects more of them.",
    ),
    "imputations": ("Cells that were missing", "What the model fills them with, beside the values that were observed."),
    "map": ("A map of the observations", "Near one another are observations that the model takes for alike."),
    "traversals": (
        "What each dimension of the code does",
        "A row a dimension of the code: all others stay, this one goes from low to high.",
    ),
    "observed": (
        "The data, and what the program draws in their place",
        "A model that describes the data draws such data itself: 90 % of the observations belong on the bars.",
    ),
    "compared": (
        "What each model expects of new data",
        (
            "The further to the right, the better. Lines that overlap do not say that models are alike: differences "
            "are surer than the scores themselves, and the table has their standard errors."
        ),
    ),
    "text": ("New lines from the model", "Nobody wrote these: the model went on letter by letter."),
    "densities": (
        "What the data say about each number",
        "Where a curve is high the number probably lies; the bar below it holds 94 % of the probability.",
    ),
    "chains": (
        "Do the chains agree?",
        "Each line is a chain. Within the grey band the chains tell the same; a line that leaves it saw another part.",
    ),
    "weights": (
        "How even the weights of the draws are",
        (
            "Of a perfect guide all draws weigh the same, the dashed line. The nearer to the corner, the fewer draws "
            "carry the result."
        ),
    ),
    "left_out": (
        "Rows that the posterior hangs on",
        "k̂ of each row, left out: above the line the posterior without this row is not known from these draws.",
    ),
}


def meaning(check: Check) -> str:
    """What its verdict means, for a reader who has seen none before."""
    return _MEANS[check.verdict]


def reasons(check: Check) -> list[Finding]:
    """The findings behind a verdict, the worst first; of `trust` those that prove it, then what is worth a look."""
    if check.verdict == "trust":
        proofs = [f for f in check.findings if f.state == "ok" and f.bears and f.counts]
        return proofs + [f for f in check.findings if f.state in ("look", "wrong")]
    order = ("wrong", "look", "could not be judged")
    return [f for state in order for f in check.findings if f.state == state and f.counts]
