"""
Run tasks of one test on a real worker with many processes, and count what an independent observer saw.
"""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from celery_platform.celery_app import current_platform, forget_platform
from celery_platform.guards.circuit_breaker import forget_definitions
from tests.servers.process import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).parents[2]

HEAD = """
import os, time
import redis
from celery_platform import (CircuitBreaker, ConcurrencyLimit, Discard, Idempotency, RateLimit, Backoff, Snooze,
                             current_call, platform_task)

observer = redis.Redis.from_url(os.environ["OBSERVER_URL"])

def saw(name, what=""):
    seconds, micros = observer.time()
    observer.rpush(name, f"{seconds}.{micros:06d} {os.getpid()} {what}")
"""


class Fleet:
    """The tasks of a test, the broker they wait on, and the observer's lists."""

    def __init__(self, folder: Path, package: str, observer_url: str) -> None:
        self.folder = folder
        self.package = package
        self.observer = redis.Redis.from_url(observer_url, decode_responses=True)
        self.programs: list[Program] = []

    def task(self, name: str) -> Any:
        """
        Return the task *name* as a producer sees it.
        """
        return getattr(importlib.import_module(self.package), name)

    @property
    def state(self) -> Any:
        """
        The shared state of the guards.
        """
        return current_platform().guards

    def worker(self, processes: int = 8, *options: str) -> Program:
        """
        Start one worker with *processes* children, and wait until it is ready.
        """
        log = self.folder / f"worker-{len(self.programs)}.log"
        argv = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "platform",
            "worker",
            "-P",
            os.environ.get("FLEET_POOL", "prefork"),
            "-c",
            str(processes),
        ]
        argv += ["-l", "INFO", "-n", f"w{len(self.programs)}@%h", *options]
        program = Program(argv, log=log, cwd=self.folder, env=dict(os.environ))
        self.programs.append(program.start())
        program.wait_for_output(" ready.", timeout=90)
        return program

    def seen(self, name: str) -> list[tuple[float, int, str]]:
        """
        Return what bodies reported under *name*: server time, process id, text.
        """
        lines = [line.split(" ", 2) for line in self.observer.lrange(name, 0, -1)]
        return [(float(at), int(pid), what) for at, pid, what in lines]

    def count(self, name: str) -> int:
        """
        Return how often bodies reported under *name*.
        """
        return int(self.observer.llen(name))

    def stop(self) -> None:
        """
        End every worker.
        """
        for program in self.programs:
            program.kill_group()


@contextmanager
def fleet(
    monkeypatch: pytest.MonkeyPatch, folder: Path, broker_url: str, state_url: str, observer_url: str, tasks: str
) -> Iterator[Fleet]:
    """
    Write *tasks* into a package of its own and make this process its producer.
    """
    package = f"fleet_{folder.name.replace('-', '_')}"
    home = folder / package
    home.mkdir()
    (home / "__init__.py").write_text(HEAD + textwrap.dedent(tasks))
    settings = {
        "PLATFORM_BROKER_URL": broker_url,
        "PLATFORM_STATE_URL": state_url,
        "PLATFORM_RESULT_URL": state_url,
        "PLATFORM_TASKS": package,
        "OBSERVER_URL": observer_url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(folder))
    forget_platform()
    forget_definitions()
    made = Fleet(folder, package, observer_url)
    try:
        yield made
    finally:
        made.stop()
        current_platform().app.close()
        forget_platform()
        forget_definitions()
        sys.modules.pop(package, None)
