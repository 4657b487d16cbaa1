"""`as_strided` over points is what torch makes of each point, however the points lie in memory."""

from functools import partial

import pytest
import torch

from inference.running.mapped import Mapped
from inference.running.strided import places

pytestmark = pytest.mark.usefixtures("no_fallback")


@pytest.mark.parametrize(
    "view",
    [lambda t: t.as_strided((3,), (5,), 0), lambda t: t.as_strided((2, 2), (1, 4), 2), lambda t: t.t()[1:].select(1, 2),
     lambda t: t.t().as_strided((4, 2), (1, 8))],
)  # fmt: skip
def test_places_are_those_of_torch(view):
    own = torch.arange(12.0).reshape(3, 4)
    for tensor in (own, own.t().contiguous().t()):
        seen = view(tensor)
        layouts = [(t.shape, t.stride(), t.storage_offset()) for t in (tensor, seen)]
        assert torch.equal(tensor.reshape(-1)[places(*layouts)].reshape(seen.shape), seen)


def test_memory_of_another_is_refused():
    with pytest.raises(ValueError, match="expected a view within the tensor's own memory"):
        places(((2,), (1,), 0), ((3,), (1,), 0))


def noise_on_the_diagonal(point):
    """Written into a view of a view: autograd takes its gradient out of a copy of the whole."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        square = 2 * (point[:, None] - 2 * point).exp()
        square.view(-1)[:: len(point) + 1] += point[0]
        (gradient,) = torch.autograd.grad(square.logsumexp(1).sin().sum(), point)
    return gradient


def columns(point):
    """Views of a transposed tensor, and values written into some from its end."""
    table = point.expand(3, 4).mul(torch.arange(3.0)[:, None]).t().contiguous().t()
    part = torch.zeros(4)
    part[1:-1] = point[2:] - point.as_strided((2,), (2,))
    part[-2:] *= 3
    return table.as_strided((3, 2), (1, 3), 3), part


def entries(point, deep=False):
    """Entries and ranges of dims that are written, with the gradient through all of them."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        table = point.expand(2, 3, 4).sin()
        table = table * torch.arange(24.0).reshape(2, 3, 4)
        table[..., 0] = point[1]
        table[:, -1] = point * 2
        table[..., 1:3] = table[..., 2:].exp()
        if deep:  # of three dims at once
            table[1, 1:, 2] = point[3]
        (gradient,) = torch.autograd.grad(table.logsumexp(-1).cos().sum(), point)
    return gradient, table.detach()


def test_entries_and_ranges_are_no_indices():
    names = {str(node.target) for node in Mapped(entries, torch.zeros(4), "entries").graph.graph.nodes}
    assert not [name for name in names if "as_strided" in name]
    assert "aten.index_select.default" not in names


@pytest.mark.parametrize("function", [noise_on_the_diagonal, columns, entries, partial(entries, deep=True)])
def test_writes_into_views_are_mapped(function):
    points = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).t()  # points side by side in memory
    found = torch.utils._pytree.tree_leaves(Mapped(function, points[0], "views")(points))
    each = [torch.utils._pytree.tree_leaves(function(point.clone())) for point in points]
    for value, values in zip(found, zip(*each, strict=True), strict=True):
        assert torch.allclose(value, torch.stack(values))
