"""
What the platform adds to plain Celery: command line, import, enqueue and run, all in one run.

    python -m benchmarks overhead
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.deployment import Deployment
from tests.servers import RedisServer
from tests.waiting import wait_until

TASKS = """
import os
from celery_platform import app, platform_task

def tick() -> None:
    file = os.open(os.environ["BENCH_TICKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b".")
    os.close(file)

@app.task
def plain(a, b):
    tick()
    return a + b

@platform_task
def ours(a: int, b: int) -> int:
    tick()
    return a + b
"""

ENQUEUE = """
import json, statistics, time, tasks
from celery_platform import app

def cpu(task, calls):
    started = time.process_time()
    for number in range(calls):
        task.delay(number, 2)
    return (time.process_time() - started) / calls * 1e6

client = app.platform.state.client
for task in (tasks.plain, tasks.ours):
    cpu(task, 200)
rows = []
for _ in range(ROUNDS):
    plain = cpu(tasks.plain, CALLS)
    ours = cpu(tasks.ours, CALLS)
    rows.append((plain, ours))
def commands(task):
    def total():
        return sum(row["calls"] for name, row in client.info("commandstats").items() if name != "cmdstat_info")
    before = total()
    cpu(task, 500)
    return (total() - before) / 500
print(json.dumps({"rows": rows, "commands": [commands(tasks.plain), commands(tasks.ours)]}))
client.flushdb()
"""


def measure(*, rounds: int = 7, calls: int = 1_000) -> list[tuple[str, str, str, str]]:
    """
    Return rows of (what, plain Celery, platform, ratio and goal).
    """
    rows = [_command_line(rounds), _import(rounds)]
    with RedisServer() as redis, tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(Path(folder), PLATFORM_BROKER_URL=redis.url(1), BENCH_TICKS=str(Path(folder) / "ticks"))
        deployment.write("tasks/__init__.py", TASKS)
        rows += _enqueue(deployment, rounds, calls)
        rows.append(_run(deployment, rounds, calls))
        deployment.stop()
    return rows


def _command_line(rounds: int) -> tuple[str, str, str, str]:
    # The same interpreter and packages; only the entry points of the platform are missing from the second.
    hidden = (
        "import importlib.metadata as m, sys; real = m.entry_points\n"
        "m.entry_points = lambda **k: [e for e in real(**k) if not e.value.startswith('celery_platform')]\n"
        "from celery.bin.celery import celery; sys.argv = ['celery', '--help']; celery()"
    )
    full = "import sys; from celery.bin.celery import celery; sys.argv = ['celery', '--help']; celery()"
    plain, ours = _interleaved(rounds, [sys.executable, "-c", hidden], [sys.executable, "-c", full])
    return ("`celery --help`, ms of CPU", f"{plain:.0f}", f"{ours:.0f}", f"{ours / plain:.2f} (goal 1.30)")


def _import(rounds: int) -> tuple[str, str, str, str]:
    plain, ours = _interleaved(
        rounds, [sys.executable, "-c", "import celery"], [sys.executable, "-c", "import celery, celery_platform"]
    )
    return ("import, ms of CPU", f"{plain:.0f}", f"{ours:.0f}", f"{ours - plain:+.0f} ms (goal +150)")


def _interleaved(rounds: int, *commands: list[str]) -> list[float]:
    taken: list[list[float]] = [[] for _ in commands]
    for _ in range(rounds):
        for samples, command in zip(taken, commands, strict=True):
            before = os.times()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            after = os.times()
            samples.append(
                1000 * (after.children_user + after.children_system - before.children_user - before.children_system)
            )
    return [statistics.median(samples) for samples in taken]


def _enqueue(deployment: Deployment, rounds: int, calls: int) -> list[tuple[str, str, str, str]]:
    import json

    program = ENQUEUE.replace("ROUNDS", str(rounds)).replace("CALLS", str(calls))
    answer = json.loads(deployment.python(program, timeout=300).stdout)
    plain, ours = (statistics.median(column) for column in zip(*answer["rows"], strict=True))
    ratio = statistics.median(two / one for one, two in answer["rows"])
    sent = answer["commands"]
    return [
        ("`delay()`, µs of CPU", f"{plain:.0f}", f"{ours:.0f}", f"{ratio:.2f} (goal 1.10)"),
        ("`delay()`, Redis commands", f"{sent[0]:.2f}", f"{sent[1]:.2f}", f"{sent[1] - sent[0]:+.2f} (goal 0)"),
    ]


def _run(deployment: Deployment, rounds: int, calls: int) -> tuple[str, str, str, str]:
    worker = deployment.worker("--pool=solo", "--without-gossip", "--without-mingle", "--loglevel=WARNING", wait=False)
    process = psutil.Process(worker.pid)
    ticks = Path(deployment.environment["BENCH_TICKS"])
    pairs: list[list[float]] = []
    for number in range(rounds + 1):
        pair = [_drain(deployment, process, ticks, task, calls) for task in ("plain", "ours")]
        if number:  # the first round warms up
            pairs.append(pair)
    plain, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(two / one for one, two in pairs)
    return ("run with result, µs of worker CPU", f"{plain:.0f}", f"{ours:.0f}", f"{ratio:.2f} (goal 1.10)")


def _drain(deployment: Deployment, process: psutil.Process, ticks: Path, task: str, calls: int) -> float:
    ticks.write_bytes(b"")
    before = process.cpu_times()
    deployment.python(f"import tasks\nfor number in range({calls}): tasks.{task}.delay(number, 2)", timeout=120)
    wait_until(lambda: ticks.stat().st_size >= calls, timeout=120, what="the calls to run")
    time.sleep(0.2)  # the last result and acknowledgement
    after = process.cpu_times()
    return 1e6 * (after.user + after.system - before.user - before.system) / calls
