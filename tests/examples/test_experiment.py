"""The experiment keeps what it promises: as many analyses as the data says, then one synthesis, whatever became of them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from counterfoil import Attempt, RetryableError, RowError
from examples.experiment import laboratory, make_experiments
from tests.examples.finished import Finished, expected, run
from tests.examples.tallies import EITHER, SOUND, asked, deeply_sound, tallies
from tests.house.tree import ROOT

EXAMPLE = ROOT / "examples/experiment"
INPUT = [json.loads(line) for line in (EXAMPLE / "experiments.jsonl").read_text(encoding="utf-8").splitlines()]
SOUND_DESIGNS = [row for row in INPUT if all(len(trial["control"]) > 1 for trial in row["trials"])]
SYNTHESES = "SELECT row_index, count(*) AS made FROM node_states JOIN tokens USING (run_id, token_id) " \
            "WHERE node_id = 'synthesise' GROUP BY 1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run for all that is asked of it."""
    return run("experiment", tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same experiments where only whole ones count."""
    return run("experiment", tmp_path_factory.mktemp("strict"), "strict.yaml")


def test_the_experiments_end_as_promised(finished: Finished) -> None:
    """C4: pre_test, analyse N times, synthesise, with N = 0, 1, 2, 5 and 40; some trials are lost, some are late."""
    promised = {fact: count for fact, count in expected("experiment").items() if fact != "strict"}
    assert {**finished.counts(), **tallies(finished)} == promised


def test_the_strict_experiments_end_as_promised(strict: Finished) -> None:
    """C4, C3: without a timeout a slow trial is waited for; one that is lost fails its experiment."""
    assert {**strict.counts(), **tallies(strict)} == expected("experiment")["strict"]


def test_each_experiment_is_synthesised_exactly_once(finished: Finished, strict: Finished) -> None:
    """C1, C4: one synthesis for each experiment of which a trial came, or that has none; no other, and no second one."""
    with_anything = {n: 1 for n, row in enumerate(INPUT) if row in SOUND_DESIGNS and (not row["trials"] or any_whole(row))}
    whole = {n: 1 for n, row in enumerate(INPUT) if row in SOUND_DESIGNS and all(map(is_whole, row["trials"]))}
    assert {row["row_index"]: row["made"] for row in asked(finished, SYNTHESES)} == with_anything
    assert {row["row_index"]: row["made"] for row in asked(strict, SYNTHESES)} == whole


def test_a_finding_says_which_trials_it_lacks(finished: Finished) -> None:
    """C3: the broken trials and the slow ones, and nothing else; an experiment without trials lacks none."""
    lacking = {row["experiment"]: [trial["trial"] for trial in row["trials"] if not is_whole(trial) or is_slow(trial)]
               for row in SOUND_DESIGNS}
    found = {row["experiment"]: row for row in finished.sinks["findings"]}
    assert {name: row["lost"] for name, row in found.items()} == {name: lacking[name] for name in found}
    assert {row["analysed"] + len(row["lost"]) - row["planned"] for row in found.values()} == {0}
    assert (found["dry_run"]["analysed"], found["dry_run"]["mean"]) == (0, None)


def test_explain_says_why_an_experiment_lacks_a_trial(finished: Finished) -> None:
    """A4, A2: a trial that broke stands among the lost with its reason, one that was late among the missing."""
    broken = finished.ask("explain", "experiment", "4+trials")["coalesce_groups"][0]
    assert (broken["branches_lost"], broken["branches_missing"]) == ({"2": "error_routed:analyse:reading_missing"}, [])
    late = finished.ask("explain", "experiment", "3+trials")["coalesce_groups"][0]
    assert (late["trigger"], late["branches_lost"], late["branches_missing"]) == ("timeout", {}, ["0"])
    assert late["wait_duration_ms"] >= 4000


def test_a_late_trial_has_its_end_and_its_attempts(finished: Finished) -> None:
    """G5, B2: it answered at its third attempt, which is on record, and did not merge again."""
    story = finished.ask("explain", "experiment", "3:0")
    assert (story["outcome"]["outcome"], story["outcome"]["reason"]) == ("failed", "late_arrival")
    assert [call["status"] for call in story["calls"]] == ["RetryableError", "RetryableError", "done"]


def test_the_runs_of_the_experiments_replay_deep_and_verify(finished: Finished, strict: Finished) -> None:
    """F4, law C6: the log alone makes every merge again; the receipt and the sinks' files hold."""
    assert [deeply_sound(finished), deeply_sound(strict)] == [SOUND, SOUND]


def test_the_promise_is_what_a_plain_count_of_the_input_gives() -> None:
    """The expected counts come from the input and the rules, not from a run."""
    promised = expected("experiment")
    trials = [trial for row in SOUND_DESIGNS for trial in row["trials"]]
    timely = [row for row in SOUND_DESIGNS if not any(map(is_slow, row["trials"]))]
    late = sum(map(is_slow, trials))
    assert promised["groups"] == {
        "merged": {
            "all_arrived": sum(all(map(is_whole, row["trials"])) for row in timely),
            EITHER: sum(any_whole(row) and not all(map(is_whole, row["trials"])) for row in timely),
            "timeout": len(SOUND_DESIGNS) - len(timely),
        },
        "failed": {"branch_lost": sum(bool(row["trials"]) and not any_whole(row) for row in SOUND_DESIGNS)},
    }
    assert promised["outcomes"]["coalesced"] == sum(map(is_whole, trials)) - late
    assert promised["outcomes"]["failed"] == promised["late_arrivals"] == late
    assert promised["tokens"] == len(INPUT) + len(trials) + promised["sinks"]["findings"]
    assert promised["calls"]["laboratory"] == {
        "done": sum(map(is_whole, trials)),
        "RowError": sum(not is_whole(trial) for trial in trials),
        "RetryableError": sum(trial["answers_at"] - 1 for trial in trials if is_whole(trial)),
    }


def test_the_experiments_can_be_made_again() -> None:
    """The committed input is the generator's."""
    assert make_experiments.experiments(random.Random(make_experiments.SEED)) == INPUT


def test_what_an_analysis_comes_to_depends_on_trial_and_attempt_alone() -> None:
    """A plugin's own test: no run, no clock."""
    trial = {"trial": 1, "control": [1, 2], "treated": [3, 4], "answers_at": 2}
    assert laboratory.analyse(trial, Attempt(number=2)) == {"trial": 1, "difference": 2.0}
    with pytest.raises(RetryableError):
        laboratory.analyse(trial, Attempt(number=1))
    with pytest.raises(RowError):
        laboratory.analyse({**trial, "treated": [3, None]}, Attempt(number=2))


def is_whole(trial: dict[str, Any]) -> bool:
    """Whether no reading is missing."""
    return None not in trial["treated"]


def is_slow(trial: dict[str, Any]) -> bool:
    """Whether the laboratory answers later than the others are waited for."""
    return bool(trial["answers_at"] == 3)


def any_whole(row: dict[str, Any]) -> bool:
    """Whether an experiment has a trial that can be analysed."""
    return any(map(is_whole, row["trials"]))
