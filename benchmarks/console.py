"""
How long the console's overview takes with 10 000 dead letters and 500 workers: ``python -m benchmarks.console``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.console import Console
from tests.deployment import Deployment
from tests.servers import RedisServer
from tests.waiting import wait_until

LETTERS, WORKERS, LOOKS = 10_000, 500, 30
BUDGET = 0.5

TASKS = """
from celery_platform import platform_task


@platform_task
def noop(): ...
"""

FILL = f"""
import time
import tasks
from celery_platform import app
from celery_platform.celery_app import current_platform
from celery_platform.dead_letters import DeadLetter

letters = current_platform().dead_letters
for number in range({LETTERS}):
    letters.bury(DeadLetter(
        id=f"l-{{number}}", call_id=f"c-{{number}}", task="tasks.noop", queue="default", reason="exhausted",
        error="ValueError: no", buried_at=time.time(), attempts=1, deliveries=1, group=f"g-{{number % 50}}",
    ))
"""

# Workers send a heartbeat every two seconds; these send one and are believed for minutes.
BEAT = f"""
from celery_platform import app

with app.connection_for_write() as connection:
    for number in range({WORKERS}):
        with app.events.Dispatcher(connection, hostname=f"w{{number}}@fleet") as told:
            told.send("worker-online", freq=200)
            told.send("worker-heartbeat", freq=200, active=3, processed=number, loadavg=[1, 1, 1])
"""


def main() -> None:
    """
    Measure, print, and end with 1 when the budget is exceeded.
    """
    with RedisServer() as server, tempfile.TemporaryDirectory() as name:
        deployment = Deployment(Path(name), PLATFORM_BROKER_URL=server.url(0))
        deployment.write("tasks/__init__.py", TASKS)
        done = deployment.python(FILL, timeout=300)
        assert done.returncode == 0, done.stderr
        with Console(deployment) as console:
            client = console.visitor()
            told = deployment.python(BEAT, timeout=120)
            assert told.returncode == 0, told.stderr

            def seen():
                shown = client.get("/api/platform/queues").json()
                return len(shown["workers"]) == WORKERS and shown["dead"] == LETTERS

            wait_until(seen, timeout=60, what="all workers to be known", every=0.5)
            worst = 0.0
            for path in ("/platform/queues", "/api/platform/queues", "/platform/dead-letters"):
                took = []
                for _ in range(LOOKS):
                    began = time.perf_counter()
                    assert client.get(path).status_code == 200
                    took.append(time.perf_counter() - began)
                worst = max(worst, *took)
                print(f"{path}: median {statistics.median(took) * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms")
    sys.exit(worst > BUDGET)


if __name__ == "__main__":
    main()
