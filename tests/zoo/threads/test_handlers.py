"""Pyro's state is each thread's own, and a user's programs keep the global store."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal

import inference
import zoo
from zoo.base import ModelGuide
from zoo.threads.handlers import unvalidated


def in_thread(work):
    found = []

    def begin():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    return found[0]


def program(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x), dim=-1):
        c = pyro.sample("c", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        return pyro.sample("x", dist.Normal(loc + c, 1.0), obs=x)


def test_a_program_in_another_thread_sees_no_handler_of_this_one():
    x = torch.arange(5.0)
    given = poutine.condition(program, {"loc": torch.zeros(())})
    alone = TraceEnum_ELBO(max_plate_nesting=1).loss(given, lambda x: None, x)
    with poutine.trace() as recorder, pyro.plate("data", 3):
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        there = in_thread(lambda: elbo.loss(given, lambda x: None, x))
        assert in_thread(lambda: list(poutine.runtime._PYRO_STACK)) == []
    assert there == alone
    assert not {"loc", "c", "x"} & set(recorder.trace.nodes)


def test_a_handler_that_raises_leaves_the_stack_as_it_was():
    with pytest.raises(ZeroDivisionError), poutine.block(), poutine.trace():
        raise ZeroDivisionError
    assert not poutine.runtime.am_i_wrapped()


def test_a_users_parameters_stay_in_the_store():
    def model():
        pyro.sample("loc", dist.Normal(0.0, 1.0))

    pyro.clear_param_store()
    SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.1}), Trace_ELBO()).step()
    assert sorted(pyro.get_param_store()) == ["AutoNormal.locs.loc", "AutoNormal.scales.loc"]
    assert pyro.settings.get("module_local_params") is False


def test_an_import_in_between_leaves_them_there():
    code = """if True:
        import pyro, pyro.distributions as dist
        from pyro.infer import SVI, Trace_ELBO
        from pyro.infer.autoguide import AutoNormal
        def model(): pyro.sample("loc", dist.Normal(0.0, 1.0))
        svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
        svi.step()
        before = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
        import zoo
        assert {name: value.detach() for name, value in pyro.get_param_store().items()} == before
        svi.step()
        assert sorted(pyro.get_param_store()) == sorted(before)
        assert all((before[name] != value).all() for name, value in pyro.get_param_store().items())
        """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment)


def test_a_pairs_parameters_stay_out_of_the_store_and_plain_svi_moves_them():
    pyro.clear_param_store()
    pair, data = zoo.create("gmm", features=2), zoo.datasets.load("faithful")
    before = {name: value.clone() for name, value in pair.named_parameters()}
    svi = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1))
    svi.step(data)
    with pytest.warns(inference.KeptConstants):  # trained by Pyro, it keeps the constants it was made with
        inference.fit(pair, data, steps=3)
    assert len(pyro.get_param_store()) == 0
    assert all(not torch.equal(before[name], value) for name, value in pair.named_parameters())


def test_a_pair_inside_a_pair():
    class Outer(ModelGuide):
        def __init__(self) -> None:
            super().__init__()
            self.inner = zoo.create("gmm", features=2, components=2, loc_scale=2.0)

        def model(self, batch):
            return self.inner.model(batch)

    data, torch_seed = zoo.datasets.load("faithful"), 3
    outer, alone = Outer(), zoo.create("gmm", features=2, components=2, loc_scale=2.0)
    given = poutine.trace(alone.model).get_trace(data)
    torch.manual_seed(torch_seed)
    replayed = poutine.trace(poutine.replay(outer.model, trace=given)).get_trace(data)
    assert replayed.log_prob_sum() == given.log_prob_sum()
    assert inference.fit(outer, data, steps=5).steps == 5


def test_parameters_outside_a_pair_are_refused_by_name():
    class Stored(ModelGuide):
        def model(self, batch):
            loc = pyro.param("shift", torch.zeros(()))
            with batch.plate():
                return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)

    pyro.clear_param_store()
    with pytest.raises(ValueError, match=r"Stored: pyro\.param\('shift'\)"):
        Stored()
    assert len(pyro.get_param_store()) == 0


def test_validation_comes_back_when_the_last_thread_leaves():
    before = pyro.distributions.is_validation_enabled()
    entered, go = threading.Event(), threading.Event()

    def other():
        with unvalidated():
            entered.set()
            go.wait()

    try:
        pyro.enable_validation(True)
        thread = threading.Thread(target=other)
        with unvalidated():
            thread.start()
            entered.wait()
        assert not pyro.distributions.is_validation_enabled()
        go.set()
        thread.join()
        assert pyro.distributions.is_validation_enabled()
    finally:
        go.set()
        pyro.enable_validation(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_during_a_fit_can_use_pairs():
    pair, data = zoo.create("gmm", features=2), zoo.datasets.load("faithful")
    free, steps, told = zoo.create("gmm", features=2), threading.Event(), threading.Event()

    def wait(step, loss, pair):
        steps.set()
        told.wait(60)

    thread = threading.Thread(target=lambda: inference.fit(pair, data, steps=2, compile="off", callbacks=[wait]))
    thread.start()
    steps.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a lock that is never free ends the child, and the test fails
        try:
            with pair.turn:  # held by a thread that the child does not have
                code = 0 if free.simulate(3)[0].size == 3 else 1
        except BaseException:
            code = 2
        os._exit(code)
    told.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_plain_svi_beside_a_fit_in_another_thread():
    x = torch.linspace(-1, 1, 20)

    def model():
        loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
        with pyro.plate("data", 20):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    def losses(until=lambda steps: steps == 40):
        pyro.clear_param_store()
        torch.manual_seed(5)
        svi, found = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO()), []
        while not until(len(found)):
            found.append(svi.step())
        return found

    def fit(pair):
        return inference.fit(pair, zoo.datasets.load("faithful"), steps=6, seed=2, compile="off").losses.tolist()

    pair = zoo.create("gmm", features=2)
    alone, done = fit(copy.deepcopy(pair)), []
    thread = threading.Thread(target=lambda: done.append(fit(pair)))
    thread.start()
    beside = losses(lambda steps: steps >= 40 and not thread.is_alive())
    assert beside[:40] == losses()
    assert done == [alone]
