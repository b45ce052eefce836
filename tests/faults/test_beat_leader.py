"""
Three real beats whose leader is killed or frozen every few seconds: each second of the schedule runs once.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from datetime import datetime, timedelta

import psutil
import pytest

from tests.deployment import CELERY, Deployment
from tests.servers import Program
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: How long leaders are attacked, in seconds, and how often; a lease must have time to run out in between.
SIEGE = float(os.environ.get("BEAT_SIEGE", "120"))
EVERY = 5.0
CALM = 15.0

TASKS = """
import os, time
from celery_platform import current_call, platform_task

@platform_task
def note() -> None:
    line = f"{current_call().scheduled_for.isoformat()} {time.time():.3f}\\n"
    descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)
"""

BEAT = """
from celery_platform.beat import every
from tasks import note

schedule = [every(note, seconds=1, name="tick", misfire="all", overlap="allow_all")]
"""


class Siege:
    """A deployment with beats in it."""

    def __init__(self, folder, redis_server, url, database):
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.folder = folder
        self.client = redis_server.client(int(url.rpartition("/")[2]))
        self.deployment = Deployment(
            folder,
            PLATFORM_BROKER_URL=url,
            PLATFORM_DATABASE_URL=database,
            LEDGER=str(self.ledger),
        )
        self.deployment.write("tasks/__init__.py", TASKS)
        self.deployment.write("beat/__init__.py", BEAT)
        self.beats = []
        self._number = 0

    def beat(self):
        self._number += 1
        program = Program(
            [CELERY, "-A", "platform", "beat", "-l", "INFO"],
            log=self.folder / f"beat{self._number}.log",
            env=self.deployment.environment,
            cwd=self.folder,
        ).start()
        self.beats.append(program)
        return program

    @property
    def leader(self):
        """
        The beat that holds the lease.
        """
        held = self.client.get("{platform}:beat:lease")
        pid = int(held.split()[1].split(":")[1]) if held else 0
        return next((beat for beat in self.beats if beat.pid == pid and beat.alive), None)

    def runs(self):
        return [datetime.fromisoformat(line.split()[0]) for line in self.ledger.read_text().splitlines()]

    def lags(self):
        for line in self.ledger.read_text().splitlines():
            nominal, at = line.split()
            yield float(at) - datetime.fromisoformat(nominal).timestamp()

    def close(self):
        for beat in self.beats:
            beat.stop()
        self.deployment.stop()
        self.client.close()


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


def assert_each_second_once(runs):
    counts = Counter(runs)
    first, last = min(runs), max(runs)
    wanted = [first + timedelta(seconds=n) for n in range(int((last - first).total_seconds()) + 1)]
    assert {second: count for second, count in counts.items() if count != 1} == {}
    assert [second for second in wanted if second not in counts] == []


@pytest.mark.parametrize("weapon", [signal.SIGKILL, signal.SIGSTOP])
def test_each_second_runs_once_while_leaders_are_killed_or_frozen(siege, weapon):
    siege.deployment.worker("-c", "2", "-P", "threads")
    # All three migrate the same empty database at the same time.
    for _ in range(3):
        siege.beat()
    wait_until(siege.runs, timeout=60, what="the first run")
    frozen = []
    end = time.monotonic() + SIEGE
    struck = 0
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
        struck += 1
        after = siege.runs()[-1]
        wait_until(lambda after=after: siege.runs()[-1] > after, timeout=30, what="runs by the next leader")
        pause = time.monotonic() + EVERY
        wait_until(lambda pause=pause: time.monotonic() > pause, timeout=EVERY + 5, what="the next attack")
    for beat in frozen:
        beat.resume()
    calm = siege.runs()[-1] + timedelta(seconds=CALM)
    wait_until(lambda: siege.runs()[-1] >= calm, timeout=60, what="calm after the siege")
    assert struck >= SIEGE / 20
    assert_each_second_once(siege.runs())
    assert max(siege.lags()) < 20
    assert not [p for p in psutil.Process().children() if p.status() == psutil.STATUS_STOPPED]
