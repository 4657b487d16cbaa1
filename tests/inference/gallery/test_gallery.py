"""Pictures of codes: they show what the pair computes, in the user's names and units, and can be read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import zoo
from inference.codes import collapse, encoding
from inference.codes.imputation import Imputation
from inference.data.check import as_batch
from inference.drawing import style
from inference.gallery import imputations, observations, panels, paths
from inference.posterior.draws import generate
from zoo.schema.schema import Schema
from zoo.settings import settings

SIDE = 5


def table(rows=60):
    """A small mixed table with holes, long names among it."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=rows)
    columns = {
        "income in euros per year, before taxes": np.exp(9 + 2 * size).tolist(),
        "visits": rng.poisson(np.exp(1 + 0.5 * size)).tolist(),
        "city": rng.choice([f"the city of {name}" for name in "ABCDEFGHIJ"], rows).tolist(),
        "tiny": (1e-5 * size).tolist(),
        "stage": rng.choice(["low", "high"], rows).tolist(),
    }
    return {name: [None if rng.random() < 0.1 else cell for cell in cells] for name, cells in columns.items()}


@pytest.fixture(scope="module")
def tabular():
    data = table()
    torch.manual_seed(0)
    pair = zoo.create("naive_bayes_vae", columns=Schema.infer(data), hidden=(8,), latent=3)
    pair.initial(as_batch(pair, data))  # unfitted, but on the scale of the data
    return pair, data


@pytest.fixture(scope="module")
def pictorial():
    torch.manual_seed(0)
    pair = zoo.create("gaussian_vae", features=SIDE**2, latent=3, hidden=(16,))
    return pair, torch.bernoulli(torch.rand(20, SIDE**2))


def sheet(figure, rows, columns, side=SIDE, gap=1):
    """The images of a figure, (rows, columns, side, side)."""
    grid = np.asarray(figure.axes[0].images[0].get_array())
    step = side + gap
    return np.stack(
        [[grid[i * step : i * step + side, j * step : j * step + side] for j in range(columns)] for i in range(rows)]
    )


