"""
Keep the fleet inside what a dependency allows: calls per time, and calls at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery_platform.errors import PolicyError, did_you_mean
from celery_platform.guards.key_template import check_key
from celery_platform.outcomes import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import timedelta

__all__ = ["ALGORITHMS", "ConcurrencyLimit", "Limit", "RateLimit", "RetryBudget", "cost_of"]

ALGORITHMS = ("gcra", "sliding")
_POLICIES = ("wait", "drop")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """
    Start at most *limit* calls every *per* seconds in the whole fleet.

    ``gcra`` spreads calls evenly and lets *burst* of them (default *limit*) through at once after a pause: any window
    of w seconds holds at most ``limit / per * w + burst``. ``sliding`` is exact: no window of *per* seconds
    ever holds more than *limit*; it keeps one small record for each call of the window.
    A call weighs *cost*, a number or a function of the arguments.

    A refused call waits until the moment reserved for it, first come first served within the *key*, without spending
    an attempt; *policy* ``drop`` discards it instead, and *dead_after* seconds of waiting bury it.
    With *dry_run* the limit only counts. *on_outage* is ``allow`` or ``defer``.
    """

    name: str
    limit: int
    per: float | timedelta = 1.0
    burst: int | None = None
    key: str | Callable[..., object] | None = None
    algorithm: str = "gcra"
    cost: float | Callable[..., float] = 1
    policy: str = "wait"
    dead_after: float | timedelta | None = None
    dry_run: bool = False
    on_outage: str = "allow"

    def __post_init__(self) -> None:
        if not _whole(self.limit):
            _refuse(self, "limit", "expected a whole number of calls, 1 or more.")
        if seconds(self.per) <= 0:
            _refuse(self, "per", "expected more than zero seconds.")
        if self.burst is not None and not _whole(self.burst):
            _refuse(self, "burst", "expected a whole number of calls, 1 or more.")
        if self.algorithm not in ALGORITHMS:
            close = did_you_mean(str(self.algorithm), ALGORITHMS)
            _refuse(self, "algorithm", f"expected one of {', '.join(ALGORITHMS)}.{close}")
        if self.algorithm == "sliding" and self.burst is not None:
            _refuse(self, "burst", "belongs to algorithm='gcra'; a sliding window allows its limit at once.")
        if self.algorithm == "sliding" and self.cost != 1:
            _refuse(self, "cost", "belongs to algorithm='gcra'; a sliding window counts calls.")
        _check_common(self)

    @property
    def most(self) -> float:
        """
        The most a single call may cost: more would never fit.
        """
        return self.limit if self.algorithm == "sliding" else (self.burst or self.limit)

    def check(self, parameters: Collection[str], task: str) -> None:
        """
        Refuse a key that does not fit the task.
        """
        if self.key is not None:
            check_key(self.key, parameters, owner=f"RateLimit {self.name!r} of {task}")


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """
    Run at most *slots* calls at the same time in the whole fleet.

    A slot is a lease of *lease* seconds, renewed while the body runs: a worker that dies gives it back by being silent.
    A refused call waits for its turn, first come first served within the *key*, without spending an attempt.
    """

    name: str
    slots: int
    key: str | Callable[..., object] | None = None
    lease: float | timedelta = 30.0
    cost: float | Callable[..., float] = 1
    policy: str = "wait"
    dead_after: float | timedelta | None = None
    dry_run: bool = False
    on_outage: str = "allow"

    def __post_init__(self) -> None:
        if not _whole(self.slots):
            _refuse(self, "slots", "expected a whole number of slots, 1 or more.")
        if seconds(self.lease) <= 0:
            _refuse(self, "lease", "expected more than zero seconds.")
        _check_common(self)

    @property
    def most(self) -> float:
        """
        The most a single call may cost: more would never fit.
        """
        return self.slots

    def check(self, parameters: Collection[str], task: str) -> None:
        """
        Refuse a key that does not fit the task.
        """
        if self.key is not None:
            check_key(self.key, parameters, owner=f"ConcurrencyLimit {self.name!r} of {task}")


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """
    Keep retries of the whole fleet below a *share* of first tries, so that they cannot drown what they call.

    Each first try earns *share* of a retry, and *reserve* retries a minute are always allowed (at most that many are
    saved up), so that a quiet dependency is retried too. A retry beyond the budget waits, without spending an attempt.
    """

    name: str
    share: float = 0.2
    reserve: float = 10
    key: str | Callable[..., object] | None = None
    on_outage: str = "allow"
    policy: str = "wait"
    dead_after: float | timedelta | None = None

    def __post_init__(self) -> None:
        _check_words(self)
        if not 0 < self.share <= 1:
            _refuse(self, "share", "expected a share above 0 and up to 1.")
        if self.reserve < 1:
            _refuse(self, "reserve", "expected 1 or more retries a minute, or the last one might wait for ever.")

    def check(self, parameters: Collection[str], task: str) -> None:
        """
        Refuse a key that does not fit the task.
        """
        if self.key is not None:
            check_key(self.key, parameters, owner=f"RetryBudget {self.name!r} of {task}")


Limit = RateLimit | ConcurrencyLimit | RetryBudget


def cost_of(limit: RateLimit | ConcurrencyLimit, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """
    Return what one call costs, at least 0 and at most what the limit can ever grant.
    """
    cost = limit.cost(*args, **kwargs) if callable(limit.cost) else limit.cost
    return min(max(float(cost), 0.0), float(limit.most))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_common(limit: RateLimit | ConcurrencyLimit) -> None:
    _check_words(limit)
    if not callable(limit.cost) and not 0 < limit.cost <= limit.most:
        _refuse(limit, "cost", f"expected more than 0 and at most {limit.most:g}, or the call could never run.")


def _check_words(limit: Limit) -> None:
    if not isinstance(limit.name, str) or not limit.name or "|" in limit.name:
        raise PolicyError(f"{type(limit).__name__}({limit.name!r}): expected the name of what is limited, without '|'.")
    if limit.policy not in _POLICIES:
        _refuse(limit, "policy", f"expected one of {', '.join(_POLICIES)}.{did_you_mean(str(limit.policy), _POLICIES)}")
    if limit.dead_after is not None and (seconds(limit.dead_after) <= 0 or limit.policy == "drop"):
        _refuse(limit, "dead_after", "expected more than zero seconds, with policy='wait'.")
    if limit.on_outage not in {"allow", "defer"}:
        _refuse(limit, "on_outage", "expected 'allow' or 'defer'.")


def _refuse(limit: Limit, word: str, why: str) -> None:
    raise PolicyError(f"{type(limit).__name__}({limit.name!r}, {word}={getattr(limit, word)!r}): {why}")
