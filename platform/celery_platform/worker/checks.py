"""
Refuse to start on a broker that would lose work, and warn about overrides that weaken a promise.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from celery_platform.defaults import HELD_DEFAULTS
from celery_platform.worker.broker_gaps import gaps_of_sqs, longest_run, tasks_with_priority
from celery_platform.worker.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from celery_platform.celery_app import PlatformCelery

__all__ = ["StartUpChecks", "overridden_defaults", "redis_findings"]

logger = logging.getLogger("celery_platform.checks")

_WEAKENED = {
    "accept_content": "other content types than JSON can run code of the sender",
    "task_acks_late": "a worker that dies loses the calls it had started",
    "task_acks_on_failure_or_timeout": "a failing call is delivered again without end",
    "task_reject_on_worker_lost": "a call whose process is killed is lost",
    "worker_prefetch_multiplier": "calls wait behind long ones although other workers are idle",
}


def redis_findings(where: str, memory: Mapping[str, Any], persistence: Mapping[str, Any]) -> Iterator[Finding]:
    """
    Yield what is unsafe about the Redis named *where*, from its `INFO memory` and `INFO persistence`.
    """
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and int(memory.get("maxmemory", 0)) > 0:
        yield Finding(
            "refuse",
            f"{where} evicts keys when memory runs out (maxmemory-policy {policy}): queued calls would vanish.",
            "Set `maxmemory-policy noeviction` there, or PLATFORM_UNSAFE=warn to start all the same.",
        )
    elif policy != "noeviction":
        yield Finding(
            "warn",
            f"{where} has maxmemory-policy {policy}; with a maxmemory it would evict queued calls.",
            "Set `maxmemory-policy noeviction`.",
        )
    if not int(persistence.get("aof_enabled", 0)):
        yield Finding(
            "warn",
            f"{where} keeps no append-only file: a crash loses every call since the last snapshot.",
            "Set `appendonly yes`.",
        )


def overridden_defaults(conf: Mapping[str, Any]) -> Iterator[Finding]:
    """
    Yield the safe defaults that a deployment has changed.
    """
    for name, safe in HELD_DEFAULTS.items():
        if conf[name] != safe and name in _WEAKENED:
            yield Finding(
                "warn", f"{name} is {conf[name]!r} instead of {safe!r}: {_WEAKENED[name]}.", "Leave it at its default."
            )


class StartUpChecks(bootsteps.Step):
    """Check before the worker does anything, and end it on a danger (`PLATFORM_UNSAFE=warn` lets it go on)."""

    def create(self, parent: Any) -> None:
        """
        Warn about what is unsafe.

        Raises `SystemExit` with the remedy for what would lose calls: a signal handler's error would only be logged.
        """
        app: PlatformCelery = parent.app
        findings = [*overridden_defaults(app.conf), *_broker_findings(app)]
        if app.platform.settings.unsafe == "refuse":
            for finding in findings:
                if finding.severity == "refuse":
                    raise SystemExit(f"celery-platform: the worker does not start. {finding}")
        for finding in findings:
            logger.warning("%s", finding)


def _broker_findings(app: PlatformCelery) -> Iterator[Finding]:
    platform = app.platform
    if platform.settings.broker_kind == "sqs":
        yield from gaps_of_sqs(longest=longest_run(app), prioritised=tasks_with_priority(app))
    if platform.settings.needs_embedded and not platform.settings.is_redis:
        yield Finding(
            "warn",
            "PLATFORM_STATE_URL is not set: dead letters and results are kept on the embedded Redis of this folder, "
            "which other machines do not see.",
            "Set it to a Redis URL.",
        )
    if platform.settings.broker_kind == "redis" and platform.settings.broker_url is not None:
        yield from _ask(platform.broker_url, "The broker", platform.prepare)
    if platform.settings.state_url not in {None, platform.settings.broker_url}:
        yield from _ask(platform.state_url, "The state store", platform.prepare)


def _ask(url: str, where: str, prepare: Any) -> Iterator[Finding]:
    from redis.exceptions import RedisError

    from celery_platform.stores.redis import connect

    prepare()
    client = connect(url)
    try:
        yield from redis_findings(where, client.info("memory"), client.info("persistence"))
    except RedisError as error:
        # An unreachable broker is not unsafe: the worker waits for it, and says so itself.
        logger.warning("%s could not be checked: %s.", where, error)
    finally:
        client.close()
