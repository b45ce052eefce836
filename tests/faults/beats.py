"""
A deployment with several beats and two entries a second: one that never waits, and one with the default overlap.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta

from tests.deployment import CELERY, Deployment
from tests.servers import Program

TASKS = """
import os, time
from celery_platform import current_call, platform_task

@platform_task
def note(entry: str) -> None:
    line = f"{entry} {current_call().scheduled_for.isoformat()} {time.time():.3f}\\n"
    descriptor = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)
"""

BEAT = """
from celery_platform.beat import every
from tasks import note

schedule = [
    every(note, seconds=1, name="tick", args=["tick"], misfire="all", overlap="allow_all"),
    every(note, seconds=1, name="default", args=["default"], misfire="all"),
]
"""


class Siege:
    """A deployment with beats in it."""

    def __init__(self, folder, redis_server, url, database):
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.folder = folder
        self.on_sqlite = database.startswith("sqlite")
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

    def lines(self, entry="tick"):
        """
        Return the nominal time and the moment of each run of *entry*, in order of the runs.
        """
        for line in self.ledger.read_text().splitlines():
            name, nominal, at = line.split()
            if name == entry:
                yield datetime.fromisoformat(nominal), float(at)

    def runs(self, entry="tick"):
        return [nominal for nominal, _ in self.lines(entry)]

    def lags(self):
        return [at - nominal.timestamp() for nominal, at in self.lines()]

    def first_run_for(self, moment):
        """
        Return when the first run was made for a nominal time after *moment*.
        """
        return next((at for nominal, at in self.lines() if nominal.timestamp() > moment), None)

    def history(self, entry):
        told = self.deployment.celery("schedule", "history", entry, "--limit", "10000", "--json", timeout=120)
        return json.loads(told.stdout)

    def close(self):
        for beat in self.beats:
            beat.stop()
        self.deployment.stop()
        self.client.close()


def assert_each_second_once(runs):
    counts = Counter(runs)
    first, last = min(runs), max(runs)
    wanted = [first + timedelta(seconds=n) for n in range(int((last - first).total_seconds()) + 1)]
    assert {second: count for second, count in counts.items() if count != 1} == {}
    assert [second for second in wanted if second not in counts] == []
