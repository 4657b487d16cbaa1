"""One door for data: checked once by each public function, and the same for bare data and for a Batch."""

from __future__ import annotations

import inspect

import numpy as np
import pandas
import polars
import pytest
import torch
from scipy import sparse

import inference
import zoo
from inference.data import check as door
from inference.data.check import check
from inference.running.checked import Checked
from zoo.base import Batch, ModelGuide

# --- checked once -----------------------------------------------------------------------------------------------------

QUICK = {"progress": False, "compile": "off"}


def vae():
    return zoo.create("gaussian_vae", features=6, latent=2, hidden=[8])


def mixture():
    return zoo.create("gmm", features=2, components=2)


def table():
    return zoo.create("naive_bayes_vae", columns=["real"] * 3, latent=2)


def regression():
    return zoo.create("polynomial_regression", features=2, degree=2)


def hidden_states():
    return zoo.create("hmm", states=2, steps=5)


CALLS = {  # public function -> how it is called on a pair, its data and draws for them
    "fit": lambda pair, data, posterior: inference.fit(pair, data, steps=2, **QUICK),
    "fit held out": lambda pair, data, posterior: inference.fit(pair, data, steps=2, validation=0.3, **QUICK),
    "draw": lambda pair, data, posterior: inference.draw(pair, data, 3),
    "predict": lambda pair, data, posterior: inference.predict(pair, posterior, data),
    "prior": lambda pair, data, posterior: inference.prior(pair, data, 3),
    "log_likelihood": lambda pair, data, posterior: inference.log_likelihood(pair, posterior, data, particles=3),
    "khat": lambda pair, data, posterior: inference.khat(pair, data, draws=25, particles=25),
    "anomaly": lambda pair, data, posterior: inference.anomaly(pair, data, draws=3),
    "plot": inference.plot,
    "loo": lambda pair, data, posterior: inference.loo(pair, posterior, data),
    "to_arviz": lambda pair, data, posterior: inference.to_arviz(pair, posterior, data),
}
CODES = {
    "to_arviz with prior": lambda pair, data, posterior: inference.to_arviz(pair, posterior, data, prior=3),
    "encode": lambda pair, data, posterior: inference.encode(pair, data, draws=2),
    "reconstruct": lambda pair, data, posterior: inference.reconstruct(pair, data),
    "active_units": lambda pair, data, posterior: inference.active_units(pair, data),
    "code_kl": lambda pair, data, posterior: inference.code_kl(pair, data),
    "collapsed": lambda pair, data, posterior: inference.collapsed(pair, data, threshold=1e-12),
    "log_marginal": lambda pair, data, posterior: inference.log_marginal(pair, data, particles=5),
    "bits_per_dimension": lambda pair, data, posterior: inference.bits_per_dimension(pair, data, draws=3),
    "gap": lambda pair, data, posterior: inference.gap(pair, data, particles=8, steps=2),
    "refine": lambda pair, data, posterior: inference.refine(pair, data, steps=2, samples=4),
}
TABLES = {
    "impute": lambda pair, data, posterior: inference.impute(pair, data, draws=3, proposals=5),
    "impute by draws": lambda pair, data, posterior: inference.impute(
        pair, data, draws=3, proposals=5, posterior=posterior
    ),
    "fit_by_simulation": lambda pair, data, posterior: inference.fit_by_simulation(
        pair, data=data, steps=2, batch_size=4, progress=False
    ),
    "reconstruct": CODES["reconstruct"],
}
RESPONSES = {
    "sample": lambda pair, data, posterior: inference.sample(
        pair, data, 2, 4, max_warmup=4, compile="graph", progress=False
    ),
    "check": lambda pair, data, posterior: inference.check(pair, data, posterior, run=False),
    "report": lambda pair, data, posterior: inference.report(pair, data, posterior, run=False),
    "log_evidence": lambda pair, data, posterior: inference.log_evidence(pair, data, method="smc", precision=1.0),
    "importance": lambda pair, data, posterior: inference.importance(pair, posterior, data),
    "predict": CALLS["predict"],
    "fit X and y": lambda pair, data, posterior: inference.fit(pair, data.x, data.y, steps=2, **QUICK),
}
STATES = {
    "smooth": lambda pair, data, posterior: inference.smooth(pair, posterior, data),
    "viterbi": lambda pair, data, posterior: inference.viterbi(pair, posterior, data),
    "sample_paths": lambda pair, data, posterior: inference.sample_paths(pair, posterior, data),
    "forecast": lambda pair, data, posterior: inference.forecast(pair, posterior, data, horizon=2),
    "one_step_ahead": lambda pair, data, posterior: inference.one_step_ahead(pair, posterior, data),
    "log_score": lambda pair, data, posterior: inference.log_score(pair, posterior, data),
    "forecast_table": lambda pair, data, posterior: inference.forecast_table(pair, data, 2, posterior),
    "fit by EM": lambda pair, data, posterior: inference.fit(pair, data, method="em", progress=False),
}
GLOBALS = {
    "assignments": lambda pair, data, posterior: inference.assignments(pair, posterior, data),
    "profile": lambda pair, data, posterior: inference.profile(pair, data),
    "novelty": lambda pair, data, posterior: inference.novelty(pair, data, draws=5),
}
EVERY = {**CALLS, **CODES, **GLOBALS, **TABLES, **RESPONSES, **STATES}
COUNTED = {
    vae: (*CALLS, *CODES),
    mixture: (*CALLS, *GLOBALS),
    table: TABLES,
    regression: RESPONSES,
    hidden_states: STATES,
}


