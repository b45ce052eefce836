"""
A dependency that fails is left alone by the whole fleet, and its waiting work is not lost.
"""

from __future__ import annotations

import os
import signal
import time

from tests.waiting import wait_until

TASKS = """
DOWN = "dependency-down"

@platform_task(breaker=CircuitBreaker("shop", minimum_calls=40, cool_down={cool_down}, trials=3, lease=4, ramp=20))
def call(n: int) -> int:
    saw("reached", str(n))
    observer.incr("in-flight")
    try:
        if observer.get("trial-hangs") and observer.get(DOWN) is None:
            saw("trial", str(observer.get("in-flight")))
            while observer.get("trial-hangs"):
                time.sleep(0.05)
        if observer.get(DOWN):
            raise ConnectionError("down")
        return n
    finally:
        observer.decr("in-flight")
        saw("attempt", str(current_call().attempt))
"""


def test_failures_spread_over_eight_processes_open_the_breaker_within_a_second_and_the_backlog_drains(run):
    with run(TASKS.format(cool_down=3)) as fleet:
        fleet.observer.set("dependency-down", 1)
        call = fleet.task("call")
        for n in range(1500):
            call.delay(n)
        fleet.worker(8)
        wait_until(lambda: _state(fleet) == "open", timeout=60, what="the breaker to open")
        reached = fleet.seen("reached")
        # 40 failures open it; what eight processes had already begun may still end.
        assert 40 <= len(reached) <= 40 + 8
        assert len({pid for _, pid, _ in reached}) == 8
        since = int(fleet.state.breakers()[0].fields["since"]) / 1000
        assert since - reached[39][0] < 1
        wait_until(lambda: _parked(fleet) > 1000, timeout=60, what="the calls to be parked")
        failed = len(fleet.seen("reached"))
        fleet.observer.delete("dependency-down")
        wait_until(lambda: _state(fleet) == "closed", timeout=60, what="the breaker to close")
        # Whatever failed as an attempt is buried (no retry policy); every other call was parked and spent none.
        wait_until(lambda: fleet.count("reached") >= 1500, timeout=120, what="the backlog to drain", every=0.2)
        assert fleet.count("reached") == 1500
        assert {what for _, _, what in fleet.seen("attempt")} == {"1"}
        assert failed <= 40 + 8 + 3 * 6
        assert _state(fleet) == "closed"
        assert int(fleet.state.breakers()[0].fields["opens"]) == 0


def test_only_three_trials_are_in_flight_and_a_killed_one_gives_its_permit_back(run):
    with run(TASKS.format(cool_down=2)) as fleet:
        fleet.observer.set("dependency-down", 1)
        call = fleet.task("call")
        for n in range(500):
            call.delay(n)
        fleet.worker(8)
        wait_until(lambda: _state(fleet) == "open", timeout=60, what="the breaker to open")
        until = int(fleet.state.breakers()[0].fields["until"]) / 1000
        fleet.observer.set("trial-hangs", 1)
        fleet.observer.delete("dependency-down")
        fleet.observer.set("in-flight", 0)
        wait_until(lambda: len(_trials(fleet, until)) == 3, timeout=60, what="three trials")
        time.sleep(1.5)  # other calls come and are refused
        trials = _trials(fleet, until)
        assert len(trials) == 3
        os.kill(trials[0][1], signal.SIGKILL)
        wait_until(lambda: len(_trials(fleet, until)) == 4, timeout=30, what="the permit of the killed trial")
        assert _trials(fleet, until)[3][0] - trials[0][0] > 3.5
        fleet.observer.delete("trial-hangs")
        wait_until(lambda: _state(fleet) == "closed", timeout=30, what="the breaker to close")


def test_an_operator_stops_and_releases_all_workers_within_two_seconds(run):
    with run(TASKS.format(cool_down=1)) as fleet:
        fleet.worker(4)
        call = fleet.task("call")
        assert call.delay(0).get(timeout=60) == 0
        assert fleet.state.force("shop", "forced_open", seconds=60, reason="maintenance") == "closed"
        refused = [call.delay(n) for n in range(1, 9)]
        wait_until(lambda: all(fleet.state.call(one.id) for one in refused), timeout=30, what="all to be parked")
        assert fleet.count("reached") == 1
        assert fleet.state.force("shop", "closed") == "forced_open"
        assert sorted(one.get(timeout=30) for one in refused) == list(range(1, 9))


def _state(fleet):
    found = fleet.state.breakers()
    return found[0].fields["state"] if found else "unknown"


def _trials(fleet, until):
    # What was let in before the breaker opened may reach the dependency behind it; no trial begins before *until*.
    return [seen for seen in fleet.seen("trial") if seen[0] >= until]


def _parked(fleet):
    return sum(1 for entry in fleet.state._entries("call", 10_000) if entry.fields.get("state") == "parked")
