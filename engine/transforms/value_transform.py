"""`value_transform`: set fields from expressions over the row."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from engine.plugin_api import RowError
from engine.rows import Row
from ledger.expressions import compile_expression


class Operation(BaseModel):
    """One field and the expression that gives its value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    expression: str


class ValueTransform:
    """`operations` are made in order; each expression sees what the ones before it set."""

    def __init__(self, *, operations: list[Operation]) -> None:
        self._operations = [(one.target, compile_expression(one.expression)) for one in operations]

    def __call__(self, row: Row) -> dict[str, object]:
        """Compute one row's new fields."""
        made = dict(row)
        for target, expression in self._operations:
            try:
                made[target] = expression(made)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise RowError(f"field {target!r}: {type(error).__name__}: {error}", "expression_failed") from None
        return made
