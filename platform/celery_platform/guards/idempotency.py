"""
Run the work of one key once, and give every further request of that key the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery_platform.errors import PolicyError, did_you_mean
from celery_platform.guards.key_template import check_key
from celery_platform.outcomes import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["CONFLICTS", "SCOPES", "Idempotency"]

SCOPES = ("until_start", "until_done", "until_ttl", "while_running", "latest_wins")
CONFLICTS = ("return_existing", "raise", "drop", "replace", "defer")

_LEGAL = {
    "until_start": ("return_existing", "raise", "drop", "replace"),
    "until_done": ("return_existing", "raise", "drop", "replace", "defer"),
    "until_ttl": ("return_existing", "raise", "drop", "replace"),
    "while_running": ("defer", "drop"),
    "latest_wins": ("replace",),
}


@dataclass(frozen=True, slots=True)
class Idempotency:
    """
    Hold one key per piece of work; a second request of a held key is a conflict.

    *scope* says how long the key is held: ``until_start`` of the run, ``until_done``, ``until_ttl`` (*keep* seconds
    after it succeeded), ``while_running`` (a lock, nothing at enqueue), or ``latest_wins`` (the newest request
    of a burst runs, *delay* seconds after the last one, at most *max_wait* after the first).
    *on_conflict* says what the second request gets; by default the handle of the existing run, for
    ``while_running`` it waits, for ``latest_wins`` it replaces.

    The key is held through retries and deferrals and given back when the call is buried, discarded or cancelled.
    *keep* is also how long a recorded result answers a redelivery. A result whose JSON is longer than
    *largest_result* bytes is not kept: the redelivery is skipped all the same, with no value.
    """

    key: str | Callable[..., object]
    keep: float | timedelta = timedelta(hours=24)
    scope: str = "until_ttl"
    on_conflict: str | None = None
    delay: float | timedelta = 0.0
    max_wait: float | timedelta | None = None
    lease: float | timedelta = 30.0
    largest_result: int = 65536

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise PolicyError(
                f"Idempotency(scope={self.scope!r}): expected one of {', '.join(SCOPES)}."
                f"{did_you_mean(str(self.scope), SCOPES)}"
            )
        self._check_conflict()
        self._check_times()
        if isinstance(self.key, str) and not self.key:
            raise PolicyError("Idempotency(key=''): expected a template like 'invoice:{invoice_id}', got nothing.")
        if not isinstance(self.key, str) and not callable(self.key):
            raise PolicyError(f"Idempotency(key={self.key!r}): expected a template or a function of the arguments.")

    def check(self, parameters: Collection[str], task: str) -> None:
        """
        Refuse a key that does not fit the task.
        """
        check_key(self.key, parameters, owner=f"Idempotency of {task}")

    @property
    def conflict(self) -> str:
        """
        What a second request gets: *on_conflict*, or the default of the scope.
        """
        return self.on_conflict or _LEGAL[self.scope][0]

    @property
    def claims_at_enqueue(self) -> bool:
        """
        Whether the key is taken when the call is enqueued, and not only when it runs.
        """
        return self.scope != "while_running"

    def _check_conflict(self) -> None:
        if self.on_conflict is None:
            return
        if self.on_conflict not in CONFLICTS:
            raise PolicyError(
                f"Idempotency(on_conflict={self.on_conflict!r}): expected one of {', '.join(CONFLICTS)}."
                f"{did_you_mean(str(self.on_conflict), CONFLICTS)}"
            )
        if self.on_conflict not in _LEGAL[self.scope]:
            raise PolicyError(
                f"Idempotency(scope={self.scope!r}, on_conflict={self.on_conflict!r}) cannot work:"
                f" {self.scope} goes with {', '.join(_LEGAL[self.scope])}."
            )

    def _check_times(self) -> None:
        self._positive("keep", self.keep)
        self._positive("lease", self.lease)
        debounced = seconds(self.delay) != 0 or self.max_wait is not None
        if debounced and self.scope != "latest_wins":
            raise PolicyError(
                f"Idempotency(delay=, max_wait=) belongs to scope='latest_wins', got {self.scope!r}. Drop it,"
                " or change the scope."
            )
        if seconds(self.delay) < 0:
            raise PolicyError(f"Idempotency(delay={self.delay!r}): expected zero or more seconds.")
        if self.max_wait is not None and seconds(self.max_wait) < seconds(self.delay):
            raise PolicyError(
                f"Idempotency(max_wait={self.max_wait!r}) is shorter than delay={self.delay!r}. Make it at least that."
            )

    def _positive(self, word: str, value: Any) -> None:
        if not isinstance(value, (int, float, timedelta)) or isinstance(value, bool) or seconds(value) <= 0:
            raise PolicyError(f"Idempotency({word}={value!r}): expected more than zero seconds, or a timedelta.")
