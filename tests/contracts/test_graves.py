"""
What every store of dead letters does, in memory and on Redis.
"""

from __future__ import annotations

import pytest

from celery_platform.clock import SYSTEM
from celery_platform.errors import StoreError
from celery_platform.stores.keys import Keys
from celery_platform.stores.memory import MemoryGraves
from celery_platform.stores.redis import RedisStore
from tests.servers import free_port
from tests.waiting import wait_until

HOUR = 3600


@pytest.fixture(params=["memory", "redis"])
def graves(request):
    """
    An empty store.
    """
    if request.param == "memory":
        yield MemoryGraves()
        return
    store = RedisStore(request.getfixturevalue("redis_url"), Keys("team-a"))
    yield store
    store.client.close()


def bury(graves, letter_id, record=b"{}", at=None, ttl=HOUR):
    return graves.bury(letter_id, record, at=SYSTEM.now() if at is None else at, ttl=ttl)


def test_an_empty_store_holds_nothing(graves):
    assert (graves.count(), list(graves.letters(limit=10)), graves.letter("1")) == (0, [], None)


def test_a_buried_record_is_found_as_it_was(graves):
    record = '{"name": "Zoë \\u0000"}'.encode()
    assert bury(graves, "1", record) is True
    assert graves.letter("1") == record
    assert graves.count() == 1


def test_the_same_id_twice_is_one_letter_and_the_first_record_stays(graves):
    assert bury(graves, "1", b"first") is True
    assert bury(graves, "1", b"second") is False
    assert graves.count() == 1
    assert graves.letter("1") == b"first"
    assert list(graves.letters(limit=5)) == [b"first"]


def test_letters_come_newest_first_and_no_more_than_asked(graves):
    now = SYSTEM.now()
    for number in (2, 0, 3, 1):
        bury(graves, str(number), str(number).encode(), at=now - 10 + number)
    assert list(graves.letters(limit=10)) == [b"3", b"2", b"1", b"0"]
    assert list(graves.letters(limit=2)) == [b"3", b"2"]
    assert graves.count() == 4


def test_a_letter_leaves_when_its_time_is_over(graves):
    bury(graves, "short", ttl=0.2)
    bury(graves, "long")
    wait_until(lambda: graves.letter("short") is None, timeout=10, what="the short letter to leave")
    assert len(graves.letters(limit=10)) == 1
    assert graves.letter("long") is not None


def test_the_count_forgets_letters_that_have_left(graves):
    bury(graves, "short", ttl=0.2)
    wait_until(lambda: graves.letter("short") is None, timeout=10, what="the short letter to leave")
    bury(graves, "next", b"next", ttl=0.2)
    assert graves.count() == 1
    assert list(graves.letters(limit=1)) == [b"next"]


def test_letters_are_read_page_by_page(graves):
    now = SYSTEM.now()
    for number in range(5):
        bury(graves, str(number), str(number).encode(), at=now + number)
    assert list(graves.letters(limit=2, start=2)) == [b"2", b"1"]
    assert list(graves.letters(limit=2, start=4)) == [b"0"]
    assert list(graves.letters(limit=2, start=5)) == []


def test_an_id_may_hold_anything(graves):
    for letter_id in ("a:b", "{tag}", "ü ö", "x" * 500):
        assert bury(graves, letter_id, letter_id.encode()) is True
        assert graves.letter(letter_id) == letter_id.encode()
    assert graves.count() == 4


def test_namespaces_do_not_see_each_other(redis_url):
    one, other = RedisStore(redis_url, Keys("one")), RedisStore(redis_url, Keys("other"))
    bury(one, "1")
    assert (one.count(), other.count(), other.letter("1")) == (1, 0, None)
    one.client.close()
    other.client.close()


def test_every_key_of_the_index_has_a_record_or_leaves(redis_url):
    store = RedisStore(redis_url, Keys("team-a"))
    now = SYSTEM.now()
    bury(store, "old", at=now - HOUR - 1, ttl=0.1)
    bury(store, "new", at=now)
    assert store.client.zrange(store.keys.dead, 0, -1) == [b"new"]
    assert store.client.pttl(store.keys.dead_letter("new")) > 0
    store.client.close()


def test_a_store_that_is_away_says_so_with_the_remedy():
    store = RedisStore(f"redis://127.0.0.1:{free_port()}/0", Keys())
    for ask in (lambda: bury(store, "1"), lambda: store.letters(limit=1), lambda: store.letter("1"), store.count):
        with pytest.raises(StoreError, match="Check PLATFORM_STATE_URL"):
            ask()


def test_nothing_is_prepared_before_the_store_is_asked(redis_url):
    prepared = []
    store = RedisStore(redis_url, Keys(), lambda: prepared.append(1))
    assert prepared == []
    store.count()
    store.count()
    assert prepared == [1]
    store.client.close()
