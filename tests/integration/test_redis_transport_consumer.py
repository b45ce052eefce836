"""
One consumer against a real server: leases, settling, takeover, delays, waking.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_platform.transport import casualties
from tests.integration.redis_transport import KEYS, STOCK, bodies, consumer, send
from tests.servers import RedisServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as link:
        yield link


def raw_bodies(client: redis.Redis, key: str) -> list[Any]:
    from types import SimpleNamespace

    from celery_platform.transport.envelope import loads

    return bodies(SimpleNamespace(message=loads(raw)) for raw in reversed(client.lrange(key, 0, -1)))


def test_a_fetched_message_is_leased_in_the_same_step(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1, 2, 3)
    me = consumer(redis_url, "q", owner="me")
    assert bodies(me.fetch(2)) == [1, 2]
    assert client.llen("q") == 1
    assert client.hlen(KEYS.held("me")) == 2
    assert client.zscore(KEYS.leases, "me") is not None


def test_acknowledgements_travel_with_the_next_fetch(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1, 2)
    me = consumer(redis_url, "q", owner="me")
    (first,) = me.fetch(1)
    me.ack(first.field)
    assert client.hlen(KEYS.held("me")) == 1
    me.fetch(1)
    assert client.hkeys(KEYS.held("me")) == [b"1|q"]


def test_closing_gives_back_what_is_held_in_its_old_order_and_unblamed(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1, 2, 3, 4)
    me = consumer(redis_url, "q", owner="me")
    me.fetch(3)
    me.close()
    assert raw_bodies(client, "q") == [1, 2, 3, 4]
    assert b"platform_deaths" not in b"".join(client.lrange("q", 0, -1))
    assert not client.exists(KEYS.held("me"), KEYS.leases)


def test_what_is_kept_at_closing_can_still_be_acknowledged(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1, 2)
    me = consumer(redis_url, "q", owner="me")
    first, _ = me.fetch(2)
    me.close(keep={first.field})
    assert client.hkeys(KEYS.held("me")) == [first.field.encode()]
    me.ack(first.field)
    assert not client.exists(KEYS.held("me"))


def test_several_queues_are_served_in_turn(redis_url: str) -> None:
    send(redis_url, "a", *["a"] * 4)
    send(redis_url, "b", *["b"] * 4)
    me = consumer(redis_url, "a", "b")
    assert [bodies(me.fetch(1))[0] for _ in range(4)] in (["a", "b", "a", "b"], ["b", "a", "b", "a"])


def test_priorities_come_in_order(redis_url: str) -> None:
    for priority in (9, 0, 6, 3):
        send(redis_url, "q", priority, priority=priority)
    assert bodies(consumer(redis_url, "q").fetch(10)) == [0, 3, 6, 9]


def test_an_expired_lease_is_reaped_by_whoever_fetches_and_the_message_stands_first_again(redis_url: str) -> None:
    send(redis_url, "q", 1, 2)
    dead = consumer(redis_url, "q", owner="dead", lease=0.05)
    dead.fetch(1)
    other = consumer(redis_url, "q")
    got: list[Any] = []

    def take() -> list[Any]:
        for delivery in other.fetch(1):
            got.extend((body, delivery.deaths) for body in bodies([delivery]))
            other.ack(delivery.field)
        return got if (1, 1) in got else []

    wait_until(take, timeout=5)
    assert min(got) == (1, 1)


def test_a_zombie_can_neither_acknowledge_nor_return_what_it_lost(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1, 2)
    zombie = consumer(redis_url, "q", owner="zombie")
    first, second = zombie.fetch(2)
    other = consumer(redis_url, "q")
    assert other.reclaim("zombie", started=()) == 2
    zombie.ack(first.field)
    zombie.return_([second.field])
    zombie.flush()
    assert raw_bodies(client, "q") == [1, 2]


def test_a_zombie_learns_what_it_lost(redis_url: str) -> None:
    send(redis_url, "q", 1)
    zombie = consumer(redis_url, "q", owner="zombie")
    zombie.fetch(1)
    consumer(redis_url, "q").reclaim("zombie")
    assert zombie.renew() == ["zombie"]
    assert not zombie.holdings.held


def test_a_parent_renews_for_its_children(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1)
    consumer(redis_url, "q", owner="child", lease=5).fetch(1)
    before = client.zscore(KEYS.leases, "child")
    parent = consumer(redis_url, "q", owner="parent", lease=60)
    assert parent.renew(["child", "never seen"]) == ["parent", "never seen"]
    assert client.zscore(KEYS.leases, "child") > before + 50_000


def test_only_what_was_started_is_blamed_when_the_parent_knows(redis_url: str) -> None:
    send(redis_url, "q", "first", "second")
    child = consumer(redis_url, "q", owner="child")
    first, _ = child.fetch(2)
    parent = consumer(redis_url, "q", owner="parent")
    parent.reclaim("child", started={first.number})
    assert [(bodies([d])[0], d.deaths) for d in parent.fetch(2)] == [("first", 1), ("second", 0)]


def test_after_the_last_death_the_message_is_a_casualty_with_its_bytes(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", "pill")
    (raw,) = client.lrange("q", 0, -1)
    parent = consumer(redis_url, "q", owner="parent")
    for number in range(3):
        assert len(consumer(redis_url, "q", owner=f"child{number}").fetch(1)) == 1
        parent.reclaim(f"child{number}")
    assert client.llen("q") == 0
    kept: list[casualties.Casualty] = []
    assert casualties.drain(client, KEYS, kept.append) == 1
    assert (kept[0].reason, kept[0].deaths, kept[0].queue) == ("poison", 3, "q")
    assert b'"InBpbGwi"' in kept[0].raw
    assert raw
    assert not client.exists(KEYS.casualties)


def test_neighbours_of_a_pill_never_become_casualties(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", *range(5), "pill", *range(5, 10))
    done: list[Any] = []
    parent = consumer(redis_url, "q", owner="parent")
    for life in range(40):
        child = consumer(redis_url, "q", owner=f"child{life}")
        for delivery in child.fetch(8):
            if bodies([delivery]) == ["pill"]:
                break
            done += bodies([delivery])
            child.ack(delivery.field)
        child.flush()
        parent.reclaim(f"child{life}")
        if client.llen(KEYS.casualties):
            break
    while rest := parent.fetch(20):
        done += bodies(rest)
        for delivery in rest:
            parent.ack(delivery.field)
    assert sorted(done) == list(range(10))
    assert client.llen(KEYS.casualties) == 1


def test_a_message_on_its_last_chance_is_held_alone(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", "suspect", "other")
    me = consumer(redis_url, "q", delivery_limit=2)
    me.requeue(me.fetch(1)[0])
    (alone,) = me.fetch(10)
    assert bodies([alone]) == ["suspect"]
    me.flush()
    assert raw_bodies(client, "q") == ["other"]
    assert not me.may_fetch
    me.ack(alone.field)
    assert bodies(me.fetch(10)) == ["other"]


BAD = [b"not json", b"[1, 2]", b'{"body": "x"}', b"\xff\xfe\x00", b"null", b'{"properties": 1, "body": ""}']


def test_what_cannot_be_decoded_is_kept_and_does_not_stop_the_others(redis_url: str, client: redis.Redis) -> None:
    client.lpush("q", *BAD)
    send(redis_url, "q", "sound")
    me = consumer(redis_url, "q")
    assert bodies(me.fetch(10)) == ["sound"]
    me.flush()
    kept: list[casualties.Casualty] = []
    casualties.drain(client, KEYS, kept.append)
    assert [casualty.raw for casualty in kept] == BAD
    assert {casualty.reason for casualty in kept} == {"undecodable"}


def test_a_dead_letter_store_that_fails_keeps_the_casualty(redis_url: str, client: redis.Redis) -> None:
    client.lpush("q", b"bad")
    me = consumer(redis_url, "q")
    me.fetch(1)
    me.flush()

    def broken(_: object) -> None:
        raise OSError("the store is away")

    with pytest.raises(OSError, match="away"):
        casualties.drain(client, KEYS, broken)
    assert client.llen(KEYS.casualties) == 1


def eta(seconds: float) -> dict[str, str]:
    return {"eta": (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).isoformat()}


@pytest.mark.parametrize("transport", ["celery_platform.transport.redis:Transport", STOCK], ids=["ours", "stock"])
def test_a_delayed_message_comes_once_not_early_and_hardly_late(redis_url: str, transport: str) -> None:
    me = consumer(redis_url, "q")
    due = time.time() + 0.5
    send(redis_url, "q", "later", transport=transport, headers=eta(0.5))
    send(redis_url, "q", "now", transport=transport)
    got: list[tuple[Any, float]] = []

    def take() -> bool:
        for delivery in me.fetch(10):
            got.extend((body, time.time()) for body in bodies([delivery]))
            me.ack(delivery.field)
        me.wait(0.1)
        return len(got) >= 2

    wait_until(take, timeout=10, every=0)
    assert [body for body, _ in got] == ["now", "later"]
    assert due - 0.002 <= got[1][1] < due + 1
    assert me.fetch(10) == []


def test_ten_thousand_delayed_messages_stay_on_the_server(redis_url: str, client: redis.Redis) -> None:
    import psutil

    me = consumer(redis_url, "q")
    me.fetch(1)
    before = psutil.Process().memory_info().rss
    from celery_platform.transport import delayed

    for number in range(10_000):
        delayed.park(client, KEYS, "q", {"body": "W10=", "headers": eta(3_600), "properties": {"number": number}})
    for _ in range(50):
        assert me.fetch(100) == []
    assert client.zcard(KEYS.delayed) == 10_000
    assert client.llen("q") == 0
    assert psutil.Process().memory_info().rss - before < 5_000_000


@pytest.mark.parametrize("transport", ["celery_platform.transport.redis:Transport", STOCK], ids=["ours", "stock"])
def test_an_idle_consumer_wakes_at_once_whoever_publishes(redis_url: str, transport: str) -> None:
    from tests.integration.redis_transport import connection

    me = consumer(redis_url, *(f"q{number}" for number in range(20)), poll=30.0)
    delays: list[float] = []
    with connection(redis_url, transport) as link, link.Producer() as producer:
        producer.publish("warm", routing_key="q0")
        for number in range(20):
            idle = threading.Event()
            woken: list[float] = []

            def sleep(idle: threading.Event = idle, woken: list[float] = woken) -> None:
                while not me.waiting:
                    for delivery in me.fetch(10):
                        me.ack(delivery.field)
                idle.set()
                while not me.wait(20):
                    pass
                while not me.fetch(10):
                    pass
                woken.append(time.perf_counter())
                for field in list(me.holdings.held):
                    me.ack(field)

            thread = threading.Thread(target=sleep)
            thread.start()
            assert idle.wait(10)
            time.sleep(0.002)
            began = time.perf_counter()
            producer.publish("x", routing_key=f"q{number}")
            thread.join(20)
            delays.append(woken[0] - began)
    assert sorted(delays)[len(delays) // 2] < 0.005
    assert me.line.tracking


def test_a_message_due_sooner_than_all_others_rings_the_bell(redis_url: str) -> None:
    me = consumer(redis_url, "q", poll=30.0)
    while not me.waiting:
        me.fetch(1)
    send(redis_url, "q", "soon", headers=eta(0.2))
    began = time.monotonic()
    wait_until(lambda: me.fetch(1) if me.wait(5) else [], timeout=10, every=0)
    assert time.monotonic() - began < 5


def test_an_idle_consumer_asks_once_a_poll_and_not_more(redis_url: str, redis_server: RedisServer) -> None:
    me = consumer(redis_url, "q", poll=0.2)
    with redis_server.client() as admin:
        admin.config_resetstat()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            if me.wait(0.5):
                me.fetch(1)
        calls = {name: row["calls"] for name, row in admin.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] <= 24


def test_a_server_without_client_tracking_is_polled() -> None:
    with RedisServer() as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-client|tracking")
        me = consumer(server.url(), "q", short_poll=0.01)
        while not me.waiting:
            me.fetch(1)
        assert not me.line.tracking
        send(server.url(), "q", 1)
        assert wait_until(lambda: me.fetch(1) if me.wait(1) else [], timeout=5, every=0)


def test_a_reply_that_never_arrived_is_given_back_with_the_next_fetch(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1, 2)
    me = consumer(redis_url, "q", owner="me")
    me.start_fetch(2)
    wait_until(lambda: client.hlen(KEYS.held("me")) == 2)
    me.line.hang_up()
    with pytest.raises(RedisConnectionError):
        me.finish_fetch()
    assert [(bodies([d])[0], d.deaths) for d in me.fetch(2)] == [(1, 0), (2, 0)]


def test_an_acknowledgement_whose_reply_was_lost_is_sent_again(redis_url: str, client: redis.Redis) -> None:
    send(redis_url, "q", 1)
    me = consumer(redis_url, "q", owner="me")
    (held,) = me.fetch(1)
    me.ack(held.field)
    me.start_fetch(1)
    me.line.hang_up()
    with pytest.raises(RedisConnectionError):
        me.finish_fetch()
    assert me.fetch(1) == []
    assert not client.exists("q", KEYS.held("me"))


def test_a_server_that_has_forgotten_the_scripts_is_told_again(redis_url: str, client: redis.Redis) -> None:
    me = consumer(redis_url, "q")
    me.fetch(1)
    client.script_flush()
    send(redis_url, "q", 1)
    assert bodies(me.fetch(1)) == [1]


def test_a_server_out_of_memory_still_gives_and_takes_back() -> None:
    with RedisServer() as server, server.client() as admin:
        send(server.url(), "q", *["x" * 10_000] * 200)
        me = consumer(server.url(), "q", owner="me")
        admin.config_set("maxmemory", "1mb")
        held = me.fetch(50)
        assert len(held) == 50
        me.renew()
        me.return_([delivery.field for delivery in held[:10]])
        for delivery in held[10:]:
            me.ack(delivery.field)
        me.flush()
        assert admin.llen("q") == 160


def test_a_batch_costs_a_fraction_of_a_command_and_of_a_round_trip_per_message(
    redis_url: str, redis_server: RedisServer
) -> None:
    send(redis_url, "q", *range(2_000))
    me = consumer(redis_url, "a", "b", "c", "d", "q", "e")
    with redis_server.client() as admin:
        admin.config_resetstat()
        done = 0
        while done < 2_000:
            for delivery in me.fetch(64):
                me.ack(delivery.field)
                done += 1
        me.flush()
        stats = admin.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    round_trips = calls["evalsha"]
    assert sum(count for name, count in calls.items() if name not in {"info", "config|resetstat"}) / 2_000 <= 0.2
    assert round_trips / 2_000 <= 0.05
