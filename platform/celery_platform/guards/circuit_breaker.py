"""
Stop calling what is already failing, in the whole fleet at once, and lose none of the waiting work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery_platform.errors import PolicyError, did_you_mean
from celery_platform.guards.key_template import check_key
from celery_platform.outcomes import Buried, Retrying, Succeeded, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from celery_platform.outcomes import Outcome

__all__ = ["POLICIES", "STATES", "TRANSITIONS", "CircuitBreaker", "forget_definitions"]

STATES = ("closed", "open", "half_open", "forced_open", "disabled", "metrics_only")
POLICIES = ("park", "fail_fast", "fallback", "drop")

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "closed": ("open", "forced_open", "disabled", "metrics_only"),
    "open": ("half_open", "closed", "forced_open", "disabled", "metrics_only"),
    "half_open": ("closed", "open", "forced_open", "disabled", "metrics_only"),
    "forced_open": ("closed", "disabled", "metrics_only"),
    "disabled": ("closed", "forced_open", "metrics_only"),
    "metrics_only": ("closed", "forced_open", "disabled"),
}
"""From which state a breaker may go where; the last three are reached by an operator only."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """
    Park the calls of a task while the dependency *name* fails.

    The breaker opens when, of at least *minimum_calls* within the window, the share *failure_rate* failed or
    *slow_call_rate* took longer than *slow_call* seconds. The window is *window* seconds, or the last
    *window_calls* calls when that is given. It stays open for *cool_down* seconds, *growth* times longer after each
    trial round that failed, at most *longest_cool_down*, with up to 10 % of jitter. Then *trials* real calls are
    let through, each under a permit that expires after *lease* seconds; if the failure rate among them is below
    the threshold the breaker closes, and the backlog is released at *ramp* calls a second, doubling each second.

    *policy* says what a refused call does: ``park`` (waits, spends no attempt), ``fail_fast`` (buried with
    `BreakerOpen`), ``fallback`` (answered by *fallback*, called with the arguments), ``drop`` (discarded).
    Errors of the classes in *ignore* count neither way; with *record* only those classes are failures, and
    *record_result* says of a returned value whether it is one. With *key* there is one breaker for each rendered key.
    *on_outage* says what happens while the store cannot be reached: ``allow`` or ``defer``.
    """

    name: str
    failure_rate: float = 0.5
    minimum_calls: int = 20
    window: float | timedelta = 60.0
    cool_down: float | timedelta = 30.0
    trials: int = 3
    window_calls: int | None = None
    slow_call: float | timedelta | None = None
    slow_call_rate: float = 1.0
    growth: float = 2.0
    longest_cool_down: float | timedelta = 600.0
    ramp: float = 10.0
    lease: float | timedelta = 30.0
    key: str | Callable[..., object] | None = None
    policy: str = "park"
    fallback: Callable[..., Any] | None = None
    ignore: tuple[type[BaseException], ...] = ()
    record: tuple[type[BaseException], ...] | None = None
    record_result: Callable[[Any], bool] | None = None
    on_outage: str = "allow"

    def __post_init__(self) -> None:
        self._check_name()
        self._check_numbers()
        if self.policy not in POLICIES:
            self._refuse("policy", f"expected one of {', '.join(POLICIES)}.{did_you_mean(str(self.policy), POLICIES)}")
        if (self.policy == "fallback") != (self.fallback is not None):
            self._refuse("fallback", "goes together with policy='fallback'. Give both or neither.")
        if self.on_outage not in {"allow", "defer"}:
            self._refuse("on_outage", "expected 'allow' or 'defer'.")

    def check(self, parameters: Collection[str], task: str) -> None:
        """
        Refuse a key that does not fit the task, and a second, different definition of this name.
        """
        if self.key is not None:
            check_key(self.key, parameters, owner=f"CircuitBreaker {self.name!r} of {task}")
        known = _DEFINED.setdefault(self.name, (self.shape, task))
        if known[0] != self.shape:
            raise PolicyError(
                f"CircuitBreaker {self.name!r} of {task} is defined differently by {known[1]}"
                f" ({_difference(known[0], self.shape)}). Share one CircuitBreaker value, or give them two names."
            )

    @property
    def shape(self) -> tuple[tuple[str, object], ...]:
        """
        What all users of the name must agree on: everything that decides when it opens and closes.
        """
        own = {"key", "policy", "fallback", "ignore", "record", "record_result", "on_outage"}
        values = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name not in own)
        return tuple((name, seconds(v) if isinstance(v, timedelta) else v) for name, v in values)

    def judge(self, outcome: Outcome) -> str:
        """
        Return how *outcome* counts: ``success``, ``failure`` or ``ignored``.

        Waits, discards and a verdict of the body count neither way.
        """
        match outcome:
            case Succeeded():
                failed = self.record_result is not None and self.record_result(outcome.value)
                return "failure" if failed else "success"
            case Retrying() | Buried():
                return self._judge_error(outcome.error)
        return "ignored"

    def _judge_error(self, error: BaseException) -> str:
        if isinstance(error, self.ignore):
            return "ignored"
        if self.record is not None and not isinstance(error, self.record):
            return "success"
        return "failure"

    def _check_name(self) -> None:
        if not isinstance(self.name, str) or not self.name or "|" in self.name:
            raise PolicyError(f"CircuitBreaker({self.name!r}): expected the name of a dependency without '|'.")

    def _check_numbers(self) -> None:
        for word in ("failure_rate", "slow_call_rate"):
            if not 0 < getattr(self, word) <= 1:
                self._refuse(word, "expected a share above 0 and up to 1.")
        for word in ("minimum_calls", "trials", *(("window_calls",) if self.window_calls is not None else ())):
            value = getattr(self, word)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                self._refuse(word, "expected a whole number of calls, 1 or more.")
        for word in ("window", "cool_down", "longest_cool_down", "lease", "ramp"):
            if seconds(getattr(self, word)) <= 0:
                self._refuse(word, "expected more than zero.")
        if self.slow_call is not None and seconds(self.slow_call) <= 0:
            self._refuse("slow_call", "expected more than zero seconds.")
        if self.growth < 1:
            self._refuse("growth", "expected 1 or more: an open time that shrinks hammers what is down.")
        if self.window_calls is not None and self.window_calls < self.minimum_calls:
            self._refuse("window_calls", f"is below minimum_calls={self.minimum_calls}, so it could never open.")

    def _refuse(self, word: str, why: str) -> None:
        raise PolicyError(f"CircuitBreaker({self.name!r}, {word}={getattr(self, word)!r}): {why}")


_DEFINED: dict[str, tuple[tuple[tuple[str, object], ...], str]] = {}


def forget_definitions() -> None:
    """
    Forget which task defined which breaker; for tests that define the same names again.
    """
    _DEFINED.clear()


def _difference(one: tuple[tuple[str, object], ...], other: tuple[tuple[str, object], ...]) -> str:
    pairs = zip(one, other, strict=True)
    return ", ".join(f"{name}: {was!r} there, {now!r} here" for (name, was), (_, now) in pairs if was != now)
