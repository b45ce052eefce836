"""
What a dependency allows is kept by the whole fleet, and used.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.waiting import wait_until


@pytest.mark.timeout(300)
def test_a_rate_of_ten_a_second_holds_for_eight_processes_and_is_used(run, broker_url):
    tasks = """
    @platform_task(limits=RateLimit("api", 10, per=1, burst=10))
    def hit(n: int) -> None:
        saw("hit", str(n))
    """
    # RabbitMQ delays by whole seconds: only over a longer run is the last call's second too short to matter.
    calls = 100 if broker_url.startswith("redis") else 700
    with run(tasks) as fleet:
        hit = fleet.task("hit")
        for n in range(calls):
            hit.delay(n)
        fleet.worker(8)
        wait_until(lambda: fleet.count("hit") == calls, timeout=150, what="all calls")
        times = sorted(at for at, _, _ in fleet.seen("hit"))
        # GCRA: no window of w seconds holds more than rate * w + burst; the observer's own delay is allowed 50 ms.
        for first in range(calls):
            for last in range(first + 1, calls):
                assert last - first + 1 <= 10 * (times[last] - times[first] + 0.05) + 10
        # After the burst the reserved times are a tenth of a second apart, and no slot goes unused.
        used = (calls - 21) / (10 * (times[-1] - times[20]))
        assert used >= 0.98, [round(at - times[0], 2) for at in times]


def test_an_exact_window_is_never_passed(run):
    tasks = """
    @platform_task(limits=RateLimit("api", 10, per=2, algorithm="sliding"))
    def hit(n: int) -> None:
        saw("hit", str(n))
    """
    with run(tasks) as fleet:
        hit = fleet.task("hit")
        for n in range(40):
            hit.delay(n)
        fleet.worker(8)
        wait_until(lambda: fleet.count("hit") == 40, timeout=90, what="all calls")
        times = sorted(at for at, _, _ in fleet.seen("hit"))
        # Eleven calls never fit into the window; the observer's own delay is allowed 50 ms.
        assert all(times[n + 10] - times[n] > 2 - 0.05 for n in range(30))


def test_slots_are_kept_and_a_killed_holder_gives_its_own_back(run):
    tasks = """
    @platform_task(limits=ConcurrencyLimit("db", 3, lease=3))
    def query(n: int) -> None:
        saw("begun", str(n))
        while observer.get("hold"):
            time.sleep(0.05)
        time.sleep(0.05)
        saw("ended", str(n))
    """
    with run(tasks) as fleet:
        fleet.observer.set("hold", 1)
        query = fleet.task("query")
        for n in range(30):
            query.delay(n)
        fleet.worker(8)
        wait_until(lambda: fleet.count("begun") >= 3, timeout=60)
        wait_until(lambda: _waiting(fleet) >= 8, timeout=60, what="the others to wait")
        assert fleet.count("begun") == 3
        os.kill(fleet.seen("begun")[0][1], signal.SIGKILL)
        # Its slot serves the next one after the lease, while the other two still hold theirs.
        wait_until(lambda: fleet.count("begun") >= 4, timeout=30, what="the slot of the killed call")
        fleet.observer.delete("hold")
        wait_until(lambda: len({what for _, _, what in fleet.seen("ended")}) == 30, timeout=90, what="all calls")
        begun, ended = fleet.seen("begun"), fleet.seen("ended")
        dead = begun[0][1]
        marks = sorted([(at, 1) for at, pid, _ in begun if pid != dead] + [(at, -1) for at, pid, _ in ended])
        running = most = 0
        for _, step in marks:
            running += step
            most = max(most, running)
        assert most <= 3


def test_a_blocked_key_leaves_the_workers_to_other_keys(run):
    tasks = """
    @platform_task(limits=RateLimit("api", 1, per=60, key="{account}"))
    def hit(account: str, n: int) -> None:
        saw(account.split("-")[0])
    """
    with run(tasks) as fleet:
        hit = fleet.task("hit")
        for n in range(300):
            hit.delay("blocked", n)
        for n in range(100):
            hit.delay(f"free-{n}", n)
        fleet.worker(8)
        wait_until(lambda: fleet.count("free") == 100, timeout=60, what="the calls of free keys")
        assert fleet.count("blocked") == 1


def _waiting(fleet):
    return sum(1 for entry in fleet.state._entries("call", 1000) if entry.fields.get("guard") == "concurrency")