@pytest.mark.parametrize("rows", [12, 150])  # the second are more than are traced without asking how much a row holds
@pytest.mark.parametrize(
    ("make", "call"),
    [(make, call) for make, calls in COUNTED.items() for call in calls],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.filterwarnings("ignore:.*R-hat", "ignore:warm-up stopped at max_warmup=4")
def test_a_public_function_checks_once_and_traces_at_most_twice(make, call, rows, monkeypatch):
    pair = make()
    data, _ = pair.simulate(rows)
    posterior = inference.draw(pair, data, 25)
    checks, traces, inside = [], [], ModelGuide.sites
    accept = door.accept
    monkeypatch.setattr(door, "accept", lambda *given: checks.append(1) or accept(*given))
    owner = next(cls for cls in ModelGuide.__mro__ if "sites" in vars(cls))
    monkeypatch.setattr(owner, "sites", lambda self, *given: traces.append(1) or inside(self, *given))
    EVERY[call](pair, data, posterior)
    assert len(checks) == 1
    assert len(traces) <= 2


def test_what_was_checked_is_taken_as_it_is_and_for_no_other_pair():
    pair, other = mixture(), zoo.create("gmm", features=3, components=2)
    given = check(pair, pair.simulate(12)[0])
    assert check(pair, given) is given
    assert given.select(slice(0, 5)).size == 5
    with pytest.raises(ValueError, match=r"field 'x': expected shape \(N, 3\), got \(12, 2\)"):
        check(other, given)
    again = check(pair.double(), given)  # the pair has moved: its data follow
    assert again.batch.x.dtype == torch.float64


def test_every_public_function_that_takes_data_is_counted():
    functions = {name: getattr(inference, name) for name in inference.__all__}
    taking = {
        name
        for name, function in functions.items()
        if inspect.isfunction(function) and "data" in inspect.signature(function).parameters
    }
    taking -= {"backtest"}  # it fits anew at each origin
    taking -= {"calibrate"}  # it simulates others, and has each of those inferred
    taking -= {"infer"}  # by several roads, of which the exact one looks at a copy in double precision
    taking -= {"pair_for"}  # there is no pair yet that they could be checked for
    taking -= {"compress"}  # it takes data that do not fit the pair too
    taking -= {"effects", "r_squared", "predictions"}  # they read tables by a design
    assert taking == {name.split()[0] for name in EVERY}


# --- both doors -------------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(8, 3)).round(3)
HOLES = np.where(np.arange(24).reshape(8, 3) % 7 == 3, np.nan, X)
COUNTS = np.arange(24).reshape(8, 3)
NULLS = polars.DataFrame({"a": [1.0, None], "b": [2.0, 3.0], "c": [4.0, 5.0]})

FORMS = {  # what holds the numbers -> the array that it stands for
    "array": (X, X),
    "float32": (X.astype("f4"), X.astype("f4")),
    "fortran": (np.asfortranarray(X), X),
    "strided": (np.repeat(X, 2, 0)[::2], X),
    "reversed": (X[::-1], X[::-1]),
    "big-endian": (X.astype(">f8"), X),
    "object": (X.astype(object), X),
    "half": (X.astype("f2"), X.astype("f2").astype(float)),
    "longdouble": (X.astype(np.longdouble), X),
    "whole numbers": (COUNTS, COUNTS.astype(float)),
    "unsigned beyond int64": (np.full((8, 3), 2**63 + 2048, np.uint64), np.full((8, 3), 2.0**63 + 2048)),
    "masked": (np.ma.masked_array(np.nan_to_num(HOLES, nan=-999.0), np.isnan(HOLES)), HOLES),
    "masked whole numbers": (np.ma.masked_equal(COUNTS, 5), np.where(COUNTS == 5, np.nan, COUNTS)),
    "None for missing": (np.where(np.isnan(HOLES), None, HOLES.astype(object)), HOLES),
    "pandas": (pandas.DataFrame(X, columns=list("abc")), X),
    "pandas with NaN": (pandas.DataFrame(HOLES, columns=list("abc")), HOLES),
    "nullable": (pandas.DataFrame(HOLES, columns=list("abc")).round().astype("Int64"), HOLES.round()),
    "polars": (polars.DataFrame(X, schema=list("abc")), X),
    "polars with null": (NULLS, np.array([[1.0, 2, 4], [np.nan, 3, 5]])),
    "tensor": (torch.from_numpy(X), X),
    "transposed tensor": (torch.from_numpy(X.T.copy()).T, X),
}


@pytest.fixture(scope="module")
def taking_holes():
    return zoo.create("naive_bayes", columns=["real"] * 3).double()


@pytest.fixture(scope="module")
def plain():
    """A pair without a schema: a frame is a matrix to it."""
    return zoo.create("gmm", features=3, components=2).double()


@pytest.mark.parametrize("form", FORMS)
def test_both_doors_read_the_same_numbers(form, plain, taking_holes):
    given, expected = FORMS[form]
    pair = taking_holes if np.isnan(expected).any() else plain
    bare = given.to_numpy() if pair is taking_holes and hasattr(given, "to_numpy") else given
    first, second = (check(pair, data).batch for data in (bare, Batch.of(x=given)))
    for batch in (first, second):
        np.testing.assert_array_equal(batch.x.numpy(), expected)
        assert batch.x.is_contiguous()
    if bare is given:
        assert first.columns == second.columns == (("a", "b", "c") if hasattr(given, "columns") else None)


def test_a_read_only_array_is_neither_written_to_nor_shared(plain):
    values = X.copy()
    values.flags.writeable = False
    for data in (values, Batch.of(x=values)):
        check(plain, data).batch.x.add_(1)
    np.testing.assert_array_equal(values, X)


INFINITE = np.where(X[2, 1] == X, np.inf, X)
WRONG = {
    "no rows": (lambda: np.empty((0, 3)), r"field 'x' is empty: shape \(0, 3\); at least one row is needed"),
    "no columns": (lambda: np.empty((2, 0)), r"field 'x' is empty: shape \(2, 0\)"),
    "a number": (lambda: np.float64(3.0), "field 'x': expected rows, got the single number 3.0"),
    "scipy sparse": (lambda: sparse.csr_matrix(X), "sparse matrices are not accepted"),
    "torch sparse": (lambda: torch.from_numpy(X).to_sparse(), "got a sparse tensor"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.from_numpy(X).float(), 0.1, 0, torch.qint8), "quantised"),
    "masked tensor": (
        lambda: torch.masked.masked_tensor(torch.from_numpy(X), torch.from_numpy(X) > 0),
        r"field 'x': expected numbers, got a masked tensor; give \.to_tensor\(float\('nan'\)\)",
    ),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(3)]), "got a nested tensor"),
    "lazy": (
        lambda: polars.LazyFrame({"a": [1.0], "b": [2.0], "c": [3.0]}),
        "LazyFrame has no values yet; give .collect",
    ),
    "too large": (lambda: np.array([[1, 2, 10**400]], object), "row 0, column 2: expected a number, got 1000"),
    "meta": (lambda: torch.empty(8, 3, device="meta"), "meta device"),
    "words": (lambda: np.array([["1", "2", "three"]]), "row 0, column 2: expected a number, got 'three'"),
    "words in a frame": (
        lambda: pandas.DataFrame({"a": [1.0], "b": ["x"], "c": [0.0]}),
        "row 0, column 'b': expected a number, got 'x'",
    ),
    "complex": (lambda: X + 1j, "expected numbers, got dtype complex128"),
    "dates": (lambda: np.array([["2020-01-01"] * 3], "M8[D]"), "expected numbers, got dtype datetime64"),
    "infinite": (lambda: INFINITE, "row 2, column 1: expected a finite number, got inf"),
    "infinite in a frame": (
        lambda: pandas.DataFrame(INFINITE, columns=list("abc")),
        "row 2, column 'b': expected a finite number, got inf",
    ),
    "one column less": (lambda: X[:, :2], r"expected shape \(N, 3\), got \(8, 2\)"),
}


