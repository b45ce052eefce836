"""
Translate the platform's settings into Celery's. The reason for each line stands in docs/defaults.md.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu import Exchange, Queue

from celery_platform.machine import usable_cpus
from celery_platform.routing import DEAD_EXCHANGE, DEFAULT_QUEUE, PLAIN_QUEUE, REDIS_STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_platform.settings import Settings

__all__ = ["DELIVERY_LIMIT", "HELD_DEFAULTS", "configuration"]

# Deliveries without an outcome after which a message is a poison pill.
DELIVERY_LIMIT = 3

# How long a call may run before RabbitMQ (from 3.12 on) gives it to another worker: seven days.
CONSUMER_TIMEOUT_MS = 604_800_000

# The longest that SQS keeps a message, in seconds.
_LONGEST_RETENTION = 14 * 86_400

# The one exchange of the platform's own queues on RabbitMQ.
AMQP_EXCHANGE = "platform"

# What the promises of the platform stand on; `checks.py` says so when a deployment overrides one.
HELD_DEFAULTS: dict[str, Any] = {
    "accept_content": ["json"],
    "task_acks_late": True,
    "task_acks_on_failure_or_timeout": True,
    "task_reject_on_worker_lost": True,
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "worker_prefetch_multiplier": 1,
}


def configuration(settings: Settings, queues: Sequence[str], *, broker_url: str, result_url: str) -> dict[str, Any]:
    """
    Return Celery's configuration for *settings*; *queues* are the declared names.
    """
    return {
        **HELD_DEFAULTS,
        "broker_url": broker_url,
        "result_backend": result_url,
        "include": _packages(settings),
        "timezone": "UTC",
        "enable_utc": True,
        "result_expires": settings.result_ttl,
        "result_extended": False,
        "result_backend_always_retry": True,
        "result_backend_max_retries": 20,
        "result_backend_max_sleep_between_retries_ms": 2_000,
        "redis_socket_timeout": 10.0,
        "redis_socket_connect_timeout": 5.0,
        # redis-py refuses the word for a unix socket, where it has no meaning.
        "redis_socket_keepalive": not result_url.startswith(("redis+socket:", "unix:")),
        "redis_retry_on_timeout": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": min(4.0, settings.publish_timeout / 4),
        "task_publish_retry": True,
        "task_publish_retry_policy": _PUBLISH_RETRY,
        "task_time_limit": settings.time_limit,
        "task_default_queue": DEFAULT_QUEUE,
        "task_create_missing_queues": False,
        "task_queues": [_queue(name, settings.broker_kind) for name in queues],
        "task_default_delivery_mode": "persistent",
        "task_send_sent_event": False,
        "worker_send_task_events": settings.broker_kind != "sqs",
        "worker_concurrency": usable_cpus(),
        # In KiB. A process that has grown this far is replaced between two calls, before it meets its limit.
        "worker_max_memory_per_child": settings.memory_limit and settings.memory_limit * 1024 * 8 // 10,
        "beat_scheduler": "celery_platform.beat.scheduler:PlatformScheduler",
        # Elsewhere the lease outlives the connection: cancelling would only repeat work.
        "worker_cancel_long_running_tasks_on_connection_loss": settings.broker_kind == "amqp",
        "worker_hijack_root_logger": True,
        "broker_transport_options": _transport_options(settings),
        **_OF_BROKER.get(settings.broker_kind, {}),
    }


def _packages(settings: Settings) -> list[str]:
    """
    Return the packages to import; one that was not asked for by name may be missing, except the first.
    """
    if "tasks" in settings.model_fields_set:
        return list(settings.tasks)
    first, *others = settings.tasks
    return [first, *(name for name in others if (Path.cwd() / name).is_dir() or find_spec(name) is not None)]


_OF_BROKER: dict[str, dict[str, Any]] = {
    "amqp": {
        "task_default_queue_type": "quorum",
        "worker_detect_quorum_queues": True,
        "broker_native_delayed_delivery_queue_type": "quorum",
        "broker_heartbeat": 20,
        # RabbitMQ closes the channel of a call that runs too long; that must not end the worker.
        "broker_channel_error_retry": True,
    },
    # It needs a fan-out, which SQS does not have.
    "sqs": {"worker_enable_remote_control": False},
}


def _queue(name: str, broker: str) -> Queue:
    if broker != "amqp" or name == PLAIN_QUEUE:
        return Queue(name, Exchange(name, type="direct"), routing_key=name)
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        # A quorum queue keeps a dead message until its grave has confirmed it, if it may refuse when full.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        # RabbitMQ would take a call of more than half an hour from its worker; time limits and heartbeats do that here.
        "x-consumer-timeout": CONSUMER_TIMEOUT_MS,
    }
    # Delayed delivery needs a topic exchange, and plain clients declare exchanges named after their queues.
    return Queue(name, Exchange(AMQP_EXCHANGE, type="topic"), routing_key=name, queue_arguments=arguments)


# A broken connection is tried once more; with the quarter below a caller never waits longer than the publish timeout.
_PUBLISH_RETRY = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.2}


def _transport_options(settings: Settings) -> dict[str, Any]:
    if settings.broker_kind == "amqp":
        return {
            "confirm_publish": True,
            "read_timeout": None,
            "write_timeout": settings.publish_timeout,
        }
    quarter = settings.publish_timeout / 4
    if settings.broker_kind == "redis":
        return {
            "lease": settings.lease,
            "delivery_limit": DELIVERY_LIMIT,
            "namespace": settings.namespace,
            # Read by stock workers that share the queues during a migration.
            "visibility_timeout": 3_600,
            "socket_timeout": quarter,
            "socket_connect_timeout": min(4.0, quarter),
            "socket_keepalive": True,
            "health_check_interval": 25,
            "priority_steps": REDIS_STEPS,
            "queue_order_strategy": "round_robin",
            "global_keyprefix": "",
        }
    return {
        "lease": settings.lease,
        # Read by stock workers that share the queues during a migration.
        "visibility_timeout": 3_600,
        "wait_time_seconds": 20,
        "polling_interval": 0.2,
        "client-config": {
            "connect_timeout": quarter,
            "read_timeout": quarter,
            "retries": {"total_max_attempts": 2},
        },
        "sqs-creation-attributes": {"MessageRetentionPeriod": str(_LONGEST_RETENTION)},
        # The envelope is JSON text already; base64 would only make it longer.
        "sqs_base64_encoding": False,
    }
