"""
Versions and names of tasks: what is refused at import, and how an old payload becomes a new one.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_platform import platform_task, upcast
from celery_platform.celery_app import current_app, forget_platform
from celery_platform.errors import PolicyError
from celery_platform.headers import SCHEMA
from celery_platform.upcasting import bring_up
from celery_platform.worker.parking import too_new


@pytest.fixture(autouse=True)
def _platform(monkeypatch):
    monkeypatch.setenv("PLATFORM_BROKER_URL", "redis://127.0.0.1:1/0")
    forget_platform()
    yield
    forget_platform()


def nothing() -> None: ...


class Request(SimpleNamespace):
    is_eager = False
    properties = None

    def update(self, values):
        vars(self).update(values)


def test_an_old_payload_goes_through_every_step():
    @platform_task(name="v.charge", version=3)
    def charge(number: int, currency: str, note: str) -> None: ...

    upcast(charge, 1, 2)(lambda args, kwargs: (args, {**kwargs, "currency": "EUR"}))
    upcast(charge, 2, 3)(lambda args, kwargs: (args, {**kwargs, "note": ""}))
    request = Request(args=[1], kwargs={}, headers=None)
    assert bring_up(charge, request) is None
    assert (request.args, request.kwargs) == ([1], {"currency": "EUR", "note": ""})
    assert request.headers == {SCHEMA: 3}
    later = Request(args=[1], kwargs={"currency": "USD"}, headers={SCHEMA: 2})
    bring_up(charge, later)
    assert later.kwargs == {"currency": "USD", "note": ""}


def test_the_error_of_a_step_is_handed_back_and_nothing_is_changed():
    @platform_task(name="v.broken", version=2)
    def broken(number: int) -> None: ...

    upcast(broken, 1, 2)(lambda args, kwargs: (args, {"x": kwargs["missing"]}))
    request = Request(args=[1], kwargs={}, headers={})
    assert isinstance(bring_up(broken, request), KeyError)
    assert (request.args, request.headers) == ([1], {})


@pytest.mark.parametrize(("old", "new"), [(0, 1), (2, 2), (2, 1), (1, 3)])
def test_versions_that_cannot_work_are_refused_at_import(old, new):
    @platform_task(name="v.two", version=2)
    def two() -> None: ...

    with pytest.raises(PolicyError, match="expected versions from 1 to 2"):
        upcast(two, old, new)
    with pytest.raises(PolicyError, match="expected a @platform_task"):
        upcast(print, 1, 2)


def test_one_version_has_one_way_up():
    @platform_task(name="v.two", version=2)
    def two() -> None: ...

    upcast(two, 1, 2)(lambda args, kwargs: (args, kwargs))
    with pytest.raises(PolicyError, match="has a function already"):
        upcast(two, 1, 2)


def test_a_task_answers_to_its_former_names():
    @platform_task(name="v.new", aliases=["v.old"])
    def new() -> None: ...

    assert current_app().tasks["v.old"] is current_app().tasks["v.new"]
    assert new.name == "v.new"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"aliases": ["v.taken"]}, "which is v.taken. Name only what is gone"),
        ({"aliases": ["v.it"]}, "the task's own name"),
        ({"aliases": "v.old"}, "expected a list of task names"),
        ({"version": 0}, "version expected a whole number from 1, got 0"),
        ({"version": True}, "version expected"),
        ({"on_dead": 7}, "on_dead expected a function"),
        ({"dead_letters": 7}, "dead_letters expected a Retention"),
    ],
)
def test_words_that_cannot_work_are_refused_at_import(words, said):
    platform_task(name="v.taken")(nothing)
    with pytest.raises(PolicyError, match=said):
        platform_task(name="v.it", **words)(nothing)


def test_the_name_of_a_task_is_no_alias_of_another():
    platform_task(name="v.new", aliases=["v.old"])(nothing)
    with pytest.raises(PolicyError, match=r"the name is an alias of v\.new"):
        platform_task(name="v.old")(nothing)


def test_only_a_version_above_the_workers_is_too_new():
    platform_task(name="v.two", version=2)(nothing)
    tasks = current_app().tasks
    assert "Version 3 of the payload of v.two is newer" in too_new({"task": "v.two", SCHEMA: 3}, tasks)
    for headers in ({"task": "v.two", SCHEMA: 2}, {"task": "v.two"}, {"task": "v.gone", SCHEMA: 9}, {}):
        assert too_new(headers, tasks) is None
