"""
What both type checkers must refuse, on exactly the marked lines; never run.
"""

from __future__ import annotations

from typing import Any

from celery_platform import Secret, platform_task
from celery_platform.task import PlatformTask  # noqa: TC001 - the contract reads annotations at run time


@platform_task
def add(a: int, b: int) -> int:
    return a + b


@platform_task(bind=True, queue="default")
def charge(self: PlatformTask[..., Any], invoice: str, token: Secret[str], *, note: str = "") -> str:
    return f"{self.name} {invoice} {token} {note}"


add.delay("1", 2)  # expect-error
add.delay(1)  # expect-error
add.delay(1, 2, 3)  # expect-error
add.delay(1, 2, c=3)  # expect-error
add.delay(1, b="2")  # expect-error
add(1, "2")  # expect-error
text: str = add.delay(1, 2).get()  # expect-error
number: int = charge.delay("inv-7", Secret("x")).get()  # expect-error

charge.delay("inv-7", "x")  # expect-error
charge.delay("inv-7", Secret(3))  # expect-error
charge.delay("inv-7", Secret("x"), note=3)  # expect-error
charge.delay("inv-7", Secret("x"), "note")  # expect-error
charge.delay()  # expect-error

add.s("1", 2)  # expect-error
add.s(1, 2, 3)  # expect-error
add.s(1, c=3)  # expect-error
add.s("1")  # expect-error
charge.s("x")  # expect-error
add.si(1)  # expect-error
add.si(1, "2")  # expect-error
charge.s(3, Secret("x"))  # expect-error

add.apply_async(3)  # expect-error


@platform_task(queue=3)  # expect-error
def misrouted() -> None: ...


@platform_task(priority="urgent")  # expect-error
def hurried() -> None: ...


@platform_task(retry=3)  # expect-error
def stubborn() -> None: ...


@platform_task(timeout="30s")  # expect-error
def slow() -> None: ...
