"""
Tasks that die in several ways until a file named by CURE exists; LEDGER tells what ran to its end.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from celery_platform import Backoff, Dead, Idempotency, Secret, platform_task
from celery_platform.dead_letters import DeadLetter, on_dead


def note(text: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{text}\n")


def cured() -> bool:
    return Path(os.environ["CURE"]).exists()


def told(letter: DeadLetter) -> None:
    note(f"own hook {letter.call_id}")


@on_dead
def told_of_all(letter: DeadLetter) -> None:
    note(f"any hook {letter.call_id}")
    if "KILL_AT_LETTER" in os.environ:
        # The letter is kept, and its message is not acknowledged yet.
        os.kill(os.getpid(), signal.SIGKILL)


@platform_task(on_dead=told)
def plain(number: int) -> int:
    if not cured():
        raise LookupError(f"no row {number}")
    note(f"plain {number}")
    return number


@platform_task(retry=Backoff(on=ConnectionError, attempts=2, first=0.05))
def tried(number: int, host: str = "a") -> int:
    if not cured():
        raise ConnectionError(f"{host} hung up on {number}")
    note(f"tried {number} {host}")
    return number


@platform_task
def given_up(number: int) -> int:
    if not cured():
        raise Dead("the account is closed")
    note(f"given_up {number}")
    return number


@platform_task
def other_place(number: int) -> int:
    if not cured():
        raise LookupError("elsewhere")
    note(f"other_place {number}")
    return number


@platform_task
def quiet(number: int, token: Secret[str]) -> int:
    if not cured():
        raise ValueError(f"{number} has a bad token {token.reveal()}")
    note(f"quiet {number}")
    return number


@platform_task(idempotency=Idempotency(key="once:{number}"))
def once(number: int) -> int:
    if not cured():
        raise LookupError("not yet")
    note(f"once {number}")
    return number
