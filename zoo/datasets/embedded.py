"""The data sets known by name. One decorated function each: nothing else lists them.

Values are float64 (labels int64) and unscaled unless said; `inference.fit` converts them to the pair's own type. The
sources and licences of the files beside this one are in README.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.idx import read_idx
from zoo.datasets.registry import Arrays, Description, dataset, describe
from zoo.datasets.texts import read_csv

_HERE = Path(__file__).parent
_UCI = "CC BY 4.0 (UCI Machine Learning Repository)"
_SKLEARN = "scikit-learn: pip install 'pyro-zoo[sklearn]'"


def _sklearn(name: str) -> Any:
    """The Bunch that `sklearn.datasets.load_<name>` returns."""
    try:
        module = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise ValueError(f"data set '{name}' comes with scikit-learn, which is not installed; {_SKLEARN}") from None
    return getattr(module, f"load_{name}")()


# Its files that are what it returns, with the labels as the last column.
_FILES = {"iris": "iris.csv", "wine": "wine_data.csv", "breast_cancer": "breast_cancer.csv", "digits": "digits.csv.gz"}


def _file(name: str) -> Arrays | None:
    """Rows and labels as its file has them, since importing scikit-learn takes as long as importing torch.

    None where there is no such file, or one of another shape.
    """
    found = importlib.util.find_spec("sklearn") if name in _FILES else None
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder) / "datasets" / "data" / _FILES[name]
        with suppress(OSError, ValueError):
            values = np.loadtxt(path, delimiter=",", skiprows=0 if path.suffix == ".gz" else 1, ndmin=2)
            x, y = values[:, :-1], values[:, -1].astype(np.int64)
            if x.shape == (describe(name).rows, len(describe(name).columns)) and bool((y == values[:, -1]).all()):
                return {"x": np.ascontiguousarray(x), "y": y}
    return None


def _table(name: str) -> Arrays:
    if (read := _file(name)) is not None:
        return read
    bunch = _sklearn(name)
    labels = np.issubdtype(bunch.target.dtype, np.integer)
    return {"x": bunch.data.astype(np.float64), "y": bunch.target.astype(np.int64 if labels else np.float64)}


@dataset(
    Description(
        "digits",
        what="Handwritten digits as 8 x 8 images; each pixel counts the inked cells of a 4 x 4 block, 0 to 16.",
        rows=1797,
        columns=tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
        target="the digit, 0 to 9",
        source="Alpaydin & Kaynak (1998), Optical Recognition of Handwritten Digits, test set; through scikit-learn.",
        licence=_UCI,
        needs=_SKLEARN,
    )
)
def digits() -> Arrays:
    """Counts x (1797, 64) and labels y (1797,)."""
    return _table("digits")


@dataset(
    Description(
        "iris",
        what="Sepals and petals of 50 flowers of each of three species of iris, in cm.",
        rows=150,
        columns=("sepal_length", "sepal_width", "petal_length", "petal_width"),
        target="species: 0 setosa, 1 versicolor, 2 virginica",
        source="Anderson (1935); Fisher (1936), Annals of Eugenics 7, 179-188; through scikit-learn.",
        licence=_UCI,
        needs=_SKLEARN,
    )
)
def iris() -> Arrays:
    """Measurements x (150, 4) and species y (150,)."""
    return _table("iris")


@dataset(
    Description(
        "wine",
        what="Chemical analysis of 178 Italian wines from three cultivars.",
        rows=178,
        columns=(
            "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
            "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue",
            "od280_od315_of_diluted_wines", "proline",
        ),
        target="cultivar, 0 to 2",
        source="Forina, Aeberhard & Leardi (1991), Wine; through scikit-learn.",
        licence=_UCI,
        needs=_SKLEARN,
    )
)  # fmt: skip
def wine() -> Arrays:
    """Measurements x (178, 13) and cultivar y (178,)."""
    return _table("wine")


@dataset(
    Description(
        "breast_cancer",
        what="Ten properties of cell nuclei (mean, standard error and worst) in images of 569 breast masses.",
        rows=569,
        columns=tuple(
            f"{kind}_{feature}"
            for kind in ("mean", "error", "worst")
            for feature in (
                "radius", "texture", "perimeter", "area", "smoothness",
                "compactness", "concavity", "concave_points", "symmetry", "fractal_dimension",
            )
        ),
        target="diagnosis: 0 malignant, 1 benign",
        source="Wolberg, Street & Mangasarian (1995), Breast Cancer Wisconsin (Diagnostic); through scikit-learn.",
        licence=_UCI,
        needs=_SKLEARN,
    )
)  # fmt: skip
def breast_cancer() -> Arrays:
    """Measurements x (569, 30) and diagnosis y (569,)."""
    return _table("breast_cancer")


@dataset(
    Description(
        "diabetes",
        what="Ten baseline variables of 442 patients, centred and of unit sum of squares, and a year's progression.",
        rows=442,
        columns=("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
        target="disease progression one year after baseline, 25 to 346",
        source="Efron, Hastie, Johnstone & Tibshirani (2004), Annals of Statistics 32, 407-499; through scikit-learn.",
        licence="none stated by the authors; distributed with scikit-learn (BSD-3-Clause)",
        needs=_SKLEARN,
    )
)
def diabetes() -> Arrays:
    """Covariates x (442, 10) and response y (442,)."""
    return _table("diabetes")


@dataset(
    Description(
        "faithful",
        what="Duration of an eruption of the Old Faithful geyser and the waiting time to the next, in minutes.",
        rows=272,
        columns=("eruptions", "waiting"),
        source="Hardle (1991), Smoothing Techniques with Implementation in S; cf. Azzalini & Bowman (1990).",
        licence="facts, in the public domain",
    )
)
def faithful() -> Arrays:
    """Minutes x (272, 2)."""
    return {"x": read_csv(_HERE / "faithful.csv")[0]}


@dataset(
    Description(
        "earthquakes",
        what="Number of major earthquakes (magnitude 7 or more) in the world in each year 1900 to 2006: one sequence.",
        rows=1,
        columns=("count",),
        source="USGS; Zucchini, MacDonald & Langrock (2016), Hidden Markov Models for Time Series, table 1.1.",
        licence="facts, in the public domain (work of the US government)",
    )
)
def earthquakes() -> Arrays:
    """One sequence of counts x (1, 107), with lengths (1,)."""
    count = read_csv(_HERE / "earthquakes.csv")[0][:, 1]
    return {"x": count[None], "lengths": np.array([len(count)])}


@dataset(
    Description(
        "eight_schools",
        what="Estimated effects of coaching on a verbal test score in eight schools, with their standard errors.",
        rows=8,
        columns=("standard_error",),
        target="estimated effect, in points",
        source="Rubin (1981), Estimation in Parallel Randomized Experiments, J. of Educational Statistics 6, 377-401.",
        licence="facts, in the public domain",
    )
)
def eight_schools() -> Arrays:
    """Standard errors x (8, 1) and effects y (8,)."""
    table = read_csv(_HERE / "eight_schools.csv")[0]
    return {"x": table[:, 1:], "y": table[:, 0]}


def _fashion_mnist(part: str, rows: int) -> Arrays:
    folders = [Path("/usr/share/datasets/fashion-mnist")]
    if given := os.environ.get("ZOO_DATA"):
        folders = [Path(given), Path(given) / "fashion-mnist", *folders]

    def find(file: str) -> Path:
        for folder in folders:
            for suffix in ("", ".gz"):
                if (folder / (file + suffix)).is_file():
                    return folder / (file + suffix)
        looked = ", ".join(str(folder) for folder in folders)
        raise ValueError(
            f"Fashion-MNIST: no {file} or {file}.gz in {looked}; install the Debian package dataset-fashion-mnist, or "
            "put the four files of https://github.com/zalandoresearch/fashion-mnist in a folder and set ZOO_DATA to it"
        )

    expected = {f"{part}-images-idx3-ubyte": (rows, 28, 28), f"{part}-labels-idx1-ubyte": (rows,)}
    found = []
    for file, shape in expected.items():
        path = find(file)
        found.append(read_idx(path))
        if found[-1].shape != shape:
            raise ValueError(f"'{path}': expected an array of shape {shape}, got {found[-1].shape}")
    images, labels = found
    # float32 holds 0 to 255 exactly, in half the memory.
    return {"x": images.reshape(rows, -1).astype(np.float32), "y": labels.astype(np.int64)}


def _register_fashion_mnist(name: str, part: str, rows: int) -> None:
    @dataset(
        Description(
            name,
            what=f"Zalando's pictures of clothes, 28 x 28 pixels with grey levels 0 to 255, {part} split.",
            rows=rows,
            columns=tuple(f"pixel_{row}_{column}" for row in range(28) for column in range(28)),
            target="kind of clothing, 0 to 9",
            source="Xiao, Rasul & Vollgraf (2017), Fashion-MNIST, arXiv:1708.07747.",
            licence="MIT",
            needs="Debian package dataset-fashion-mnist, or its files in the folder ZOO_DATA",
        )
    )
    def fashion_mnist() -> Arrays:
        return _fashion_mnist(part, rows)


_register_fashion_mnist("fashion_mnist", "train", 60_000)
_register_fashion_mnist("fashion_mnist_test", "t10k", 10_000)
