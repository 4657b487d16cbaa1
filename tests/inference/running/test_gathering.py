"""Gradients of what a loop reads piece by piece: laid side by side, against autograd's own sums."""

from collections import Counter

import pytest
import torch

from inference.running.mapped import Mapped

aten = torch.ops.aten
PIECES = (aten.select_backward.default, aten.slice_backward.default)


def every_entry(x):
    return sum(x[i].sin() * x[i - 1] for i in range(1, len(x)))


def some_entries(x):  # zeros before, between and behind
    return x[1].exp() * x[3].cos() * x[-2]


def ranges(x):
    return (x[:2].exp().sum() * x[2:5].sin().sum() * x[5:].cos().sum()).square()


def ranges_that_overlap(x):
    return sum((x[i : i + 3] ** 2).prod() for i in range(len(x) - 2))


def rows_and_columns(x):
    table = x.reshape(2, -1)
    rows = sum((table[i] ** 3).sum() for i in range(2))
    columns = sum(table[:, i].prod() for i in range(table.shape[1]))
    return rows * columns + (table**2).sum()


def every_second(x):  # not side by side
    return x[::2].prod() * x[1::2].exp().prod() + x[::3].sin().sum()


FUNCTIONS = (every_entry, some_entries, ranges, ranges_that_overlap, rows_and_columns, every_second)


def sloped(function):
    def both(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = function(x)
            return value.detach(), torch.autograd.grad(value, x)[0]

    return both


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_gradients_are_autograds(function):
    points = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mapped = Mapped(sloped(function), points[0], "pieces")
    values, gradients = mapped(points)
    for i, point in enumerate(points):
        value, gradient = sloped(function)(point)
        torch.testing.assert_close(values[i], value, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(gradients[i], gradient, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("function", "cats"), [(every_entry, 2), (some_entries, 1), (ranges, 1)])
def test_no_piece_is_padded(function, cats):
    mapped = Mapped(sloped(function), torch.randn(8), "pieces")
    held = Counter(node.target for node in mapped.graph.graph.nodes)
    assert held[aten.cat.default] == cats
    assert sum(held[piece] for piece in PIECES) == 0


def test_what_is_read_once_stays():
    mapped = Mapped(sloped(lambda x: x[0].sin() * x[1]), torch.randn(8), "pieces")
    assert Counter(node.target for node in mapped.graph.graph.nodes)[PIECES[0]] == 2
