"""
The tasks of the team in `test_platform_tasks`; a file named by LEDGER tells what ran, whatever the broker says.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from celery_platform import (
    PII,
    Backoff,
    Dead,
    Discard,
    RetryAfter,
    Secret,
    Snooze,
    current_call,
    platform_task,
)

QUICKLY = Backoff(on=(ConnectionError, ArithmeticError), attempts=3, first=0.2, ceiling=0.5, jitter="none")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Receipt:
    number: int
    total: Decimal
    at: datetime


class Order(BaseModel):
    id: UUID
    colour: Colour
    lines: list[Decimal]


def note(text: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{text}\n")


@platform_task
def add(x: int, y: int) -> int:
    return x + y


@platform_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@platform_task
def buy(order: Order, at: datetime) -> Receipt:
    assert isinstance(order.id, UUID)
    assert isinstance(order.colour, Colour)
    return Receipt(len(order.lines), sum(order.lines, Decimal()), at)


@platform_task
def repaint(colour: Colour) -> Colour:
    return Colour.BLUE if colour is Colour.RED else Colour.RED


@platform_task
def same(order: Order) -> Order:
    return order


@platform_task
def tomorrow(at: datetime) -> datetime:
    return at.astimezone(UTC) + timedelta(days=1)


@platform_task
def halve(amount: Decimal) -> Decimal:
    return amount / 2


@platform_task
def nothing() -> None:
    return None


@platform_task(retry=QUICKLY)
def flaky(failures: int) -> list[int]:
    call = current_call()
    if call.failures < failures:
        raise ConnectionError(f"attempt {call.attempt} found nobody")
    return [call.attempt, call.failures, call.deferrals]


@platform_task(retry=QUICKLY)
def doomed(name: str) -> None:
    note(f"doomed {name}")
    raise ConnectionError(f"nobody answers {name}")


@platform_task(retry=QUICKLY)
def broken(name: str) -> None:
    note(f"broken {name}")
    raise LookupError(f"no row for {name}")


@platform_task(retry=QUICKLY)
def sleepy(times: int) -> list[int]:
    call = current_call()
    if call.deferrals < times:
        raise Snooze(0.1, "not yet")
    return [call.attempt, call.failures, call.deferrals]


@platform_task(retry=QUICKLY)
def asked(times: int) -> list[int] | RetryAfter:
    call = current_call()
    if call.failures < times:
        return RetryAfter(0.1)
    return [call.attempt, call.failures, call.deferrals]


@platform_task(retry=QUICKLY)
def unwanted() -> None:
    raise Discard("the order was cancelled")


@platform_task(retry=QUICKLY)
def hopeless() -> None:
    raise Dead("the account is closed")


@platform_task(queue="side")
def aside(x: int) -> int:
    return x


@platform_task
def login(user: PII[str], password: Secret[str], *, fail: bool) -> str:
    if fail:
        raise PermissionError(f"{user.reveal()} with {password.reveal()} was refused")
    return "in"


@platform_task(timeout=1)
def endless() -> None:
    while True:
        time.sleep(0.05)


@platform_task(queue="side")
def ordered(name: str) -> None:
    note(f"ordered {name}")


@platform_task
def second(number: int) -> int:
    note(f"start {number}")
    time.sleep(1)
    note(f"end {number}")
    return number
