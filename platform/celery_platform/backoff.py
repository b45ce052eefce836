"""
Decide whether a failed attempt is tried again, and when.

`Backoff` is a value: rules are asked in order, the first whose exceptions match wins. The wait before the
attempt after failure number *n* (from 1) is, before jitter::

    delay(n) = min(ceiling, first * factor ** (n - 1))

Jitter spreads it (Brooker, "Exponential Backoff and Jitter", 2015): ``none`` keeps it, ``full`` draws from
[floor, delay], ``equal`` from [delay / 2, delay], ``decorrelated`` from [first, 3 * previous], each clamped to
[floor, ceiling]. Keep this in step with docs/retries.md.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from celery_platform.errors import PayloadInvalid, PolicyError, did_you_mean
from celery_platform.outcomes import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_platform.outcomes import Call

__all__ = ["Backoff", "Jitter", "retry_after_of"]

Jitter = Literal["none", "full", "equal", "decorrelated"]
_JITTERS = ("none", "full", "equal", "decorrelated")
# Together they keep `factor ** exponent` a float.
_MAX_EXPONENT = 64
_MAX_FACTOR = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """
    Try again after a failure, ever more slowly.

    *on*: the exception class or classes this rule answers for; there is no default, nobody retries everything by
    accident. *when*: an optional predicate on the exception, for instance on a status code. *attempts*: how often
    the body may run in all, the first run included. *within*: how long after the first failure another attempt may
    still start. *first*, *ceiling*, *floor* and *within* are seconds or `timedelta`; *floor* is above zero, so a
    retry is never immediate. *honour_retry_after*: an exception that carries a ``Retry-After`` (as ``retry_after``,
    or in the headers of its ``response``; seconds or an HTTP date) overrides the computed wait, within
    [floor, ceiling].

    Rules combine with ``|``: ``Backoff(on=Timeout, attempts=8) | Backoff(on=HTTPError, attempts=3)``; the first
    match wins, and an exception that no rule names is not retried.

    Raises `PolicyError` for a rule that cannot work.
    """

    on: type[BaseException] | tuple[type[BaseException], ...]
    attempts: int = 5
    first: float | timedelta = 1.0
    factor: float = 2.0
    ceiling: float | timedelta = 600.0
    floor: float | timedelta = 0.1
    within: float | timedelta | None = timedelta(days=1)
    jitter: Jitter = "equal"
    when: Callable[[Any], bool] | None = None
    honour_retry_after: bool = True
    otherwise: tuple[Backoff, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        classes = self.on if isinstance(self.on, tuple) else (self.on,)
        if not classes or not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
            raise PolicyError(f"Backoff(on=…) expected an exception class or a tuple of them, got {self.on!r}.")
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise PolicyError(f"Backoff(attempts=…) expected a whole number from 1, got {self.attempts!r}.")
        if self.jitter not in _JITTERS:
            raise PolicyError(
                f"Backoff(jitter=…) expected one of {', '.join(_JITTERS)}, got {self.jitter!r}."
                f"{did_you_mean(str(self.jitter), _JITTERS)}"
            )
        for name in ("first", "factor", "ceiling", "floor", "within"):
            _expect_positive(name, getattr(self, name))
        if self.factor > _MAX_FACTOR:
            raise PolicyError(f"Backoff(factor=…) expected at most {_MAX_FACTOR}, got {self.factor!r}.")
        if seconds(self.floor) > seconds(self.ceiling):
            raise PolicyError(
                f"Backoff(floor={seconds(self.floor):g}) stands above ceiling={seconds(self.ceiling):g}. "
                "Lower the floor or raise the ceiling."
            )

    def __or__(self, other: Backoff) -> Backoff:
        """
        Return these rules followed by *other*.
        """
        from dataclasses import replace

        return replace(self, otherwise=(*self.otherwise, *other.rules()))

    def rules(self) -> tuple[Backoff, ...]:
        """
        Return every rule in the order it is asked.
        """
        return (self, *self.otherwise)

    def rule_for(self, error: BaseException) -> Backoff | None:
        """
        Return the first rule that answers for *error*; a payload that breaks its contract is never retried.
        """
        if isinstance(error, PayloadInvalid):
            return None
        for rule in self.rules():
            if isinstance(error, rule.on) and (rule.when is None or rule.when(error)):
                return rule
        return None

    def exhausted(self, call: Call, now: float) -> bool:
        """
        Tell whether a call that has just failed once more has used up its attempts or its time.
        """
        if call.attempt >= self.attempts:
            return True
        if self.within is None or call.first_failed_at is None:
            return False
        return now - call.first_failed_at >= seconds(self.within)

    def delay(
        self,
        failures: int,
        *,
        previous: float | None = None,
        asked: float | None = None,
        rng: random.Random | None = None,
    ) -> float:
        """
        Return the seconds to wait after failure number *failures* (from 1).

        *previous* is the last wait in seconds (decorrelated jitter builds on it); *asked* is what a ``Retry-After``
        demanded, which wins within [floor, ceiling] and gets up to a tenth of jitter on top.
        """
        draw = (rng or random).uniform
        floor, ceiling = seconds(self.floor), seconds(self.ceiling)
        if asked is not None:
            spread = 0.0 if self.jitter == "none" else draw(0, asked * 0.1)
            return min(max(asked + spread, floor), max(ceiling, floor))
        first = seconds(self.first)
        base = min(ceiling, first * self.factor ** min(failures - 1, _MAX_EXPONENT))
        if self.jitter == "full":
            base = draw(floor, max(base, floor))
        elif self.jitter == "equal":
            base = draw(base / 2, base)
        elif self.jitter == "decorrelated":
            base = draw(first, max(first, 3 * (previous if previous is not None else first)))
        return min(max(base, floor), ceiling)

    def schedule(self, rng: random.Random | None = None) -> Sequence[float]:
        """
        Return every wait of the first rule, in seconds, for people to read before they deploy.
        """
        waits: list[float] = []
        for failures in range(1, self.attempts):
            waits.append(self.delay(failures, previous=waits[-1] if waits else None, rng=rng))
        return waits


def retry_after_of(error: BaseException, now: float) -> float | None:
    """
    Return the seconds *error* asks to wait, or nothing.

    Reads ``error.retry_after`` (a number, a `timedelta` or header text), then a ``Retry-After`` header of
    ``error.response`` (RFC 9110, section 10.2.3: seconds or an HTTP date). A date in the past means zero; text that
    is neither is ignored.
    """
    asked = getattr(error, "retry_after", None)
    if asked is None:
        headers = getattr(getattr(error, "response", None), "headers", None)
        asked = headers.get("Retry-After") if headers is not None and hasattr(headers, "get") else None
    if isinstance(asked, timedelta):
        return max(0.0, asked.total_seconds())
    if isinstance(asked, (int, float)) and not isinstance(asked, bool):
        return max(0.0, float(asked))
    return _header_seconds(asked.strip(), now) if isinstance(asked, str) else None


def _header_seconds(text: str, now: float) -> float | None:
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds())


def _expect_positive(name: str, value: Any) -> None:
    if name == "within" and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)) or not 0 < seconds(value) < math.inf:
        raise PolicyError(f"Backoff({name}=…) expected more than zero (seconds or a timedelta), got {value!r}.")
