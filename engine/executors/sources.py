"""The source executor: a source row becomes a root token, valid or not; nothing is dropped without a trace (E4, E6)."""

from __future__ import annotations

from engine.executors.keeper import Keeper
from engine.plugin_api import RowFault, SourceRow
from engine.recorder import encode_row
from ledger import ids
from ledger.events import RowRead
from ledger.fold import State

ROW_TOO_LONG = "row_too_long"
SHOWN_CHARS_MAX = 4000


def fitted(item: SourceRow, row_bytes_max: int) -> tuple[SourceRow, bytes]:
    """The row with its bytes; one that is too long is invalid, and only its beginning is kept."""
    data = encode_row(item.row)
    if len(data) <= row_bytes_max:
        return item, data
    row = data[:SHOWN_CHARS_MAX].decode("utf-8", "replace")
    fault = RowFault(ROW_TOO_LONG, f"expected a row of at most {row_bytes_max} bytes, found {len(data)}")
    return SourceRow(item.position, row, fault), encode_row(row)


def read(state: State, item: SourceRow, encoded: bytes, key_field: str | None, keeper: Keeper) -> RowRead:
    """The event of one source row; payloads are introduced as data, key, error."""
    position, row, fault = item
    index = state.rows_read
    data = keeper.keep(encoded)
    key = None
    if key_field is not None and isinstance(row, dict) and row.get(key_field) is not None:
        key = keeper.keep(encode_row(row[key_field]))
    if fault is None:
        return RowRead(token=ids.root_token(index), row=index, valid=True, position=position, data=data, key=key)
    return RowRead(token=ids.root_token(index), row=index, valid=False, position=position, data=data, key=key,
                   code=keeper.code(fault.code), error=keeper.keep_text(fault.text))
