"""
A deployment with several beats and one entry a second.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from tests.deployment import CELERY, Deployment
from tests.servers import Program

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


def assert_each_second_once(runs):
    counts = Counter(runs)
    first, last = min(runs), max(runs)
    wanted = [first + timedelta(seconds=n) for n in range(int((last - first).total_seconds()) + 1)]
    assert {second: count for second, count in counts.items() if count != 1} == {}
    assert [second for second in wanted if second not in counts] == []
