from __future__ import annotations

import inspect
import json
import pickle

import pytest
from billiard.einfo import ExceptionInfo
from celery.backends.base import Backend

from celery_platform import errors
from celery_platform.errors import (
    PayloadInvalid,
    PayloadTooLarge,
    PlatformError,
    UnknownQueue,
    did_you_mean,
)
from celery_platform.execution import AttemptExited, AttemptTimedOut, DeadlineExceeded
from celery_platform.routing import Router

NAMES = [name for name in errors.__all__ if name != "did_you_mean"]
TEXT_ONLY = [name for name in NAMES if getattr(errors, name).__init__ is Exception.__init__]
# One value a type that a constructor of an error takes.
VALUES = {"str": "word", "int": 7, "float": 2.5, "Iterable[str]": ["billing", "default"], "object": "x", "Any": "x"}


def example(name):
    """
    An error of class *name*, made from the annotations of its constructor.
    """
    kind = getattr(errors, name)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return kind(*(VALUES[str(parameter.annotation).removesuffix(" | None")] for parameter in parameters))


EXAMPLES = [
    *(getattr(errors, name)("what, where, remedy") for name in TEXT_ONLY),
    *(example(name) for name in NAMES if name not in TEXT_ONLY),
    AttemptTimedOut("tasks.pay", 3.5),
    AttemptTimedOut("tasks.pay"),
    AttemptExited("tasks.pay", 3),
    DeadlineExceeded("too late"),
]
identity = [type(error).__name__ for error in EXAMPLES]


def test_every_error_of_the_tree_is_tried_here():
    assert set(NAMES) <= {type(error).__name__ for error in EXAMPLES}
    assert all(issubclass(getattr(errors, name), PlatformError) for name in NAMES)
    assert all(name in errors.__doc__ for name in NAMES)


@pytest.mark.parametrize("error", EXAMPLES, ids=identity)
def test_an_error_crosses_processes_as_itself(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=identity)
def test_an_error_comes_back_from_a_json_result_as_itself(error):
    from celery import Celery

    backend = Backend(Celery(set_as_current=False), serializer="json")
    stored = json.loads(json.dumps(backend.prepare_exception(error)))
    copy = backend.exception_to_python(stored)
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_an_error_survives_the_way_out_of_a_pool_child():
    try:
        Router(["billing"], {}).known("biling")
    except UnknownQueue:
        info = pickle.loads(pickle.dumps(ExceptionInfo()))
    assert "Did you mean 'billing'" in str(info.exception)


def test_a_payload_error_is_also_the_builtin_that_callers_expect():
    assert isinstance(PayloadInvalid("t"), TypeError)
    assert isinstance(PayloadTooLarge("t"), ValueError)


def test_a_payload_error_says_what_where_and_the_remedy():
    error = PayloadInvalid("tasks.pay", ["x expected int, got str", "missing 'y'"], "enqueued", "Call it as pay(x, y).")
    assert str(error) == ("tasks.pay, when enqueued: x expected int, got str; missing 'y'. Call it as pay(x, y).")
    assert "300 bytes, above the limit of 256" in str(PayloadTooLarge("t", 300, 256))


@pytest.mark.parametrize(
    ("word", "answer"),
    [("quue", " Did you mean 'queue'?"), ("xyzzy", ""), ("", ""), ("queue", " Did you mean 'queue'?")],
)
def test_the_nearest_word_is_proposed_when_there_is_one(word, answer):
    assert did_you_mean(word, ["queue", "retry"]) == answer
