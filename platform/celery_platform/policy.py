"""
Hold what a task's decorator said, checked at import.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery_platform.backoff import Backoff
from celery_platform.errors import PolicyError, did_you_mean
from celery_platform.outcomes import seconds
from celery_platform.routing import CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_platform.dead_letters import DeadLetter
    from celery_platform.routing import PriorityClass, Router

__all__ = ["CELERY_OPTIONS", "HARD_LIMIT_GRACE", "Retention", "TaskPolicy"]

# Seconds between the soft limit that a body can catch and the hard one that kills its process.
HARD_LIMIT_GRACE = 10.0

# Celery's own words that mean the same under our decorator.
CELERY_OPTIONS = frozenset({
    "acks_late", "acks_on_failure", "acks_on_failure_or_timeout", "acks_on_timeout", "compression",
    "default_retry_delay", "expires", "ignore_result", "max_retries", "rate_limit", "reject_on_worker_lost",
    "resultrepr_maxsize", "send_events", "shadow_name", "soft_time_limit", "store_eager_result",
    "store_errors_even_if_ignored", "throws", "time_limit", "track_started", "trail",
})  # fmt: skip
_CELERY_RETRY_WORDS = frozenset({
    "autoretry_for", "dont_autoretry_for", "retry_backoff", "retry_backoff_max", "retry_jitter", "retry_kwargs",
})  # fmt: skip
_REFUSED = {
    "serializer": "The platform speaks JSON; other serializers are refused on arrival.",
    "pydantic": "Annotations are the contract already; pydantic models need no switch.",
    "typing": "Arguments are checked by annotation; the check cannot be turned off.",
    "base": "Set behaviour with policies; a base class of your own belongs under plain app.task.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """
    How dead letters of one task are kept: *age* (s or `timedelta`), *count*, *size* (bytes).

    The oldest leave first. A word left out means the platform's setting. Raises `PolicyError` for a bound below one.
    """

    age: float | timedelta | None = None
    count: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("age", "count", "size"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or seconds(value) <= 0):
                raise PolicyError(f"Retention({name}={value!r}): expected more than zero.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPolicy:
    """
    What one task asked for.

    *timeout* and *deadline* are seconds: the first bounds one attempt, the second the whole call from its enqueueing.
    *on_dead* is called with every new dead letter, *dead_letters* says how they are kept. *aliases* are names the task
    also answers to, *version* is that of its payload.
    """

    queue: str | None = None
    priority: PriorityClass | None = None
    retry: Backoff | None = None
    timeout: float | None = None
    deadline: float | None = None
    on_dead: Callable[[DeadLetter], object] | None = None
    dead_letters: Retention | None = None
    aliases: tuple[str, ...] = ()
    version: int = 1

    @classmethod
    def of(
        cls,
        task: str,
        *,
        router: Router,
        queue: str | None = None,
        priority: PriorityClass | None = None,
        retry: Backoff | None = None,
        timeout: float | timedelta | None = None,
        deadline: float | timedelta | None = None,
        **afterlife: Any,
    ) -> TaskPolicy:
        """
        Return the policy of *task*.

        Raises `PolicyError` or `UnknownQueue` for words that cannot work.
        """
        if queue is not None:
            router.known(queue)
        if priority is not None and priority not in CLASSES:
            raise PolicyError(
                f"{task}: priority expected one of {', '.join(CLASSES)}, got {priority!r}."
                f"{did_you_mean(str(priority), CLASSES)}"
            )
        if retry is not None and not isinstance(retry, Backoff):
            raise PolicyError(f"{task}: retry expected a Backoff(on=…), got {retry!r}.")
        attempt, whole = _duration(task, "timeout", timeout), _duration(task, "deadline", deadline)
        if attempt is not None and whole is not None and attempt > whole:
            raise PolicyError(
                f"{task}: timeout={attempt:g} s is longer than deadline={whole:g} s, so no attempt could use it. "
                "Shorten the timeout or extend the deadline."
            )
        _check_afterlife(task, **afterlife)
        return cls(queue=queue, priority=priority, retry=retry, timeout=attempt, deadline=whole, **afterlife)


def check_options(task: str, options: Mapping[str, Any], policy: TaskPolicy, words: frozenset[str]) -> None:
    """
    Refuse Celery options that *task* cannot carry: unknown ones, and those that contradict *policy*.

    Raises `PolicyError` that names the remedy.
    """
    for name in options:
        if name in _CELERY_RETRY_WORDS:
            raise PolicyError(f"{task}: {name} is replaced by retry=Backoff(on=…, attempts=…, first=…).")
        if name in _REFUSED:
            raise PolicyError(f"{task}: {name} cannot be set. {_REFUSED[name]}")
        if name not in CELERY_OPTIONS:
            meant = did_you_mean(name, sorted(words)) or did_you_mean(name, sorted(CELERY_OPTIONS))
            raise PolicyError(
                f"{task}: {name!r} is no option of @platform_task.{meant} "
                f"Policies are {', '.join(sorted(words))}; Celery's own task options pass through."
            )
    if policy.timeout is not None and {"time_limit", "soft_time_limit"} & set(options):
        raise PolicyError(f"{task}: timeout and time_limit say the same twice. Keep timeout.")
    if policy.retry is not None and "max_retries" in options:
        raise PolicyError(f"{task}: max_retries contradicts retry=Backoff(attempts=…). Keep the Backoff.")
    if options.get("acks_late") is False and policy.retry is not None:
        raise PolicyError(
            f"{task}: acks_late=False loses the call when its worker dies, so retry=… would promise too much. "
            "Drop one of them."
        )


def _check_afterlife(
    task: str, on_dead: Any = None, dead_letters: Any = None, aliases: Any = (), version: Any = 1
) -> None:
    if on_dead is not None and not callable(on_dead):
        raise PolicyError(f"{task}: on_dead expected a function that takes a DeadLetter, got {on_dead!r}.")
    if dead_letters is not None and not isinstance(dead_letters, Retention):
        raise PolicyError(f"{task}: dead_letters expected a Retention(age=…, count=…, size=…), got {dead_letters!r}.")
    if not isinstance(aliases, tuple) or not all(isinstance(name, str) and name for name in aliases):
        raise PolicyError(f"{task}: aliases expected a list of task names, got {aliases!r}.")
    if task in aliases:
        raise PolicyError(f"{task}: aliases holds the task's own name. Name what it was called before.")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise PolicyError(f"{task}: version expected a whole number from 1, got {version!r}.")


def _duration(task: str, name: str, value: float | timedelta | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)) or seconds(value) <= 0:
        raise PolicyError(f"{task}: {name} expected more than zero (seconds or a timedelta), got {value!r}.")
    return seconds(value)
