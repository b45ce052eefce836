"""
Refuse to start on a broker that would lose work, and warn about overrides that weaken a promise.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from celery.signals import celeryd_init, worker_init

from celery_platform.defaults import HELD_DEFAULTS
from celery_platform.errors import UnsafeBroker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from celery_platform.celery_app import PlatformCelery

__all__ = ["Finding", "install", "overridden_defaults", "redis_findings"]

logger = logging.getLogger("celery_platform.checks")

_WEAKENED = {
    "accept_content": "other content types than JSON can run code of the sender",
    "task_acks_late": "a worker that dies loses the calls it had started",
    "task_acks_on_failure_or_timeout": "a failing call is delivered again without end",
    "task_reject_on_worker_lost": "a call whose process is killed is lost",
    "worker_prefetch_multiplier": "calls wait behind long ones although other workers are idle",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something unsafe: *severity* decides whether a worker starts, *remedy* tells how to mend it."""

    severity: Literal["refuse", "warn"]
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"


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


def install(app: PlatformCelery) -> None:
    """
    Check when a worker of *app* starts, and refuse to start it on a dangerous finding.
    """

    def on_celeryd_init(conf: Any, **_: Any) -> None:
        if conf.find_value_for_key is not None and app.conf is conf:
            for finding in overridden_defaults(conf):
                logger.warning("%s", finding)

    def on_worker_init(sender: Any, **_: Any) -> None:
        if getattr(sender, "app", None) is app:
            _judge(app, list(_broker_findings(app)))

    celeryd_init.connect(on_celeryd_init, weak=False)
    worker_init.connect(on_worker_init, weak=False)


def _broker_findings(app: PlatformCelery) -> Iterator[Finding]:
    platform = app.platform
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


def _judge(app: PlatformCelery, findings: list[Finding]) -> None:
    refused = [finding for finding in findings if finding.severity == "refuse"]
    if refused and app.platform.settings.unsafe == "refuse":
        raise UnsafeBroker(str(refused[0]))
    for finding in findings:
        logger.warning("%s", finding)
