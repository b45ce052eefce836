"""
Be the scheduler of `celery beat`: Celery's clockwork outside, the platform's engine inside.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from celery.beat import Scheduler

from celery_platform.beat.code import schedule_of
from celery_platform.beat.engine import Engine
from celery_platform.beat.lease import RedisLease
from celery_platform.beat.lint import problems
from celery_platform.beat.runs import COPY, Outcomes
from celery_platform.errors import ScheduleError
from celery_platform.headers import SCHEDULED_FOR
from celery_platform.instrumentation import web
from celery_platform.instrumentation.vitals import Vitals

if TYPE_CHECKING:
    from celery_platform.beat.book import Live
    from celery_platform.beat.ledger import Held

__all__ = ["CeleryPublisher", "PlatformScheduler"]

logger = logging.getLogger("celery_platform.beat")

# Edits, requests and ends of runs are seen within this time; a firing is sent at its own.
_LONGEST_WAIT = 0.5
_AFTER_TROUBLE = 1.0
_ENDS = {"SUCCESS": "succeeded", "FAILURE": "failed", "REVOKED": "cancelled"}


class CeleryPublisher:
    """Bring firings to the broker through *app*."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def send(self, live: Live, firing: Held) -> None:
        """
        Publish *firing* with its nominal time; a registered task checks its arguments once more.
        """
        entry = live.entry
        headers = {SCHEDULED_FOR: firing.nominal.isoformat(), COPY: uuid.uuid4().hex}
        options: dict[str, Any] = {"task_id": firing.call_id, "headers": headers}
        row = live.row
        given = {"queue": entry.queue, "exchange": row.exchange, "routing_key": row.routing_key}
        given |= {"priority": row.priority, "expires": row.expire_seconds}
        options |= {name: value for name, value in given.items() if value is not None}
        task = self._app.tasks.get(entry.task)
        if task is not None:
            task.apply_async(entry.args, dict(entry.kwargs), **options)
        else:
            self._app.send_task(entry.task, entry.args, dict(entry.kwargs), **options)

    def stop(self, call_id: str, *, force: bool) -> None:
        """
        Ask the run of *call_id* to stop, or kill it; a call that waits does not run any more.

        The run sees `current_call().cancelled`, and on a pool of processes `SoftTimeLimitExceeded`.
        """
        guards = self._app.platform.guards
        record = guards.cancel(call_id)
        if record is not None and record.state == "done":
            guards.uncancel(call_id)
            return
        self._app.control.revoke(call_id, terminate=force, signal="SIGKILL")
        if not force:
            self._app.control.broadcast("platform_soft_stop", arguments={"call_id": call_id})


class PlatformScheduler(Scheduler):
    """
    Celery's scheduler over the tables of django-celery-beat, any number of which may run.

    Raises `ScheduleError` at start when an entry in code cannot work.
    """

    app: Any

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self._engine: Engine | None = None
        self._told: str | None = None
        self._vitals = Vitals("beat")
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """
        Check the schedule in code, bring the tables up to date, and stand ready to lead.
        """
        from celery_platform.beat.site.configuration import prepare

        platform = self.app.platform
        web.serve(platform.settings, self._vitals)
        schedule = schedule_of(self.app)
        wrong = problems(schedule, self.app)
        if wrong:
            raise ScheduleError("\n".join(wrong))
        prepare(platform.settings)
        store = platform.state
        self._engine = Engine(
            RedisLease(store.client, store.keys),
            CeleryPublisher(self.app),
            Outcomes(store.client, store.keys),
            schedule=schedule,
            probe=self._probe,
        )
        if platform.settings.sentry_dsn is not None:
            from celery_platform.beat import monitors

            monitors.install(platform.settings.sentry_dsn.get_secret_value(), self._engine.book)
        self._vitals.start()

    def _probe(self, call_id: str) -> str | None:
        return _ENDS.get(self.app.AsyncResult(call_id).state)

    def tick(self, *_: Any, **__: Any) -> float:
        """
        Do what is due and return the seconds to wait; trouble with a server is told once and waited out.
        """
        if self._engine is None:
            return _AFTER_TROUBLE
        self._vitals.beat()
        try:
            wait = self._engine.tick()
        except Exception as error:  # noqa: BLE001 - a server that is away raises anything
            self._trouble(error)
            return _AFTER_TROUBLE
        if self._told is not None:
            self._told = None
            self._vitals.note("the schedules", "")
            logger.info("The schedules go on.")
        # Celery's loop sleeps only for a true number.
        return min(_LONGEST_WAIT, wait) or 0.001

    def _trouble(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self._told:
            self._told = text
            self._vitals.note("the schedules", f"they wait for a server: {text}"[:500])
            logger.error("The schedules wait for a server; nothing is lost meanwhile. %s", text, exc_info=error)
        try:
            from django.db import connections

            connections.close_all()
        except Exception:
            logger.debug("closing the connections failed", exc_info=True)
        time.sleep(0)

    @property
    def schedule(self) -> dict[str, Any]:
        """
        Return nothing: entries live in the tables, and `celery -A platform schedule list` shows them.
        """
        return {}

    @schedule.setter
    def schedule(self, _: Any) -> None:
        """
        Ignore what Celery would keep in its own file.
        """

    def sync(self) -> None:
        """
        Do nothing: every tick has written all it did.
        """

    def close(self) -> None:
        """
        Give up the leadership, so that the next scheduler need not wait.
        """
        if self._engine is not None:
            try:
                self._engine.close()
            except Exception as error:  # noqa: BLE001 - the lease runs out by itself
                logger.warning("The leadership could not be given up, it runs out in seconds: %s", error)

    @property
    def info(self) -> str:
        """
        Say where the schedules are kept.
        """
        from celery_platform.settings import redacted_url

        settings = self.app.platform.settings
        url = settings.database_url.get_secret_value() if settings.database_url else ""
        return f"    . db -> {redacted_url(url) if url else '.celery-platform/beat.sqlite3'}"
