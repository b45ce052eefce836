"""
The console of a deployment as a real process, and its visitors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.deployment import CELERY, Deployment
from tests.servers import Program, free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

#: One visitor a role, each with a password of one's own.
USERS = {"vera": "tulip-1", "otto": "tulip-2", "anna": "tulip-3"}
ROLES = "vera=viewer,otto=operator,anna=admin+payloads"


class Console:
    """`celery -A platform flower` of *deployment*, on a port of its own; `with` starts and stops it."""

    def __init__(self, deployment: Deployment, *words: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = Program(
            [CELERY, "-A", "platform", "flower", f"--port={self.port}", *words],
            log=deployment.folder / f"console-{self.port}.log",
            env={**deployment.environment, **settings},
            cwd=deployment.folder,
        )
        self._clients: list[httpx.Client] = []

    def __enter__(self) -> Self:
        self.program.start()
        client = self.visitor()
        wait_until(lambda: not self.program.alive or client.get("/healthcheck").is_success, what="the console")
        assert self.program.alive, self.program.output()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for client in self._clients:
            client.close()
        self.program.stop(timeout=20)

    def visitor(self, name: str = "", **options: Any) -> httpx.Client:
        """
        Return a program's client, logged in as *name*.
        """
        auth = (name, USERS[name]) if name else None
        client = httpx.Client(base_url=self.url, auth=auth, timeout=30, **options)
        self._clients.append(client)
        return client


def log_ins() -> dict[str, str]:
    """
    Return the settings of a console with one visitor a role.
    """
    return {
        "FLOWER_BASIC_AUTH": ",".join(f"{name}:{word}" for name, word in USERS.items()),
        "PLATFORM_CONSOLE_ROLES": ROLES,
    }
