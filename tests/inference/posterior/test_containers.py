"""ArviZ takes what is exported, on both of its lines; what xarray would bend is refused; a save is whole."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import inference
import zoo
from inference import to_arviz
from inference.posterior import containers
from inference.posterior.containers import build, observations, save
from tests.helpers.exported import CASES, N, regression
from tests.helpers.places import ROOT

ARVIZ_HERE = "1.x" if int(version("arviz").split(".")[0]) >= 1 else "0.x"


USE = """
import pickle, sys, warnings
import arviz as az
import numpy as np
from inference.posterior import containers
from inference.posterior.containers import build, observations, save
assert "torch" not in sys.modules, "the shim loads torch"
one = int(az.__version__.split(".")[0]) >= 1
file, cases = sys.argv[1], pickle.load(sys.stdin.buffer)
for case, (groups, coords, attrs, own) in cases.items():
    made = build(groups, coords, attrs, own)
    for group, variables in groups.items():
        for name, (dims, values) in variables.items():
            found = made[group][name]
            assert found.dims == tuple(dims), (case, group, name, found.dims)
            assert np.array_equal(found.values, values, equal_nan=True), (case, group, name)
    assert made.attrs["inference_library"] == made["posterior"].attrs["inference_library"] == "zoo"
    scalars = sum(values[0, 0].size for dims, values in groups["posterior"].values())
    assert len(az.summary(made)) == scalars, case
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Pareto.*")
        loo = az.loo(made, pointwise=True)
    elpd, penalty = (loo.elpd, loo.p) if one else (loo.elpd_loo, loo.p_loo)
    az.plot_trace(made)
    az.plot_forest(made)
    (az.plot_ppc_dist if one else az.plot_ppc)(made)
    print(case, one, float(elpd), float(penalty), np.isfinite(loo.pareto_k.values).all())
made.to_netcdf(file)
again = az.from_netcdf(file)
for name, (dims, values) in groups["posterior"].items():
    assert np.array_equal(again["posterior"][name].values, values), (case, name)
"""


def arviz_0() -> str:
    """This Python; ArviZ 0.x is not looked for elsewhere."""
    if ARVIZ_HERE != "0.x":
        pytest.skip("ArviZ 0.x is tested where the whole suite runs on Python 3.11; this Python has 1.x")
    return sys.executable


@cache
def arviz_1() -> str:
    """A Python that has ArviZ 1.x: this one, the one `make test` puts into .venv, or one of the user's."""
    if ARVIZ_HERE == "1.x":
        return sys.executable
    given = os.environ.get("ZOO_PYTHON312")
    named = [shutil.which(f"python3.{minor}") for minor in range(12, 20)]
    made = [*Path(sys.prefix).glob("arviz1/bin/python"), *ROOT.glob(".venv/arviz1/bin/python")]
    check = "import sys, arviz; sys.exit(int(arviz.__version__.split('.')[0]) < 1)"
    for python in filter(None, [given] if given else [*made, *named]):
        if subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return str(python)
    if given:
        pytest.skip(f"ZOO_PYTHON312 is {given}, which has no ArviZ 1.x")
    pytest.skip("no Python 3.12 or newer with ArviZ 1.x: `make test-arviz1` makes one, or says why not")


@pytest.fixture(scope="module")
def handed_over() -> bytes:
    """What `to_arviz` hands to the shim, for every case."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, case in CASES.items():
            patch.setattr("inference.posterior.containers.build", lambda *given, name=name: seen.update({name: given}))
            to_arviz(*case(), rows=2, prior=5)
    return pickle.dumps(seen)


@pytest.mark.parametrize("line", ["0.x", "1.x"])
def test_arviz_takes_it_as_it_is(line, handed_over, tmp_path):
    python = arviz_1() if line == "1.x" else arviz_0()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling all of ArviZ takes several seconds
    told = subprocess.run(
        [python, "-c", USE, str(tmp_path / "posterior.nc")],
        input=handed_over,
        capture_output=True,
        env=env,
        check=False,
    )
    assert told.returncode == 0, told.stderr.decode()[-3000:]
    lines = [row.split() for row in told.stdout.decode().splitlines()]
    assert [(row[0], row[1], row[4]) for row in lines] == [(name, str(line == "1.x"), "True") for name in CASES]
    found = {row[0]: (float(row[2]), float(row[3])) for row in lines}
    # Without globals nothing is learnt from the other observations: elpd is the sum, and the penalty is zero.
    groups = pickle.loads(handed_over)["counts"][0]
    assert found["counts"][0] == pytest.approx(groups["log_likelihood"]["x"][1].mean((0, 1)).sum(), abs=1e-3)
    assert abs(found["counts"][1]) < 1e-6
    assert found["regression"][1] > 0.1


PRIORS = """
import pickle, sys
import numpy as np
from inference.posterior import containers
from inference.posterior.containers import build
assert "torch" not in sys.modules, "the shim loads torch"
for pair, (groups, coords, attrs, own) in pickle.load(sys.stdin.buffer).items():
    made = build(groups, coords, attrs, own)
    for group in [group for group in ("prior", "prior_predictive") if groups[group]]:
        found = made[group].to_dataset() if hasattr(made[group], "to_dataset") else made[group]
        assert set(found.data_vars) == set(groups[group]), (pair, group)
        for name, (dims, values) in groups[group].items():
            assert found[name].dims == tuple(dims), (pair, name)
            assert np.array_equal(found[name].values, values, equal_nan=True), (pair, name)
    print(pair)
"""


@pytest.fixture(scope="module")
def priors() -> bytes:
    """The groups of every pair, those of the prior included, as `to_arviz` hands them to the shim."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in zoo.names():
            pair = zoo.create(name)
            batch = pair.simulate(3)[0]
            posterior = inference.draw(pair, batch, 2, stats=False)
            patch.setattr("inference.posterior.containers.build", lambda *given, name=name: seen.update({name: given}))
            to_arviz(pair, posterior, batch, log_likelihood=False, predictive=False, prior=9)
    return pickle.dumps(seen)


@pytest.mark.parametrize("line", ["0.x", "1.x"])
def test_arviz_takes_the_prior_groups_of_every_pair(line, priors):
    python = arviz_1() if line == "1.x" else arviz_0()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    told = subprocess.run([python, "-c", PRIORS], input=priors, capture_output=True, env=env, check=False)
    assert told.returncode == 0, told.stderr.decode()[-3000:]
    assert told.stdout.decode().split() == list(zoo.names())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {
                "posterior": {
                    "a": (("chain", "draw", "b"), np.zeros((1, 2, 3))),
                    "b": (("chain", "draw"), np.zeros((1, 2))),
                }
            },
            "'b' may not share its name with a dim",
        ),
        ({"posterior": {"a": (("chain", "draw"), np.zeros((1, 2, 3)))}}, "expected 3 distinct dims"),
        ({"posterior": {"a": (("sample",), np.zeros(3))}}, "start with chain, draw"),
        ({"observed_data": {"a": (("i",), np.zeros(3)), "b": (("i",), np.zeros(4))}}, "dim 'i' has 4 entries here, 3"),
    ],
)
def test_the_shim_refuses_what_xarray_would_bend(groups, message):
    with pytest.raises(ValueError, match=message):
        build(groups)


def test_a_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    made = to_arviz(*regression(), predictive=False, log_likelihood=False)
    assert observations(made) == N
    file = tmp_path / "posterior.nc"
    save(made, file)
    first = file.read_bytes()

    def fail(container, opened):
        opened.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(containers, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        save(made, file)
    assert file.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["posterior.nc"]
