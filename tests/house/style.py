"""How the code reads, as far as a machine can tell: sizes, names, docstrings, state, swallowed errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.tree import Parsed

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FORBIDDEN_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "manager", "service", "processor"})
MUTATORS = frozenset({"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "clear", "remove",
                      "discard", "appendleft"})  # fmt: skip
BROAD = frozenset({"Exception", "BaseException"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def too_long(file: Parsed) -> list[str]:
    """Files and functions beyond their size."""
    lines = len(file.text.splitlines())
    found = [f"{file.path}: {lines} lines"] if lines > FILE_LINES_MAX else []
    for node in functions(file.tree):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES_MAX:
            found.append(f"{file.path}:{node.lineno}: {node.name} has {length} lines")
    return found


def badly_named(file: Parsed) -> list[str]:
    """Modules, packages and classes named after no thing."""
    words = {word for part in file.path.removesuffix(".py").split("/") for word in part.lower().split("_")}
    found = [f"{file.path}: {word}" for word in sorted(words & FORBIDDEN_NAMES)]
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ClassDef):
            found.extend(
                f"{file.path}:{node.lineno}: class {node.name}"
                for word in FORBIDDEN_NAMES
                if node.name.lower().endswith(word)
            )
    return found


def undocumented(file: Parsed) -> list[str]:
    """Public modules, classes, functions and methods without a docstring (methods of a private class are private)."""
    found = [] if ast.get_docstring(file.tree) else [f"{file.path}: module"]
    return found + [
        f"{file.path}:{node.lineno}: {node.name}"
        for node in _public(file.tree)
        if not ast.get_docstring(node) and not _is_overload(node)
    ]


def star_imports(file: Parsed) -> list[str]:
    """`from x import *`."""
    return [
        f"{file.path}:{node.lineno}"
        for node in ast.walk(file.tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]


def asserts(file: Parsed) -> list[str]:
    """`assert` as a guard: it goes away under -O."""
    return [f"{file.path}:{node.lineno}" for node in ast.walk(file.tree) if isinstance(node, ast.Assert)]


def keyword_pass_through(file: Parsed) -> list[str]:
    """A `**kwargs` parameter handed on to another call."""
    found: list[str] = []
    for function in functions(file.tree):
        rest = function.args.kwarg
        if rest is None:
            continue
        found.extend(
            f"{file.path}:{call.lineno}: **{rest.arg}"
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and any(_is_spread(keyword, rest.arg) for keyword in call.keywords)
        )
    return found


def swallowed_errors(file: Parsed) -> list[str]:
    """Broad handlers, and `suppress`, that do nothing with what they caught."""
    found = []
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and all(map(_does_nothing, node.body)):
            found.append(f"{file.path}:{node.lineno}: except")
        if isinstance(node, ast.Call) and _name(node.func) == "suppress" and any(map(_is_broad, node.args)):
            found.append(f"{file.path}:{node.lineno}: suppress")
    return found


def module_state(file: Parsed) -> list[str]:
    """`global`, and functions that change a name bound at the top of their module."""
    shared = set(_module_names(file.tree))
    found = [f"{file.path}:{node.lineno}: global" for node in ast.walk(file.tree) if isinstance(node, ast.Global)]
    for function in functions(file.tree):
        changed = shared - _local_names(function)
        found.extend(
            f"{file.path}:{node.lineno}: {name}"
            for node in ast.walk(function)
            if isinstance(node, ast.Call | ast.Subscript)
            for name in [_changed_name(node)]
            if name in changed
        )
    return found


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _public(body: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    for node in body.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def _is_overload(node: Definition) -> bool:
    return any(_name(decorator) in {"overload", "setter"} for decorator in node.decorator_list)


def _is_spread(keyword: ast.keyword, name: str) -> bool:
    return keyword.arg is None and isinstance(keyword.value, ast.Name) and keyword.value.id == name


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(_name(name) in BROAD for name in names)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Continue)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _module_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _local_names(function: Function) -> set[str]:
    arguments = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    return arguments | {
        node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _changed_name(node: ast.Call | ast.Subscript) -> str | None:
    if isinstance(node, ast.Subscript):
        return _name(node.value) if isinstance(node.ctx, ast.Store | ast.Del) else None
    if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return _name(node.func.value) if isinstance(node.func.value, ast.Name) else None
    return None
