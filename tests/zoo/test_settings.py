"""Settings: one object behind both names, checked when assigned, put back after a while, read when needed."""

from __future__ import annotations

import ast
import copy
import multiprocessing
import operator
import pickle
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

import inference
import zoo
from zoo.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own():
    return Settings()


def test_zoo_and_inference_have_the_same():
    assert zoo.settings is inference.settings
    assert isinstance(zoo.settings, Settings)


def test_each_is_told_of_with_its_unit_and_default(own):
    told, kept = repr(own), Settings.__doc__.split("Args:\n")[1].splitlines()
    assert len(kept) == len(dir(own)) - 1  # `using` besides
    for line in kept:
        name, words = line.strip().split(": ", 1)
        number, unit = words.split("; ")[0].split()
        assert getattr(own, name) == getattr(Settings, name) == int(number)
        assert f"    {name}={number},  # {unit}: " in told
    own.memory = 99
    assert "    memory=99,  # numbers: " in repr(own)
    assert "by default 4_194_304\n" in repr(own)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("memory", 0, r"settings\.memory: expected at least 1, got 0"),
        ("full_batch", -1, r"settings\.full_batch: expected at least 0, got -1"),
        ("minibatch", 2.5, r"settings\.minibatch: expected a whole number, got 2\.5"),
        ("minibatch", True, "expected a whole number, got True"),
        ("memory", "much", "expected a whole number, got 'much'"),
        ("memory", None, "expected a whole number, got None"),
        ("memroy", 4, "no setting 'memroy', did you mean 'memory'"),
        ("zzz", 4, "no setting 'zzz'; they are: memory, draws_at_once, "),
    ],
)
def test_what_cannot_be_is_refused_by_name(own, name, value, message):
    before = repr(own)
    with pytest.raises(ValueError, match=message):
        setattr(own, name, value)
    with pytest.raises(ValueError, match=message), own.using(**{"full_batch": 7, name: value}):
        pass
    assert repr(own) == before


def test_one_that_is_not_there_is_answered_with_the_nearest(own):
    with pytest.raises(AttributeError, match="no setting 'memroy', did you mean 'memory'"):
        own.memroy  # noqa: B018
    assert not hasattr(own, "zzz")


def test_whole_numbers_of_other_libraries_are_taken(own):
    own.memory = torch.tensor(12)
    assert own.memory == 12
    assert type(own.memory) is int


def fails(own):
    with own.using(memory=5):
        assert (own.memory, own.minibatch) == (5, 3)
        own.memory, own.full_batch = 6, 8
        assert own.memory == 6
        raise RuntimeError


def test_using_puts_back_also_where_the_body_raises(own):
    own.memory = 50
    with own.using(memory=10, minibatch=3) as given:
        assert given is own
        with pytest.raises(RuntimeError):
            fails(own)
        assert (own.memory, own.minibatch) == (10, 3)
    assert (own.memory, own.minibatch, own.full_batch) == (50, 128, 8)


def test_threads_that_leave_in_any_order_leave_what_was_before(own):
    entered, left = threading.Event(), threading.Event()

    def other():
        with own.using(memory=2):
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    with own.using(memory=2):
        thread.start()
        assert entered.wait(10)
    assert own.memory == 2
    left.set()
    thread.join()
    assert own.memory == Settings.memory


def test_a_change_counts_from_the_next_call_on():
    pair = zoo.create("gmm", components=2, features=2)
    x = pair.simulate(40)[0].x
    with zoo.settings.using(full_batch=30, minibatch=10):
        assert inference.fit(pair, x, steps=3, progress=False).batch_size == 10
    assert inference.fit(pair, x, steps=3, progress=False).batch_size == 40


def test_none_is_kept_by_value():
    """Nothing reads a setting while a module loads: assignments, defaults of arguments, bodies of classes."""
    for path in [*(ROOT / "zoo").rglob("*.py"), *(ROOT / "inference").rglob("*.py")]:
        for node in early(ast.parse(path.read_text()).body):
            assert not reads(node), f"{path}:{node.lineno}"
    assert [reads(node) for node in early(ast.parse("def f(a=settings.memory): pass").body)] == [True]
    assert [reads(node) for node in early(ast.parse("A = 4 * settings.memory").body)] == [True]


def early(body):
    """What runs when the module loads: of functions only decorators and defaults."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield from [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.ClassDef):
            yield from early(node.body)
        else:
            yield node


def reads(node):
    return any(
        isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "settings"
        for inner in ast.walk(node)
    )


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda it: pickle.loads(pickle.dumps(it))}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_an_object_of_its_own(how, own):
    own.memory = 99
    with own.using(minibatch=7):
        again, holder = COPIES[how](own), COPIES[how]({"settings": own})
    assert (again.memory, again.minibatch, again.full_batch) == (99, 7, own.full_batch)
    assert own.minibatch == Settings.minibatch
    own.memory = 100
    with again.using(full_batch=3):
        assert again.full_batch == 3
        assert own.full_batch == Settings.full_batch
    assert (again.memory, again.full_batch) == (99, Settings.full_batch)
    if how != "copy":
        assert holder["settings"].memory == 99
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        again.memory = 0


def test_settings_go_to_another_process_and_back(own):
    own.memory = 99
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(operator.attrgetter("memory"), own).result() == 99
        assert pool.submit(copy.copy, own).result().memory == 99


def test_what_holds_the_settings_cannot_be_set_and_none_can_be_deleted(own):
    for name in ("_values", "_layers", "_lock", "using"):
        with pytest.raises(ValueError, match=f"no setting '{name}'"):
            setattr(own, name, {})
        with pytest.raises(ValueError, match=f"no setting '{name}'"):
            delattr(own, name)
    with pytest.raises(ValueError, match=r"settings\.memory cannot be deleted; settings\.memory = 4_194_304 sets"):
        del own.memory
    assert own.memory == Settings.memory


def test_a_seed_repeats_under_the_same_settings_only_and_that_is_said():
    pair = zoo.create("gaussian_vae", features=3, likelihood="gaussian")
    rows = torch.zeros(40, 3)

    def drawn(**values):
        with zoo.settings.using(**values):
            return inference.draw(pair, rows, 50, seed=1)["z"]

    assert torch.equal(drawn(), drawn())
    assert torch.equal(drawn(memory=999), drawn(memory=999))
    assert not torch.equal(drawn(), drawn(memory=999))
    for text in (Settings.__doc__, sys.modules[Settings.__module__].__doc__):
        assert "seed repeats what was drawn only under the same settings" in text
