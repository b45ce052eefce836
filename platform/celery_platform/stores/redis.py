"""
The state store on Redis: the only module outside the transport that knows redis-py.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery_platform.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis import Redis

    from celery_platform.stores.keys import Keys

__all__ = ["RedisStore", "connect", "told"]

_TIMEOUT = 5.0


def connect(url: str) -> Redis:
    """
    Return a client for *url* (`redis://`, `rediss://`, `unix://`, `redis+socket://`, `sentinel://…/master`).

    Nothing is sent yet. Every command is bounded by five seconds.
    """
    from urllib.parse import parse_qs, urlsplit

    import redis

    options: dict[str, Any] = {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT}
    parts = urlsplit(url)
    if parts.scheme in {"redis+socket", "socket", "unix"}:
        query = parse_qs(parts.query)
        db = (query.get("virtual_host") or query.get("db") or ["0"])[0]
        return redis.Redis(unix_socket_path=parts.path, db=int(db), **options)
    if parts.scheme == "sentinel":
        return _through_sentinel(url, options)
    return redis.Redis.from_url(url, **options)


def _through_sentinel(url: str, options: dict[str, Any]) -> Redis:
    from urllib.parse import urlsplit

    from redis.sentinel import Sentinel

    nodes = [urlsplit(part) for part in url.split(";") if part]
    hosts = [(node.hostname or "localhost", node.port or 26379) for node in nodes]
    master, _, db = nodes[0].path.strip("/").partition("/")
    connected: Any = Sentinel
    sentinel = connected(hosts, password=nodes[0].password, **options)
    client: Redis = sentinel.master_for(master or "mymaster", password=nodes[0].password, db=int(db or 0), **options)
    return client


class RedisStore:
    """
    Shared state of a fleet.

    *url* names the server, *keys* the namespace; *prepare* is called once before the first connection (it starts the
    embedded server where there is one).
    """

    def __init__(self, url: str, keys: Keys, prepare: Callable[[], None] = lambda: None) -> None:
        self.url = url
        self.keys = keys
        self._prepare = prepare

    @cached_property
    def client(self) -> Redis:
        """
        The redis-py client; connections are made when commands are sent.
        """
        self._prepare()
        return connect(self.url)

    def write(self, line: bytes, *, keep: int) -> None:
        """
        Add *line* to the journal, and forget all but about the newest *keep* lines.
        """
        with told():
            self.client.xadd(self.keys.audit, {"line": line}, maxlen=keep, approximate=True)

    def lines(self, *, limit: int) -> Sequence[tuple[float, bytes]]:
        """
        Return the newest lines of the journal, at most *limit*, the newest first.
        """
        with told():
            found: Any = self.client.xrevrange(self.keys.audit, count=limit)
        return [(int(name.decode().partition("-")[0]) / 1000, fields[b"line"]) for name, fields in found]


@contextmanager
def told() -> Iterator[None]:
    """
    Turn every error of redis-py into a `StoreError` that names the remedy.
    """
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise StoreError(
            f"The state store did not answer: {error}. Check PLATFORM_STATE_URL and that the server is up."
        ) from error
