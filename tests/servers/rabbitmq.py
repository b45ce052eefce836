"""
A private RabbitMQ node with an epmd, a cookie and a data folder of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import urllib.error
import urllib.request
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from tests.servers.process import Program, Server, free_port, need

if TYPE_CHECKING:
    from collections.abc import Mapping

# Debian's wrapper in PATH insists on the system's own user and folders; the real script does not.
_SCRIPTS = "/usr/lib/rabbitmq/bin"


class RabbitServer(Server):
    """
    A RabbitMQ node on private ports, started in about six seconds.

    Each test takes a virtual host of its own (`vhost`), made through the management API in some 15 ms. *config* are
    further lines of rabbitmq.conf.
    """

    patience = 120.0

    def __init__(self, *, config: Mapping[str, str] | None = None) -> None:
        wrapper = need("rabbitmq-server", also=[f"{_SCRIPTS}/rabbitmq-server"])
        script = f"{_SCRIPTS}/rabbitmq-server"
        self.binary = script if os.access(script, os.X_OK) else wrapper
        self._epmd_binary = need("epmd")
        super().__init__("rabbit")
        self.port = self.api_port = self._dist_port = self._epmd_port = 0
        self._config = dict(config or {})
        self._epmd: Program | None = None
        self._numbers = itertools.count(1)

    def new_ports(self) -> None:
        self.port, self.api_port, self._dist_port, self._epmd_port = (free_port() for _ in range(4))
        if self._epmd is not None:
            self._epmd.stop()
            self._epmd = None

    def launch(self) -> Program:
        environment = self._environment()
        if self._epmd is None or not self._epmd.alive:
            self._epmd = Program([self._epmd_binary], log=self.folder / "epmd.log", env=environment).start()
        words = {
            "loopback_users": "none",
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": str(self.api_port),
            **self._config,
        }
        (self.folder / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in words.items()))
        (self.folder / "plugins").write_text("[rabbitmq_management].\n")
        return Program([self.binary], log=self.folder / "server.log", env=environment, cwd=self.folder).start()

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),  # the cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            # The script then becomes the Erlang machine instead of watching over it: one process, one pid.
            "RUNNING_UNDER_SYSTEMD": "1",
            # Idle schedulers that spin would take the processors from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def answers(self) -> bool:
        return "completed with" in self.running.output().rpartition("Starting RabbitMQ")[2] and bool(
            self.api("GET", "overview")
        )

    def stop(self) -> None:
        super().stop()
        if self._epmd is not None:
            self._epmd.stop()
            self._epmd = None

    def kill9(self) -> None:
        super().kill9()
        if self._epmd is not None:
            self._epmd.stop()
            self._epmd = None

    def remove(self) -> None:
        # A clean stop takes six seconds, and nobody reads these data again.
        if self.program is not None:
            self.kill9()
        super().remove()

    def vhost(self) -> str:
        """
        Make a fresh virtual host and return its name.
        """
        name = f"v{next(self._numbers)}"
        self.api("PUT", f"vhosts/{name}")
        return name

    def drop_vhost(self, name: str) -> None:
        """
        Delete virtual host *name* with its queues; connections to it are closed.
        """
        self.api("DELETE", f"vhosts/{name}")

    def url(self, vhost: str = "/") -> str:
        """
        Return the URL of *vhost*.
        """
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost.replace('/', '%2F')}"

    def queues(self, vhost: str) -> dict[str, dict[str, Any]]:
        """
        Return what the management API tells of each queue of *vhost* (counts lag by up to five seconds).
        """
        return {queue["name"]: queue for queue in self.api("GET", f"queues/{vhost.replace('/', '%2F')}") or []}

    def api(self, method: str, path: str, body: object = None) -> Any:
        """
        Call the management API; returns the decoded JSON, or None for an empty answer.
        """
        request = urllib.request.Request(f"http://127.0.0.1:{self.api_port}/api/{path}", method=method)
        request.add_header("Authorization", f"Basic {b64encode(b'guest:guest').decode()}")
        request.add_header("Content-Type", "application/json")
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(request, data=data, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None
