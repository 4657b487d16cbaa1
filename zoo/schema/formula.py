"""Formulas as R and patsy write them, `y ~ age + poly(income, 2) + town`, read by formulaic.

A formula is kept with a saved pair, and formulaic runs what stands in it as Python. So only this is let through: names
of columns, numbers, arithmetic, comparisons, and the functions in `FUNCTIONS`. Nothing of the caller's is seen.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.config import nearest
from zoo.schema.column import listed

if TYPE_CHECKING:
    from formulaic import Formula

CONTEXT: dict[str, Callable[..., Any]] = {
    name: getattr(np, name) for name in ("sqrt", "abs", "log1p", "expm1", "sin", "cos", "tanh", "floor", "sign")
}
_PLAIN = ("log", "log2", "log10", "exp", "exp2", "exp10")  # formulaic's own names for NumPy's
_BASES = ("poly", "bs", "cr", "cc", "cs")  # bases of curves
_OTHER = ("C", "I", "center", "scale", "standardize")
CODINGS = ("Treatment", "Sum", "Helmert", "Diff", "Poly", "SAS")  # `contr.sum` and the like
_CONTRASTS = frozenset(f"contr.{coding.lower()}" for coding in CODINGS)
FUNCTIONS = (*_PLAIN, *CONTEXT, *_OTHER, *_BASES)
_REST = re.compile(r"(?<![\w.`])\.(?![\w.`])")
_LARGEST = 100  # degree, power or knots
_NODES = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.List, ast.Tuple, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.USub, ast.UAdd, ast.Lt, ast.LtE, ast.Gt,
    ast.GtE, ast.Eq, ast.NotEq, ast.Attribute,
)  # fmt: skip


class Levels(NamedTuple):
    """What a formula says of a category's levels, in `C(grade, levels=['low', 'high'])` or `C(grade, Treatment('b'))`.

    Args:
        order: of the levels; empty where the formula gives none.
        reference: the level that others are told against; None where the formula names none.
    """

    order: tuple[Any, ...] = ()
    reference: Any = None

    def arranged(self, name: str, seen: Collection[Any], usual: Collection[Any]) -> tuple[Any, ...]:
        """The levels that were seen, the reference first, the others in the order of the formula or the usual one.

        Raises:
            ValueError: an order that lacks a level that was seen, or a reference that was not seen.
        """
        if self.order and (lacking := [level for level in usual if level in seen and level not in self.order]):
            raise ValueError(f"column '{name}': levels={list(self.order)} in the formula lacks {lacking[0]!r}")
        found = [level for level in self.order or usual if level in seen]
        first = self.reference
        if first is None:
            return tuple(found)
        if first not in found:
            raise ValueError(
                f"column '{name}': the reference {first!r} of the formula is none of its levels; they are "
                f"{listed(found)}"
            )
        return (first, *(level for level in found if level != first))


class Parsed(NamedTuple):
    """A formula that may be run.

    Args:
        left: the response, None where the formula has none.
        right: the terms of the covariates, the intercept among them.
        names: columns that the right side reads, in the order of the formula.
        response: columns that the left side reads.
        levels: of each column inside `C(…)`, a category whatever its cells are, what is said of its levels.
    """

    left: Formula | None
    right: Formula
    names: tuple[str, ...]
    response: tuple[str, ...]
    levels: Mapping[str, Levels]


def parsed(formula: str, columns: Collection[str] | None = None) -> Parsed:
    """A formula, read and found harmless.

    Args:
        formula: `response ~ terms`, or the terms alone.
        columns: names of the columns there are; None takes any name for a column.

    Raises:
        ValueError: no formula, one that names no column (with the nearest that exists) or calls a function that is not
            known here, one without intercept, or with several responses.
    """
    from formulaic import Formula
    from formulaic.errors import FormulaicError, FormulaInvalidError, FormulaSyntaxError

    if not isinstance(formula, str) or not formula.strip():
        raise ValueError(f"formula: expected a text such as 'y ~ age + town', got {formula!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = Formula(formula)
    except (FormulaInvalidError, FormulaSyntaxError, FormulaicError, SyntaxError, ValueError, RecursionError) as error:
        said = next((line.strip(" .") for line in str(error).splitlines() if line.strip()), type(error).__name__)
        wanted = "expected a response ~ terms joined by +, : and *, as in 'y ~ age + town'"
        raise ValueError(f"formula '{formula}': cannot be read ({said}); {wanted}") from None
    left, right = getattr(found, "lhs", None), getattr(found, "rhs", found)
    if not _simple(right) or not (left is None or (_simple(left) and len(left) == 1)):
        raise ValueError(f"formula '{formula}': expected one response ~ terms joined by +, : and *")
    if not any(str(term) == "1" for term in right):
        raise ValueError(f"formula '{formula}': every model here has an intercept; leave out '0 +' and '- 1'")
    levels: dict[str, Levels] = {}
    sides = [list(dict.fromkeys(_names(formula, side, levels))) for side in (right, left) if side is not None]
    names, response = sides[0], sides[1] if len(sides) > 1 else []
    for name in (*names, *response):
        if columns is not None and name not in columns:
            raise ValueError(f"formula '{formula}': no column '{name}'{nearest(name, columns)}; {_there(columns)}")
    if both := [name for name in response if name in names]:
        raise ValueError(f"formula '{formula}': '{both[0]}' stands on both sides")
    if left is not None and len(response) != 1:
        raise ValueError(f"formula '{formula}': the response is one column, or a function of one")
    return Parsed(left, right, tuple(names), tuple(response), levels)


def written_out(formula: str, columns: Collection[str]) -> str:
    """A formula with every column but the response where it has a lone dot, as in `y ~ .` and `y ~ . - id`."""
    left, tilde, right = formula.partition("~") if isinstance(formula, str) else ("", "", "")
    if not tilde or not _REST.search(right):
        return formula
    response = parsed(left, columns).names
    rest = " + ".join(quoted(name) for name in columns if name not in response)
    return f"{left}~{_REST.sub(f'({rest})', right)}"


def quoted(name: str) -> str:
    """A column's name as a formula writes it: in backticks unless it is a word.

    Raises:
        ValueError: it holds a backtick itself.
    """
    if "`" in name:
        raise ValueError(f"column '{name}': a formula cannot name it; rename it without the backtick")
    return name if name.isidentifier() and name not in _reserved() else f"`{name}`"


def _reserved() -> frozenset[str]:
    return frozenset({*FUNCTIONS, *CODINGS, "contr", "np", "True", "False", "None", "in", "not", "and", "or", "if"})


def _simple(side: Any) -> bool:
    """Whether a side of a formula is a plain sum of terms."""
    return hasattr(side, "__len__") and all(hasattr(term, "factors") for term in side)


def _names(formula: str, terms: Any, levels: dict[str, Levels]) -> Iterator[str]:
    """The columns that terms read; those inside `C(…)` go into `levels` too."""
    for term in terms:
        for factor in term.factors:
            method = factor.eval_method.value
            if method == "lookup":
                yield factor.expr
            elif method == "python":
                yield from _python(formula, factor.expr, levels)


def _python(formula: str, expression: str, levels: dict[str, Levels]) -> Iterator[str]:
    """The columns that a Python expression reads, if it does nothing else."""
    aliases: dict[str, str] = {}
    try:
        tree = ast.parse(_unquoted(expression, aliases), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"formula '{formula}': '{expression}' cannot be read") from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    bases = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        _check(formula, expression, node, called)
        if isinstance(node, ast.Call) and _called(node.func) == "C":
            inside = (part for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)) if node.args else ()
            said = _said_of_levels(node)
            for part in inside:
                if id(part) not in called and (said != Levels() or aliases.get(part.id, part.id) not in levels):
                    levels[aliases.get(part.id, part.id)] = said
        if isinstance(node, ast.Name) and id(node) not in called | bases and node.id not in CODINGS:
            yield aliases.get(node.id, node.id)


def _said_of_levels(call: ast.Call) -> Levels:
    """The order and the reference that `C(…)` gives, where they are written out."""
    given = {word.arg: word.value for word in call.keywords}
    order, contrasts = given.get("levels"), call.args[1] if len(call.args) > 1 else given.get("contrasts")
    levels = tuple(part.value for part in getattr(order, "elts", ()) if isinstance(part, ast.Constant))
    function = contrasts.func if isinstance(contrasts, ast.Call) else contrasts
    coding = _called(function).lower().removeprefix("contr.") if function is not None else ""
    base = [*contrasts.args, *(word.value for word in contrasts.keywords)] if isinstance(contrasts, ast.Call) else []
    if coding in ("treatment", "sas") and base and isinstance(base[0], ast.Constant):
        return Levels(levels, base[0].value)
    return Levels(levels, levels[-1] if coding == "sas" and levels else None)  # SAS takes the last


def _unquoted(expression: str, aliases: dict[str, str]) -> str:
    """An expression with each name in backticks replaced by a word."""
    parts = expression.split("`")
    for i in range(1, len(parts), 2):
        word = f"_quoted_{i}"
        aliases[word] = parts[i]
        parts[i] = word
    return "".join(parts)


def _called(function: ast.expr) -> str:
    """The name of a function that is called: `poly`, `np.log`, `contr.sum`."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else "…"


