"""
Drain queued no-op tasks: stock kombu transport against ours, same machine, same run, interleaved.

    python benchmarks/drain.py --tasks 20000 --repeat 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

HERE = Path(__file__).resolve().parent
APP = """
import os, sys
if os.environ["BENCH_TRANSPORT"] == "ours":
    from celery_platform.transport.redis import install
    install()
from celery import Celery
app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=256,
                worker_send_task_events=False, worker_enable_remote_control=False)
TICKS = os.open(os.environ["BENCH_TICKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
@app.task(name="bench.noop")
def noop(number):
    os.write(TICKS, b".")
"""
WORKER = ["worker", "--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair", "-l", "ERROR"]
SHAPES = {"prefork -c 2": [["-P", "prefork", "-c", "2"]], "2 x solo": [["-P", "solo"], ["-P", "solo"]]}


class Row:
    """One measured drain."""

    def __init__(self, rate: float, commands: float, scripts: float) -> None:
        self.rate, self.commands, self.scripts = rate, commands, scripts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cp-bench-") as folder:
        server, client = start_redis(Path(folder))
        try:
            rows = measure(Path(folder), client, options.tasks, options.repeat)
        finally:
            server.terminate()
            server.wait()
    report(rows, as_json=options.json)


def start_redis(folder: Path) -> tuple[subprocess.Popen[bytes], redis.Redis]:
    path = folder / "redis.sock"
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or sys.exit("no redis-server")
    argv = [
        binary,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--dir",
        str(folder),
        "--loglevel",
        "warning",
    ]
    server = subprocess.Popen(argv)
    client = redis.Redis(unix_socket_path=str(path))
    until(lambda: path.exists() and client.ping(), 10)
    return server, client


def measure(folder: Path, client: redis.Redis, tasks: int, repeat: int) -> dict[tuple[str, str], list[Row]]:
    (folder / "bench_app.py").write_text(APP)
    rows: dict[tuple[str, str], list[Row]] = {}
    for _ in range(repeat):
        for shape, workers in SHAPES.items():
            for transport in ("stock", "ours"):
                rows.setdefault((shape, transport), []).append(drain(folder, client, transport, workers, tasks))
    return rows


def drain(folder: Path, client: redis.Redis, transport: str, workers: list[list[str]], tasks: int) -> Row:
    client.flushall()
    ticks = folder / "ticks"
    ticks.write_bytes(b"")
    env = {
        **os.environ,
        "BENCH_BROKER": f"redis+socket://{folder}/redis.sock",
        "BENCH_TRANSPORT": transport,
        "BENCH_TICKS": str(ticks),
        "PYTHONPATH": os.pathsep.join((str(folder), str(HERE.parent / "platform"))),
        "PYTHONWARNINGS": "ignore",
    }
    fill(client, env, tasks)
    client.config_resetstat()
    argv = [sys.executable, "-m", "celery", "-A", "bench_app"]
    running = [
        subprocess.Popen([*argv, *WORKER, "-n", f"w{i}@bench", *words], env=env, cwd=folder, start_new_session=True)
        for i, words in enumerate(workers)
    ]
    try:
        rate = watch(ticks, tasks)
        until(lambda: not client.hlen("unacked") and not client.keys("platform:held:*"), 10)
        stats = client.info("commandstats")
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)
    calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    for name in ("keys", "hlen", "config|resetstat", "info", "ping", "hello"):
        calls.pop(name, None)
    return Row(rate, sum(calls.values()) / tasks, calls.get("evalsha", 0) / tasks)


def fill(client: redis.Redis, env: dict[str, str], tasks: int) -> None:
    code = (
        "import bench_app as b, sys\n"
        "with b.app.producer_pool.acquire(block=True) as p:\n"
        f"    [b.noop.apply_async((i,), producer=p) for i in range(min(200, {tasks}))]\n"
    )
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    samples = client.lrange("celery", 0, -1)
    while (missing := tasks - client.llen("celery")) > 0:
        client.lpush("celery", *samples[: min(missing, len(samples))])


def watch(ticks: Path, tasks: int) -> float:
    until(lambda: ticks.stat().st_size > 0, 60)
    began, before = time.perf_counter(), ticks.stat().st_size
    until(lambda: ticks.stat().st_size >= tasks, 300)
    return (tasks - before) / (time.perf_counter() - began)


def until(condition: object, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            sys.exit(f"waited {timeout} s in vain")
        time.sleep(0.005)


def report(rows: dict[tuple[str, str], list[Row]], *, as_json: bool) -> None:
    table = [
        {
            "workers": shape,
            "transport": transport,
            "tasks/s": round(statistics.median(row.rate for row in measured)),
            "commands/task": round(statistics.median(row.commands for row in measured), 3),
            "scripts/task": round(statistics.median(row.scripts for row in measured), 4),
        }
        for (shape, transport), measured in rows.items()
    ]
    if as_json:
        print(json.dumps(table))
        return
    for line in table:
        print("  ".join(f"{name} {value}" for name, value in line.items()))


if __name__ == "__main__":
    main()
