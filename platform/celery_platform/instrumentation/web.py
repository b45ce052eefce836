"""
Answer `/live`, `/ready`, `/startup` and `/metrics` over HTTP, on a thread of the main process.

`PLATFORM_HEALTH_PORT` serves the probes, `PLATFORM_METRICS_PORT` the metrics; alone, either serves all four. Answers
come from memory: no server is asked, so that an outage elsewhere is never taken for an illness of this process.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from celery_platform.instrumentation.vitals import PROBES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery_platform.instrumentation.vitals import Vitals
    from celery_platform.settings import Settings

    Metrics = Callable[[], bytes]

__all__ = ["Web", "serve"]

logger = logging.getLogger("celery_platform.health")

TEXT = "text/plain; version=0.0.4; charset=utf-8"
_PATIENCE = 5.0  # seconds a client has for its request
_BACKLOG = 32
_REUSE = (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


class Web:
    """The open ports of this process."""

    def __init__(self, servers: Iterable[_Server]) -> None:
        self._servers = tuple(servers)

    @property
    def ports(self) -> tuple[int, ...]:
        """
        The ports that answer.
        """
        return tuple(server.server_address[1] for server in self._servers)

    def close(self) -> None:
        """
        Close the ports.
        """
        for server in self._servers:
            server.shutdown()
            server.server_close()


def serve(settings: Settings, vitals: Vitals, metrics: Metrics | None = None) -> Web:
    """
    Open the ports that *settings* name; without one, nothing is opened.

    A port that is taken is told in the log and costs the probes of this process, not its work.
    """
    health, figures = settings.health_port, settings.metrics_port
    wanted = {health: "all" if figures is None else "probes", figures: "all" if health is None else "metrics"}
    wanted.pop(None, None)
    return Web(filter(None, (_open(settings.listen, port, part, vitals, metrics) for port, part in wanted.items())))


def _open(host: str, port: int | None, part: str, vitals: Vitals, metrics: Metrics | None) -> _Server | None:
    try:
        server = _Server(host, port or 0, part, vitals, metrics)
    except OSError as error:
        logger.error(  # noqa: TRY400 - the traceback would say nothing more
            "Port %s of the %s cannot be opened: %s. Does another process of this machine have the same "
            "PLATFORM_HEALTH_PORT or PLATFORM_METRICS_PORT? Give each its own. It goes on without.",
            port,
            vitals.role,
            error,
        )
        return None
    threading.Thread(target=server.serve_forever, args=(0.2,), name=f"web-{part}", daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, host: str, port: int, part: str, vitals: Vitals, metrics: Metrics | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {}
        if part != "metrics":
            self.pages |= {f"/{name}": _probe(name, vitals) for name in PROBES}
        if part != "probes" and metrics is not None:
            self.pages["/metrics"] = lambda: (200, TEXT, metrics())
        super().__init__((host, port), _Handler)
        # A child that outlives its parent must not hold the port.
        os.register_at_fork(after_in_child=self.socket.close)

    def server_bind(self) -> None:
        # The parent class would ask the name service for this machine's name here.
        self.socket.setsockopt(*_REUSE)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        logger.debug("a request of %s broke off", client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE
    server_version = sys_version = ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            status, kind, body = 404, "application/json", _json({"error": f"try {', '.join(self.server.pages)}"})
        else:
            try:
                status, kind, body = page()
            except Exception:
                logger.exception("The page %s failed.", self.path)
                status, kind, body = 500, "application/json", _json({"error": "the log says why"})
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def version_string(self) -> str:
        return "celery-platform"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's word
        """
        Say nothing: a probe each second is no news.
        """


def _probe(name: str, vitals: Vitals) -> Callable[[], tuple[int, str, bytes]]:
    def page() -> tuple[int, str, bytes]:
        answer = PROBES[name](vitals)
        told = {"probe": name, "role": vitals.role, "ok": answer.ok, "why": answer.why, "age": round(vitals.age, 1)}
        return (200 if answer.ok else 503), "application/json", _json(told)

    return page


def _json(document: Any) -> bytes:
    return json.dumps(document).encode() + b"\n"
