from __future__ import annotations

from celery_platform.transport.rotation import Rotation


def list_of(queue: str, step: int) -> str:
    return f"{queue}:{step}" if step else queue


def test_priority_goes_before_the_queue() -> None:
    assert Rotation(list_of, (0, 3), ["a", "b"]).lists() == ["a", "b", "a:3", "b:3"]


def test_a_queue_that_was_served_goes_last() -> None:
    rotation = Rotation(list_of, (0,), ["a", "b", "c"])
    rotation.served(["a"])
    assert rotation.lists() == ["b", "c", "a"]


def test_the_priority_strategy_never_changes_the_order() -> None:
    rotation = Rotation(list_of, (0,), ["b", "a"], "priority")
    rotation.served(["b"])
    assert rotation.lists() == ["b", "a"]


def test_a_list_knows_its_queue() -> None:
    rotation = Rotation(list_of, (0, 3), ["a"])
    assert rotation.queue_of("a:3") == "a"
    assert rotation.queue_of("unheard of") == "unheard of"
