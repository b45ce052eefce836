"""
Three real beats whose leader is killed or frozen every few seconds: each second of the schedule runs once.
"""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timedelta

import psutil
import pytest

from tests.faults.beats import Siege, assert_each_second_once
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: How long leaders are attacked, in seconds, and how often.
SIEGE = float(os.environ.get("BEAT_SIEGE", "120"))
EVERY = 5.0
CALM = 15.0
#: Within how many seconds of a leader's death the next one has made a firing run.
TAKE_OVER = 10.0


@pytest.fixture(params=["sqlite", "postgresql"])
def siege(request, redis_server, redis_url, tmp_path):
    database = f"sqlite:///{tmp_path}/beat.sqlite3"
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres_server").create_database()
    siege = Siege(tmp_path, redis_server, redis_url, database)
    try:
        yield siege
    finally:
        siege.close()


@pytest.mark.parametrize("weapon", [signal.SIGKILL, signal.SIGSTOP])
def test_each_second_runs_once_while_leaders_are_killed_or_frozen(siege, weapon):
    siege.deployment.worker("-c", "2", "-P", "threads")
    # All three migrate the same empty database at the same time.
    for _ in range(3):
        siege.beat()
    wait_until(siege.runs, timeout=60, what="the first run")
    frozen = []
    end = time.monotonic() + SIEGE
    strikes, taken_over = 0, []
    while time.monotonic() < end:
        victim = wait_until(lambda: siege.leader, timeout=30, what="a leader")
        if weapon is signal.SIGKILL:
            victim.kill9()
            siege.beat()
        else:
            victim.pause()
            frozen.append(victim)
            if len(frozen) > 1:
                # It wakes in the middle of whatever it was doing, long deposed.
                frozen.pop(0).resume()
        # Whoever made a run for a later time was not the victim.
        strikes, struck = strikes + 1, time.time()
        try:
            first = wait_until(
                lambda struck=struck: siege.first_run_for(struck), timeout=15, what="runs by the next leader"
            )
            taken_over.append(first - struck)
        except AssertionError:
            # Frozen in the middle of a write, it holds the one lock of an SQLite file.
            if not siege.on_sqlite or not frozen:
                raise
            frozen.pop().resume()
        pause = time.monotonic() + EVERY
        wait_until(lambda pause=pause: time.monotonic() > pause, timeout=EVERY + 5, what="the next attack")
    for beat in frozen:
        beat.resume()
    calm = siege.runs()[-1] + timedelta(seconds=CALM)
    wait_until(lambda: siege.runs()[-1] >= calm, timeout=60, what="calm after the siege")
    assert strikes >= SIEGE / 20
    if weapon is signal.SIGKILL:
        assert max(taken_over) <= TAKE_OVER
    assert_each_second_once(siege.runs())
    assert max(siege.lags()) < 20
    assert_none_ran_beside_another(siege)
    assert not [p for p in psutil.Process().children() if p.status() == psutil.STATUS_STOPPED]


def assert_none_ran_beside_another(siege):
    """
    Under the default overlap each second has one firing, which ran once, or was skipped for a run that had not ended.
    """
    told = [line for line in siege.history("default") if line["state"] in ("succeeded", "skipped")]
    nominals = [datetime.fromisoformat(line["nominal"]) for line in told]
    assert_each_second_once(nominals)
    ran = {nominal for nominal, line in zip(nominals, told, strict=True) if line["state"] == "succeeded"}
    runs = [nominal for nominal in siege.runs("default") if nominal <= max(nominals)]
    assert sorted(runs) == sorted(ran)
    assert len(ran) > len(told) / 2
