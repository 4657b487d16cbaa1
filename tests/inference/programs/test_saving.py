"""What was fitted or drawn is there again in a later process: parameters by Pyro's store and torch, draws by folder."""

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch.distributions import constraints

import inference
import zoo
from tests.helpers.programs import SCHOOLS, SIGMA, schools

Y = torch.tensor([1.0, 2.0, 2.5, 0.5])


@pytest.fixture(autouse=True)
def _empty_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def model(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, pyro.param("scale", torch.tensor(1.0), constraints.positive)), obs=y)


def guide(y):
    pyro.sample("mu", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 0.5))


def test_parameters_go_through_pyros_store(tmp_path):
    program = zoo.program(model, guide)
    inference.fit(program, Y, steps=50, progress=False)
    before, scale = inference.draw(program, Y, draws=20), pyro.param("scale").detach().clone()
    pyro.get_param_store().save(tmp_path / "store.pt")
    pyro.clear_param_store()
    pyro.get_param_store().load(tmp_path / "store.pt")
    again = zoo.program(model, guide)
    assert torch.equal(inference.draw(again, Y, draws=20)["mu"], before["mu"])
    assert float(scale) != 1.0
    assert torch.equal(pyro.param("scale"), scale)


def test_an_automatic_guide_goes_through_its_state():
    program = zoo.program(model, AutoNormal)
    inference.fit(program, Y, steps=50, progress=False)
    state = {name: value.clone() for name, value in program.guide.state_dict().items()}
    again = zoo.program(model, AutoNormal)
    again.guide(Y)  # makes its parameters
    again.guide.load_state_dict(state)
    assert torch.equal(inference.draw(again, Y, draws=20)["mu"], inference.draw(program, Y, draws=20)["mu"])


@pytest.mark.filterwarnings("ignore:warm-up stopped", "ignore:chains disagree", "ignore:.*diverged")
def test_draws_go_through_a_folder_or_a_file(tmp_path):
    run = {"draws": 10, "chains": 4, "max_warmup": 20, "progress": False}
    drawn = inference.sample(zoo.program(schools), SCHOOLS, SIGMA, store=tmp_path / "draws", **run)
    again = inference.reopen(tmp_path / "draws")
    made = [inference.predict(zoo.program(schools), draws, SCHOOLS, SIGMA)["y"] for draws in (drawn, again)]
    assert torch.equal(*made)
    inference.to_arviz(zoo.program(schools), drawn, SCHOOLS, SIGMA).to_netcdf(tmp_path / "draws.nc")
    read = az.from_netcdf(tmp_path / "draws.nc")
    held = {name: torch.from_numpy(read["posterior"][name].to_numpy()) for name in ("mu", "tau", "z")}
    whole = inference.to_arviz(zoo.program(schools), held, SCHOOLS, SIGMA)
    assert np.allclose(whole["log_likelihood"]["y"], read["log_likelihood"]["y"])
