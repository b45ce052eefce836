from __future__ import annotations

from celery_platform.transport.envelope import Delivery
from celery_platform.transport.holdings import Holdings, Settlement


def delivery(number: int) -> Delivery:
    return Delivery(f"{number}|q", "q", b"", {})


def fetched(holdings: Holdings, count: int) -> list[Delivery]:
    exchange = holdings.open(count)
    deliveries = [delivery(exchange.first + index) for index in range(count)]
    holdings.close(exchange, deliveries)
    return deliveries


def test_numbers_are_never_used_twice_even_when_a_fetch_failed() -> None:
    holdings = Holdings()
    first = holdings.open(10)
    holdings.abort(first)
    assert holdings.open(5).first == 10


def test_what_is_owed_travels_once() -> None:
    holdings = Holdings()
    (held,) = fetched(holdings, 1)
    holdings.acknowledge(held.field)
    assert holdings.owes
    assert holdings.open(1).acknowledged == [held.field]
    assert not holdings.owes
    assert holdings.open(1).acknowledged == []


def test_what_a_broken_exchange_carried_is_owed_again_before_what_came_later() -> None:
    holdings = Holdings()
    first, second = fetched(holdings, 2)
    holdings.acknowledge(first.field)
    exchange = holdings.open(1)
    holdings.acknowledge(second.field)
    holdings.abort(exchange)
    assert holdings.open(0).acknowledged == [first.field, second.field]


def test_a_message_whose_reply_was_lost_is_a_stranger() -> None:
    holdings = Holdings()
    holdings.abort(holdings.open(3))
    assert holdings.compare().strangers(["0|q", "2|q"]) == ["0|q", "2|q"]


def test_a_message_of_a_fetch_still_on_its_way_is_no_stranger() -> None:
    holdings = Holdings()
    holdings.open(3)
    assert holdings.compare().strangers(["0|q", "2|q"]) == []


def test_a_message_the_server_gave_to_someone_else_is_lost() -> None:
    holdings = Holdings()
    kept, lost = fetched(holdings, 2)
    assert holdings.compare().lost([kept.field]) == [lost.field]


def test_the_words_for_the_script_are_acknowledgements_first_and_then_groups_of_four() -> None:
    holdings = Holdings()
    first, second = fetched(holdings, 2)
    holdings.acknowledge(first.field)
    holdings.settle([Settlement("park", second.field, 250, b"later")])
    words = holdings.open(7).arguments("me", 30_000, 200, reap=True)
    assert words == ["me", 30_000, 7, 2, 200, 1, 1, "0|q", "park", "1|q", 250, b"later"]
