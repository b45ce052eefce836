"""
Name the private parts of kombu and Celery the transport is built on, and check that they are there.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from celery_platform.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PARTS", "check_private_parts", "missing_parts"]

PARTS = {
    "kombu.transport.redis:Channel": (
        "_after_fork",
        "_basic_cancel",
        "_brpop_read",
        "_brpop_start",
        "_connparams",
        "_create_client",
        "_delete",
        "_disconnect_pools",
        "_get_message_priority",
        "_get_pool",
        "_in_poll",
        "_purge",
        "_put",
        "_q_for_pri",
        "active_queues",
        "from_transport_options",
    ),
    "kombu.transport.redis:SentinelChannel": ("_sentinel_managed_pool",),
    "kombu.transport.redis:MultiChannelPoller": (
        "_in_protected_read",
        "_register_BRPOP",
        "handle_event",
        "maybe_check_brpop_health",
        "maybe_refresh_binding_expiry",
        "on_poll_start",
    ),
    "kombu.transport.redis:Transport": ("register_with_event_loop", "on_readable"),
    "kombu.transport.redis:PublishBatch": ("add",),
    "kombu.transport.virtual:QoS": ("_delivered", "_dirty", "_flush", "can_consume", "restore_unacked_once"),
    "kombu.transport": ("TRANSPORT_ALIASES", "_transport_cache"),
    "celery.worker.state": ("active_requests", "should_stop", "should_terminate"),
}


def missing_parts() -> Iterator[str]:
    """
    Yield each part that this kombu or Celery does not have, as `module:Class.part`.
    """
    from kombu.utils.imports import symbol_by_name

    for home, names in PARTS.items():
        owner = symbol_by_name(home)
        yield from (f"{home}.{name}" for name in names if not hasattr(owner, name))


def check_private_parts() -> None:
    """
    Refuse a kombu that is not built the way the transport expects.

    Raises:
        ConfigurationError: names the versions and what is missing.

    """
    missing = list(missing_parts())
    if missing:
        raise ConfigurationError(
            f"The Redis transport is built on kombu 5.7 and Celery 5.7; kombu {version('kombu')} and Celery "
            f"{version('celery')} lack {', '.join(missing)}. Install `kombu>=5.7,<5.8` and `celery>=5.7,<5.8`."
        )
