from __future__ import annotations

from celery_platform.transport.casualties import Casualty


def test_a_casualty_survives_its_list_byte_for_byte() -> None:
    casualty = Casualty("undecodable", "mail", b"\x00\xff not json", "why", 2, 17.5)
    assert Casualty.loads(casualty.dumps()) == casualty


def test_the_same_bytes_of_the_same_queue_are_the_same_casualty() -> None:
    assert Casualty("poison", "a", b"x", at=1.0).id == Casualty("rejected", "a", b"x", at=2.0).id
    assert Casualty("poison", "a", b"x").id != Casualty("poison", "b", b"x").id
