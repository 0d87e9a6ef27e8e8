"""Events of the run and its source: start, claim, rows, end of source, interruption, abandonment, seal."""

from __future__ import annotations

from ledger import ids
from ledger.events import (
    RowRead,
    RunClaimed,
    RunInterrupted,
    RunSealed,
    RunStarted,
    SourceExhausted,
    SourceFailed,
    TokensAbandoned,
)
from ledger.expressions import ExpressionInvalid
from ledger.fold.moves import at_node, born, end, introduce, owe_loss, refuse
from ledger.fold.plan import Plan
from ledger.fold.state import Family, OwedDivert, Stage, State
from ledger.graph import DISCARD, SOURCE


def run_started(state: State, event: RunStarted) -> None:
    """L2: first, and once."""
    if state.status != "new":
        refuse(state, event, "L2", expected="one RunStarted, first", found="another RunStarted")
    introduce(state, event, event.settings)
    if event.graph_list is not None:
        introduce(state, event, event.graph_list)
    if event.graph is None:
        refuse(state, event, "L4", expected="a graph, in the body or resolved from its list", found="none")
    if event.run != state.run:
        refuse(state, event, "L4", expected=f"run {state.run}", found=f"run {event.run}")
    try:
        state.plan = Plan(event.graph)
    except ExpressionInvalid as invalid:
        refuse(state, event, "L4", expected="a graph whose conditions can be read", found=str(invalid))
    state.jitter_seed = event.jitter_seed
    state.status = "running"


def run_claimed(state: State, event: RunClaimed) -> None:
    """L3: the claim of the start keeps the first epoch, each later one raises it by one."""
    expected = state.epoch if state.seq == 1 else state.epoch + 1
    if event.epoch != expected:
        refuse(state, event, "L3", expected=f"epoch {expected}", found=f"epoch {event.epoch}")
    if state.status == "running" and state.seq > 1:
        state.unclean_rows = state.rows_read
    state.epoch = event.epoch
    state.claimed_seq = event.seq
    state.status = "running"


def run_interrupted(state: State, event: RunInterrupted) -> None:
    """Open work stays open; only a claim may follow."""
    state.status = "interrupted"


def row_read(state: State, event: RowRead) -> None:
    """T3, T4, R5: rows come in order, each makes one root, whose step 0 this is."""
    row = event.row
    if row != state.rows_read or event.token != str(row):
        refuse(state, event, "T3", token=event.token, expected=f"row {state.rows_read}", found=f"row {row}")
    if state.exhausted:
        refuse(state, event, "R5", token=event.token, expected="no row after SourceExhausted", found="RowRead")
    if state.position is not None and event.position <= state.position:
        refuse(state, event, "R5", token=event.token, expected=f"a position past {state.position}",
               found=f"position {event.position}")
    payload = introduce(state, event, event.data)
    if event.key is not None:
        introduce(state, event, event.key)
    state.rows_read = row + 1
    state.position = event.position
    family = state.families[row] = Family(row)
    token = born(state, family, event.token, (), payload, state.plan.next_of[SOURCE])
    if not event.valid:
        _invalid(state, event)
        token.node, token.stage = SOURCE, Stage.FAILED
    elif event.error is not None or event.code is not None:
        refuse(state, event, "T4", token=event.token, expected="no error on a valid row", found=str(event.code))


def _invalid(state: State, event: RowRead) -> None:
    if event.code is None or event.error is None:
        refuse(state, event, "T4", token=event.token, expected="a code and an error on an invalid row", found="none")
    reason = introduce(state, event, event.error)
    source = state.plan.nodes[SOURCE]
    edge = state.plan.divert_edge(SOURCE)
    to = source.on_error or DISCARD
    token = state.tokens[event.token]
    state.owed.append(OwedDivert(token, "quarantine", SOURCE, to, edge.id if edge else None, event.code, reason))


def source_exhausted(state: State, event: SourceExhausted) -> None:
    """R5: the source's own count equals the rows recorded."""
    if state.exhausted or event.rows != state.rows_read:
        refuse(state, event, "R5", expected=f"{state.rows_read} rows, once", found=f"{event.rows} rows")
    state.exhausted = True


def source_failed(state: State, event: SourceFailed) -> None:
    """R5: the position is that of the last row recorded."""
    introduce(state, event, event.error)
    if event.position != state.position:
        refuse(state, event, "R5", expected=f"position {state.position}", found=f"position {event.position}")


def tokens_abandoned(state: State, event: TokensAbandoned) -> None:
    """Each named token stood before a node and ends `failed`; groups, batches and writes are closed by their own events."""
    if event.reason is not None:
        introduce(state, event, event.reason)
    state.abandoned = True
    for token_id in event.tokens:
        known = state.tokens.get(token_id)
        token = at_node(state, event, token_id, known.node if known else "", ends_as="failed", stages=Stage.READY)
        end(state, token, "failed")
        owe_loss(state, token.id, token.family, token.frames, "abandoned", token.node, event.code, in_turn=True)


def run_sealed(state: State, event: RunSealed) -> None:
    """T1, C2, C7, R3, R5: nothing is open, and the seal's own counts are the log's."""
    for group in state.groups.values():
        if group.status == "open":
            refuse(state, event, "C2", token=group.id, expected="no open group at the seal", found=group.id)
    for batch in state.batches.values():
        if batch.status != "closed":
            refuse(state, event, "C7", expected="no open batch at the seal",
                   found=ids.batch_id(batch.node.id, batch.number))
    if state.writes:
        refuse(state, event, "R3", expected="no open sink write at the seal", found=str(sorted(state.writes)))
    for token in state.tokens.values():
        if token.outcome is None:
            refuse(state, event, "T1", token=token.id, expected="a terminal outcome at the seal",
                   found=f"{token.stage.name.lower()} at {token.node}")
    _check_counts(state, event)
    state.status = event.status


def _check_counts(state: State, event: RunSealed) -> None:
    if event.outcomes != state.outcomes or event.tokens != state.tokens_made:
        refuse(state, event, "T1", expected=f"{state.tokens_made} tokens {state.outcomes}",
               found=f"{event.tokens} tokens {event.outcomes}")
    if event.late_arrivals != state.late_arrivals:
        refuse(state, event, "T1", expected=f"{state.late_arrivals} late", found=f"{event.late_arrivals} late")
    if event.rows != state.rows_read or not (state.exhausted or state.abandoned):
        refuse(state, event, "R5", expected=f"{state.rows_read} rows of a source that ended", found=f"{event.rows}")
    if event.size != event.seq - 1:
        refuse(state, event, "L1", expected=f"size {event.seq - 1}", found=f"size {event.size}")
    if (event.status == "failed") != state.abandoned:
        refuse(state, event, "T1", expected="failed if and only if abandoned", found=event.status)
