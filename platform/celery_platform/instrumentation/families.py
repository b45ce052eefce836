"""
Name every metric: what it counts, its labels, and who shows it. No label has a value per call.

Where a name stands in danihodovic's celery-exporter too, it means the same here, and dashboards written for that
one work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FAMILIES", "Family"]

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal["worker", "exporter"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; a counter's series ends in ``_total``, those of a histogram in ``_bucket``, ``_count``, ``_sum``."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    source: Source = "worker"

    @property
    def series(self) -> tuple[str, ...]:
        """
        The names under which a server finds it.
        """
        if self.kind == "counter":
            return (f"{self.name}_total",)
        if self.kind == "histogram":
            return tuple(f"{self.name}_{end}" for end in ("bucket", "count", "sum"))
        return (self.name,)


_CALL = ("name", "queue_name")

_ALL = (
    Family("celery_task_sent", "counter", _CALL, "Calls published by this process, retries and deferrals included."),
    Family("celery_task_received", "counter", _CALL, "Deliveries taken from the broker."),
    Family("celery_task_started", "counter", _CALL, "Runs begun, again after a process that died."),
    Family("celery_task_succeeded", "counter", _CALL, "Calls that ended well."),
    Family("celery_task_failed", "counter", (*_CALL, "exception"), "Calls that ended badly, after their last attempt."),
    Family("celery_task_retried", "counter", _CALL, "Attempts that failed and are tried again."),
    Family("celery_task_rejected", "counter", _CALL, "Deliveries given back, or up, without an outcome."),
    Family("celery_task_revoked", "counter", _CALL, "Calls cancelled, discarded or expired."),
    Family("celery_task_runtime", "histogram", _CALL, "Seconds a run took that ended in an outcome."),
    Family("celery_task_queue_wait_time", "histogram", _CALL, "Seconds from when a delivery could run until it did."),
    Family("celery_platform_end_to_end_seconds", "histogram", _CALL, "Seconds from the first publish to the end."),
    Family("celery_platform_attempts", "histogram", _CALL, "Attempts a call had taken when it ended."),
    Family("celery_platform_ended", "counter", (*_CALL, "outcome"), "Calls that ended, each once, by how."),
    Family("celery_platform_deferred", "counter", (*_CALL, "reason"), "Waits that are no failure, by the guard."),
    Family("celery_platform_deduplicated", "counter", _CALL, "Calls not published: their idempotency key is held."),
    Family("celery_platform_dead", "counter", (*_CALL, "reason"), "Dead letters written, by reason."),
    Family("celery_platform_breaker_moves", "counter", ("breaker", "state"), "Changes of a circuit breaker's state."),
    Family("celery_platform_limit_dry_run", "counter", ("limit",), "Calls a limit in dry run would have held back."),
    Family("celery_platform_guards_unreachable", "counter", ("rule",), "Calls that found no store, by what was done."),
    Family("celery_platform_lease_takeovers", "counter", (), "Messages taken over from dead consumers."),
    Family("celery_worker_up", "gauge", ("hostname",), "1 while the worker runs."),
    Family("celery_worker_tasks_active", "gauge", ("hostname",), "Calls that run now."),
    Family("celery_platform_ready", "gauge", ("role",), "1 when the process answers /ready with yes."),
    Family("celery_platform_series_dropped", "counter", (), "Counts without room: too many sets of labels."),
    Family("celery_queue_length", "gauge", ("queue_name",), "Calls that could run now.", "exporter"),
    Family("celery_active_consumer_count", "gauge", ("queue_name",), "Consumers of a queue (RabbitMQ).", "exporter"),
    Family(
        "platform_queue_oldest_age_seconds",
        "gauge",
        ("queue_name",),
        "Since when the next call of the queue could have run (Redis).",
        "exporter",
    ),
    Family("platform_queue_paused", "gauge", ("queue_name",), "1 while the queue is paused.", "exporter"),
    Family("celery_platform_delayed_calls", "gauge", (), "Calls that wait for their time (Redis).", "exporter"),
    Family("celery_platform_delayed_overdue_seconds", "gauge", (), "How late the first delayed call is.", "exporter"),
    Family("celery_platform_leased_calls", "gauge", (), "Calls in the hands of workers (Redis).", "exporter"),
    Family("celery_platform_lease_holders", "gauge", (), "Consumers with a lease (Redis).", "exporter"),
    Family("celery_platform_lapsed_leases", "gauge", (), "Consumers whose lease has ended.", "exporter"),
    Family("celery_platform_casualties", "gauge", (), "Undeliverable messages not yet dead letters.", "exporter"),
    Family("celery_platform_dead_letters", "gauge", (), "Dead letters kept.", "exporter"),
    Family("celery_platform_dead_groups", "gauge", (), "Kinds of errors among them, 1000 at most.", "exporter"),
    Family("celery_platform_paused_subjects", "gauge", (), "Queues, tasks and keys that are paused.", "exporter"),
    Family("celery_platform_exporter_up", "gauge", ("part",), "1 when the part could be read.", "exporter"),
    Family("celery_platform_exporter_seconds", "gauge", (), "How long the last reading took.", "exporter"),
)

FAMILIES = {family.name: family for family in _ALL}
