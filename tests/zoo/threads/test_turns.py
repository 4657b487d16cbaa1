"""One thread at a time for a pair, different pairs at once."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import inference
import zoo
from zoo.threads.turns import Turn, in_turn


class Thing:
    def __init__(self):
        self.turn, self.inside, self.most = Turn(), 0, 0

    def use(self, gate=None):
        return used(self, gate)


@in_turn
def used(pair, gate=None):
    pair.inside += 1
    pair.most = max(pair.most, pair.inside)
    if gate is not None:
        gate.wait(10)
    if pair.inside < 3:
        used(pair)  # its own thread does not wait
    pair.inside -= 1
    return pair


def test_one_waits_for_the_other_on_the_same_pair_alone():
    one, other, gate = Thing(), Thing(), threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda thing: used(thing, gate), (one, other)))  # both are inside, else the gate breaks
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(used, [one] * 50))
    assert one.most == 3
    assert used(pair=one) is one


def test_signature_and_errors_are_the_functions_own():
    assert list(inspect.signature(used).parameters) == ["pair", "gate"]
    with pytest.raises(AttributeError):
        used("no pair")


def test_every_public_function_of_a_pair_queues():
    public = [getattr(inference, name) for name in inference.__all__]
    functions = [f for f in public if inspect.isfunction(f) and next(iter(inspect.signature(f).parameters)) == "pair"]
    assert len(functions) > 25
    others = [f for f in public if inspect.isfunction(f) and f not in functions]
    # None takes a pair, but several.
    names = {"compare", "compare_evidence", "decompress", "Estimator", "pair_for", "pool", "reopen", "resample"}
    assert {function.__name__ for function in others} == names
    pair, entered, release = zoo.create("gmm", features=2), threading.Event(), threading.Event()

    def hold():
        with pair.turn:
            entered.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    assert all(hasattr(function, "__wrapped__") for function in functions)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(inference.prior, pair, 3, 2)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        release.set()
        assert waiting.result(timeout=10).draws
    thread.join()


def test_copies_have_turns_of_their_own():
    pair = zoo.create("gmm", features=2)
    for other in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert other.turn is not pair.turn
        assert torch.equal(other.auto.loc, pair.auto.loc)
