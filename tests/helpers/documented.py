"""The thirty programs of Pyro's documentation, for `--program-module` of `tests/conformance_programs.py`."""

import zoo
from tests.helpers.places import package


def _case(example):
    model, arguments = example.program()
    return (zoo.program(model, start=example.start) if example.start else model), arguments


PROGRAMS = {name: _case(example) for name, example in package("pyro_programs").EXAMPLES.items()}
