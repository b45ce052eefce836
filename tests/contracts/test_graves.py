"""
What every store of dead letters does, in memory and on Redis.
"""

from __future__ import annotations

import pytest

from celery_platform.clock import SYSTEM
from celery_platform.errors import StoreError
from celery_platform.stores.base import Bounds, Grave, Inquiry
from celery_platform.stores.keys import Keys
from celery_platform.stores.memory import MemoryGraves
from celery_platform.stores.redis import RedisStore
from celery_platform.stores.redis_graves import RedisGraves
from tests.servers import free_port
from tests.waiting import wait_until

HOUR = 3600


ANY = Inquiry()


@pytest.fixture(params=["memory", "redis"])
def graves(request):
    """
    An empty store.
    """
    if request.param == "memory":
        yield MemoryGraves()
        return
    store = RedisStore(request.getfixturevalue("redis_url"), Keys("team-a"))
    yield RedisGraves(store)
    store.client.close()


def bury(graves, letter_id, record=b"{}", at=None, ttl=HOUR, **more):
    now = SYSTEM.now() if at is None else at
    tags = {name: more.pop(name) for name in ("task", "queue", "reason", "group", "key") if name in more}
    return graves.bury(Grave(letter_id, record, now, ttl, tags, **more)).new


def letters(graves, limit, start=0, **tags):
    return list(graves.records(graves.ids(Inquiry(tags), limit=limit, start=start)))


def letter(graves, letter_id):
    return graves.records([letter_id])[0]


def test_an_empty_store_holds_nothing(graves):
    assert (graves.count(ANY), letters(graves, 10), letter(graves, "1")) == (0, [], None)
    assert (list(graves.groups(10)), list(graves.sent_ids(10)), dict(graves.truncated())) == ([], [], {})


def test_a_buried_record_is_found_as_it_was(graves):
    record = '{"name": "Zoë \\u0000"}'.encode()
    assert bury(graves, "1", record) is True
    assert letter(graves, "1") == record
    assert graves.count(ANY) == 1


def test_the_same_id_twice_is_one_letter_and_the_first_record_stays(graves):
    assert bury(graves, "1", b"first") is True
    assert bury(graves, "1", b"second") is False
    assert graves.count(ANY) == 1
    assert letter(graves, "1") == b"first"
    assert letters(graves, 5) == [b"first"]


def test_letters_come_newest_first_and_no_more_than_asked(graves):
    now = SYSTEM.now()
    for number in (2, 0, 3, 1):
        bury(graves, str(number), str(number).encode(), at=now - 10 + number)
    assert letters(graves, 10) == [b"3", b"2", b"1", b"0"]
    assert letters(graves, 2) == [b"3", b"2"]
    assert graves.count(ANY) == 4


def test_a_letter_leaves_when_its_time_is_over(graves):
    bury(graves, "short", ttl=0.2)
    bury(graves, "long")
    wait_until(lambda: letter(graves, "short") is None, timeout=10, what="the short letter to leave")
    assert len(letters(graves, 10)) == 1
    assert letter(graves, "long") is not None


def test_the_count_forgets_letters_that_have_left(graves):
    bury(graves, "short", ttl=0.2)
    wait_until(lambda: letter(graves, "short") is None, timeout=10, what="the short letter to leave")
    bury(graves, "next", b"next", ttl=0.2)
    assert graves.count(ANY) == 1
    assert letters(graves, 1) == [b"next"]


def test_letters_are_read_page_by_page(graves):
    now = SYSTEM.now()
    for number in range(5):
        bury(graves, str(number), str(number).encode(), at=now + number)
    assert letters(graves, 2, 2) == [b"2", b"1"]
    assert letters(graves, 2, 4) == [b"0"]
    assert letters(graves, 2, 5) == []


def test_an_id_may_hold_anything(graves):
    for letter_id in ("a:b", "{tag}", "ü ö", "x" * 500):
        assert bury(graves, letter_id, letter_id.encode(), task=letter_id, group=letter_id) is True
        assert letter(graves, letter_id) == letter_id.encode()
        assert letters(graves, 1, task=letter_id) == [letter_id.encode()]
    assert graves.count(ANY) == 4


