"""
One key, one run: whoever asks, however often, whatever dies.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from celery_platform.errors import IdempotencyMismatch
from tests.waiting import wait_until


def test_a_thousand_concurrent_enqueues_of_one_key_run_once(run):
    tasks = """
    @platform_task(idempotency=Idempotency(key="invoice:{invoice}"))
    def charge(invoice: str, amount: int) -> str:
        saw("charge", invoice)
        return f"charged {invoice}"
    """
    with run(tasks) as fleet:
        charge = fleet.task("charge")
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(lambda _: charge.delay("7", 100), range(1000)))
        assert len({result.id for result in results}) == 1
        assert sum(not result.is_duplicate for result in results) == 1
        fleet.worker()
        assert results[0].get(timeout=60) == "charged 7"
        again = charge.delay("7", 100)
        assert (again.is_duplicate, again.holder_state, again.get(timeout=30)) == (True, "done", "charged 7")
        with pytest.raises(IdempotencyMismatch, match="has other arguments"):
            charge.delay("7", 101)
        # A call that comes by another door is answered with the recorded result, and its body does not run.
        late = charge.app.send_task(charge.name, ("7", 100))
        assert late.get(timeout=30) == "charged 7"
        assert fleet.count("charge") == 1


def test_the_key_is_free_again_when_the_call_is_buried(run):
    tasks = """
    @platform_task(idempotency=Idempotency(key="k"))
    def fail(n: int) -> None:
        saw("fail")
        raise ValueError("no")
    """
    with run(tasks) as fleet:
        fleet.worker(2)
        fail = fleet.task("fail")
        first = fail.delay(1)
        with pytest.raises(ValueError, match="no"):
            first.get(timeout=60)
        second = fail.delay(2)
        assert not second.is_duplicate
        with pytest.raises(ValueError, match="no"):
            second.get(timeout=60)
        assert list(fleet.state.locks()) == []


def test_a_step_is_done_once_over_all_attempts(run):
    tasks = """
    RETRY = Backoff(on=ValueError, attempts=3, first=0.1)

    def steps(name):
        receipt = current_call().once("charge", lambda: saw(name) or "receipt")
        first = current_call().once("mail")
        saw(name + "-mail", str(first))
        if current_call().attempt < 3:
            raise ValueError("again")
        return receipt

    @platform_task(retry=RETRY, limits=ConcurrencyLimit("db", 2))
    def limited() -> str:
        return steps("limited")

    @platform_task(retry=RETRY)
    def plain() -> str:
        return steps("plain")

    @platform_task(retry=RETRY, idempotency=Idempotency("k"))
    def keyed() -> str:
        return steps("keyed")
    """
    with run(tasks) as fleet:
        fleet.worker(2)
        for name in ("limited", "plain", "keyed"):
            assert fleet.task(name).delay().get(timeout=60) == "receipt"
            assert fleet.count(name) == 1
            assert [what for _, _, what in fleet.seen(f"{name}-mail")] == ["True", "False", "False"]


def test_a_key_survives_retries_and_one_run_is_recorded(run):
    tasks = """
    @platform_task(idempotency=Idempotency(key="k"), retry=Backoff(on=ValueError, attempts=4, first=0.2))
    def flaky() -> int:
        saw("flaky", str(current_call().fence))
        if current_call().attempt < 3:
            raise ValueError("again")
        return current_call().attempt
    """
    with run(tasks) as fleet:
        first = fleet.task("flaky").delay()
        fleet.worker(2)
        wait_until(lambda: fleet.count("flaky") >= 1, timeout=60)
        second = fleet.task("flaky").delay()
        assert second.is_duplicate
        assert second.get(timeout=60) == 3
        assert first.id == second.id
        fences = [int(what) for _, _, what in fleet.seen("flaky")]
        assert fences == sorted(set(fences))


def test_a_burst_runs_once_with_its_last_payload_and_a_lock_lets_one_body_run_at_a_time(run):
    tasks = """
    @platform_task(idempotency=Idempotency("index", scope="latest_wins", delay=1, max_wait=20))
    def index(version: int) -> int:
        saw("index", str(version))
        return version

    @platform_task(idempotency=Idempotency("{account}", scope="while_running", lease=3))
    def locked(account: str, n: int) -> int:
        saw("begun", str(n))
        time.sleep(0.1)
        saw("ended", str(n))
        return n
    """
    with run(tasks) as fleet:
        fleet.worker(4)
        index, locked = fleet.task("index"), fleet.task("locked")
        burst = [index.delay(version) for version in range(200)]
        assert burst[-1].get(timeout=60) == 199
        waits = [locked.delay("a", n) for n in range(6)]
        assert sorted(one.get(timeout=90) for one in waits) == list(range(6))
        marks = sorted([(at, 1) for at, *_ in fleet.seen("begun")] + [(at, -1) for at, *_ in fleet.seen("ended")])
        running = 0
        for _, step in marks:
            running += step
            assert running <= 1
        wait_until(lambda: {one.state for one in burst[:-1]} == {"REVOKED"}, timeout=60, what="the rest of the burst")
        assert [what for _, _, what in fleet.seen("index")] == ["199"]
