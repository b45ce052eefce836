from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from celery_platform import current
from celery_platform.clock import FrozenClock
from celery_platform.current import RunningCall, current_call, running
from celery_platform.errors import PlatformError
from celery_platform.outcomes import Call


@pytest.fixture
def clock(monkeypatch):
    frozen = FrozenClock()
    monkeypatch.setattr(current, "SYSTEM", frozen)
    return frozen


def test_outside_a_task_there_is_no_current_call():
    with pytest.raises(PlatformError, match="Call it from the body of a @platform_task"):
        current_call()


def test_inside_a_block_it_is_that_call_and_afterwards_the_outer_one():
    outer, inner = RunningCall(Call("1", "t")), RunningCall(Call("2", "t"))

    def fail_inside():
        with running(inner):
            raise LookupError(current_call().id)

    with running(outer):
        with pytest.raises(LookupError, match="2"):
            fail_inside()
        assert current_call() is outer
    with pytest.raises(PlatformError):
        current_call()


def test_each_thread_has_a_call_of_its_own():
    seen = []

    def other():
        try:
            current_call()
        except PlatformError:
            with running(RunningCall(Call("2", "t"))) as mine:
                seen.append(current_call() is mine)

    with running(RunningCall(Call("1", "t"))):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert current_call().id == "1"
    assert seen == [True]


def test_it_tells_everything_about_the_call():
    call = RunningCall(
        Call("1", "t", failures=2, deferrals=3, deadline=1_700_000_000.0, scheduled_for="2026-01-01T06:00:00+00:00")
    )
    assert (call.attempt, call.failures, call.deferrals) == (3, 2, 3)
    assert call.deadline == datetime.fromtimestamp(1_700_000_000, UTC)
    assert call.scheduled_for == datetime(2026, 1, 1, 6, tzinfo=UTC)
    assert RunningCall(Call("1", "t")).deadline is None
    assert RunningCall(Call("1", "t")).scheduled_for is None


def test_progress_is_reported_twice_a_second_and_always_at_the_end(clock):
    reports = []
    call = RunningCall(Call("1", "t"), reports.append)
    for done in range(101):
        call.progress(done, 100, "rows")
        clock.advance(0.125)
    assert [report["done"] for report in reports][:3] == [0, 4, 8]
    assert reports[-1] == {"done": 100, "total": 100, "message": "rows"}
    assert len(reports) == 26


def test_the_end_is_reported_even_right_after_another_report(clock):
    reports = []
    call = RunningCall(Call("1", "t"), reports.append)
    call.progress(1, 2)
    call.progress(2, 2)
    assert [report["done"] for report in reports] == [1, 2]


def test_without_a_worker_progress_goes_nowhere():
    RunningCall(Call("1", "t")).progress(1, 2)


def test_a_task_called_as_a_function_may_ask_for_its_call_too() -> None:
    from celery_platform import current_call, platform_task  # the first use builds the app of this process

    @platform_task(name="tests.asks_for_its_call")
    def asks() -> int:
        current_call().progress(1, 2)
        return current_call().attempt

    assert asks() == 1