def _check(formula: str, expression: str, node: ast.AST, called: Collection[int]) -> None:
    """Refuse whatever is more than arithmetic on columns."""
    wrong = not isinstance(node, _NODES)
    coding = isinstance(node, ast.Attribute) and _called(node).lower() in _CONTRASTS
    wrong |= isinstance(node, ast.Attribute) and id(node) not in called and not coding
    wrong |= isinstance(node, ast.Constant) and not isinstance(node.value, (int, float, str, bool, type(None)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        wrong |= not (isinstance(power, ast.Constant) and _small(power.value)) or isinstance(node.left, ast.Constant)
    if wrong:
        raise ValueError(
            f"formula '{formula}': '{expression}' is more than arithmetic and functions of columns; the functions are "
            f"{', '.join(FUNCTIONS)}"
        )
    if isinstance(node, ast.Call):
        name = _called(node.func)
        plain = name.removeprefix("np.")
        allowed = name in (*FUNCTIONS, *CODINGS) or (name != plain and plain in (*_PLAIN, *CONTEXT))
        if not allowed and name.lower() not in _CONTRASTS:
            close = nearest(plain, FUNCTIONS)
            raise ValueError(f"formula '{formula}': no function '{name}'{close}; there are {', '.join(FUNCTIONS)}")
        numbers = [part.value for part in (*node.args, *(word.value for word in node.keywords))
                   if isinstance(part, ast.Constant) and isinstance(part.value, (int, float))]  # fmt: skip
        if name in _BASES and not all(map(_small, numbers)):
            raise ValueError(f"formula '{formula}': '{expression}' asks for more than {_LARGEST}")


def _small(number: Any) -> bool:
    return isinstance(number, (int, float)) and abs(number) <= _LARGEST


def _there(columns: Collection[str]) -> str:
    return f"columns: {listed(columns)}"
