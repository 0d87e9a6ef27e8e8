"""The source executor: a source row becomes a root token, valid or not; nothing is dropped without a trace (E4, E6)."""

from __future__ import annotations

from engine.executors.keeper import Keeper
from engine.plugin_api import SourceRow
from engine.recorder import encode_row
from ledger import ids
from ledger.events import RowRead
from ledger.fold import State


def read(state: State, item: SourceRow, key_field: str | None, keeper: Keeper) -> RowRead:
    """The event of one source row; payloads are introduced as data, key, error."""
    position, row, fault = item
    index = state.rows_read
    data = keeper.keep(encode_row(row))
    key = None
    if key_field is not None and isinstance(row, dict) and row.get(key_field) is not None:
        key = keeper.keep(encode_row(row[key_field]))
    if fault is None:
        return RowRead(token=ids.root_token(index), row=index, valid=True, position=position, data=data, key=key)
    return RowRead(token=ids.root_token(index), row=index, valid=False, position=position, data=data, key=key,
                   code=fault.code, error=keeper.keep_text(fault.text))
