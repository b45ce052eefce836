"""
The servers the other tests stand on do what they are told.
"""

from __future__ import annotations

import http.client
import os
import smtplib
import urllib.error
import urllib.request

import kombu
import psutil
import psycopg
import pytest
import redis

from tests.servers import Answer, RabbitServer, RedisServer, need
from tests.waiting import wait_until


def test_a_redis_keeps_what_it_was_given_through_kill_9_and_restart():
    with RedisServer(aof="always") as server, server.client() as client:
        client.set("a", "1")
        server.restart(kill=True)
        assert wait_until(lambda: client.get("a")) == "1"


def test_a_paused_redis_answers_nobody_until_it_is_resumed():
    with RedisServer() as server, server.client(socket_timeout=0.2, retry=None) as client:
        server.pause()
        with pytest.raises(redis.RedisError):
            client.ping()
        server.resume()
        assert wait_until(client.ping)


def test_a_redis_asks_for_its_password_and_speaks_tls():
    with RedisServer(tls=True, password="let-me-in") as server:
        with server.client() as client:
            assert client.ping()
        words = {"port": server.port, "ssl": True, "ssl_ca_certs": server.ca_file}
        with redis.Redis(**words, password="wrong") as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with (
            redis.Redis(port=server.port, password="let-me-in", socket_timeout=0.5, retry=None) as plain,
            pytest.raises(redis.RedisError),
        ):
            plain.ping()


def test_every_test_gets_an_empty_database(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_every_test_gets_an_empty_database_again(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_a_broker_of_each_kind_carries_a_message(broker_url):
    with kombu.Connection(broker_url) as connection:
        queue = connection.SimpleQueue("q")
        queue.put({"n": 1})
        message = queue.get(timeout=20)
        message.ack()
        queue.close()
        assert message.payload == {"n": 1}


def test_a_rabbitmq_keeps_a_durable_message_through_kill_9_and_restart():
    with RabbitServer() as server:
        with kombu.Connection(server.url(), transport_options={"confirm_publish": True}) as connection:
            queue = connection.SimpleQueue("q")
            queue.put("kept", delivery_mode=2)
            queue.close()
        server.restart(kill=True)
        with kombu.Connection(server.url()) as connection:
            queue = connection.SimpleQueue("q")
            message = queue.get(timeout=20)
            message.ack()
            queue.close()
    assert message.payload == "kept"


def test_a_dropped_virtual_host_is_gone(rabbitmq_server):
    name = rabbitmq_server.vhost()
    assert rabbitmq_server.queues(name) == {}
    rabbitmq_server.drop_vhost(name)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        rabbitmq_server.queues(name)


def test_every_database_of_postgres_is_its_own(postgres_server):
    first, second = postgres_server.create_database(), postgres_server.create_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE t (n int)")
    with psycopg.connect(second) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT n FROM t")


def test_the_smtp_server_refuses_as_often_as_told_and_then_keeps_the_message(smtp_server):
    smtp_server.refuse(1)
    with smtplib.SMTP("127.0.0.1", smtp_server.port, timeout=10) as client:
        with pytest.raises(smtplib.SMTPDataError, match="451"):
            client.sendmail("a@example.org", ["b@example.org"], "Subject: hello\r\n\r\nbody")
        client.sendmail("a@example.org", ["b@example.org"], "Subject: hello\r\n\r\nbody")
    (received,) = smtp_server.messages
    assert (received.sender, received.recipients, received.message["Subject"]) == (
        "a@example.org",
        ("b@example.org",),
        "hello",
    )
    assert smtp_server.attempts == 2


def test_the_http_server_answers_its_script_and_then_the_default(http_server):
    http_server.script(Answer(503, headers={"Retry-After": "7"}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(http_server.url("/hook"), data=b"x", timeout=10)
    assert caught.value.headers["Retry-After"] == "7"
    with urllib.request.urlopen(http_server.url("/hook"), data=b"y", timeout=10) as answer:
        assert answer.status == 200
    assert [(seen.method, seen.path, seen.body) for seen in http_server.requests] == [
        ("POST", "/hook", b"x"),
        ("POST", "/hook", b"y"),
    ]


@pytest.mark.parametrize(("answer", "error"), [(Answer(hang=True), TimeoutError), (Answer(drop=True), OSError)])
def test_the_http_server_hangs_or_drops_when_told(http_server, answer, error):
    http_server.script(answer)
    with pytest.raises((error, http.client.RemoteDisconnected)):
        urllib.request.urlopen(http_server.url(), timeout=0.3)


def test_a_stopped_server_leaves_no_process():
    with RedisServer() as server:
        pid = server.running.pid
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    assert not server.folder.exists()


def test_a_missing_program_is_skipped_here_and_fails_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install-test-servers"):
        need("no-such-server")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="CI is set"):
        need("no-such-server")
    assert os.access(need("sh"), os.X_OK)