@pytest.mark.filterwarnings(
    "ignore:torch.quantize_per_tensor",
    "ignore:The PyTorch API of nested tensors",
    "ignore:The PyTorch API of MaskedTensors",
)
@pytest.mark.parametrize("kind", WRONG)
def test_both_doors_refuse_with_the_same_words(kind, plain):
    make, words = WRONG[kind]
    with pytest.raises(ValueError, match=words) as bare:
        check(plain, make())
    with pytest.raises(ValueError, match=words) as wrapped:
        check(plain, Batch.of(x=make()))
    assert str(bare.value) == str(wrapped.value)


def test_an_iterable_dataset_and_ragged_rows_are_refused_by_name(plain):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(torch.from_numpy(X))

    with pytest.raises(ValueError, match="Stream is not accepted; give a NumPy array"):
        check(plain, Stream())

    class Ragged(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return X[0, : 3 - i]

    with pytest.raises(ValueError, match=r"row 1 of the Dataset: expected shape \(3,\) as in row 0, got \(2,\)"):
        check(plain, Ragged())
    with pytest.raises(ValueError, match="field 'x': expected an array, a frame or lists of numbers, got Ragged"):
        Batch.of(x=Ragged())  # without an end to its rows: nobody counts on one
    with pytest.raises(ValueError, match="expected a tensor, got ndarray; Batch"):
        Batch(8, 8, x=X)
    with pytest.raises(ValueError, match="field 'x': expected rows of equal length, got list"):
        Batch.of(x=[[1.0, 2.0], [3.0]])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"x": X[0]}, {"z": X[1]}], "row 1 of the Dataset: expected a mapping of x as in row 0, got a mapping of z"),
        ([{"x": X[0]}, X[1]], "row 1 of the Dataset: expected a mapping of x as in row 0, got one value"),
        ([(X[0], 1), (X[1], 2, 3)], "row 1 of the Dataset: expected 2 parts as in row 0, got 3 parts"),
        ([X[0], None], r"row 1 of the Dataset: expected shape \(3,\) as in row 0, got \(\)"),
    ],
)
def test_rows_of_a_dataset_that_are_of_unlike_kinds_are_refused_by_row(rows, words, plain):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, i):
            return rows[i]

    with pytest.raises(ValueError, match=words):
        check(plain, Rows())


