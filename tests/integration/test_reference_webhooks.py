"""
Webhooks against a real HTTP server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import httpx
import pytest

from celery_platform import Dead, Discard, RetryAfter, Secret
from celery_platform.current import RunningCall, running
from celery_platform.outcomes import Call
from tasks.webhooks import EndpointFailed, deliver_webhook
from tests.servers import Answer, free_port

KEY = base64.b64encode(b"a key of some length").decode()
SECRET = Secret(f"whsec_{KEY}")


@pytest.fixture(autouse=True)
def _call(monkeypatch):
    monkeypatch.setenv("TASKS_WEBHOOK_ALLOW_PRIVATE", "1")
    with running(RunningCall(Call(id="call-1", task="tasks.webhooks.deliver_webhook"))):
        yield


def test_a_webhook_arrives_once_signed_and_named_after_its_call(http_server):
    assert deliver_webhook(http_server.url("/hook?a=1"), "invoice.paid", {"total": "9.99"}, SECRET) == 200

    (request,) = http_server.requests
    signed = b".".join([b"call-1", request.headers["webhook-timestamp"].encode(), request.body])
    digest = hmac.new(base64.b64decode(KEY), signed, hashlib.sha256).digest()
    assert (request.method, request.path) == ("POST", "/hook?a=1")
    assert json.loads(request.body) == {"type": "invoice.paid", "data": {"total": "9.99"}}
    assert request.headers["webhook-id"] == "call-1"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 10
    assert request.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert request.headers["host"] == f"127.0.0.1:{http_server.port}"


def test_a_name_is_called_by_its_address_and_addressed_by_its_name(http_server):
    deliver_webhook(f"http://localhost:{http_server.port}/hook", "ping", {}, SECRET)

    assert http_server.requests[0].headers["host"] == f"localhost:{http_server.port}"


def test_the_secret_of_the_environment_signs_when_none_is_given(http_server, monkeypatch):
    monkeypatch.setenv("TASKS_WEBHOOK_SECRET", SECRET.reveal())

    deliver_webhook(http_server.url(), "ping", {})

    assert http_server.requests[0].headers["webhook-signature"].startswith("v1,")


def test_without_a_usable_secret_nothing_is_sent(http_server):
    with pytest.raises(Dead, match="no usable secret"):
        deliver_webhook(http_server.url(), "ping", {}, Secret("whsec_???"))
    assert http_server.requests == []


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_asks_to_wait_is_obeyed(http_server, status):
    http_server.script(Answer(status, headers={"Retry-After": "3"}))

    with pytest.raises(RetryAfter) as asked:
        deliver_webhook(http_server.url(), "ping", {}, SECRET)
    assert asked.value.delay == 3


def test_an_endpoint_that_fails_is_tried_again(http_server):
    http_server.script(500)

    with pytest.raises(EndpointFailed, match="500"):
        deliver_webhook(http_server.url(), "ping", {}, SECRET)


def test_an_endpoint_that_is_gone_discards_the_call(http_server):
    http_server.script(410)

    with pytest.raises(Discard):
        deliver_webhook(http_server.url(), "ping", {}, SECRET)


def test_a_redirect_is_not_followed(http_server):
    http_server.script(Answer(307, headers={"Location": http_server.url("/elsewhere")}))

    with pytest.raises(Dead, match="307"):
        deliver_webhook(http_server.url(), "ping", {}, SECRET)
    assert len(http_server.requests) == 1


def test_an_endpoint_that_hangs_up_or_is_not_there_is_tried_again(http_server):
    http_server.script(Answer(drop=True))

    with pytest.raises(httpx.TransportError):
        deliver_webhook(http_server.url(), "ping", {}, SECRET)
    with pytest.raises(httpx.TransportError):
        deliver_webhook(f"http://127.0.0.1:{free_port()}/", "ping", {}, SECRET)


def test_an_endpoint_that_never_answers_ends_in_a_timeout(http_server, monkeypatch):
    monkeypatch.setattr("tasks.webhooks._TIMEOUT", httpx.Timeout(0.3))
    http_server.script(Answer(hang=True))

    with pytest.raises(httpx.TimeoutException):
        deliver_webhook(http_server.url(), "ping", {}, SECRET)


def test_an_endless_answer_is_not_read(http_server):
    http_server.script(Answer(200, headers={"Content-Length": "1000000000000"}))

    assert deliver_webhook(http_server.url(), "ping", {}, SECRET) == 200


def test_a_private_address_is_refused_before_anything_is_sent(http_server, monkeypatch):
    monkeypatch.delenv("TASKS_WEBHOOK_ALLOW_PRIVATE")

    with pytest.raises(Dead, match="not a public address"):
        deliver_webhook(http_server.url(), "ping", {}, SECRET)
    assert http_server.requests == []
