"""The pictures: they show what they were given, and leave matplotlib as they found it."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inference.drawing import plane, plots, style

RNG = np.random.default_rng(0)
SQUARE = np.array([[1.0, 0.6], [0.6, 2.0]])


def fit(losses, validation=()):
    return SimpleNamespace(losses=np.asarray(losses), validation=list(validation), reason="converged")


def normal(points):
    """Log density of N(0, SQUARE), (M, 2) -> (M,)."""
    inverse = np.linalg.inv(SQUARE)
    return -0.5 * np.einsum("mi,ij,mj->m", points, inverse, points) - np.log(2 * np.pi * np.sqrt(np.linalg.det(SQUARE)))


FIGURES = {
    "loss_curve": lambda: plots.loss_curve(fit([3.0, np.nan, 2.0, 1.5] * 100, [(100, 2.2), (300, 2.1)])),
    "reconstructions": lambda: plots.reconstructions(torch.rand(20, 64), torch.rand(20, 64)),
    "samples": lambda: plots.samples(RNG.random((13, 3, 4, 5))),
    "latent_map": lambda: plane.latent_map(torch.randn(50, 5), torch.arange(50) % 12),
    "latent_map on a scale": lambda: plane.latent_map(RNG.normal(size=(50, 2)), RNG.normal(size=50)),
    "latent_map of a line": lambda: plane.latent_map(
        RNG.normal(size=(50, 1)), np.arange(50) % 3, names=["a", "b", "c"]
    ),
    "mixture_density": lambda: plane.mixture_density(RNG.normal(size=(50, 2)), normal, [(np.zeros(2), SQUARE)]),
    "decoded_states": lambda: plots.decoded_states(RNG.random(9), [0, 0, 1, 1, 1, 0, 2, 2, 2], means=[1.0, 2.0, 3.0]),
    "predictive_check": lambda: plots.predictive_check(RNG.poisson(5, 30), RNG.poisson(5, (20, 30))),
    "marginals": lambda: plots.marginals({"a": torch.randn(2, 50, 3, 10), "b": torch.randn(2, 50)}),
    "predictive_band": lambda: plots.predictive_band(RNG.random(20), RNG.random(20), RNG.random((2, 30, 20))),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_is_drawn_without_a_backend(kind):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = FIGURES[kind]()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue()[:8] == b"\x89PNG\r\n\x1a\n"
    assert dict(matplotlib.rcParams) == before
    if kind not in ("reconstructions", "samples"):
        assert figure.axes[0].get_xlabel() or figure.axes[-1].get_xlabel()
        assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()


def test_plots_load_neither_pyplot_nor_torch():
    code = (
        "import sys; from inference.drawing import plots; import numpy as np;"
        "assert 'matplotlib' not in sys.modules;"
        "plots.samples(np.eye(4)[None]);"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_running_mean_leaves_nan_out():
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    window = 4  # two before, itself, one after
    direct = [np.nanmean(values[max(0, i - 2) : i + 2]) for i in range(len(values))]
    np.testing.assert_allclose(style.running_mean(values, window), direct)
    assert np.isnan(style.running_mean(np.full(5, np.nan), 2)).all()


def test_the_end_of_a_loss_curve_is_in_the_picture():
    losses = np.concatenate([np.geomspace(1e6, 10, 50), np.full(500, 9.0)])
    axes = plots.loss_curve(fit(losses, [(550, 8.5)])).axes[0]
    low, high = axes.get_ylim()
    assert low < 8.5
    assert 10 < high < 1e5  # the first steps leave the picture


@pytest.mark.parametrize("mass", plane.MASSES)
def test_shades_hold_the_probability_they_say(mass):
    # Of a bivariate Gaussian, the region above log density max + log(1 - mass) holds that mass.
    line = np.linspace(-9, 9, 400)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    levels = plane._levels(normal(grid))
    level = levels[plane.MASSES.index(mass)]
    assert level == pytest.approx(normal(np.zeros((1, 2)))[0] + np.log(1 - mass), abs=0.01)


@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_an_ellipse_holds_the_probability_it_says(mass):
    points = plane._ellipse(np.array([3.0, -1.0]), SQUARE, mass).T - [3.0, -1.0]
    squared = np.einsum("mi,ij,mj->m", points, np.linalg.inv(SQUARE), points)
    draws = RNG.multivariate_normal(np.zeros(2), SQUARE, size=20_000)
    inside = (np.einsum("mi,ij,mj->m", draws, np.linalg.inv(SQUARE), draws) < squared.max()).mean()
    assert np.ptp(squared) < 1e-9
    assert inside == pytest.approx(mass, abs=4 * np.sqrt(mass * (1 - mass) / 20_000))


def test_images_stand_where_they_belong():
    pictures = np.stack([np.full((2, 3), i) for i in range(5)]).astype(float)
    sheet = np.asarray(plots.samples(pictures, columns=3).axes[0].images[0].get_array().filled(-1))
    assert sheet.shape == (2 * 2 + 1, 3 * 3 + 2)
    np.testing.assert_array_equal(sheet[:2], [[0, 0, 0, -1, 1, 1, 1, -1, 2, 2, 2]] * 2)
    np.testing.assert_array_equal(sheet[3:], [[3, 3, 3, -1, 4, 4, 4, -1, -1, -1, -1]] * 2)


def test_flat_colour_images_are_unfolded():
    flat = torch.arange(2 * 3 * 4 * 5.0).reshape(2, -1)
    pictures = style.as_images(flat, (3, 4, 5))
    assert pictures.shape == (2, 4, 5, 3)
    assert pictures[1, 2, 3, 0] == flat[1, 2 * 5 + 3]


def test_states_own_the_time_around_their_steps():
    figure = plots.decoded_states([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0], [1900, 1901, 1902, 1904])
    spans = sorted(
        tuple(patch.get_extents().transformed(figure.axes[0].transData.inverted()).intervalx)
        for patch in figure.axes[0].patches
    )
    np.testing.assert_allclose(spans, [(1899.5, 1901.5), (1901.5, 1905)], atol=1e-6)


def test_the_band_holds_its_share_of_draws():
    x = np.array([2.0, 0.0, 1.0])
    draws = RNG.normal(size=(2, 4000, 3)) + 10 * x
    axes = plots.predictive_band(x, x, draws).axes[0]
    median = axes.lines[0]
    np.testing.assert_allclose(median.get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(median.get_ydata(), [0, 10, 20], atol=4 * 1.2533 / np.sqrt(8000))
    wide = axes.collections[0].get_paths()[0].get_extents().intervaly
    np.testing.assert_allclose(wide, [-1.645, 20 + 1.645], atol=4 * 2.11 / np.sqrt(8000))


def test_a_predictive_check_counts_what_it_was_given():
    observed = np.array([0.0, 1.0, 1.0, np.nan])
    drawn = np.stack([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    band, median, data = plots.predictive_check(observed, drawn).axes[0].patches
    np.testing.assert_allclose(data.get_data().edges, [-0.5, 0.5, 1.5, 2.5])
    np.testing.assert_allclose(data.get_data().values, [100 / 3, 200 / 3, 0])
    np.testing.assert_allclose(median.get_data().values, [0, 0, 0])
    np.testing.assert_allclose(band.get_data().values, [90, 90, 90])  # 95 % of the way through 0, 0, 100


def test_marginals_show_each_latent_with_its_name():
    drawn = np.linspace(0, 1, 201).reshape(1, 201, 1) + np.array([0.0, 10.0, 20.0])
    figure = plots.marginals({"loc": drawn, "noise": drawn[..., 0]}, most=2)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["loc[0]", "loc[1]"]
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == ["noise"]
    assert figure.axes[0].get_title(loc="left") == "the first 2 of 3"
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), [0.5, 10.5])
    wide, narrow = (np.array(lines.get_segments())[:, :, 0] for lines in figure.axes[0].collections)
    np.testing.assert_allclose(wide, [[0.05, 0.95], [10.05, 10.95]])
    np.testing.assert_allclose(narrow, [[0.25, 0.75], [10.25, 10.75]])


def test_entries_of_unlike_widths_have_scales_of_their_own():
    drawn = np.linspace(-1, 1, 201).reshape(1, 201, 1) * np.array([1.0, 1e-4, 0.5])
    figure = plots.marginals({"coefficients": drawn}, labels={"coefficients": ["Intercept", "income", "age"]}, most=2)
    assert [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes] == [["Intercept"], ["income"]]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["the first 2 of 3", ""]
    for axes, width in zip(figure.axes, (1.0, 1e-4), strict=True):
        low, high = axes.get_xlim()
        assert high - low < 2.5 * width  # the interval fills its panel
        np.testing.assert_allclose(axes.collections[0].get_segments()[0][:, 0], [-0.9 * width, 0.9 * width])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.loss_curve(fit([])), "losses"),
        (lambda: plots.samples(np.zeros((2, 7))), "not square"),
        (lambda: plots.reconstructions(np.zeros((2, 4)), np.zeros((2, 9))), "reconstructions"),
        (lambda: plane.latent_map(np.zeros(3)), r"\(N, L\)"),
        (lambda: plane.latent_map(np.zeros((3, 2)), np.zeros(2)), "labels"),
        (lambda: plane.mixture_density(np.zeros((3, 3)), normal), r"\(N, 2\)"),
        (lambda: plots.decoded_states([1.0, 2.0], [0]), "2 values, 1 states"),
        (lambda: plots.predictive_check(np.zeros(3), np.zeros((5, 4))), "expected shape"),
        (lambda: plots.marginals({}), "at least one site"),
        (lambda: plots.predictive_band([1.0, 2.0], [1.0, 2.0], np.zeros((5, 3))), "draws"),
    ],
)
def test_what_does_not_fit_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
