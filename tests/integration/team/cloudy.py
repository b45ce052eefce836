"""
Tasks for a broker that has no fan-out, no priorities and no clock of its own; LEDGER tells what ran, and when.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from celery.exceptions import Reject

from celery_platform import Backoff, ConcurrencyLimit, Idempotency, app, current_call, platform_task


def note(text: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{text}\n")


@platform_task
def add(one: int, two: int) -> int:
    note(f"add {one} {two} {time.time()}")
    return one + two


@platform_task(retry=Backoff(on=ValueError, attempts=2, first=1, ceiling=1))
def twice(name: str) -> int:
    note(f"twice {name}")
    if current_call().attempt == 1:
        raise ValueError("not yet")
    return current_call().attempt


@platform_task(limits=[ConcurrencyLimit("one", 1)])
def alone(number: int) -> None:
    note(f"begin {number}")
    time.sleep(0.3)
    note(f"end {number}")


@platform_task(idempotency=Idempotency(key="{name}"))
def once(name: str) -> None:
    note(f"once {name}")


@platform_task
def slow(name: str, seconds: float) -> None:
    note(f"slow {name}")
    time.sleep(seconds)
    note(f"slept {name}")


@platform_task
def pill(name: str) -> None:
    note(f"pill {name}")
    os.kill(os.getpid(), signal.SIGKILL)


@platform_task
def broken(name: str) -> None:
    raise RuntimeError(name)


@platform_task
def refuser(name: str) -> None:
    raise Reject(f"not {name}", requeue=False)


@app.task
def plain(number: int) -> int:
    return number * 2
