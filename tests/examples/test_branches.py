"""The branches example keeps what it promises: every policy, every merge, a loss, a timeout, a late arrival."""

from __future__ import annotations

import pytest

from tests.examples.finished import Finished, expected, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run for all that is asked of it."""
    return run("branches", tmp_path_factory.mktemp("branches"))


def test_branches_end_as_promised(finished: Finished) -> None:
    """B2, D1, G5: with every policy each branch has its one end; what came late did not merge again."""
    assert finished.counts() == expected("branches")


def test_a_timed_out_join_goes_on_without_its_slow_branch(finished: Finished) -> None:
    """A2, D5: a group whose timeout passes is decided then, while the slow branch waits for its retry."""
    merged = finished.sinks["timely_out"]
    alone = {row["plain"]["id"] for row in merged if "looked_up" not in row}
    assert alone == {row["plain"]["id"] for row in merged if row["plain"]["directory"] in ("slow", "down")}
    assert alone != set()


def test_select_takes_the_wanted_branch_or_nothing(finished: Finished) -> None:
    """G8: where the selected branch is lost nothing comes out, and never the other branch's shortened text."""
    texts = [row["text"] for row in finished.sinks["lenient_out"]]
    assert [text for text in texts if "secret" in text.lower()] == []
    assert max(map(len, texts)) > 12


def test_explain_says_why_the_strict_join_failed(finished: Finished) -> None:
    """A3, A4: the held branch's story names the lost branch, its reason and the policy."""
    story = str(finished.ask("explain", "branches", "1.strict.words"))
    assert "branch_lost:screened" in story
    assert "require_all" in story


def test_the_run_of_the_branches_replays_without_a_finding(finished: Finished) -> None:
    """F4: the log alone says that every token has one end."""
    assert finished.ask("replay", "branches")["ok"] is True
