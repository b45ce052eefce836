"""
Celery Platform: a thin, opinionated layer over Celery.

Everything promised stands here; names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from celery_platform.backoff import Backoff
    from celery_platform.celery_app import Platform
    from celery_platform.celery_app import PlatformCelery as _PlatformCelery
    from celery_platform.current import current_call
    from celery_platform.dead_letters import on_dead
    from celery_platform.decorator import platform_task
    from celery_platform.guards.circuit_breaker import CircuitBreaker
    from celery_platform.guards.idempotency import Idempotency
    from celery_platform.guards.limits import ConcurrencyLimit, RateLimit, RetryBudget
    from celery_platform.outcomes import Dead, Discard, RetryAfter, Snooze
    from celery_platform.payload import PII, Secret
    from celery_platform.policy import Retention
    from celery_platform.upcasting import upcast

    app: _PlatformCelery

__all__ = [
    "PII",
    "Backoff",
    "CircuitBreaker",
    "ConcurrencyLimit",
    "Dead",
    "Discard",
    "Idempotency",
    "Platform",
    "RateLimit",
    "Retention",
    "RetryAfter",
    "RetryBudget",
    "Secret",
    "Snooze",
    "app",
    "current_call",
    "on_dead",
    "platform_task",
    "upcast",
]

_HOMES = {
    "PII": "payload",
    "Backoff": "backoff",
    "CircuitBreaker": "guards.circuit_breaker",
    "ConcurrencyLimit": "guards.limits",
    "Dead": "outcomes",
    "Discard": "outcomes",
    "Idempotency": "guards.idempotency",
    "Platform": "celery_app",
    "RateLimit": "guards.limits",
    "Retention": "policy",
    "RetryAfter": "outcomes",
    "RetryBudget": "guards.limits",
    "Secret": "payload",
    "Snooze": "outcomes",
    "current_call": "current",
    "on_dead": "dead_letters",
    "platform_task": "decorator",
    "upcast": "upcasting",
}


def __getattr__(name: str) -> Any:
    if name == "app":
        from celery_platform.celery_app import current_app

        return current_app()
    if name == "__version__":
        from importlib.metadata import version

        return version("celery-platform")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"celery_platform.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
