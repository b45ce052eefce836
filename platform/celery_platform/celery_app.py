"""
Build the one Celery app of this process from the settings.
"""

from __future__ import annotations

import threading
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.utils.json import register_type

from celery_platform.audit import AuditLog
from celery_platform.dead_letters import DeadLetters
from celery_platform.errors import ConfigurationError
from celery_platform.guards.board import Board
from celery_platform.routing import Router
from celery_platform.settings import REDIS_SCHEMES, Settings
from celery_platform.stores.base import Bounds
from celery_platform.stores.keys import Keys
from celery_platform.stores.redis import RedisStore
from celery_platform.stores.redis_graves import RedisGraves
from celery_platform.stores.redis_guards import RedisGuards

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Platform", "PlatformCelery", "current_app", "current_platform"]

_lock = threading.RLock()
_current: Platform | None = None


class PlatformCelery(Celery):
    """A Celery app that starts the embedded server, where there is one, before it first connects."""

    amqp_cls = "celery_platform.transport.publishing:PlatformAMQP"
    platform: Platform

    def _connection(self, url: str, **options: Any) -> Any:
        self.platform.prepare()
        return super()._connection(url, **options)  # type: ignore[misc]  # the stubs leave it out

    def _get_backend(self) -> Any:

        self.platform.prepare()
        return super()._get_backend()  # type: ignore[misc]


class Platform:
    """
    The settings, the app and the state store of one process.

    Keywords are settings (`Platform(broker_url=…, queues=("billing",))`) and win over `PLATFORM_*`. One process has
    one platform: build it before the first `@platform_task` is imported, or leave it to the environment.

    Raises `ConfigurationError` for settings that contradict each other, and for a second platform.
    """

    def __init__(self, **settings: Any) -> None:
        global _current  # noqa: PLW0603 - one platform a process
        self.settings = Settings.load(**settings)
        self.router = Router(self.settings.queues, self.settings.routes)
        self.keys = Keys(self.settings.namespace)
        with _lock:
            if _current is not None:
                raise ConfigurationError(
                    "This process already has a platform, built from the environment when the first task was imported. "
                    "Call Platform(...) before importing tasks, or set PLATFORM_* instead."
                )
            _current = self

    @cached_property
    def app(self) -> PlatformCelery:
        """
        The configured Celery app; nothing is imported, started or connected before it is used.
        """
        from celery_platform import defaults, results, worker
        from celery_platform.payload import Writable, to_wire

        register_type(Writable, None, to_wire)
        if self.settings.is_redis:
            from celery_platform.transport import redis as redis_transport

            redis_transport.install()
        elif self.settings.broker_kind == "sqs":
            from celery_platform.transport import sqs_scheme

            sqs_scheme.install()
        app = PlatformCelery("platform", set_as_current=True)
        app.platform = self
        app.config_from_object(
            defaults.configuration(
                self.settings, self.router.queues, broker_url=self.broker_url, result_url=self.result_url
            )
        )
        results.install(app)
        worker.install(app)
        return app

    @cached_property
    def broker_url(self) -> str:
        """
        Where calls wait.
        """
        return self.settings.broker_url or self._embedded("broker_url")

    @cached_property
    def state_url(self) -> str:
        """
        The Redis of guards and dead letters: as set, else the broker, else the result store, else the embedded one.
        """
        settings = self.settings
        if settings.state_url:
            return settings.state_url
        if settings.is_redis:
            return self.broker_url
        if settings.result_url and settings.result_url.partition("://")[0] in REDIS_SCHEMES:
            return settings.result_url
        return self._embedded("broker_url")

    @cached_property
    def result_url(self) -> str:
        """
        Where results are kept, the state store unless set otherwise.
        """
        if self.settings.result_url:
            return self.settings.result_url
        embedded = self.settings.needs_embedded and not self.settings.state_url
        return self._embedded("result_url") if embedded else self.state_url

    @cached_property
    def state(self) -> RedisStore:
        """
        The state store; it connects when it is first asked.
        """
        return RedisStore(self.state_url, self.keys, self.prepare)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """
        The dead letters of this namespace.
        """
        settings = self.settings
        return DeadLetters(
            RedisGraves(self.state),
            ttl=settings.dead_letter_ttl,
            bounds=Bounds(settings.dead_letter_count, settings.dead_letter_bytes, settings.dead_letter_total_bytes),
            audit=self.audit,
        )

    @cached_property
    def audit(self) -> AuditLog:
        """
        What operators did by hand.
        """
        return AuditLog(self.state)

    @cached_property
    def guards(self) -> RedisGuards:
        """
        The shared state of all guards.
        """
        return RedisGuards(self.state)

    @cached_property
    def board(self) -> Board:
        """
        What is paused or cancelled, as this process knows it.
        """
        return Board(self.guards)

    def prepare(self) -> None:
        """
        Start the embedded server of the folder where the settings need it, and count this process as its user.
        """
        if self.settings.needs_embedded:
            from celery_platform import embedded

            embedded.ensure_running(self.settings.workdir)

    def _embedded(self, form: str) -> str:
        from celery_platform import embedded

        url: Callable[[Path | None], str] = getattr(embedded, form)
        return url(self.settings.workdir)


def current_platform() -> Platform:
    """
    Return the platform of this process, built from the environment on first use.

    Raises `ConfigurationError` when the environment contradicts itself.
    """
    with _lock:
        return _current or Platform()


def current_app() -> PlatformCelery:
    """
    Return the Celery app of this process.
    """
    return current_platform().app


def forget_platform() -> None:
    """
    Let the next use build a new platform; for tests, and for nothing else.
    """
    global _current  # noqa: PLW0603
    with _lock:
        _current = None
    # Celery itself remembers the last app that was built, and libraries ask it for that one.
    celery_state: Any = import_module("celery._state")
    celery_state._set_current_app(None)  # noqa: SLF001 - Celery has no public way to forget an app
