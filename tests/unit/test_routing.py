from __future__ import annotations

import pytest

from celery_platform.errors import ConfigurationError, PolicyError, UnknownQueue
from celery_platform.routing import CLASSES, Route, Router, priority_number


@pytest.fixture
def router():
    return Router(["billing", "mail"], {"tasks.billing.*": "billing:high", "tasks.*": "mail"})


def test_the_queues_every_worker_serves_are_always_declared():
    assert Router([], {}).queues == ("default", "celery")
    assert Router(["billing", "default", "billing"], {}).queues == ("default", "billing", "celery")


def test_a_queue_given_with_the_call_wins_over_everything(router):
    route = router.route("tasks.billing.pay", call_queue="mail", task_queue="billing", task_priority="bulk")
    assert route == Route("mail", "bulk", "queue given with the call")


def test_the_decorator_wins_over_patterns(router):
    assert router.route("tasks.billing.pay", task_queue="mail") == Route("mail", None, "queue of the task's decorator")


def test_the_first_pattern_that_matches_wins(router):
    assert router.route("tasks.billing.pay") == Route("billing", "high", "route pattern 'tasks.billing.*'")
    assert router.route("tasks.greet") == Route("mail", None, "route pattern 'tasks.*'")


def test_a_pattern_without_priority_leaves_the_decorators(router):
    assert router.route("tasks.greet", task_priority="low").priority == "low"
    assert router.route("tasks.billing.pay", task_priority="low").priority == "high"


def test_everything_else_goes_to_the_default_queue(router):
    assert router.route("other.task") == Route("default", None, "default queue")


def test_patterns_mind_the_case(router):
    assert router.route("Tasks.billing.pay").queue == "default"


def test_an_undeclared_queue_is_refused_with_the_nearest_name(router):
    with pytest.raises(UnknownQueue, match=r"'biling' is not a queue .*Did you mean 'billing'\?.*PLATFORM_QUEUES"):
        router.route("tasks.x", call_queue="biling")
    with pytest.raises(UnknownQueue, match="Did you mean 'mail'"):
        Router(["mail"], {"*": "mial"})


def test_a_route_with_an_unknown_priority_is_refused():
    with pytest.raises(ConfigurationError, match=r"'hihg'; expected one of critical, .*Did you mean 'high'"):
        Router(["mail"], {"*": "mail:hihg"})


@pytest.mark.parametrize("name", ["", "two words", "-x", "ü", "a" * 101, "a\n", "a:b", "a/b"])
def test_a_name_that_no_broker_takes_is_refused(name):
    with pytest.raises(ConfigurationError, match="not a queue name"):
        Router([name], {})


@pytest.mark.parametrize("name", ["a", "mail.eu-1_x", "9", "A" * 100])
def test_a_plain_name_is_taken(name):
    assert Router([name], {}).known(name) == name


@pytest.mark.parametrize(("broker", "upwards"), [("redis", True), ("sqs", True), ("amqp", False)])
def test_classes_keep_their_order_in_the_numbers_of_each_broker(broker, upwards):
    numbers = [priority_number(name, broker=broker) for name in CLASSES]
    assert numbers == sorted(numbers, reverse=not upwards)
    assert len(set(numbers)) == len(CLASSES)
    assert all(0 <= number <= 9 for number in numbers)


def test_quorum_queues_tell_urgent_from_the_rest():
    assert [name for name in CLASSES if priority_number(name, broker="amqp") > 4] == ["critical", "high"]


def test_an_unknown_class_is_refused():
    with pytest.raises(PolicyError, match="Did you mean 'critical'"):
        priority_number("critcal", broker="redis")
