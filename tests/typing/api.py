"""
How the public surface is used; never run, and free of errors for mypy and pyright.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from celery import chain
from pydantic import BaseModel

from celery_platform import PII, Backoff, Secret, Snooze, current_call, platform_task
from celery_platform.task import PlatformResult, PlatformTask


class Receipt(BaseModel):
    number: str


@platform_task
def add(a: int, b: int = 2) -> int:
    return a + b


@platform_task(
    queue="default",
    priority="high",
    retry=Backoff(on=TimeoutError, attempts=3),
    timeout=30,
    deadline=timedelta(hours=1),
    ignore_result=False,
)
def charge(invoice: str, account: Secret[str], *, owner: PII[str] | None = None) -> Receipt:
    assert_type(account.reveal(), str)
    return Receipt(number=invoice)


@platform_task(bind=True)
def fetch(self: PlatformTask[..., Any], url: str, tries: int = 1) -> str | Snooze:
    if current_call() is None:
        return Snooze(3, "later")
    return f"{self.name} {url} {tries}"


def calls() -> None:
    assert_type(add.delay(1, b=3), PlatformResult[int])
    assert_type(add.delay(1).get(timeout=3), int)
    assert_type(add.apply_async((1, 2), countdown=3).get(), int)
    assert_type(add.apply((1, 2)).get(), int)
    assert_type(add(1, 2), int)
    assert_type(add.AsyncResult("id").get(), int)
    assert_type(charge.delay("inv-7", Secret("token"), owner=PII("Ada")).get().number, str)
    assert_type(fetch.delay("https://example.org"), PlatformResult[str | Snooze])
    fetch.delay("https://example.org", tries=2)


def canvas() -> None:
    add.s(1, 2)
    add.s(1, b=2)
    add.si(1, 2)
    # In a chain the result of the step before comes first.
    chain(add.s(1, 2), add.s(3), add.s()).apply_async()
    charge.s(Secret("token"))
    charge.s(Secret("token"), owner=PII("Ada"))
    add.signature((1, 2)).apply_async()
