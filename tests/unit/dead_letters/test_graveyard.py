from __future__ import annotations

import json

import pytest

from celery_platform.clock import FrozenClock
from celery_platform.dead_letters import DeadLetter, DeadLetters, traceback_of
from celery_platform.stores.memory import MemoryGraves


def letter(letter_id="1", **words):
    known = {
        "id": letter_id,
        "call_id": letter_id,
        "task": "tasks.pay",
        "queue": "billing",
        "reason": "exhausted",
        "error": "OSError: gone",
        "buried_at": 1_700_000_000.0,
        "attempts": 3,
        "deliveries": 1,
        "message": {"args": ["tulip"], "kwargs": {}},
    }
    return DeadLetter(**known | words)


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def letters(clock):
    return DeadLetters(MemoryGraves(clock), ttl=60, clock=clock)


def test_a_letter_comes_back_as_it_was_buried(letters):
    assert letters.bury(letter()) is True
    assert letters.find("1") == letter()
    assert letters.find("2") is None


def test_a_second_burial_of_the_same_call_is_recognised(letters):
    letters.bury(letter())
    assert letters.bury(letter(error="another")) is False
    assert letters.count() == 1
    assert letters.find("1").error == "OSError: gone"


def test_a_letter_is_kept_for_its_time(letters, clock):
    letters.bury(letter())
    clock.advance(59)
    assert letters.count() == 1
    clock.advance(1)
    assert (letters.count(), letters.find("1"), list(letters.newest())) == (0, None, [])


def test_the_newest_come_first_and_can_be_picked(letters):
    for number in range(4):
        letters.bury(letter(str(number), buried_at=float(number), task=f"tasks.t{number % 2}"))
    assert [one.id for one in letters.newest(3)] == ["3", "2", "1"]
    assert [one.id for one in letters.newest(9, where=lambda one: one.task == "tasks.t0")] == ["2", "0"]


def test_a_rare_letter_is_found_behind_many_newer_ones(letters):
    letters.bury(letter("rare", buried_at=0.0, task="tasks.rare"))
    for number in range(1200):
        letters.bury(letter(str(number), buried_at=float(number + 1)))
    assert [one.id for one in letters.newest(5, where=lambda one: one.task == "tasks.rare")] == ["rare"]


def test_a_listing_has_what_other_programs_rely_on_and_no_payload():
    shown = letter().listing()
    assert {
        "id", "call_id", "task", "queue", "reason", "error", "group", "buried_at", "attempts", "deliveries",
    } <= set(shown)  # fmt: skip
    assert "tulip" not in json.dumps(shown)
    assert "tulip" not in repr(letter())


def test_a_record_of_a_newer_version_can_be_read():
    record = json.loads(letter().to_json()) | {"invented_later": 1}
    assert DeadLetter.from_json(json.dumps(record).encode()) == letter()


def test_what_json_does_not_know_is_kept_as_text():
    kept = DeadLetter.from_json(letter(message={"args": [{1, 2}]}).to_json())
    assert kept.message == {"args": ["{1, 2}"]}


def test_a_traceback_keeps_its_end():
    def deep(level):
        if level:
            deep(level - 1)
        raise LookupError("the innermost " + "x" * 20_000 + " end")

    try:
        deep(5)
    except LookupError as error:
        text = traceback_of(error)
    assert len(text) == 16_384
    assert text.rstrip().endswith("end")
