"""The thirty programs of Pyro's documentation, for `--program-module` of `tests/conformance_programs.py`."""

from tests.helpers.places import package

PROGRAMS = {name: example.program() for name, example in package("pyro_programs").EXAMPLES.items()}
