"""
What a worker tells about the calls it holds.
"""

from __future__ import annotations

import pytest
from celery.utils.imports import symbol_by_name
from kombu.message import Message
from kombu.utils.json import dumps

from celery_platform import Secret, platform_task
from celery_platform.celery_app import forget_platform

TOKEN = "s3cr3t-token"


@pytest.fixture(autouse=True)
def _platform(monkeypatch):
    # Nothing listens there: these tests never publish.
    monkeypatch.setenv("PLATFORM_BROKER_URL", "redis://127.0.0.1:1/0")
    forget_platform()
    yield
    forget_platform()


def received(task, *args, **kwargs):
    sent = task.app.amqp.as_task_v2("call-1", task.name, args, kwargs)
    message = Message(
        body=dumps(sent.body),
        headers=sent.headers,
        content_type="application/json",
        content_encoding="utf-8",
        channel=None,
    )
    return symbol_by_name(task.Request)(message, app=task.app, task=task)


def test_private_arguments_are_masked_though_a_plain_producer_wrote_them_in_clear():
    @platform_task
    def login(user: str, token: Secret[str]) -> None: ...

    request = received(login, "ada", token=TOKEN)
    assert (request.argsrepr, request.kwargsrepr) == ("('ada',)", "{'token': ***}")
    for safe in (False, True):
        assert TOKEN not in repr(request.info(safe=safe))
    assert TOKEN not in request.request_dict["kwargsrepr"]
    assert request.kwargs == {"token": TOKEN}


def test_other_arguments_are_told_as_celery_tells_them():
    @platform_task
    def add(a: int, b: int) -> int:
        return a + b

    request = received(add, 1, 2)
    assert request.info()["args"] == [1, 2]
    assert request.argsrepr == "(1, 2)"
