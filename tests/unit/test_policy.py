from __future__ import annotations

from datetime import timedelta

import pytest

from celery_platform.backoff import Backoff
from celery_platform.errors import PolicyError, UnknownQueue
from celery_platform.policy import CELERY_OPTIONS, TaskPolicy, check_options
from celery_platform.routing import Router

ROUTER = Router(["billing"], {})
WORDS = frozenset({"queue", "retry", "timeout", "deadline", "priority", "bind", "name"})
RETRY = Backoff(on=OSError)


def policy(**words):
    return TaskPolicy.of("tasks.pay", router=ROUTER, **words)


def check(options, **words):
    check_options("tasks.pay", options, policy(**words), WORDS)


def test_a_bare_task_asks_for_nothing():
    assert policy() == TaskPolicy()


def test_durations_become_seconds():
    asked = policy(timeout=timedelta(seconds=30), deadline=timedelta(hours=1))
    assert (asked.timeout, asked.deadline) == (30, 3600)


def test_every_word_is_kept():
    asked = policy(queue="billing", priority="high", retry=RETRY, timeout=3, deadline=3)
    assert (asked.queue, asked.priority, asked.retry, asked.timeout) == ("billing", "high", RETRY, 3)


def test_an_unknown_queue_is_refused():
    with pytest.raises(UnknownQueue, match="Did you mean 'billing'"):
        policy(queue="biling")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"priority": "hi"}, "priority expected one of critical, high, normal, low, bulk, got 'hi'"),
        ({"priority": "nomal"}, "Did you mean 'normal'"),
        ({"priority": 3}, "priority expected"),
        ({"retry": {"attempts": 3}}, r"retry expected a Backoff\(on=…\)"),
        ({"timeout": 0}, "timeout expected more than zero"),
        ({"timeout": True}, "timeout expected more than zero"),
        ({"timeout": "30"}, "timeout expected more than zero"),
        ({"deadline": timedelta(0)}, "deadline expected more than zero"),
        ({"deadline": -5}, "deadline expected more than zero"),
        ({"timeout": 61, "deadline": 60}, "Shorten the timeout or extend the deadline"),
    ],
    ids=str,
)
def test_words_that_cannot_work_are_refused_with_the_remedy(words, message):
    with pytest.raises(PolicyError, match=f"^tasks.pay: .*{message}"):
        policy(**words)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("retries", "retry"), ("time_out", "timeout"), ("priorty", "priority"), ("ignore_results", "ignore_result")],
)
def test_an_unknown_word_is_refused_with_the_nearest_known_one(word, meant):
    with pytest.raises(PolicyError, match=f"'{word}' is no option of @platform_task. Did you mean '{meant}'"):
        check({word: 1})


@pytest.mark.parametrize("word", ["autoretry_for", "retry_backoff", "retry_kwargs", "retry_jitter"])
def test_celerys_own_retry_words_lead_to_ours(word):
    with pytest.raises(PolicyError, match=r"replaced by retry=Backoff"):
        check({word: 1})


@pytest.mark.parametrize("word", ["serializer", "pydantic", "typing", "base"])
def test_what_would_break_a_promise_cannot_be_set(word):
    with pytest.raises(PolicyError, match=f"{word} cannot be set"):
        check({word: 1})


@pytest.mark.parametrize(
    ("options", "words", "message"),
    [
        ({"time_limit": 3}, {"timeout": 3}, "Keep timeout"),
        ({"soft_time_limit": 3}, {"timeout": 3}, "Keep timeout"),
        ({"max_retries": 3}, {"retry": RETRY}, "Keep the Backoff"),
        ({"acks_late": False}, {"retry": RETRY}, "Drop one of them"),
    ],
)
def test_illegal_combinations_are_refused(options, words, message):
    with pytest.raises(PolicyError, match=message):
        check(options, **words)
    check(options)


def test_celerys_options_pass_through():
    check(dict.fromkeys(CELERY_OPTIONS, 1))
    check({"acks_late": True}, retry=RETRY, timeout=1)
