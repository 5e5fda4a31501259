"""Mutants of one file, made by the operators of Cosmic Ray: one change each, none of them in an annotation.

Cosmic Ray replaces an operator by every other one. Of these the ones next to it are enough: a test that tells `<` from `<=` and
from `!=` tells it from the others. Annotations are never evaluated here, so that a change in one changes nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

__all__ = ["Mutant", "changed_lines", "mutants_of"]

_NEIGHBOURS = {
    "Add": ("Sub",),
    "Sub": ("Add",),
    "Mul": ("Div",),
    "Div": ("Mul",),
    "FloorDiv": ("Div",),
    "Mod": ("Mul",),
    "Pow": ("Mul",),
    "LShift": ("RShift",),
    "RShift": ("LShift",),
    "BitOr": ("BitAnd",),
    "BitAnd": ("BitOr",),
    "BitXor": ("BitOr",),
    "Lt": ("LtE", "NotEq"),
    "LtE": ("Lt", "Eq"),
    "Gt": ("GtE", "NotEq"),
    "GtE": ("Gt", "Eq"),
    "Eq": ("NotEq", "LtE", "GtE"),
    "NotEq": ("Eq", "Lt", "Gt"),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
    "In": ("NotIn",),
    "NotIn": ("In",),
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one change.

    Attributes:
        file: relative to the repository.
        line: of the change.
        within: the function or class that it is in, dotted; "" outside of all.
        change: lines taken away with "-" before them and lines put in their place with "+", without indentation.
        source: the whole file with the change.
    """

    file: str
    line: int
    within: str
    change: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same when lines move: file, function, change."""
        return self.file, self.within, self.change

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.within}: {' '.join(self.change.splitlines())}"


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """All mutants that are Python, none twice, in the order of the file's statements."""
    tree = ast.parse(source)
    lines, annotations, scopes = source.splitlines(keepends=True), _annotations(tree), _scopes(tree)
    operators = [get_operator(name)() for name in _operators()]
    for statement in tree.body:
        first, last = _span(statement)
        part = "".join(lines[first - 1 : last])  # a small text to parse for each mutant
        nodes, seen = list(ast_nodes(get_ast(part))), {part}
        for operator in operators:
            positions = [position for node in nodes for position in operator.mutation_positions(node)]
            for occurrence, ((row, column), _) in enumerate(positions):
                line = first + row - 1
                if any(begin <= (line, column) < end for begin, end in annotations):
                    continue
                mutated = mutate_code(part, operator, occurrence)
                if mutated is None or mutated in seen or not _is_python(mutated):
                    continue
                seen.add(mutated)
                whole = "".join([*lines[: first - 1], mutated, *lines[last:]])
                yield Mutant(file, line, _scope(scopes, line), changed_lines(part, mutated), whole)


def changed_lines(source: str, mutated: str) -> str:
    """The lines that differ, as in a diff without context and indentation."""
    before, after = source.splitlines(), mutated.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return "\n".join([*(f"- {line.strip()}" for line in before), *(f"+ {line.strip()}" for line in after)])


def _operators() -> list[str]:
    """Names of Cosmic Ray's operators that need no arguments, but for those that replace by an operator far away."""
    found = []
    for name in sorted(operator_names()):
        family, _, pair = name.rpartition("/")[2].partition("Operator_")
        before, _, after = pair.partition("_")
        near = after in _NEIGHBOURS.get(before, (after,)) or family == "ReplaceUnary"
        if near and not get_operator(name).arguments():
            found.append(name)
    return found


def _is_python(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _annotations(tree: ast.AST) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where annotations go, as (line, column) each."""
    found = []
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            each = getattr(node, name, None)
            if isinstance(each, ast.expr):
                found.append(((each.lineno, each.col_offset), (each.end_lineno or 0, each.end_col_offset or 0)))
    return found


def _scopes(tree: ast.AST, outer: str = "") -> list[tuple[int, int, str]]:
    """First and last line of every function and class, decorators too, with its dotted name; inner ones after outer ones."""
    found = []
    for node in ast.iter_child_nodes(tree):
        name = outer
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{outer}.{node.name}".lstrip(".")
            found.append((*_span(node), name))
        found += _scopes(node, name)
    return found


def _span(node: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement, decorators too."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return first, node.end_lineno or first


def _scope(scopes: list[tuple[int, int, str]], line: int) -> str:
    return next((name for first, last, name in reversed(scopes) if first <= line <= last), "")
