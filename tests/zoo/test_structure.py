"""What could not be loaded again is not saved: parts that the class does not make, numbers that are not finite."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from tests.helpers.saving import made, same
from zoo.state import CONFIG, WEIGHTS, DamagedFile, files
from zoo.structure import replaced


@pytest.mark.parametrize(
    ("replace", "words"),
    [
        (lambda pair: setattr(pair, "net", nn.Linear(2, 3)), "'net' is a Linear, and Toy makes a Sequential"),
        (lambda pair: pair.net.__setitem__(1, nn.Tanh()), r"'net\.1' is a Tanh, and Toy makes a Linear"),
        (lambda pair: setattr(pair, "more", nn.ReLU()), "'more' is a ReLU, and Toy makes nothing"),
        (lambda pair: delattr(pair, "log_scale"), "'log_scale' is nothing, and Toy makes one of shape"),
        (
            lambda pair: pair.register_buffer("order", torch.arange(4)),
            r"'order' is one of shape \(4,\), and Toy makes one of",
        ),
    ],
)
def test_a_part_that_the_class_does_not_make_is_refused_with_the_way_to_do_it(replace, words, tmp_path):
    old = made()
    old.save(tmp_path)
    pair = made()
    replace(pair)
    with pytest.raises(ValueError, match=rf"not saved: {words}.*write a subclass of Toy"):
        pair.save(tmp_path)
    assert same(zoo.load(tmp_path), old)


@pytest.mark.parametrize("name", zoo.names())
def test_a_pair_is_made_of_its_own_parts_whatever_its_type(name):
    assert replaced(zoo.create(name)) is None
    assert replaced(zoo.create(name).double()) is None


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("kind", "name"), [("buffer", "prior_scale"), ("parameter", "log_scale")])
def test_numbers_that_are_not_finite_are_refused_at_save_and_at_load(kind, name, value, tmp_path):
    pair = made()
    pair.save(tmp_path)
    with torch.no_grad():
        getattr(pair, name)[1] = value
    with pytest.raises(ValueError, match=f"not saved: {kind} '{name}' holds values that are not finite"):
        pair.save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors[name][1] = value
    save_file(tensors, tmp_path / WEIGHTS)
    record = json.loads((tmp_path / CONFIG).read_text())
    del record["checksum"]
    record["files"][WEIGHTS] = {
        "size": files.size(tmp_path / WEIGHTS),
        "sha256": files.digest(tmp_path / WEIGHTS),
    }
    (tmp_path / CONFIG).write_bytes(files.sealed(record))
    with pytest.raises(DamagedFile, match=f"{kind} '{name}' holds values that are not finite"):
        zoo.load(tmp_path)
