"""Where a file can be mutated: operators of cosmic-ray, and the places whose mutation no number depends on."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

# Of each kind of operator the changes that are hardest to see: most others raise at once, of tensors.
OPERATORS = (
    "NumberReplacer", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "AddNot",
    "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Div",
    "ReplaceBinaryOperator_Mul_Add", "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul",
    "ReplaceBinaryOperator_Mod_FloorDiv", "ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_BitAnd_BitOr",
    "ReplaceBinaryOperator_BitOr_BitAnd", "ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Invert",
    "ReplaceUnaryOperator_Delete_Not", "ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_Gt", "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_Lt", "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak", "ZeroIterationForLoop",
)  # fmt: skip
WORDS = frozenset({"__repr__", "__str__", "plot"})
QUIET = frozenset({"strict", "stacklevel"})  # arguments that change no number


@dataclass(frozen=True)
class Spot:
    """One mutant of a file: the operator, which of its occurrences, and the line."""

    kind: str
    occurrence: int
    line: int


def spots(source: str) -> Iterator[Spot]:
    """The mutants of a source, but those in messages, reprs, annotations, decorators and other words."""
    tree, silent = get_ast(source), _silent(source)
    nodes = list(ast_nodes(tree))
    for kind in OPERATORS:
        operator = get_operator(f"core/{kind}")()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(places):
            if not any(first <= start < last for first, last in silent):
                yield Spot(kind, occurrence, start[0])


def change(source: str, spot: Spot) -> tuple[str, str]:
    """The lines that a mutant changes, before and after."""
    found = list(difflib.unified_diff(source.splitlines(), mutated(source, spot).splitlines(), n=0, lineterm=""))[2:]
    before, after = (" ".join(line[1:].strip() for line in found if line[0] == sign) for sign in "-+")
    return before, after


def mutated(source: str, spot: Spot) -> str:
    """The source with this mutant in it."""
    found = mutate_code(source, get_operator(f"core/{spot.kind}")(), spot.occurrence)
    if found is None:
        raise ValueError(f"{spot.kind}: there is no occurrence {spot.occurrence}")
    return str(found)


def _silent(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Begin and end, (line, column), of what no number depends on."""
    found: list[ast.AST] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found += node.decorator_list
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.append(node.returns)
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            found.append(node.annotation)
        if _in_words(node) or _of_types(node):
            found.append(node)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in found]  # type: ignore[attr-defined]


def _in_words(node: ast.AST) -> bool:
    """Whether a piece of code makes messages, texts or pictures."""
    if isinstance(node, ast.FunctionDef):
        return node.name in WORDS or (isinstance(node.returns, ast.Name) and node.returns.id == "str")
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "warn"
    if isinstance(node, ast.keyword):
        return node.arg in QUIET
    return isinstance(node, ast.Raise | ast.JoinedStr)


def _of_types(node: ast.AST) -> bool:
    """Whether a piece of code is for imports and types alone: `Kind = int | None`."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.Assign):
        return isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr) and _union(node.value)
    return isinstance(node, ast.Import | ast.ImportFrom)


def _union(value: ast.expr) -> bool:
    if isinstance(value, ast.BinOp):
        return isinstance(value.op, ast.BitOr) and _union(value.left) and _union(value.right)
    return isinstance(value, ast.Name | ast.Attribute | ast.Subscript) or (
        isinstance(value, ast.Constant) and value.value is None
    )
