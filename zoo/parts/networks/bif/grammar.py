"""The grammar of the Bayesian network Interchange Format; `zoo.parts.networks.bif.file` says what it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.config import nearest
from zoo.parts.networks.bif import tokens
from zoo.schema.column import listed
from zoo.settings import settings


class Parser(tokens.Cursor):
    """The grammar, block by block."""

    def __init__(self, found: list[tokens.Token]) -> None:
        super().__init__(found)
        self.name = "unknown"
        self.states: dict[str, tuple[str, ...]] = {}
        self.parents: dict[str, tuple[str, ...]] = {}
        self.tables: dict[str, NDArray[np.float64]] = {}
        self.cells = 0

    def network(self) -> None:
        """The whole file."""
        blocks = {"variable": self.variable, "probability": self.probability}
        while not self.done:
            word = self.word("'network', 'variable' or 'probability'")
            if word == "network":
                self.name = self.word("the network's name")
                self.mark("{")
                self.skip("}")
            elif word in blocks:
                blocks[word]()
            else:
                raise self.wrong(f"expected 'network', 'variable' or 'probability', got {word!r}")
        if not self.states:
            raise ValueError("no variable in it")
        for node in self.states:
            if node not in self.tables:
                raise ValueError(f"variable '{node}' has no probability block")

    def variable(self) -> None:
        """variable NAME { type discrete [ C ] { state, ... }; }"""
        node = self.word("a variable's name")
        if node in self.states:
            raise self.wrong(f"variable '{node}' is there twice")
        self.mark("{")
        states: tuple[str, ...] = ()
        while not self.found("}"):
            word = self.word("'type' or 'property'")
            if word == "property":
                self.skip(";")
                continue
            if word != "type":
                raise self.wrong(f"variable '{node}': expected 'type' or 'property', got {word!r}")
            if (kind := self.word("'discrete'")) != "discrete":
                raise self.wrong(f"variable '{node}': expected type discrete, got {kind!r}")
            self.mark("[")
            size = self.word("the number of states")
            self.mark("]")
            self.mark("{")
            states = self.words("}")
            self.mark(";")
            if not size.isdigit() or int(size) != len(states):
                raise self.wrong(f"variable '{node}': {size} states announced, {len(states)} found")
            if len(set(states)) < len(states):
                twice = next(state for state in states if states.count(state) > 1)
                raise self.wrong(f"variable '{node}': state '{twice}' is there twice")
        if not states:
            raise self.wrong(f"variable '{node}' has no states")
        self.states[node] = states

    def probability(self) -> None:
        """probability ( NAME | PARENT, ... ) { table ...; (state, ...) ...; default ...; }"""
        self.mark("(")
        node, parents = self.family()
        shape = [len(self.states[name]) for name in (*parents, node)]
        self.cells += math.prod(shape)
        if self.cells > settings.bif_cells:
            raise self.wrong(
                f"probability of '{node}': tables of {self.cells:,} cells by now, at most {settings.bif_cells:,}"
            )
        table = np.full(shape, np.nan)
        self.mark("{")
        default: NDArray[np.float64] | None = None
        while not self.found("}"):
            if self.found("("):
                row = self.row(node, parents, self.words(")"))
                table[row] = self.numbers(node, shape[-1])
            elif (word := self.word("'table', 'default', 'property' or '('")) == "table":
                cells = self.numbers(node, math.prod(shape)).reshape(shape[-1], *shape[:-1])
                table = np.moveaxis(cells, 0, -1)
            elif word == "default":
                default = self.numbers(node, shape[-1])
            elif word == "property":
                self.skip(";")
            else:
                raise self.wrong(f"expected 'table', 'default', 'property' or '(', got {word!r}")
        if default is not None:
            table = np.where(np.isnan(table), default, table)
        for hole in np.argwhere(np.isnan(table))[:1, :-1]:
            given = ", ".join(f"{parent}={self.states[parent][i]}" for parent, i in zip(parents, hole, strict=True))
            raise self.wrong(f"probability of '{node}' has no entry for {given or 'it'}")
        self.tables[node], self.parents[node] = table, parents

    def family(self) -> tuple[str, tuple[str, ...]]:
        """NAME | PARENT, ... )"""
        node = self.known()
        if node in self.tables:
            raise self.wrong(f"probability of '{node}' is there twice")
        bar = self.found("|")
        parents = self.words(")")
        if parents and not bar:
            raise self.wrong(f"probability of '{node}': expected '|' or ')', got '{parents[0]}'")
        for i, parent in enumerate(parents):
            if parent not in self.states:
                raise self.wrong(f"no variable '{parent}'{nearest(parent, self.states)}")
            if parent in (node, *parents[:i]):
                raise self.wrong(f"probability of '{node}': '{parent}' is there twice")
        return node, parents

    def row(self, node: str, parents: Sequence[str], given: Sequence[str]) -> tuple[int, ...]:
        """Codes of the parents' states in a bracketed line."""
        if len(given) != len(parents):
            raise self.wrong(f"probability of '{node}': {len(parents)} parents, but ({', '.join(given)})")
        codes = []
        for parent, state in zip(parents, given, strict=True):
            states = self.states[parent]
            if state not in states:
                told = f"{nearest(state, states)}; states: {listed(states)}"
                raise self.wrong(f"probability of '{node}': '{parent}' has no state '{state}'{told}")
            codes.append(states.index(state))
        return tuple(codes)

    def numbers(self, node: str, count: int) -> NDArray[np.float64]:
        """`count` probabilities, up to a semicolon."""
        found = []
        while not self.found(";"):
            self.found(",")
            text = self.word("a probability")
            try:
                found.append(float(text))
            except ValueError:
                raise self.wrong(f"probability of '{node}': expected a number, got {text!r}") from None
            if not 0 <= found[-1] <= 1:
                raise self.wrong(f"probability of '{node}': expected a number from 0 to 1, got {text}")
        if len(found) != count:
            raise self.wrong(f"probability of '{node}': expected {count} numbers, got {len(found)}")
        return np.array(found)

    def known(self) -> str:
        """The name of a variable declared above."""
        name = self.word("a variable's name")
        if name not in self.states:
            raise self.wrong(f"no variable '{name}'{nearest(name, self.states)}")
        return name