def test_letters_are_found_by_every_tag_and_by_several(graves):
    now = SYSTEM.now()
    for number in range(6):
        tags = {
            "task": f"t{number % 2}",
            "queue": f"q{number % 3}",
            "reason": "poison",
            "group": "g",
            "key": str(number),
        }
        bury(graves, str(number), str(number).encode(), at=now + number, **tags)
    assert letters(graves, 9, task="t0") == [b"4", b"2", b"0"]
    assert letters(graves, 9, task="t0", queue="q1") == [b"4"]
    assert letters(graves, 1, task="t0", reason="poison") == [b"4"]
    assert letters(graves, 1, 1, task="t0", reason="poison") == [b"2"]
    assert letters(graves, 9, key="3") == [b"3"]
    assert letters(graves, 9, task="t7") == letters(graves, 9, task="t0", queue="q7") == []
    assert graves.count(Inquiry({"task": "t1"})) == 3
    assert graves.count(Inquiry({"task": "t1", "queue": "q1"})) == 1


def test_letters_are_found_by_time_from_the_first_moment_to_before_the_last(graves):
    now = round(SYSTEM.now())
    for number in range(4):
        bury(graves, str(number), at=now + number)
    assert list(graves.ids(Inquiry(since=now + 1, until=now + 3), limit=9)) == ["2", "1"]
    assert graves.count(Inquiry(since=now + 1, until=now + 3)) == 2


def test_groups_are_counted_and_know_their_first_last_and_a_sample(graves):
    now = round(SYSTEM.now())
    for number in range(5):
        bury(graves, str(number), at=now + number, task="t", reason="timeout", group="a", label=f"error {number}")
    assert graves.bury(Grave("other", b"", now + 9, HOUR, {"group": "b"})).new_group is True
    assert graves.bury(Grave("more", b"", now + 9, HOUR, {"group": "b"})).new_group is False
    newest, oldest = graves.groups(9)
    assert (newest.group, newest.count) == ("b", 2)
    assert (oldest.group, oldest.task, oldest.reason, oldest.count, oldest.total) == ("a", "t", "timeout", 5, 5)
    assert (oldest.first, oldest.last, oldest.sample, oldest.error) == (now, now + 4, "4", "error 4")
    assert len(graves.groups(1)) == 1


def test_a_group_without_open_letters_is_not_listed_and_is_no_news_when_it_comes_again(graves):
    bury(graves, "1", group="a")
    assert graves.remove(["1", "unknown"]) == 1
    assert list(graves.groups(9)) == []
    burial = graves.bury(Grave("2", b"", SYSTEM.now(), HOUR, {"group": "a"}))
    assert (burial.new, burial.new_group) == (True, False)
    assert [(row.count, row.total) for row in graves.groups(9)] == [(1, 2)]


@pytest.mark.parametrize("bounds", [Bounds(count=3), Bounds(size=30), Bounds(total=30)])
def test_the_oldest_leave_when_there_are_too_many_and_it_is_counted(graves, bounds):
    now = SYSTEM.now()
    dropped = 0
    for number in range(5):
        grave = Grave(str(number), b"0123456789", now + number, HOUR, {"task": "t"}, bounds=bounds)
        dropped += graves.bury(grave).dropped
    assert list(graves.ids(ANY, limit=9)) == ["4", "3", "2"]
    assert dropped == 2
    assert dict(graves.truncated()) == {"t": 2}


def test_the_bound_of_one_task_leaves_the_letters_of_another(graves):
    bury(graves, "old", at=1.0, task="other")
    for number in range(3):
        bury(graves, str(number), task="t", bounds=Bounds(count=1))
    assert set(graves.ids(ANY, limit=9)) == {"old", "2"}


def test_a_letter_on_hold_survives_its_time_every_bound_and_removal(graves):
    bury(graves, "held", task="t", at=1.0, ttl=0.3)
    assert graves.hold(["held", "unknown"], on=True, ttl=0) == 1
    assert graves.held("held") is True
    bury(graves, "probe", ttl=0.4)
    wait_until(lambda: letter(graves, "probe") is None, timeout=10, what="a letter of the same age to leave")
    for number in range(3):
        bury(graves, str(number), task="t", bounds=Bounds(count=1))
    assert graves.remove(["held"]) == 0
    assert set(graves.ids(ANY, limit=9)) == {"held", "2"}
    assert graves.hold(["held"], on=False, ttl=HOUR) == 1
    assert graves.held("held") is False
    assert graves.remove(["held"]) == 1
    assert graves.held("held") is False


