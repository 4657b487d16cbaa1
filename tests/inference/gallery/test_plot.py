"""`inference.plot`: the picture that suits, points where the codes are, in the colours of their column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba

import inference
import zoo
from inference.command.main import main
from inference.drawing.colour import Colour
from inference.drawing.style import COLOURS
from tests.helpers.command import fails

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=["a", "b", "c"])


def points(figure):
    """Places and face colours of the dots of a figure, in order of their places."""
    (dots,) = [part for part in figure.axes[0].collections if len(part.get_offsets()) > 1]
    places, colours = np.asarray(dots.get_offsets()), dots.get_facecolors()
    order = np.lexsort(places.T)
    return places[order], np.broadcast_to(colours, (len(places), 4))[order]


def keys(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return zoo.create("gaussian_vae", features=3, latent=2, hidden=(4,), likelihood="gaussian")


@pytest.fixture(scope="module")
def gmm():
    torch.manual_seed(0)
    pair = zoo.create("gmm", features=3, components=2)
    return pair, inference.prior(pair, draws=3)


def test_codes_lie_where_they_are_and_have_the_colour_of_their_category(vae):
    kind = np.where(FRAME["a"] > 0, "high", "low")
    figure = inference.plot(vae, FRAME, color=list(kind))
    codes = inference.encode(vae, FRAME).mean["z"].numpy()
    order = np.lexsort(codes.T)
    places, colours = points(figure)
    np.testing.assert_allclose(places, codes[order])
    wanted = [to_rgba(COLOURS[int(word == "low")], 0.75) for word in kind[order]]
    np.testing.assert_allclose(colours, wanted)
    assert keys(figure) == ["high", "low"]
    assert figure.axes[0].get_xlabel() == "latent 0"


def test_a_column_of_a_frame_colours_by_its_name_modelled_or_not(gmm):
    pair, posterior = gmm
    figure = inference.plot(pair, FRAME, posterior, color="b")
    assert figure.axes[1].get_ylabel() == "b"  # of the colour bar
    (dots,) = [part for part in figure.axes[0].collections if len(part.get_offsets()) > 1]
    np.testing.assert_allclose(np.sort(dots.get_array()), np.sort(FRAME["b"]))
    (share,) = inference.assignments(pair, posterior, FRAME).values()
    found = inference.plot(pair, FRAME, posterior, kind="map")  # by the clusters it finds
    assert keys(found) == [str(k) for k in sorted(set(share.argmax(1).tolist()))]
    (_, tall), spread = points(found)[0].T, (FRAME - FRAME.mean()) / FRAME.std(ddof=0)
    second = np.linalg.svd(spread.to_numpy(), full_matrices=False)
    np.testing.assert_allclose(np.sort(np.abs(tall)), np.sort(np.abs(second[0][:, 1] * second[1][1])), rtol=1e-4)


def test_numbers_categories_and_missing_cells_are_told_apart():
    assert Colour.of("n", [1.5, None, 2.0]).categories == ()
    np.testing.assert_equal(Colour.of("n", [1.5, None, 2.0]).values, [1.5, np.nan, 2.0])
    few = Colour.of("n", [3, 1, float("nan"), 3])
    assert few.categories == ("1", "3")
    np.testing.assert_equal(few.values, [1, 0, np.nan, 1])
    assert Colour.of("n", list(range(11))).categories == ()  # too many to be classes
    many = Colour.of("town", [*"aabbccddeeffgghhii", "x", "y", "z"])
    assert many.categories == (*"abcdefghi", "3 others")
    assert many.values[-3:].tolist() == [9, 9, 9]
    with pytest.raises(ValueError, match="color 'n': all cells are missing"):
        Colour.of("n", [None, float("nan")])


def test_what_does_not_suit_is_refused_with_what_does(vae, gmm):
    with pytest.raises(ValueError, match=r"no kind 'densty' of gaussian_vae with these data, did you mean 'density'\?"):
        inference.plot(vae, FRAME, kind="densty")
    with pytest.raises(ValueError, match=r"no kind 'tree' .* there are: map, predictive, samples, traversals"):
        inference.plot(vae, FRAME, kind="tree")
    with pytest.raises(ValueError, match="no kind 'map' of gaussian_vae without data; there are: samples"):
        inference.plot(vae, kind="map")
    with pytest.raises(ValueError, match=r"no column 'aa', did you mean 'a'\?; columns: a, b, c"):
        inference.plot(vae, FRAME, color="aa")
    with pytest.raises(ValueError, match="color: expected 30 values, one for each row, got 2"):
        inference.plot(vae, FRAME, color=[1, 2])
    with pytest.raises(ValueError, match="color goes with kind 'map', not with 'samples'"):
        inference.plot(vae, FRAME, kind="samples", color="a")


def regression():
    x = FRAME[["a"]].to_numpy()
    return zoo.create("polynomial_regression", features=1, degree=2), (x, x[:, 0]), "curve"


def test_coefficients_are_drawn_as_tables_have_them():
    x = np.stack([FRAME["a"], 1000 * FRAME["a"] ** 2], 1)
    pair = zoo.create("polynomial_regression", features=2, degree=1)
    inference.fit(pair, x, FRAME["a"].to_numpy() + x[:, 1] / 500, progress=False)
    figure = inference.plot(pair, (x, x[:, 0]), kind="coefficients")
    names = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    assert [name.split("[")[-1].rstrip("]") for name in names] == ["Intercept", "x0", "x1", "sigma"]


def series():
    return zoo.create("hmm", states=2, emission="poisson"), np.arange(12.0)[None] % 3, "states"


def holes():
    table = FRAME.mask(FRAME > 1.5)
    return zoo.create("naive_bayes_vae", columns=zoo.datasets.Schema.infer(table), latent=2), table, "imputations"


def tree():
    return zoo.create("decision_tree", features=3, depth=1), (FRAME.to_numpy(), FRAME["a"].to_numpy()), "tree"


def pixels():
    return zoo.create("gaussian_vae", image=(2, 3, 4), latent=2), torch.randint(2, (4, 2, 3, 4)), "reconstructions"


def plane():
    return zoo.create("gmm", features=2, components=2), FRAME[["a", "b"]], "density"


def network():
    return zoo.create("bayesian_network"), None, "network"


@pytest.mark.parametrize(
    "make",
    [pixels, network, pytest.param(tree, marks=pytest.mark.slow)]
    + [pytest.param(make, marks=pytest.mark.slow) for make in (regression, series, holes, plane)],
)
def test_the_kind_that_suits_best_and_all_that_suit(make):
    pair, data, best = make()
    first = inference.plot(pair, data)
    again = inference.plot(pair, data, kind=best)
    assert first.get_size_inches().tolist() == again.get_size_inches().tolist()
    with pytest.raises(ValueError, match="there are: ") as told:
        inference.plot(pair, data, kind="none")
    kinds = str(told.value).partition("there are: ")[2].split(", ")
    assert kinds[0] == best
    for kind in kinds[1:] if make is not pixels else ():
        assert inference.plot(pair, data, kind=kind).axes


def test_the_command_draws_what_python_draws(tmp_path, monkeypatch, capsys, gmm):
    monkeypatch.chdir(tmp_path)
    gmm[0].save("run")
    FRAME.to_csv("plain.csv", index=False)
    drawn = ["plot", "run", "--data", "plain.csv", "--out", "map.png"]
    assert main([*drawn, "--color", "c"]) == 0
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    assert "other kinds: predictive, posterior, samples" in capsys.readouterr().out
    np.savez("rows.npz", x=FRAME.to_numpy(), y=np.arange(30) % 2)
    assert main(["plot", "run", "--data", "rows.npz", "--color", "y", "--out", "map.png", "--replace"]) == 0
    assert "has no y" in fails(capsys, *drawn, "--color", "y", "--replace")
    assert "is there already" in fails(capsys, *drawn)
    assert "no column 'd' in 'plain.csv'" in fails(capsys, *drawn, "--color", "d", "--replace")
    assert "ends in .png" in fails(capsys, "plot", "run", "--out", "map.gif")
    assert main(["plot", "run", "samples", "--out", "new.png", "--set", "number=5"]) == 0
