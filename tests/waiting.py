"""
Wait for a condition with a deadline; a test never sleeps for a fixed time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, timeout: float = 30, what: str = "", every: float = 0.02) -> T:
    """
    Return the first true value of *condition*; ask every *every* seconds for at most *timeout* seconds.

    Raises `AssertionError` that says *what* was waited for and what was seen last. An exception of *condition*
    counts as "not yet", and is shown when time is up.
    """
    deadline = time.monotonic() + timeout
    while True:
        error: Exception | None = None
        value = None
        try:
            value = condition()
        except Exception as caught:  # noqa: BLE001 - a server that is not there yet raises anything
            error = caught
        if value:
            return value
        if time.monotonic() > deadline:
            seen = repr(error) if error else repr(value)
            raise AssertionError(f"waited {timeout:g} s for {what or condition}; last seen: {seen}")
        time.sleep(every)


def assert_stays(condition: Callable[[], object], *, seconds: float, every: float = 0.1) -> None:
    """
    Assert that *condition* is true now and for *seconds* seconds on.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition()
        time.sleep(every)


def gone(pid: int) -> bool:
    """
    Tell whether process *pid* has ended; one whose parent has died waits for init to notice.
    """
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
