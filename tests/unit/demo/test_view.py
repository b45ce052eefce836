from __future__ import annotations

import io
from types import SimpleNamespace

from rich.console import Console

from demo.view import Board, Snapshot, summary, tally
from demo.work import Errand, Tally


def _errand(states, expected):
    calls = [SimpleNamespace(id=call) for call in states]
    return Errand("mail", calls, expected)


def _printed(what):
    console = Console(file=io.StringIO(), width=110)
    console.print(what)
    return console.file.getvalue()


STATES = {"a": "SUCCESS", "b": "SUCCESS", "c": "FAILURE", "d": "REVOKED", "e": "STARTED"}


def test_calls_are_counted_by_how_they_ended():
    errand = _errand(STATES, Tally())

    found = tally(errand, STATES, {"a": 1, "b": 3, "c": 1}, {"c"})

    assert found == Tally(succeeded=2, retried=1, buried=1, discarded=1)


def test_a_failure_without_its_dead_letter_does_not_count_as_buried():
    assert tally(_errand(STATES, Tally()), STATES, {}, set()).buried == 0


def test_the_summary_says_which_work_did_not_end_as_expected():
    errands = [_errand(["a"], Tally(succeeded=1)), _errand(["b"], Tally(succeeded=1))]

    told = _printed(summary(errands, [Tally(succeeded=1), Tally(buried=1)]))

    assert told.count("yes") == 1
    assert "no:" in told
    assert "succeeded=1" in told


def test_without_a_terminal_only_changes_are_told():
    console = Console(file=io.StringIO(), width=110)
    snapshot = Snapshot([_errand(["a", "b"], Tally())])
    board = Board(console, snapshot)
    board.show(1)
    board.show(2)
    snapshot.states = {"a": "SUCCESS"}
    board.show(3)

    assert console.file.getvalue().splitlines() == ["  1.0 s  mail: 2 waiting", "  3.0 s  mail: 1 succeeded, 1 waiting"]


def test_the_work_is_over_when_every_call_has_ended():
    snapshot = Snapshot([_errand(["a", "b"], Tally())], {"a": "SUCCESS", "b": "RETRY"})
    assert not snapshot.over

    snapshot.states["b"] = "FAILURE"
    assert snapshot.over
