"""
Serve the admin pages from one process, for operators on this machine or behind a proxy.
"""

from __future__ import annotations

from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from celery_platform.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_user", "serve"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """
        Say nothing: addresses and paths of operators are nobody's business.
        """


def make_user(name: str, password: str) -> None:
    """
    Let *name* in with *password* (`PLATFORM_ADMIN_PASSWORD`); an existing user gets that password.

    Raises `ConfigurationError` without a password of at least twelve characters.
    """
    from django.contrib.auth import get_user_model

    if len(password) < 12:  # noqa: PLR2004 - shorter ones are guessed
        raise ConfigurationError(
            "PLATFORM_ADMIN_PASSWORD expected a password of at least 12 characters: "
            "whoever opens the admin can run tasks."
        )
    user, _ = get_user_model().objects.get_or_create(username=name)
    user.is_staff = user.is_superuser = True
    user.set_password(password)
    user.save()


def serve(host: str, port: int, ready: Callable[[int], None]) -> None:
    """
    Serve until interrupted; *ready* is told the port once connections are taken (port 0 takes a free one).
    """
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.wsgi import get_wsgi_application

    application = StaticFilesHandler(get_wsgi_application())
    with make_server(host, port, application, _Server, _Quiet) as server:
        ready(server.server_port)
        server.serve_forever()
