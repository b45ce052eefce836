"""
Tasks that hurt whoever runs them; a file named by LEDGER tells what ran, whatever the broker says.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from celery.exceptions import Reject

from celery_platform import platform_task


def note(text: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{text}\n")


@platform_task
def neighbour(number: int) -> int:
    note(f"neighbour {number}")
    return number


@platform_task
def pill(name: str) -> None:
    note(f"pill {name}")
    os.kill(os.getpid(), signal.SIGKILL)


@platform_task
def glutton(name: str) -> None:
    note(f"glutton {name}")
    raise MemoryError("no more")


@platform_task
def quitter(name: str) -> None:
    note(f"quitter {name}")
    sys.exit(3)


@platform_task
def refuser(name: str) -> None:
    raise Reject(f"not {name}", requeue=False)


@platform_task(time_limit=2)
def endless(name: str) -> None:
    note(f"endless {name}")
    while True:
        time.sleep(0.05)
