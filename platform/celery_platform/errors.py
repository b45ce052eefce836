"""
Say what went wrong, where, and how to mend it.

The tree::

    PlatformError
    ├── ConfigurationError          settings, routes or start-up checks contradict each other
    │   ├── PolicyError             a task was decorated with words that cannot work
    │   ├── ScheduleError           a schedule entry that cannot work
    │   ├── UnknownQueue            a queue nobody declared
    │   └── QueueMismatch           a queue of that name exists and is of another kind
    ├── PayloadError                the caller's arguments break the task's contract
    │   ├── PayloadInvalid          wrong count or type, or not serialisable
    │   └── PayloadTooLarge         more bytes than `PLATFORM_MAX_PAYLOAD_BYTES`
    ├── PublishError                the broker did not take the call; nothing was enqueued
    ├── StoreError                  the state store could not be reached
    ├── DeadLetterError             a dead letter cannot be sent, edited or read in
    │   └── SelectionError          a selection of dead letters that cannot work
    ├── GuardError                  a guard refused
    │   ├── IdempotencyConflict     the key is held, and the policy says to raise
    │   ├── IdempotencyMismatch     the key is held by a call with other arguments
    │   ├── BreakerOpen             the circuit breaker lets no call through
    │   └── LimitExceeded           a limit was reached, and the call may not wait longer
    └── EmbeddedServerError         no embedded Redis could be started
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BreakerOpen",
    "ConfigurationError",
    "DeadLetterError",
    "EmbeddedServerError",
    "GuardError",
    "IdempotencyConflict",
    "IdempotencyMismatch",
    "LimitExceeded",
    "PayloadError",
    "PayloadInvalid",
    "PayloadTooLarge",
    "PlatformError",
    "PolicyError",
    "PublishError",
    "QueueMismatch",
    "ScheduleError",
    "SelectionError",
    "StoreError",
    "UnknownQueue",
    "did_you_mean",
]


class PlatformError(Exception):
    """Root of every error the platform raises on purpose."""


class ConfigurationError(PlatformError):
    """Settings, routes or start-up checks contradict each other."""


class PolicyError(ConfigurationError):
    """A task was decorated with words that cannot work."""


class ScheduleError(ConfigurationError):
    """An entry of the schedule cannot work as it is written."""


class UnknownQueue(ConfigurationError):  # noqa: N818 - the field's word
    """A queue was named that nobody declared."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name = name
        self.known = sorted(known)
        # The arguments alone rebuild it, so it crosses processes and JSON result backends as itself.
        super().__init__(name, self.known)

    def __str__(self) -> str:
        return (
            f"{self.name!r} is not a queue of this platform ({', '.join(self.known)})."
            f"{did_you_mean(self.name, self.known)} Declare it in PLATFORM_QUEUES, or name one of these."
        )


class QueueMismatch(ConfigurationError):  # noqa: N818
    """The broker has a queue of that name which was declared in another way; RabbitMQ changes no queue."""

    def __init__(self, queue: str, answer: str = "") -> None:
        self.queue = queue
        self.answer = answer
        super().__init__(queue, answer)

    def __str__(self) -> str:
        return (
            f"The queue {self.queue!r} exists on the broker and was declared in another way than the platform's "
            f"({self.answer}). RabbitMQ changes no queue. Let its old workers empty it, delete it with "
            f"`rabbitmqctl delete_queue {self.queue}` and start again; or give the platform another name in "
            "PLATFORM_QUEUES, or another virtual host."
        )


class PayloadError(PlatformError):
    """The caller's arguments break the task's contract; nothing was published."""


class PayloadInvalid(PayloadError, TypeError):  # noqa: N818
    """
    Arguments of the wrong count or type, or not serialisable; or a result that breaks the return annotation.

    *problems* are sentences that name parameters and types and never show a value; *when* is ``enqueued``, ``run`` or
    ``returned``. The arguments alone rebuild it, so it crosses processes and JSON result backends as itself.
    """

    def __init__(self, task: str, problems: Iterable[str] = (), when: str = "enqueued", remedy: str = "") -> None:
        self.task = task
        self.problems = tuple(problems)
        self.when = when
        self.remedy = remedy
        super().__init__(task, self.problems, when, remedy)

    def __str__(self) -> str:
        if not self.problems:
            return self.task
        where = {"enqueued": "when enqueued", "run": "when run", "returned": "in what it returned"}.get(
            self.when, self.when
        )
        return f"{self.task}, {where}: {'; '.join(self.problems)}. {self.remedy}".rstrip()


class PayloadTooLarge(PayloadError, ValueError):  # noqa: N818
    """The call of *task* holds *size* bytes, more than the *limit* that the platform carries."""

    def __init__(self, task: str, size: int = 0, limit: int = 0) -> None:
        self.task = task
        self.size = size
        self.limit = limit
        super().__init__(task, size, limit)

    def __str__(self) -> str:
        if not self.size:
            return self.task
        return (
            f"{self.task}: the call is {self.size} bytes, above the limit of {self.limit}. Store the data elsewhere "
            "and pass a reference to it, or raise PLATFORM_MAX_PAYLOAD_BYTES."
        )


class PublishError(PlatformError):
    """The broker did not take the call in time; it was not enqueued as far as is known."""


class StoreError(PlatformError):
    """The state store could not be reached."""


class DeadLetterError(PlatformError):
    """A dead letter cannot be sent, edited or read in; nothing was changed."""


class SelectionError(DeadLetterError):
    """A selection of dead letters that cannot work."""


class GuardError(PlatformError):
    """A guard refused; *retry_after* is when it may be different, in seconds."""

    retry_after: float = 0.0


class IdempotencyConflict(GuardError):  # noqa: N818 - the field's word
    """The key is held by another call, and the policy says to raise."""


class IdempotencyMismatch(GuardError):  # noqa: N818
    """The key is held by a call with other arguments: one key is one piece of work."""


class BreakerOpen(GuardError):  # noqa: N818
    """The circuit breaker lets no call through."""


class LimitExceeded(GuardError):  # noqa: N818
    """A limit was reached, and the call may not wait longer."""


class EmbeddedServerError(PlatformError):
    """No embedded Redis could be started in this folder."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """
    Return `` Did you mean 'x'?`` for the closest known word, or an empty string.
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
