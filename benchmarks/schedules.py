"""
Ten thousand schedule entries: how long beat takes to start, what a tick costs, how late firings are.

    python -m benchmarks schedules
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.deployment import CELERY, Deployment
from tests.servers import Program, RedisServer
from tests.waiting import wait_until

ENTRIES = 10_000
#: Each entry every 50 seconds, one after the other: 200 firings a second.
INTERVAL = 50
TICKS = 1_000

TASKS = """
from celery_platform import platform_task

@platform_task
def note(n: int) -> None: ...
"""

BEAT = f"""
from datetime import UTC, datetime, timedelta
from celery_platform.beat import cron, every
from tasks import note

ZONES = ("UTC", "Europe/Berlin", "America/New_York")
begin = datetime(2026, 1, 1, tzinfo=UTC)
schedule = [
    every(note, seconds={INTERVAL}, anchor=begin + timedelta(milliseconds=5 * n), name=f"job {{n}}", args=[n],
          overlap="allow_all")
    for n in range({ENTRIES})
]
"""

MIXED = """
schedule = [
    cron("H H(1-5) * * *", note, name=f"job {n}", timezone=ZONES[n % 3], args=[n]) if n % 2
    else every(note, hours=1 + n % 24, name=f"job {n}", args=[n])
    for n in range(10_000)
]
"""


def measure(*, seconds: int = 60) -> list[tuple[str, str, str]]:
    """
    Return rows of (what, measured, goal); firings are watched for so many *seconds*.
    """
    with tempfile.TemporaryDirectory() as folder, RedisServer() as redis:
        deployment = Deployment(Path(folder), PLATFORM_BROKER_URL=redis.url(1))
        deployment.write("tasks/__init__.py", TASKS)
        deployment.write("beat/__init__.py", BEAT + MIXED)
        rows = [
            ("first start, s", f"{_start(deployment):.1f}", "5"),
            ("later start, s", f"{_start(deployment):.1f}", "5"),
        ]
        (deployment.folder / ".celery-platform" / "beat.sqlite3").unlink()
        deployment.write("beat/__init__.py", BEAT)
        rows += _lags(deployment, seconds)
    with tempfile.TemporaryDirectory() as folder:
        return rows + _ticks(Path(folder))


def _beat(deployment: Deployment) -> Program:
    return Program(
        [CELERY, "-A", "platform", "beat", "-l", "INFO"],
        log=deployment.folder / f"beat-{time.monotonic()}.log",
        env=deployment.environment,
        cwd=deployment.folder,
    )


def _start(deployment: Deployment) -> float:
    began = time.perf_counter()
    beat = _beat(deployment).start()
    beat.wait_for_output("leads now")
    took = time.perf_counter() - began
    beat.stop()
    return took


def _lags(deployment: Deployment, seconds: int) -> list[tuple[str, str, str]]:
    deployment.worker("--pool=solo", "--without-gossip", "--without-mingle", "--loglevel=WARNING", wait=False)
    beat = _beat(deployment).start()
    beat.wait_for_output("leads now")
    process = psutil.Process(beat.pid)
    # The first seconds make up for the time of the start.
    begin = time.time() + 5
    wait_until(lambda: time.time() > begin, timeout=10)
    before = process.memory_info().rss
    end = begin + seconds
    wait_until(lambda: time.time() > end, timeout=seconds + 5, every=0.5)
    grown = (process.memory_info().rss - before) / 2**20
    beat.stop()
    deployment.stop()
    lags = sorted(_history(deployment, begin, end))
    return [
        ("firings a second", f"{len(lags) / seconds:.0f}", str(ENTRIES // INTERVAL)),
        ("lag, median, ms", f"{1000 * statistics.median(lags):.0f}", ""),
        ("lag, p99, ms", f"{1000 * lags[int(0.99 * len(lags))]:.0f}", "1000"),
        (f"memory of beat, growth in {seconds} s, MiB", f"{grown:.1f}", "flat"),
    ]


def _history(deployment: Deployment, begin: float, end: float) -> list[float]:
    import sqlite3

    with sqlite3.connect(deployment.folder / ".celery-platform" / "beat.sqlite3") as database:
        rows = database.execute(
            "SELECT nominal, sent_at FROM platform_beat_firing WHERE sent_at IS NOT NULL"
        ).fetchall()
    times = [[datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in row] for row in rows]
    return [sent - nominal for nominal, sent in times if begin <= nominal < end]


def _ticks(folder: Path) -> list[tuple[str, str, str]]:
    from django.db import connection

    from celery_platform.beat import cron
    from tests.schedules import World, use_database

    use_database(f"sqlite:///{folder}/beat.sqlite3")
    world = World(datetime(2026, 3, 2, 0, 59, 30, tzinfo=UTC))
    engine = world.scheduler([cron("H H(1-5) * * *", "tasks.note", name=f"job {n}") for n in range(ENTRIES)])
    engine.tick()
    gc.collect()
    process = psutil.Process()
    taken, asked, sizes = [], [], []

    def count(execute, *words):
        asked[-1] += 1
        return execute(*words)

    for number in range(2 * TICKS):
        world.clock.advance(1)
        asked.append(0)
        with connection.execute_wrapper(count):
            began = time.perf_counter()
            engine.tick()
            taken.append(1000 * (time.perf_counter() - began))
        if number in (TICKS - 1, 2 * TICKS - 1):
            sizes.append(process.memory_info().rss / 2**20)
    half = TICKS
    fired = len(world.workers.started)
    return [
        (f"tick, median of {2 * TICKS} ({fired} firings), ms", f"{statistics.median(taken):.1f}", "50"),
        ("tick, longest, ms", f"{max(taken):.0f}", "50"),
        (
            "queries a tick, first and second half",
            f"{statistics.mean(asked[:half]):.1f}, {statistics.mean(asked[half:]):.1f}",
            "flat",
        ),
        ("memory, growth in the second half, MiB", f"{sizes[1] - sizes[0]:.1f}", "flat"),
    ]