def test_a_table_of_masked_columns_is_one_with_holes_and_a_number_beyond_any_float_is_named(taking_holes):
    columns = {f"x{i + 1}": np.ma.masked_invalid(HOLES[:, i]) for i in range(3)}
    np.testing.assert_array_equal(check(taking_holes, columns).batch.x.numpy(), HOLES)
    with pytest.raises(ValueError, match="column 'x2', row 0: expected a finite number"):
        check(taking_holes, {**columns, "x2": [10**400, *X[1:, 1]]})


def test_masked_cells_are_filled_and_estimated_as_missing_ones():
    masked = np.ma.masked_array(np.nan_to_num(HOLES, nan=-999.0), np.isnan(HOLES))
    pair = zoo.create("naive_bayes_vae", columns=["real"] * 3, latent=2)
    inference.fit(pair, masked, steps=2, **QUICK)
    filled = inference.impute(pair, masked, draws=3, proposals=5)
    np.testing.assert_array_equal(filled.observed.numpy(), HOLES.astype(np.float32))
    assert filled.values.shape[-1] == np.isnan(HOLES).sum()
    assert float(filled.values.min()) > -900
    options = {"columns": ["real"] * 3, "latent": 2, "steps": 2, "random_state": 0}
    estimator = inference.Estimator("naive_bayes_vae", **options).fit(masked)
    np.testing.assert_array_equal(estimator.transform(masked), estimator.transform(HOLES))
    with pytest.raises(ValueError, match="y, row 2: masked"):
        inference.Estimator("polynomial_regression", steps=2).fit(X, np.ma.masked_equal(np.arange(8), 2))


