"""
Put the gate before every handler of Flower's own, each with the right it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tornado.web
from flower.api import control, tasks
from flower.views import auth, error, monitor
from flower.views import tasks as task_views
from tornado.routing import URLSpec

from celery_platform.console.access import Right
from celery_platform.console.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["gated", "gated_urls"]

_OPERATED = (
    control.WorkerPoolRestart,
    control.WorkerPoolGrow,
    control.WorkerPoolShrink,
    control.WorkerPoolAutoscale,
    control.WorkerQueueAddConsumer,
    control.WorkerQueueCancelConsumer,
    control.TaskTimout,
    control.TaskRateLimit,
    control.TaskRevoke,
    tasks.TaskAbort,
)
_OPEN = (monitor.Healthcheck, tornado.web.StaticFileHandler, auth.LogoutHandler)
_SEARCHING = (task_views.TasksDataTable, tasks.ListTasks)


class _Scraped(Gate):
    async def prepare(self) -> None:
        """
        Let whoever shows the token of the metrics in, and people by their log-in.
        """
        if not self.is_scraper:
            await super().prepare()


class _Searching(Gate):
    """Flower's search looks into arguments and results: it answers only those who may see them."""

    def get_argument(self, name: str, *args: Any, **options: Any) -> Any:
        """
        Return an argument of the request; a search that may not be made is told as one that cannot be read.
        """
        value = super().get_argument(name, *args, **options)
        if name in {"search", "search[value]"} and value and self._hides:
            raise tornado.web.HTTPError(403, "Searching looks into arguments: it needs the right to see payloads")
        return value


def gated(handler: type[Any], *, provider: type[Any] | None = None) -> type[Any]:
    """
    Return Flower's *handler* behind the gate; *provider* is what answers the log-in.

    A handler this module does not know may be looked at by viewers and used by admins.
    """
    if handler is auth.LoginHandler:
        return _made(provider or error.NotFoundErrorHandler, reading=Right.OPEN)
    if handler in _OPEN:
        return _made(handler, reading=Right.OPEN)
    if handler is monitor.Metrics:
        return _made(handler, _Scraped)
    if handler in _SEARCHING:
        # DataTables asks by POST as well.
        return _made(handler, _Searching, writing=Right.VIEW)
    return _made(handler, writing=Right.OPERATE if handler in _OPERATED else Right.ADMINISTER)


def _made(handler: type[Any], gate: type[Gate] = Gate, **rights: Any) -> type[Any]:
    return type(handler.__name__, (gate, handler), {"__doc__": handler.__doc__, **rights})


def gated_urls(urls: Iterable[Any], provider: type[Any] | None) -> Iterator[URLSpec]:
    """
    Yield Flower's *urls* with every handler behind the gate.
    """
    for entry in urls:
        spec = entry if isinstance(entry, URLSpec) else URLSpec(*entry)
        handler = gated(spec.handler_class, provider=provider)
        yield URLSpec(spec.regex.pattern, handler, spec.kwargs, spec.name)
