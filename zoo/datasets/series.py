"""Time series known by name, each one sequence with its length. Sources and licences of the files are in README.md."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from zoo.datasets.registry import Arrays, Description, dataset
from zoo.datasets.texts import read_csv
from zoo.notes import DataWarning

_HERE = Path(__file__).parent
_FACTS = "facts, in the public domain"


def _last_column(file: str) -> Arrays:
    """The last column of a file as one sequence."""
    series = read_csv(_HERE / file)[0][:, -1]
    return {"x": series[None], "lengths": np.array([len(series)])}


@dataset(
    Description(
        "nile",
        what="Yearly flow of the Nile at Aswan, 1871 to 1970, in 10^8 cubic metres: one series.",
        rows=1,
        columns=("flow",),
        source="Cobb (1978), Biometrika 65, 243-251; Durbin & Koopman (2012), State Space Methods.",
        licence=_FACTS,
    )
)
def nile() -> Arrays:
    """One series x (1, 100), with lengths (1,)."""
    return _last_column("nile.csv")


@dataset(
    Description(
        "lakehuron",
        what="Yearly level of Lake Huron, 1875 to 1972, in feet: one series.",
        rows=1,
        columns=("level",),
        source="Brockwell & Davis (1991), Time Series: Theory and Methods, 2nd ed., appendix A.",
        licence=_FACTS,
    )
)
def lakehuron() -> Arrays:
    """One series x (1, 98), with lengths (1,)."""
    return _last_column("lakehuron.csv")


@dataset(
    Description(
        "lh",
        what="Luteinising hormone in the blood of one woman, every ten minutes: one series.",
        rows=1,
        columns=("level",),
        source="Diggle (1990), Time Series: A Biostatistical Introduction, table A.1, series 3.",
        licence=_FACTS,
    )
)
def lh() -> Arrays:
    """One series x (1, 48), with lengths (1,)."""
    return _last_column("lh.csv")


@dataset(
    Description(
        "sunspots",
        what="Yearly mean number of spots on the sun, 1700 to 2008: one series.",
        rows=1,
        columns=("number",),
        source="US National Geophysical Data Center, from the Royal Observatory of Belgium; as in statsmodels.",
        licence="public domain",
    )
)
def sunspots() -> Arrays:
    """One series x (1, 309), with lengths (1,)."""
    return _last_column("sunspots.csv")


@dataset(
    Description(
        "airpassengers",
        what="Thousands of passengers of international airlines by month, January 1949 to December 1960: one series.",
        rows=1,
        columns=("passengers",),
        source="Box & Jenkins (1976), Time Series Analysis: Forecasting and Control, series G; also in R.",
        licence=_FACTS,
        start="1949-01",
        freq="MS",
    )
)
def airpassengers() -> Arrays:
    """One series x (1, 144), with lengths (1,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # its months are `start` and `freq`
        return _last_column("airpassengers.csv")
