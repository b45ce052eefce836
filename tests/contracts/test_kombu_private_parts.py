"""
The transport is built on private parts of one minor version of kombu; a new one has to be read before it is allowed.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version

import kombu.transport
import pytest
from kombu.transport import redis as stock

from celery_platform.errors import ConfigurationError
from celery_platform.transport import private_parts
from celery_platform.transport.redis import SentinelTransport, Transport, install


def test_kombu_and_celery_are_the_versions_the_transport_was_read_against() -> None:
    assert version("kombu").split(".")[:2] == ["5", "7"]
    assert version("celery").split(".")[:2] == ["5", "7"]


def test_every_private_part_is_there() -> None:
    assert list(private_parts.missing_parts()) == []


def test_a_missing_part_is_refused_with_the_version_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(private_parts.PARTS, "kombu.transport.redis:Channel", ("_brpop_start", "_gone_tomorrow"))
    with pytest.raises(ConfigurationError, match=r"5\.7.*lack .*Channel\._gone_tomorrow.*Install"):
        private_parts.check_private_parts()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (stock.Channel._put, ("queue", "message")),
        (stock.Channel._connparams, ("asynchronous",)),
        (stock.Channel._create_client, ("asynchronous",)),
        (stock.Channel._get_pool, ("asynchronous",)),
        (stock.Channel._brpop_start, ("timeout",)),
        (stock.Channel.basic_consume, ("queue",)),
        (stock.MultiChannelPoller.get, ("callback", "timeout")),
        (stock.Transport.register_with_event_loop, ("connection", "loop")),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_the_overridden_parts_take_what_they_took(function: object, words: tuple[str, ...]) -> None:
    assert tuple(inspect.signature(function).parameters)[1 : len(words) + 1] == words


def test_installing_twice_is_installing_once() -> None:
    install()
    install()
    assert kombu.transport.get_transport_cls("redis") is Transport
    assert kombu.transport.get_transport_cls("rediss") is Transport
    assert kombu.transport.get_transport_cls("sentinel") is SentinelTransport


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h:1/0", "redis+socket:///tmp/x.sock"])
def test_every_redis_url_is_ours(url: str) -> None:
    install()
    assert kombu.Connection(url).get_transport_cls() is Transport
