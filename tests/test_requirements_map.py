"""The map of requirements is complete and true: every id has its tests or its issue, every test it names exists."""

from __future__ import annotations

import pytest

from tests import requirements_map
from tests.house.tree import parse
from tests.requirements.asked import ASKED, ISSUES, OPEN, PARTLY, REQUIREMENTS, WINDOWS
from tests.requirements_map import Shown, ids_of, render, shown, stale, unknown, unshown

FOUND = list(shown(requirements_map.files_of_tests()))
REWRITE = "run `python -m tests.requirements_map`"


def test_every_id_has_a_test_or_an_issue() -> None:
    """What is asked is shown, or said to be open."""
    assert unshown(FOUND) == [], REWRITE


def test_no_test_names_an_id_that_nobody_asked_for() -> None:
    """A slip in an id would hide a gap."""
    assert unknown(FOUND) == []


def test_nothing_that_is_shown_is_called_open() -> None:
    """The list of what is open shrinks as tests come."""
    assert stale(FOUND) == []


def test_open_ids_name_known_issues() -> None:
    """An issue that does not exist brings nothing."""
    assert {issue for issue in [*OPEN.values(), *(issue for issue, _ in PARTLY.values())] if issue not in ISSUES} == set()
    assert [asked for asked in (*OPEN, *PARTLY) if asked not in ASKED] == []


def test_the_document_is_what_the_tests_say() -> None:
    """The document lists exactly the tests that name each id."""
    assert requirements_map.DOCUMENT.read_text(encoding="utf-8") == render(FOUND), REWRITE


def test_the_ids_are_all_there() -> None:
    """A1-A4, B1-B3, C1-C5, D1-D9, E1-E11, F1-F8, G1-G13, the laws, and W1-W15."""
    lengths = {"A": 4, "B": 3, "C": 5, "D": 9, "E": 11, "F": 8, "G": 13}
    laws = {"L": 7, "T": 10, "C": 7, "R": 5, "P": 5}
    asked = {f"{letter}{number}" for letter, last in lengths.items() for number in range(1, last + 1)}
    assert asked == set(REQUIREMENTS)
    named = {f"law {letter}{number}" for letter, last in laws.items() for number in range(1, last + 1)}
    assert {f"W{number}" for number in range(1, 16)} == set(WINDOWS)
    assert asked | named | set(WINDOWS) == set(ASKED)


@pytest.mark.parametrize(
    ("docstring", "ids"),
    [
        ("D2, G8: refuses.", ["D2", "G8"]),
        ("law C1: parents are exactly they.", ["law C1"]),
        ("C1: made exactly once.", ["C1"]),
        ("T3, law R1, E5: all three.", ["law T3", "law R1", "E5"]),
        ("Refuses D2: not at the start.", []),
        ("D2 without a colon", []),
        ("", []),
    ],
)
def test_ids_are_read_from_the_start_of_a_docstring(docstring: str, ids: list[str]) -> None:
    """Requirement ids are plain; a law whose id is a requirement's too says `law`."""
    assert ids_of(docstring) == ids


def test_tests_in_classes_and_functions_are_found_and_helpers_are_not() -> None:
    """A name that pytest would not collect shows nothing."""
    text = (
        'def test_a():\n    """A1: x."""\n'
        'def given():\n    """A2: x."""\n'
        'class TestB:\n    def test_c(self):\n        """B1: x."""\n'
    )
    assert list(shown([parse("tests/test_x.py", text)])) == [
        Shown("tests/test_x.py::test_a", "A1"),
        Shown("tests/test_x.py::TestB::test_c", "B1"),
    ]


def test_a_gap_a_slip_and_a_stale_entry_are_each_found() -> None:
    """The checks above can fail."""
    found = [Shown("tests/test_x.py::test_a", "Z9"), Shown("tests/test_x.py::test_a", "A1")]
    assert unknown(found) == ["tests/test_x.py::test_a: Z9"]
    assert "A2" in unshown(found)
    assert "A1" not in unshown(found)
    assert stale(found, {"A1": "doors"}) == ["A1"]
    assert render(found) != render([])
