"""Conditions and expressions: a small part of Python's syntax, checked once, compiled once, then called per row.

Why compiled: a gate's condition runs for every row, and a comparison costs what it costs in Python. Why an allow-list:
what is not named here does not exist, so nothing has to be found and forbidden.

Invariants: the text reaches Python's compiler only as a tree of allowed nodes that has no attribute but `.get` and no
call but `len`, `abs` and `.get`; arithmetic goes through guards, so no result is longer than its bound and text is
never repeated or formatted; the same row gives the same answer everywhere (`is` asks
only for None, True and False).
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from math import isfinite
from typing import Any, cast

TEXT_MAX, NODES_MAX, DEPTH_MAX = 2000, 200, 30
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
RESULT_TEXT_MAX, RESULT_LIST_MAX = 2**20, 10_000
ROW = "row"
FUNCTIONS = ("abs", "len")


class ExpressionInvalid(ValueError):
    """An expression that cannot be compiled; `offset` is the place in `text`, from 0; the message counts from 1."""

    def __init__(self, text: str, offset: int, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}, at column {offset + 1}")
        self.text = text
        self.offset = offset


def compile_expression(text: str, names: Collection[str] = (ROW,)) -> Callable[..., object]:
    """The expression as a function of `names`, taken positionally in their order.

    Calling it raises what Python raises (KeyError, TypeError, ZeroDivisionError, ...), and OverflowError for a result
    beyond 64 bits, not finite, or too long. Raises `ExpressionInvalid` when the text is not an allowed expression.
    """
    source = _Source(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a doubtful escape or literal is an error here, not a line on stderr
        body = _Checker(source, names).value(source.parsed(), 1)
        arguments = ast.arguments(
            posonlyargs=[], args=[ast.arg(name) for name in names], kwonlyargs=[], kw_defaults=[], defaults=[]
        )
        tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
        code = compile(tree, "<expression>", "eval")
    # Only the checked tree gets here, and it finds nothing but the guards.
    return cast(Callable[..., object], eval(code, {"__builtins__": {}, **_GUARDS}))


class _Source:
    """The text as the parser sees it, and how its places are told."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > TEXT_MAX:
            raise ExpressionInvalid(text, TEXT_MAX, f"at most {TEXT_MAX} characters", str(len(text)))
        self._stripped = text.strip(" \t\r\n")
        self._indent = text.find(self._stripped)
        self._lines: list[str] = _LINE.findall(self._stripped)

    def parsed(self) -> ast.expr:
        """Python's own tree of the text, unchecked."""
        if not self._stripped:
            raise ExpressionInvalid(self.text, 0, "an expression", "nothing")
        try:
            return ast.parse(self._stripped, "<expression>", "eval").body
        except SyntaxError as error:
            offset = self._place((error.lineno or 1) - 1, (error.offset or 1) - 1)
            raise ExpressionInvalid(self.text, offset, "one Python expression", error.msg) from None
        except (RecursionError, MemoryError):
            raise ExpressionInvalid(self.text, 0, f"at most {DEPTH_MAX} levels", "more") from None
        except (ValueError, Warning) as error:
            raise ExpressionInvalid(self.text, 0, "one Python expression", str(error)) from None

    def offset(self, node: ast.expr) -> int:
        """Where the node begins in the text, in characters."""
        line = node.lineno - 1
        return self._place(line, len(self._lines[line].encode()[: node.col_offset].decode(errors="replace")))

    def is_written(self, node: ast.expr, name: str) -> bool:
        """Whether the node ends with the name as it is; Python takes look-alike letters for the plain ones."""
        line = self._lines[(node.end_lineno or node.lineno) - 1].encode()
        return line[: node.end_col_offset].endswith(name.encode())

    def _place(self, line: int, column: int) -> int:
        before = sum(map(len, self._lines[:line]))
        return min(self._indent + before + max(column, 0), len(self.text))


