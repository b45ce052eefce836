from __future__ import annotations

import time
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.transport.native_delayed_delivery import calculate_routing_key

from celery_platform.headers import call_from, counters_after
from celery_platform.outcomes import Call, Deferred, Retrying


def request(headers=None, **words):
    return SimpleNamespace(
        **{"id": "1", "args": [2], "kwargs": {"y": 3}, "headers": headers, "delivery_info": {}} | words
    )


def test_a_message_of_a_plain_producer_is_a_call_without_history():
    call = call_from("t", request(None, args=None, kwargs=None, delivery_info=None))
    assert call == Call("1", "t")


def test_every_header_is_read():
    headers = {
        "platform_enqueued_at": 1.5,
        "platform_deadline": 99,
        "platform_failures": 2,
        "platform_deferrals": 7,
        "platform_first_failed_at": 3.5,
        "platform_delay": 4,
        "platform_scheduled_for": "2026-01-01T00:00:00+00:00",
    }
    call = call_from("t", request(headers, delivery_info={"routing_key": "billing", "deliveries": 3}))
    assert call == Call(
        "1",
        "t",
        args=(2,),
        kwargs={"y": 3},
        queue="billing",
        failures=2,
        deferrals=7,
        deliveries=4,
        enqueued_at=1.5,
        deadline=99.0,
        scheduled_for="2026-01-01T00:00:00+00:00",
        first_failed_at=3.5,
        previous_delay=4.0,
    )


def test_a_redelivered_message_was_delivered_twice_at_least():
    assert call_from("t", request(delivery_info={"redelivered": True})).deliveries == 2
    assert call_from("t", request(delivery_info={"redelivered": False})).deliveries == 1


def test_the_delay_that_rabbitmq_writes_before_the_queue_is_no_part_of_it():
    key = calculate_routing_key(5, "billing.eu")
    assert call_from("t", request(delivery_info={"routing_key": key})).queue == "billing.eu"
    assert call_from("t", request(delivery_info={"routing_key": "1.0.x"})).queue == "1.0.x"


odd = st.none() | st.text() | st.booleans() | st.lists(st.integers()) | st.integers(max_value=-1) | st.floats()


@settings(deadline=None)  # a loaded machine takes its time
@given(failures=odd, deadline=st.none() | st.text() | st.booleans() | st.dictionaries(st.text(), st.text()))
def test_odd_headers_count_as_absent(failures, deadline):
    call = call_from("t", request({"platform_failures": failures, "platform_deadline": deadline}))
    assert call.attempt >= 1
    assert call.failures == int(failures is True)
    assert call.deadline is None


def test_a_retry_is_a_failure_more_and_a_deferral_is_not():
    call = Call("1", "t", failures=2, deferrals=5, first_failed_at=10.0)
    assert counters_after(call, Deferred(3, "limit")) == {"platform_deferrals": 6}
    assert counters_after(call, Retrying(3, OSError())) == {
        "platform_failures": 3,
        "platform_first_failed_at": 10.0,
        "platform_delay": 3,
    }


def test_the_first_failure_starts_the_time_budget():
    started = time.time()
    assert started <= counters_after(Call("1", "t"), Retrying(3, OSError()))["platform_first_failed_at"] <= time.time()
