"""Mutants of what makes a run durable: the order of commits and effects, the ledger's file, the files behind sinks."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.mutation import Mutant

FILES = "tests/engine/test_sink_files.py::"
STORES = "tests/ledger/test_stores.py::"
EFFECTS = "tests/engine/test_runs_effects.py::"
ON = "tests/simulation/test_going_on.py::"
ORDER = "tests/simulation/test_order_of_commits.py::"

RESUMES = "tests/engine/test_resumes{}.py::"

MUTANTS: Sequence[Mutant] = (
    Mutant("a_sinks_file_is_not_synced", "law R3", "engine/sinks/files.py",
           "        os.fsync(descriptor)\n        self._broken = False\n", "        self._broken = False\n",
           FILES + "test_a_write_returns_after_file_and_directory_are_on_disk"),
    Mutant("a_sinks_directory_is_not_synced", "law R3", "engine/sinks/files.py", "for directory in made:",
           "for directory in made[:0]:", FILES + "test_a_write_returns_after_file_and_directory_are_on_disk"),
    Mutant("only_the_files_own_directory_is_synced", "law R3", "engine/sinks/files.py", "for directory in made:",
           "for directory in made[:1]:", FILES + "test_a_write_returns_after_file_and_directory_are_on_disk"),
    Mutant("a_broken_handle_is_used_again", "law R4", "engine/sinks/files.py", "if self._broken:", "if False:",
           FILES + "test_after_an_error_of_the_disk_the_handle_is_not_used_again"),
    Mutant("a_short_write_is_taken_for_whole", "law R3", "engine/sinks/files.py", "            left = left[count:]\n",
           "            left = left[:0]\n", FILES + "test_bytes_that_the_system_takes_in_pieces_are_all_written"),
    Mutant("a_sinks_file_is_not_locked", "law R4", "engine/sinks/files.py",
           "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
           FILES + "test_the_lock_is_one_that_other_processes_see"),
    Mutant("a_sinks_file_is_cut_before_it_is_locked", "law R4", "engine/sinks/files.py",
           "            self._lock(descriptor)\n",
           "            self._cut(descriptor, claim)\n            self._lock(descriptor)\n",
           FILES + "test_a_second_writer_is_kept_out_until_the_first_lets_go"),
    Mutant("a_process_that_was_overtaken_cuts_the_file", "law L3", "engine/sinks/files.py", "if not claim.is_held():",
           "if False:", ON + "test_a_file_is_not_touched_by_a_process_that_was_overtaken"),
    Mutant("a_process_that_was_overtaken_is_not_told", "law L3", "engine/open_sinks.py",
           "return head is not None and head.epoch == self._recorder.state.epoch", "return head is not None",
           ON + "test_a_sink_can_ask_whether_its_process_is_still_the_runs_writer"),
    Mutant("a_sinks_file_is_not_cut", "G13", "engine/sinks/files.py", "os.ftruncate(descriptor, offset)", "pass",
           RESUMES.format("_files") + "test_what_stands_behind_the_last_confirmed_write_is_cut_off"),
    Mutant("what_was_confirmed_may_be_gone", "law R3", "engine/sinks/files.py", "if found < offset:", "if False:",
           FILES + "test_a_file_that_lost_what_was_confirmed_is_not_written_to"),
    Mutant("what_was_confirmed_is_not_checked", "law R3", "engine/sinks/files.py",
           "            self._check(descriptor, piece)\n", "            pass\n",
           RESUMES.format("_files") + "test_a_file_that_was_changed_since_is_not_written_to"),
    Mutant("a_sinks_file_is_cut_before_it_is_checked", "law R3", "engine/sinks/files.py",
           "        for piece in claim.pieces:\n            self._check(descriptor, piece)\n"
           "        if found > offset:\n            os.ftruncate(descriptor, offset)\n",
           "        if found > offset:\n            os.ftruncate(descriptor, offset)\n"
           "        for piece in claim.pieces:\n            self._check(descriptor, piece)\n",
           ON + "test_a_file_whose_confirmed_bytes_were_changed_is_neither_cut_nor_written"),
    Mutant("a_resumed_file_is_opened_as_new", "G13", "engine/sinks/files.py", "claim.offset if claim.begun else None",
           "0 if claim.begun and self._mode == 'write' else None",
           FILES + "test_a_finished_file_can_be_resumed_too"),
    Mutant("a_sink_is_not_told_that_it_was_begun", "G13", "engine/open_sinks.py", "if name not in state.sink_ends:",
           "if True:", RESUMES.format("_writes") + "test_a_sink_is_opened_under_the_claim_of_the_run_as_the_log_has_it"),
    Mutant("a_sink_is_not_told_what_was_confirmed", "law R3", "engine/open_sinks.py",
           "pieces=_pieces(self._store, state.run, name)", "pieces=()",
           RESUMES.format("_writes") + "test_a_sink_is_opened_under_the_claim_of_the_run_as_the_log_has_it"),
    Mutant("where_a_sink_ends_is_forgotten", "G13", "ledger/fold/sinks.py",
           "state.sink_ends[write.sink] = event.size_bytes", "pass",
           RESUMES.format("_writes") + "test_an_open_write_is_made_again_as_it_was_intended"),
    Mutant("acknowledged_before_the_commit", "law L1", "engine/loop.py",
           "        self._outlets.flush()\n        self._wary.look(self._state)\n"
           "        self._hooks.progress(self._rows_since)\n",
           "        self._hooks.progress(self._rows_since)\n        self._outlets.flush()\n"
           "        self._wary.look(self._state)\n", ORDER + "test_what_is_acknowledged_is_on_record"),
    Mutant("a_write_before_its_intent_is_durable", "law R3", "engine/outlets.py",
           "        self._desk.recorder.commit()\n        while planned:", "        while planned:",
           ORDER + "test_a_write_finds_its_intent_on_record_and_no_confirmation"),
    Mutant("a_failsinks_write_before_its_intent_is_durable", "law R3", "engine/outlets.py",
           "            if planned:\n                self._desk.recorder.commit()\n", "",
           ORDER + "test_a_write_finds_its_intent_on_record_and_no_confirmation"),
    Mutant("confirmed_before_it_is_written", "law R3", "engine/outlets.py",
           "        performed = sinks.perform(write, self._sinks[name], recorder.ports.monotonic_ns)\n"
           "        self._tick()\n        event = sinks.confirm(write, performed, recorder)\n"
           "        self._desk.record(event)\n",
           "        done = sinks.Written('', 0, write.prepared.content_sha256, ())\n"
           "        event = sinks.confirm(write, sinks.Performed(done, None, 0), recorder)\n"
           "        self._desk.record(event)\n        recorder.commit()\n"
           "        performed = sinks.perform(write, self._sinks[name], recorder.ports.monotonic_ns)\n"
           "        self._tick()\n",
           ORDER + "test_a_write_finds_its_intent_on_record_and_no_confirmation"),
    Mutant("an_effect_before_its_intent_is_durable", "law T10", "engine/in_flight.py",
           "        self._desk.recorder.commit()\n", "",
           EFFECTS + "test_the_intent_is_committed_before_the_effect_begins"),
    Mutant("each_attempt_has_a_key_of_its_own", "law T10", "engine/in_flight.py", "token.id, token.node)",
           "f'{token.id}#{token.attempt}', token.node)",
           EFFECTS + "test_the_key_is_the_same_over_all_attempts_and_differs_between_tokens_nodes_runs_and_ledgers"),
    Mutant("keys_are_the_same_in_every_run", "law T10", "ledger/ids.py", 'f"{ledger}/{run}/{token}/{node}"',
           'f"{ledger}/{token}/{node}"',
           EFFECTS + "test_the_key_is_the_same_over_all_attempts_and_differs_between_tokens_nodes_runs_and_ledgers"),
    Mutant("a_late_answer_is_heard", "law T10", "engine/in_flight.py",
           "effects.overdue(seconds) if called.duration_us > seconds * 1_000_000 else called", "called",
           EFFECTS + "test_an_answer_that_took_longer_than_the_deadline_is_none"),
    Mutant("a_hung_effect_is_given_up_too_late", "law T10", "engine/in_flight.py",
           "if running.attempt.deadline_ns <= now_ns]", "if running.attempt.deadline_ns < now_ns]",
           EFFECTS + "test_a_hung_effect_ends_at_its_deadline_and_not_before"),
    Mutant("more_attempts_than_workers", "D8", "engine/in_flight.py",
           "count = min(len(self._waiting), self._capacity - len(self._running))",
           "count = min(len(self._waiting), self._capacity)",
           "tests/engine/test_runs_in_flight.py::test_in_whatever_order_they_answer_the_room_is_used_and_kept[2]"),
    Mutant("a_commit_for_every_event", "D9", "engine/loop.py", "if self._rows_since >= ROWS_PER_COMMIT:",
           "if self._rows_since >= 1:", "tests/engine/test_runs_limits.py::test_many_rows_share_a_commit"),
    Mutant("no_commit_until_many_rows", "D9", "engine/loop.py",
           "return waits and self._recorder.active_ms - self._committed_ms >= COMMIT_EVERY_MS", "return False",
           "tests/engine/test_runs_limits.py::test_what_is_buffered_does_not_wait_for_two_hundred_rows"),
    Mutant("the_run_is_opened_in_another_transaction", "law L1", "engine/run.py",
           "    recorder.commit([registry.entries(store, [opened], recorder.at)])\n",
           "    recorder.commit()\n    store.append([registry.entries(store, [opened], recorder.at)])\n",
           ORDER + "test_a_run_is_opened_and_closed_in_one_transaction_with_the_ledgers_own_stream"),
    Mutant("the_run_is_closed_in_another_transaction", "law L1", "engine/run.py",
           "    recorder.commit([registry.entries(store, [closed], recorder.at)])\n",
           "    recorder.commit()\n    store.append([registry.entries(store, [closed], recorder.at)])\n",
           ORDER + "test_a_run_is_opened_and_closed_in_one_transaction_with_the_ledgers_own_stream"),
    Mutant("payloads_of_an_event_that_was_never_said_are_kept", "law L4", "ledger/writer.py",
           "        while self.payloads > self._said:\n", "        while False:\n",
           ON + "test_what_was_put_aside_for_an_event_that_was_never_said_is_not_stored"),
    Mutant("the_epoch_is_not_checked_at_an_append", "law L3", "ledger/sqlite_store.py",
           "None if row is None else (row[1], row[2])", "None if row is None else (row[1], part.expected_epoch)",
           STORES + "test_an_append_to_a_stream_that_stands_elsewhere_stores_nothing"),
    Mutant("the_size_is_not_checked_at_an_append", "law L3", "ledger/sqlite_store.py",
           "None if row is None else (row[1], row[2])", "None if row is None else (part.expected_size, row[2])",
           STORES + "test_an_append_to_a_stream_that_stands_elsewhere_stores_nothing"),
    Mutant("an_append_that_fails_is_kept_in_part", "law L1", "ledger/sqlite_store.py",
           "                self._rollback()\n                raise\n",
           "                sql('COMMIT')\n                raise\n",
           STORES + "test_a_part_that_conflicts_takes_all_the_others_with_it"),
    Mutant("synchronous_normal", "law L1", "ledger/sqlite_store.py", 'sql("PRAGMA synchronous = FULL")',
           'sql("PRAGMA synchronous = NORMAL")',
           "tests/ledger/test_sqlite_store.py::test_the_lock_is_free_again_when_the_writer_has_closed"),
    Mutant("synchronous_normal_and_nobody_looks", "law L1", "ledger/sqlite_store.py",
           'sql("PRAGMA synchronous = FULL")\n    sql("PRAGMA cache_size = -16000")\n    mode, synchronous = '
           'sql("PRAGMA journal_mode = WAL").scalar(), sql("PRAGMA synchronous").scalar()\n',
           'sql("PRAGMA synchronous = NORMAL")\n    mode, synchronous = sql("PRAGMA journal_mode = WAL").scalar(), 2\n',
           "tests/ledger/test_sqlite_store.py::test_a_writer_insists_on_durable_commits"),
    Mutant("a_ledger_that_is_held_is_written", "law L3", "ledger/file_lock.py",
           "            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))\n",
           "            pass\n", "tests/ledger/test_sqlite_store.py::test_a_second_writer_is_told_that_the_ledger_is_busy"),
)