def check_readable(figure):
    """All that is written lies inside the figure, and the words along an axis do not touch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    wide, high = figure.get_size_inches() * figure.dpi
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        words = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        for axis, along in ((axes.xaxis, 0), (axes.yaxis, 1)):
            ticks = [tick.label1 if tick.label1.get_visible() else tick.label2 for tick in axis.get_major_ticks()]
            ticks = [tick for tick in ticks if tick.get_visible() and tick.get_text()]
            low, high_ = sorted(axis.get_view_interval())
            ticks = [tick for tick in ticks if low <= tick.get_position()[along] <= high_]
            words += ticks
            straight = [tick.get_window_extent(renderer) for tick in ticks if tick.get_rotation() == 0]
            edges = sorted((box.min[along], box.max[along]) for box in straight)
            assert all(a[1] <= b[0] + 1 for a, b in itertools.pairwise(edges)), [t.get_text() for t in ticks]
        for word in words:
            if word.get_text() and word.get_visible():
                box = word.get_window_extent(renderer)
                assert box.x0 >= -1, word
                assert box.y0 >= -1, word
                assert box.x1 <= wide + 1, word
                assert box.y1 <= high + 1, word


def some_imputation(schema, rows=40, draws=50):
    observed = torch.from_numpy(schema.encode(table(rows)))
    at = observed.isnan().nonzero()
    torch.manual_seed(0)
    kinds = [column.kind for column in schema.used]
    levels = [len(column.categories) for column in schema.used]
    lognormal = torch.distributions.LogNormal(0.0, 1.0)
    cells = [torch.randint(levels[j], (draws,)) if levels[j] else lognormal.sample((draws,)) for j in at[:, 1].tolist()]
    values = torch.stack(cells, -1)
    return Imputation(observed, at[:, 0], at[:, 1], values.double()[None], torch.ones(rows), tuple(kinds))


FIGURES = {
    "samples of images": lambda pair, data: observations.samples(pair, 7),
    "reconstructed images": observations.reconstructions,
    "images between": lambda pair, data: paths.interpolations(pair, data, 2, 4),
    "images along": lambda pair, data: paths.traversals(pair, data, 2),
    "samples of a table": lambda pair, data: observations.samples(pair),
    "a reconstructed table": observations.reconstructions,
    "rows between": lambda pair, data: paths.interpolations(pair, data, 2, 4),
    "rows along": lambda pair, data: paths.traversals(pair, data, [1]),
    "imputations": lambda pair, data: imputations.imputations(some_imputation(pair.schema), pair.schema, most=4),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_can_be_read(kind, request):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = FIGURES[kind](*request.getfixturevalue("pictorial" if "image" in kind else "tabular"))
    check_readable(figure)
    assert dict(matplotlib.rcParams) == before


# Images --------------------------------------------------------------------------------------------------------------


def test_expected_images_have_the_mean_of_draws(pictorial):
    pair, _ = pictorial
    number = 4000
    expected = observations._expected_images(pair, number, None, seed=1)
    drawn = generate(pair, number, seed=2)["x"]
    assert expected.shape == (number, SIDE**2)
    error = (expected.var(0) / number + drawn.var(0) / number).sqrt()
    z = (expected.mean(0) - drawn.mean(0)) / error
    assert z.abs().max() < 4.5
    assert float(z.square().mean()) < 2.5


def test_paths_run_from_one_observation_to_the_other(pictorial):
    pair, data = pictorial
    pictures = sheet(paths.interpolations(pair, data, pairs=3, steps=5, seed=1), 3, 7)
    ends = pictures[:, [0, -1]].reshape(3, 2, -1)
    flat = data.numpy()
    found = [[int(np.flatnonzero((flat == end).all(1))[0]) for end in row] for row in ends]
    assert len({row for pair_ in found for row in pair_}) == 6
    mean = encoding.encode(pair, data).mean["z"]
    for row, (first, last) in zip(pictures, found, strict=True):
        for step, share in enumerate(np.linspace(0, 1, 5)):
            z = mean[first] + float(share) * (mean[last] - mean[first])
            decoded = encoding.decode(pair, z[None])["x"][0].numpy()
            np.testing.assert_allclose(row[step + 1].ravel(), decoded, atol=1e-5)


def test_traversals_move_one_dimension_at_a_time(pictorial):
    pair, data = pictorial
    figure = paths.traversals(pair, data, [2, 0], steps=5)
    pictures = sheet(figure, 2, 5)
    known, kl = encoding.encode(pair, data), collapse.code_kl(pair, data)["z"]
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [f"z {i}: KL {float(kl[i]):.2f} nats" for i in (2, 0)]
    mean, sd = known.mean["z"], known.sd["z"]
    spread = (mean.var(0, correction=0) + sd.square().mean(0)).sqrt()
    for row, i in enumerate((2, 0)):
        for step, at in enumerate(np.linspace(-2.5, 2.5, 5)):
            z = mean.mean(0).clone()
            z[i] += float(at) * spread[i]
            decoded = encoding.decode(pair, z[None])["x"][0].numpy()
            np.testing.assert_allclose(pictures[row, step].ravel(), decoded, atol=1e-5)


def test_the_most_active_dimensions_come_first(pictorial):
    pair, data = pictorial
    figure = paths.traversals(pair, data, 3, steps=2)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    kl = collapse.code_kl(pair, data)["z"]
    assert names == [f"z {i}: KL {float(kl[i]):.2f} nats" for i in kl.argsort(descending=True).tolist()]


def test_a_divergence_that_does_not_split_gives_way_to_variances(pictorial):
    _, data = pictorial
    torch.manual_seed(0)
    pair = zoo.create("gaussian_vae", features=SIDE**2, latent=2, hidden=(8,), guide="full")
    figure = paths.traversals(pair, data, [1], steps=2)
    variance = encoding.encode(pair, data).mean["z"][:, 1].double().var(correction=0)
    assert figure.axes[0].get_yticklabels()[0].get_text() == f"z 1: variance {float(variance):.2g}"


# Tables --------------------------------------------------------------------------------------------------------------


def panel(figure, name):
    return next(axes for axes in figure.axes if axes.get_title(loc="left").split(":")[0] == name)


def test_samples_count_what_was_drawn(tabular):
    pair, _ = tabular
    figure = observations.samples(pair, 500, seed=3)
    drawn = pair.schema.decode(generate(pair, 500, seed=3)["x"].numpy())
    axes = panel(figure, "stage")
    names = [text.get_text() for text in axes.get_yticklabels()]
    shares = [bar.get_width() for bar in axes.patches]
    assert dict(zip(names, shares, strict=True)) == {
        name: pytest.approx(100 * drawn["stage"].count(name) / 500) for name in ("high", "low")
    }
    stairs = panel(figure, "visits").patches[0].get_data()
    counts, _ = np.histogram(drawn["visits"], stairs.edges)
    np.testing.assert_allclose(stairs.values, counts / 5)


def test_reconstructions_stand_over_what_was_observed(tabular):
    pair, data = tabular
    figure = observations.reconstructions(pair, data)
    told = pair.schema.decode(encoding.reconstruct(pair, data).numpy())
    seen = [row for row, value in enumerate(data["visits"]) if value is not None]
    matrix = encoding.reconstruct(pair, data).double().numpy()[seen, 1]
    points = np.asarray(panel(figure, "visits").collections[0].get_offsets())
    np.testing.assert_allclose(points, np.stack([[data["visits"][row] for row in seen], matrix], 1), rtol=1e-6)
    pairs = [pair_ for pair_ in zip(data["stage"], told["stage"], strict=True) if pair_[0] is not None]
    shares = np.asarray(panel(figure, "stage").images[0].get_array())
    for across, observed in enumerate(("high", "low")):
        decoded = [again for first, again in pairs if first == observed]
        assert shares[1, across] == pytest.approx(100 * decoded.count("low") / len(decoded))
        assert shares[:, across].sum() == pytest.approx(100)


def test_a_path_of_rows_shows_means_bands_and_probabilities(tabular):
    pair, data = tabular
    complete = {name: [cell for cell in cells if cell is not None][:30] for name, cells in data.items()}
    figure = paths.interpolations(pair, complete, pairs=2, steps=3, seed=0)
    picked = torch.randperm(30, generator=torch.Generator().manual_seed(0))[:4].tolist()
    panels = np.array(figure.axes[:10]).reshape(5, 2)  # (column, pair of rows)
    mean = encoding.encode(pair, complete).mean["z"]
    for i in range(2):
        first, last = picked[i], picked[2 + i]
        path = torch.stack([mean[first] + share * (mean[last] - mean[first]) for share in (0.0, 0.5, 1.0)])
        decoded = encoding.decode(pair, path)["x"].numpy()
        line, dots = panels[1, i].lines
        np.testing.assert_allclose(line.get_ydata(), decoded[:, 1], rtol=1e-5)
        np.testing.assert_allclose(dots.get_ydata(), [complete["visits"][row] for row in (first, last)])
        probabilities = np.stack([line.get_ydata() for line in panels[4, i].lines[:2]])
        np.testing.assert_allclose(probabilities.sum(0), 100)
        x = torch.full((1, 5), torch.nan)
        x[0, 4] = 1.0
        logits = pair.decode(path).cell_log_prob(x.expand(3, 5))[:, 4].detach()
        error = 100 * (logits.exp() * (1 - logits.exp()) / settings.picture_draws).sqrt()
        assert (np.abs(probabilities[1] - 100 * logits.exp().numpy()) < 4 * error.numpy()).all()
    assert panels[2, 1].get_legend().get_texts()[-1].get_text() == "3 others"
    assert panels[0, 0].get_ylabel().startswith("income")


def test_pairs_without_a_schema_are_drawn_too():
    rng = np.random.default_rng(0)
    import pandas as pd

    frame = pd.DataFrame(rng.normal(size=(30, 2)), columns=["height", "weight"])
    figure = observations.reconstructions(zoo.create("gmm"), frame)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["height", "weight"]
    assert len(observations.samples(zoo.create("hmm", steps=8), 3).axes) == 3
    assert observations.samples(zoo.create("polynomial_regression"), 20).axes[0].get_title(loc="left") == "y"
    assert observations.samples(zoo.create("gmm", features=25), 4).axes[0].images


# Imputations ---------------------------------------------------------------------------------------------------------

MIXED = Schema.of([("mass", "positive"), ("note", "ignored"), ("kind", "categorical", ("cat", "dog", "emu"))])


def known_imputation():
    """Rows 2, 3 lack the mass, rows 1, 3 the kind; the draws are laid out by hand."""
    nan = torch.nan
    observed = torch.tensor([[5.0, nan], [nan, 1.0], [nan, nan], [7.0, 0.0]]).double()
    share = torch.linspace(0, 1, 101).double()
    kind = torch.tensor([0.0] * 20 + [2.0] * 81).double()
    values = torch.stack([kind, 20 + 2 * share, 10 + share, 2 - kind], -1)  # cells row by row
    rows, columns = observed.isnan().nonzero(as_tuple=True)
    return Imputation(observed, rows, columns, values[None], torch.ones(4), ("positive", "categorical"))


def test_imputed_numbers_have_their_intervals_in_order():
    axes = panel(imputations.imputations(known_imputation(), MIXED), "mass")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["3", "2", "observed"]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [10.5, 21])
    wide, narrow = (np.array(lines.get_segments())[:, :, 0] for lines in axes.collections[:2])
    np.testing.assert_allclose(wide, [[10.05, 10.95], [20.1, 21.9]])
    np.testing.assert_allclose(narrow, [[10.25, 10.75], [20.5, 21.5]])
    np.testing.assert_allclose(np.sort(np.asarray(axes.collections[2].get_offsets())[:, 0]), [5, 7])


def test_imputed_categories_have_bars_for_their_probabilities():
    from matplotlib.colors import to_rgba

    axes = panel(imputations.imputations(known_imputation(), MIXED), "kind")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["cat", "dog", "emu"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["3", "1", "observed"]
    widths = np.array([bar.get_width() for bar in axes.patches]).reshape(3, 3) / 0.9  # categories x (cells, observed)
    np.testing.assert_allclose(widths, [[81 / 101, 20 / 101, 0.5], [0, 0, 0.5], [20 / 101, 81 / 101, 0]])
    dark = [i for i, bar in enumerate(axes.patches) if bar.get_facecolor() == to_rgba(style.COLOURS[0])]
    assert dark == [0, 7]  # those filled in


def test_of_many_cells_some_are_shown():
    figure = imputations.imputations(some_imputation(Schema.infer(table())), Schema.infer(table()), most=2)
    title = next(axes.get_title(loc="left") for axes in figure.axes if "visits" in axes.get_title(loc="left"))
    assert title.startswith("visits: 2 of ")


# Small things --------------------------------------------------------------------------------------------------------


def test_rare_categories_are_shown_together():
    column = Schema.of([("letter", "categorical", "abcdef")])[0]
    names, group = panels.grouped(column, np.array([5, 0, 3, 9, 1, 4]), 4)
    assert names == ["a", "d", "f", "3 others"]
    assert group.tolist() == [0, 3, 3, 1, 3, 2]
    assert panels.grouped(column, np.zeros(6), 6)[0] == list("abcdef")


@pytest.mark.parametrize("text", ["short", "x" * 17, "a_name_with_many_words_in_it", "cut in firstsixteenletters"])
def test_long_names_keep_both_ends(text):
    short = panels.shortened(text, 14)
    assert len(short) <= 14
    assert short[0] == text[0]
    assert short[-1] == text[-1]
    assert all(len(line) <= 16 for line in paths._two_lines(text).splitlines())


def some(name, **config):
    return zoo.create(name, **config)


IMAGES = torch.zeros(4, 64)
FAULTS = {
    "no codes to reconstruct from": (
        lambda: observations.reconstructions(
            some("polynomial_regression"), zoo.Batch.of(torch.zeros(4, 1), torch.zeros(4))
        ),
        "no local latents",
    ),
    "no codes to move": (
        lambda: paths.traversals(some("hmm"), torch.zeros(1, 5, 1)),
        "hmm has no local latents",
    ),
    "classes instead of codes": (
        lambda: paths.interpolations(some("gmm"), torch.zeros(4, 2)),
        "interpolations: the guide of gmm draws no code",
    ),
    "classes to move": (
        lambda: paths.traversals(some("gmm"), torch.zeros(4, 2)),
        "traversals: the guide of gmm draws no code",
    ),
    "one row": (lambda: paths.interpolations(some("gaussian_vae"), IMAGES[:1]), "at least two observations, got 1"),
    "no pair": (lambda: paths.interpolations(some("gaussian_vae"), IMAGES, 0), "pairs: expected a whole number"),
    "one step": (lambda: paths.traversals(some("gaussian_vae"), IMAGES, steps=1), "steps: expected .* at least 2"),
    "no samples": (lambda: observations.samples(some("gmm"), 0), "number: expected"),
    "no images": (lambda: observations.reconstructions(some("gaussian_vae"), IMAGES, 0), "number: expected"),
    "other width": (
        lambda: observations.reconstructions(some("gaussian_vae"), IMAGES[:, 1:]),
        r"\(N, 64\), got \(4, 63\)",
    ),
    "no such dimension": (
        lambda: paths.traversals(some("gaussian_vae"), IMAGES, [2]),
        "gaussian_vae has codes 0 to 1, got 2",
    ),
    "no dimension": (lambda: paths.traversals(some("gaussian_vae"), IMAGES, []), "at least one"),
    "none of the dimensions": (lambda: paths.traversals(some("gaussian_vae"), IMAGES, 0), "dimensions: expected"),
    "another schema": (
        lambda: imputations.imputations(known_imputation(), Schema.of(["real"] * 3)),
        "expected 2 columns that are used, got 3",
    ),
    "nothing missing": (
        lambda: imputations.imputations(
            Imputation(torch.zeros(1, 2), *torch.zeros(2, 0).long(), torch.zeros(1, 9, 0), torch.ones(1)), MIXED
        ),
        "nothing is missing",
    ),
    "no cells to show": (lambda: imputations.imputations(known_imputation(), MIXED, most=0), "most: expected"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_drawn_is_refused(fault):
    draw, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        draw()


def test_helpers_of_the_plots_are_still_there():
    assert len(style.COLOURS) > settings.picture_categories  # every category of a path has a colour of its own