class _Checker:
    """Walks the tree once; refuses what is not allowed and puts guards where arithmetic is. Changes nodes in place."""

    def __init__(self, source: _Source, names: Collection[str]) -> None:
        self._source = source
        self._names = names
        self._nodes = 0

    def value(self, node: ast.expr, depth: int) -> ast.expr:
        """The node, checked, as something with a value of its own."""
        self._count(node, depth)
        match node:
            case ast.Constant():
                return self._literal(node, node.value)
            case ast.List() | ast.Tuple():
                return self._literals(node, depth)
            case ast.Name():
                return self._name(node)
            case ast.Subscript():
                return self._subscript(node, depth)
            case ast.Call():
                return self._call(node, depth)
            case ast.Compare():
                return self._compare(node, depth)
            case ast.BinOp():
                return self._arithmetic(node, depth)
            case ast.UnaryOp():
                return self._unary(node, depth)
            case ast.BoolOp():
                node.values = [self.value(item, depth + 1) for item in node.values]
                return node
            case ast.IfExp():
                node.test = self.value(node.test, depth + 1)
                node.body = self.value(node.body, depth + 1)
                node.orelse = self.value(node.orelse, depth + 1)
                return node
        raise self._refused(node, "a literal, a field, a comparison, arithmetic, len() or abs()", _described(node))

    def _count(self, node: ast.expr, depth: int) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self._refused(node, f"at most {NODES_MAX} parts", "more")
        if depth > DEPTH_MAX:
            raise self._refused(node, f"at most {DEPTH_MAX} levels", "more")

    def _literal(self, node: ast.expr, value: object) -> ast.Constant:
        """A constant that a row could hold."""
        kind = type(value)
        if kind is int and not INT_MIN <= cast(int, value) <= INT_MAX:
            raise self._refused(node, "an int of 64 bits", "a longer one")
        if kind is float and not isfinite(cast(float, value)):
            raise self._refused(node, "a finite number", str(value))
        if kind is str and _SURROGATE.search(cast(str, value)):
            raise self._refused(node, "text", "a lone surrogate")
        if kind not in _LITERALS:
            raise self._refused(node, "None, True, False, a number or text", _kind(value))
        return ast.copy_location(ast.Constant(cast(Any, value)), node)

    def _literals(self, node: ast.List | ast.Tuple | ast.Set, depth: int) -> ast.expr:
        """A list, tuple or set of constants."""
        items = [self.value(item, depth + 1) for item in node.elts]
        for written, item in zip(node.elts, items, strict=True):
            if not isinstance(item, ast.Constant):
                raise self._refused(written, "literals in a list", _described(written))
        node.elts = items
        return node

    def _name(self, node: ast.Name) -> ast.expr:
        self._known(node)
        if node.id == ROW:
            raise self._refused(node, "a field of it, e.g. row['name']", "the whole row")
        return node

    def _known(self, node: ast.Name) -> None:
        if node.id not in self._names:
            raise self._refused(node, " or ".join([*self._names, "a literal"]), _described(node))
        if not self._source.is_written(node, node.id):
            raise self._refused(node, f"{node.id!r} in plain letters", "letters that look like them")

    def _whole(self, node: ast.expr, depth: int) -> ast.expr:
        """A value, or the row itself where nothing can keep it: in `len` and right of `in`."""
        return self._path(node, depth) if isinstance(node, ast.Name) and node.id == ROW else self.value(node, depth)

    def _path(self, node: ast.expr, depth: int) -> ast.expr:
        """The row, or a field of it."""
        if isinstance(node, ast.Subscript):
            return self.value(node, depth)
        self._count(node, depth)
        if isinstance(node, ast.Name):
            self._known(node)
        if not isinstance(node, ast.Name) or node.id != ROW:
            raise self._refused(node, "the row or a field of it", _described(node))
        return node

    def _subscript(self, node: ast.Subscript, depth: int) -> ast.expr:
        node.value = self._path(node.value, depth + 1)
        node.slice = self._key(node.slice, depth + 1)
        return node

    def _key(self, node: ast.expr, depth: int) -> ast.expr:
        key = self.value(node, depth)
        if not isinstance(key, ast.Constant) or type(key.value) not in (str, int):
            raise self._refused(node, "a field's name as text, or a position", _described(node))
        return key

    def _call(self, node: ast.Call, depth: int) -> ast.expr:
        if node.keywords:
            raise self._refused(node, "arguments without names", "a named one")
        function = node.func
        if isinstance(function, ast.Attribute):
            if function.attr != "get" or not self._source.is_written(function, "get"):
                raise self._refused(node, ".get", f"the method {function.attr!r}")
            return self._get(node, function, depth)
        if not isinstance(function, ast.Name) or function.id not in FUNCTIONS:
            found = f"a call of {function.id!r}" if isinstance(function, ast.Name) else "a call"
            raise self._refused(node, "len(), abs() or row.get()", found)
        if not self._source.is_written(function, function.id) or len(node.args) != 1:
            raise self._refused(node, f"{function.id} with one argument", f"{len(node.args)}")
        argument = self._whole if function.id == "len" else self.value
        node.args = [argument(node.args[0], depth + 1)]
        return node

    def _get(self, node: ast.Call, function: ast.Attribute, depth: int) -> ast.expr:
        if len(node.args) not in (1, 2):
            raise self._refused(node, "row.get with a name and a default", f"{len(node.args)} arguments")
        function.value = self._path(function.value, depth + 1)
        node.args[0] = self._key(node.args[0], depth + 1)
        node.args[1:] = [self.value(default, depth + 1) for default in node.args[1:]]
        return node

    def _compare(self, node: ast.Compare, depth: int) -> ast.expr:
        node.left = self.value(node.left, depth + 1)
        left = node.left
        for place, (sign, right) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if isinstance(sign, ast.In | ast.NotIn):
                checked = self._collection(right, depth + 1)
            else:
                checked = self.value(right, depth + 1)
            if isinstance(sign, ast.Is | ast.IsNot) and not _tells_identity(left, checked):
                raise self._refused(right, "None, True or False beside `is`", _described(right))
            node.comparators[place] = left = checked
        return node

    def _collection(self, node: ast.expr, depth: int) -> ast.expr:
        if isinstance(node, ast.Set):
            self._count(node, depth)
            return self._literals(node, depth)
        return self._whole(node, depth)

    def _arithmetic(self, node: ast.BinOp, depth: int) -> ast.expr:
        symbol = _SYMBOLS.get(type(node.op))
        if symbol is None:
            raise self._refused(node, "one of + - * / // %", f"the operator {_described(node.op)}")
        sides = [self.value(side, depth + 1) for side in (node.left, node.right)]
        for written, side in zip((node.left, node.right), sides, strict=True):
            if symbol != "+" and _is_no_number(side):
                raise self._refused(written, f"numbers around {symbol}", _described(written))
        return self._guard(node, symbol, sides)

    def _unary(self, node: ast.UnaryOp, depth: int) -> ast.expr:
        if isinstance(node.op, ast.Invert):
            raise self._refused(node, "- + or not", "~")
        operand = node.operand
        if isinstance(node.op, ast.USub) and isinstance(operand, ast.Constant) and type(operand.value) in (int, float):
            self._count(operand, depth + 1)
            return self._literal(node, -cast(float, operand.value))
        node.operand = self.value(operand, depth + 1)
        if isinstance(node.op, ast.Not):
            return node
        if _is_no_number(node.operand):
            raise self._refused(operand, "a number", _described(operand))
        return self._guard(node, "negative" if isinstance(node.op, ast.USub) else "positive", [node.operand])

    def _guard(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> ast.expr:
        function = ast.copy_location(ast.Name(f" {name}", ast.Load()), node)
        return ast.copy_location(ast.Call(function, arguments, []), node)

    def _refused(self, node: ast.expr, expected: str, found: str) -> ExpressionInvalid:
        return ExpressionInvalid(self._source.text, self._source.offset(node), expected, found)


def _tells_identity(left: ast.expr, right: ast.expr) -> bool:
    """Whether `is` has one answer: a constant that exists once, and no other constant beside it."""
    constants = [side.value for side in (left, right) if isinstance(side, ast.Constant)]
    fixed = any(isinstance(side, ast.List | ast.Tuple) for side in (left, right))
    return bool(constants) and not fixed and all(value is None or type(value) is bool for value in constants)


def _is_no_number(node: ast.expr) -> bool:
    return isinstance(node, ast.List | ast.Tuple) or (
        isinstance(node, ast.Constant) and not isinstance(node.value, int | float)
    )


def _described(node: ast.AST) -> str:
    """What people call a node."""
    if isinstance(node, ast.Constant):
        return _kind(node.value)
    if isinstance(node, ast.Name):
        return f"the name {node.id!r}"
    return _DESCRIPTIONS.get(type(node), f"a {type(node).__name__}")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _bounded(result: Any) -> object:
    if type(result) is float:
        if not isfinite(result):
            raise OverflowError(f"expected a finite number, found {result}")
    elif not INT_MIN <= result <= INT_MAX:
        raise OverflowError("expected an int of 64 bits, found a longer one")
    return result


def _numeric(symbol: str, operate: Callable[[Any, Any], Any]) -> Callable[[object, object], object]:
    """The operator for numbers alone; Python's own would repeat lists and format text."""

    def apply(left: object, right: object) -> object:
        if type(left) in _NUMBERS and type(right) in _NUMBERS:
            return _bounded(operate(left, right))
        found = f"{type(left).__name__} and {type(right).__name__}"
        raise TypeError(f"expected numbers around {symbol}, found {found}")

    return apply


def _one(name: str, operate: Callable[[Any], Any]) -> Callable[[object], object]:
    def apply(value: object) -> object:
        if type(value) in _NUMBERS:
            return _bounded(operate(value))
        raise TypeError(f"expected a number for {name}, found {type(value).__name__}")

    return apply


def _add(left: Any, right: Any) -> object:
    """Numbers, two texts or two lists, within bounds."""
    if type(left) in _NUMBERS and type(right) in _NUMBERS:
        return _bounded(left + right)
    for kind, longest in _JOINED.items():
        if isinstance(left, kind) and isinstance(right, kind):
            length = len(left) + len(right)
            if length > longest:
                raise OverflowError(f"expected a result of length {longest} at most, found {length}")
            return left + right
    found = f"{type(left).__name__} and {type(right).__name__}"
    raise TypeError(f"expected two numbers, two texts or two lists around +, found {found}")


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBERS = frozenset({int, float, bool})
_JOINED: Mapping[type[Any], int] = {str: RESULT_TEXT_MAX, list: RESULT_LIST_MAX}
_LITERALS = frozenset({int, float, bool, str, type(None)})
_KINDS: Mapping[type, str] = {
    str: "text", bytes: "bytes", type(None): "None", bool: "a boolean", int: "an int", float: "a float",
    complex: "a complex number", type(...): "...",
}  # fmt: skip

_SYMBOLS: Mapping[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip

# A guard's name starts with a blank: no text can spell it, no name can hide it.
_GUARDS: Mapping[str, Callable[..., object]] = {
    " +": _add,
    " -": _numeric("-", operator.sub),
    " *": _numeric("*", operator.mul),
    " /": _numeric("/", operator.truediv),
    " //": _numeric("//", operator.floordiv),
    " %": _numeric("%", operator.mod),
    " negative": _one("-", operator.neg),
    " positive": _one("+", operator.pos),
    "abs": _one("abs", abs),
    "len": len,
}

_DESCRIPTIONS: Mapping[type[ast.AST], str] = {
    ast.Attribute: "an attribute", ast.Call: "a call", ast.Lambda: "a lambda", ast.NamedExpr: "an assignment",
    ast.JoinedStr: "an f-string", ast.Dict: "a dict", ast.Set: "a set that is not right of `in`",
    ast.ListComp: "a comprehension", ast.SetComp: "a comprehension", ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a generator", ast.Starred: "a starred value", ast.Slice: "a slice",
    ast.Pow: "**", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.MatMult: "@", ast.Subscript: "a field", ast.List: "a list", ast.Tuple: "a tuple",
    ast.BinOp: "arithmetic", ast.Compare: "a comparison", ast.BoolOp: "a condition", ast.IfExp: "a choice",
}  # fmt: skip
