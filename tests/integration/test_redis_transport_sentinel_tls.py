"""
Sentinel fail-over and TLS: a running consumer goes on by itself.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import kombu
import pytest
import redis
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from celery_platform.transport.options import ConsumerOptions
from celery_platform.transport.redis import SentinelTransport, Transport, open_consumer
from tests.integration.redis_transport import bodies
from tests.servers import RedisServer
from tests.servers.process import Program, free_port, temporary_folder
from tests.servers.redis import redis_binary
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cluster() -> Iterator[tuple[RedisServer, RedisServer, int]]:
    with RedisServer() as master, RedisServer(options={"replicaof": f"127.0.0.1 {master.port}"}) as replica:
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        folder, port = temporary_folder("sentinel"), free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {port}\ndir {folder}\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
        )
        program = Program([redis_binary(), config, "--sentinel"], log=Path(folder) / "sentinel.log").start()
        sentinel = redis.Redis(port=port, decode_responses=True)
        try:
            wait_until(lambda: int(sentinel.sentinel_master("main")["num-slaves"]) == 1)
            yield master, replica, port
        finally:
            sentinel.close()
            program.stop()


def test_a_consumer_follows_the_master_without_a_restart(cluster: tuple[RedisServer, RedisServer, int]) -> None:
    master, _, port = cluster
    options = {"master_name": "main", "socket_timeout": 1, "lease": 30}
    url = f"sentinel://127.0.0.1:{port}/0"
    with kombu.Connection(url, transport=SentinelTransport, transport_options=options) as link:
        me = open_consumer(link, ["q"], options=ConsumerOptions(renew=False))
        producer = link.Producer(serializer="json")
        producer.publish("before", routing_key="q")
        assert bodies(wait_until(lambda: me.fetch(1))) == ["before"]
        with master.client() as client:
            client.wait(1, 2000)
        master.kill9()

        def publish() -> bool:
            with kombu.Connection(url, transport=SentinelTransport, transport_options=options) as fresh:
                fresh.Producer(serializer="json").publish("after", routing_key="q")
            return True

        wait_until(publish, timeout=60, every=0.2)

        def fetch() -> list[object]:
            try:
                return bodies(me.fetch(1))
            except (RedisError, OSError):
                return []

        assert wait_until(fetch, timeout=30) == ["after"]
        for name in list(me.holdings.held):
            me.ack(name)
        me.flush()
        me.close()


def test_tls_is_verified_and_works() -> None:
    with RedisServer(tls=True) as server:
        trusted = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": server.ca_file}
        with kombu.Connection(server.url(), transport=Transport, ssl=trusted) as link:
            link.Producer(serializer="json").publish("sealed", routing_key="q")
            me = open_consumer(link, ["q"])
            assert bodies(wait_until(lambda: me.fetch(1))) == ["sealed"]
            while not me.waiting:
                me.fetch(1)
            link.Producer(serializer="json").publish("again", routing_key="q")
            assert me.wait(5)
            assert bodies(wait_until(lambda: me.fetch(1))) == ["again"]
            me.close()
        untrusting = kombu.Connection(server.url(), transport=Transport, ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED})
        with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            untrusting.ensure_connection(max_retries=1)