def test_an_open_letter_can_be_amended(graves):
    bury(graves, "1", b"before", task="t")
    assert graves.amend("1", b"after") is True
    assert letter(graves, "1") == b"after"
    assert graves.amend("2", b"after") is False
    graves.take("1", "call")
    graves.sent("1", b"closed", queue="q", replay="r")
    assert graves.amend("1", b"too late") is False
    assert letter(graves, "1") == b"closed"


def test_a_letter_is_sent_once_whatever_was_interrupted(graves):
    bury(graves, "1", task="t", group="g")
    first = graves.take("1", "call-a")
    assert (first.state, first.call_id) == ("claimed", "call-a")
    # Killed before it could say "sent": whoever goes on makes the same call.
    again = graves.take("1", "call-b")
    assert (again.state, again.call_id) == ("claimed", "call-a")
    assert graves.is_open("1") is True
    assert graves.sent("1", b"slim", queue="q", replay="r") is True
    assert graves.sent("1", b"again", queue="q", replay="r") is False
    taken = graves.take("1", "call-c")
    assert (taken.state, taken.call_id) == ("sent", "call-a")
    assert graves.take("2", "call").state == "gone"
    assert (graves.is_open("1"), graves.count(ANY), list(graves.groups(9))) == (False, 0, [])
    assert (list(graves.sent_ids(9)), letter(graves, "1")) == (["1"], b"slim")


def test_burials_and_replays_are_entered_in_the_books(redis_url):
    store = RedisStore(redis_url, Keys("team-a"))
    graves = RedisGraves(store)
    bury(graves, "1", queue="q")
    bury(graves, "1", queue="q")
    bury(graves, "2", queue="q", counted=False)
    graves.take("1", "call")
    graves.sent("1", b"", queue="other", replay="r")
    graves.sent("1", b"", queue="other", replay="r")
    books = {name.decode(): int(value) for name, value in store.client.hgetall(store.keys.books).items()}
    assert books == {"q|dead": 2, "q|enqueued": 1, "other|enqueued": 1}
    assert store.client.hget(store.keys.of_dead("replay", "r"), "sent") == b"1"
    store.client.close()


def test_namespaces_do_not_see_each_other(redis_url):
    stores = RedisStore(redis_url, Keys("one")), RedisStore(redis_url, Keys("other"))
    one, other = map(RedisGraves, stores)
    bury(one, "1")
    assert (one.count(ANY), other.count(ANY), letter(other, "1")) == (1, 0, None)
    for store in stores:
        store.client.close()


def test_every_key_of_the_index_has_a_record_or_leaves(redis_url):
    store = RedisStore(redis_url, Keys("team-a"))
    graves = RedisGraves(store)
    now = SYSTEM.now()
    tags = {"task": "t", "queue": "q", "reason": "r", "group": "g", "key": "k"}
    bury(graves, "old", at=now - HOUR - 1, ttl=0.1, **tags)
    wait_until(lambda: letter(graves, "old") is None, timeout=10, what="the old letter to leave")
    group = store.keys.of_dead("group", "g")
    wait_until(lambda: not store.client.exists(group), timeout=10, what="what is known of its group to leave")
    # The books, and the sum of all sizes, are one number each.
    assert {key.decode() for key in store.client.scan_iter()} <= {store.keys.books, store.keys.of_dead("sizes")}
    bury(graves, "new", at=now)
    assert store.client.zrange(store.keys.dead, 0, -1) == [b"new"]
    assert store.client.zscore(store.keys.of_dead("expiry"), "new") / 1000 > now
    store.client.close()


def test_a_store_that_is_away_says_so_with_the_remedy():
    graves = RedisGraves(RedisStore(f"redis://127.0.0.1:{free_port()}/0", Keys()))
    asked = (
        lambda: bury(graves, "1"),
        lambda: letters(graves, 1),
        lambda: letter(graves, "1"),
        lambda: graves.count(ANY),
        lambda: graves.groups(1),
        lambda: graves.take("1", "call"),
    )
    for ask in asked:
        with pytest.raises(StoreError, match="Check PLATFORM_STATE_URL"):
            ask()


def test_nothing_is_prepared_before_the_store_is_asked(redis_url):
    prepared = []
    store = RedisStore(redis_url, Keys(), lambda: prepared.append(1))
    graves = RedisGraves(store)
    assert prepared == []
    graves.count(ANY)
    graves.count(ANY)
    assert prepared == [1]
    store.client.close()