def test_a_dataset_of_mappings_is_read_by_the_names_of_the_fields(taking_holes):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return {"y": float(i % 2), "x": X[i]}

    batch = check(taking_holes, Rows()).batch
    np.testing.assert_array_equal(batch.x.numpy(), X)
    np.testing.assert_array_equal(batch.y.numpy(), np.arange(8) % 2)


# --- X and y ----------------------------------------------------------------------------------------------------------


def test_fit_takes_x_and_y_as_scikit_learn_does():
    y = X @ [1.0, -2.0, 0.5] + 3
    losses = []
    for data in ((X, y), ((X, y),), (Batch.of(X, y),), (pandas.DataFrame(X), pandas.Series(y))):
        pair = zoo.create("polynomial_regression", features=3, degree=1).double()
        losses.append(inference.fit(pair, *data, steps=20, **QUICK).losses)
    for other in losses[1:]:
        np.testing.assert_array_equal(other, losses[0])


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("support_vector_machine", {}),
        ("decision_tree", {}),
        ("decision_tree", {"task": "classification"}),
        ("random_forest", {}),
        ("random_forest", {"task": "classification"}),
        ("polynomial_regression", {"features": 2}),
    ],
    ids=str,
)
def test_a_forgotten_y_is_named_whether_it_is_a_number_or_a_class(name, config):
    pair = zoo.create(name, **config)
    posterior = inference.prior(pair, X[:, :2], 30)
    calls = [
        lambda data: inference.fit(pair, data, steps=1, **QUICK),
        lambda data: inference.draw(pair, data, 3),
        lambda data: inference.khat(pair, data),
        lambda data: inference.novelty(pair, data, posterior),
        lambda data: inference.log_likelihood(pair, posterior, data),
        lambda data: inference.loo(pair, posterior, data),
    ]
    for call in calls:
        for data in (Batch.of(x=X[:, :2]), (X[:, :2], None)):
            with pytest.raises(ValueError, match=rf"^{name} needs field 'y' of shape \(N\); given: x; give both"):
                call(data)


def test_lists_are_read_as_scikit_learn_reads_them():
    pair = zoo.create("polynomial_regression", features=3, degree=1).double()
    np.testing.assert_array_equal(check(pair, (X.tolist(), [0.0] * 8)).batch.x.numpy(), X)


def test_y_in_words_is_read_by_the_target_of_the_schema():
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0.1, 0.2, 0.3, 0.5]})
    labels = ["yes", "no", "no", "yes"]
    target = ("y", "categorical", ["no", "yes"])
    pair = zoo.create("naive_bayes", columns=zoo.datasets.Schema.infer(frame), target=target)
    assert check(pair, (frame, labels)).batch.y.tolist() == [1, 0, 0, 1]
    assert check(pair, frame.assign(y=labels)).batch.y.tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match="y was given twice"):
        check(pair, (frame.assign(y=labels), labels))


def test_x_and_y_that_do_not_go_together_are_refused():
    pair = zoo.create("polynomial_regression", features=3, degree=1)
    with pytest.raises(ValueError, match="field 'y': expected 8 rows as in X, got shape"):
        inference.fit(pair, X, np.ones(7))
    with pytest.raises(ValueError, match="y was given beside a Batch, which has its own"):
        inference.fit(pair, Batch.of(X, np.ones(8)), np.ones(8))
    with pytest.raises(ValueError, match="a tuple of 3 is not accepted"):
        inference.draw(pair, (X, X, X))


def test_checked_says_what_the_trace_says():
    given = check(vae(), torch.rand(9, 6).round())
    assert isinstance(given, Checked)
    assert (given.globals, given.locals, list(given.observed)) == ([], ["z"], ["x"])
    assert given.continuous_locals
    assert not check(mixture(), X[:, :2]).continuous_locals
    regression = zoo.create("polynomial_regression", features=3, degree=1)
    without = check(regression, Batch.of(X), complete=False)
    assert list(without.observed) == ["y"]
    assert not without.complete
    with pytest.raises(ValueError, match="needs field 'y'"):
        check(regression, without)
